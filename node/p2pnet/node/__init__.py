"""Floor 4, the node process: one `Broadcast` per client on one QUIC endpoint.

Started as `python -m p2pnet.node CONFIG` or forked by `python -m p2pnet.supervisor`. Only `supervisor` imports it, and
`cli` its `clients`, to try a user's classes out; the lab never does: it speaks the control routes of `p2pnet.model.control`.

Read `service` first (what a node is made of), then `driver` (the broadcast's shell), `clients` and `client_executor` (what
a user brings), `control` (what the lab may ask) and `process` (start, signals, exit code).
"""
