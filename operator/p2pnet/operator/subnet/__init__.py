"""A Subnet resource: what it asks for, what stands there, what to do about it, and what its status says."""
