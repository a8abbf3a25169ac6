"""Floor 3, the operator: Subnet -> pods. `python -m p2pnet.operator` runs it, `... crd` and `... rbac` print what it needs.

Where to read: `reconcile` is the one loop and reads as the list of what happens; `plan` says what should exist, `certificates`
who vouches, `rolling` who is replaced next, `status` what to tell; all of these are functions of what was observed and
`now`. `cluster` speaks to the API server, `lab` to the lab, `queue` decides when, `handlers` only enqueue. The command
line may use `plan`; nobody imports the rest.
"""
