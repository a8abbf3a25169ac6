"""Floor 2, the Subnet document: its spec, its checks, how it is read, what an edit does, and what follows from it."""
