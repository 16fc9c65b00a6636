"""Comparison with another simulator, NEST, which stays in an environment and a process of its own."""
