"""Floor 2, steps against a small Target protocol, the same for every target."""
