"""The same regional network in other simulators, each in an environment and a process of its own."""
