"""Pages that show what was simulated, for people."""
