"""Floor 3, the node process: one `Broadcast` per client on one QUIC endpoint, and the nursery that keeps such processes.

Started as `python -m p2pnet.node CONFIG` or forked by `python -m p2pnet.supervisor`; nobody imports it but its tests
and whoever tries clients out (`clients`), and the lab never does: it speaks the nursery's JSON lines and the control
routes of `p2pnet.model.control`.

What to read in which order: `service` (what a node is made of), `peers` and `dialling` (who is connected), `driver`
(the broadcast's shell), `clients` and `client_runs` (what a user brings), `control` (the lab's words), `process` (a
process's life), `nursery` (who keeps processes), and for pods `pod` (what runs first), `nursery_warden` and `warden` (who
answers for processes there).
"""
