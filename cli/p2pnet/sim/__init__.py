"""Floor 2, the broadcast in virtual time: thousands of nodes, one thread, one seed."""
