"""The network between nodes, and faults, as a lab keeps them in force: who is told what, what is done to whom, until when.

Read `control` (what the rest of the lab sees) with `faults` (times and leases), `pusher` (networks to nodes) and `actions`
(pauses and deaths).
"""
