"""Floor 3, peering: which peers a node knows and dials, and which connections become links."""
