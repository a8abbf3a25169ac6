"""Floor 5, the supervisor: keeps node processes, one by one or in packs, on this machine or in a pod."""
