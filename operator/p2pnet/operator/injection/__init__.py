"""From Injection objects to runs of their Subnets' labs: what is observed, what is to be done, what is told of it."""
