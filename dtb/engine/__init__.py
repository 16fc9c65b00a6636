"""The execution: the only part of the package that owns state which changes."""
