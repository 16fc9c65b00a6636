"""The description: what is simulated, as frozen objects that cost megabytes at any number of neurons."""
