"""Where subnets live: this machine, a cluster, a kind cluster on this machine. Nothing here prints or reads options."""
