"""Parameters of a network, estimated from recordings."""
