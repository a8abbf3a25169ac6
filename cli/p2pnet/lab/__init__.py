"""Floor 3, the lab: the experiment desk of one live subnet, `python -m p2pnet.lab --state DIR --name NAME`.

It injects, collects events, keeps runs, and answers `/v1` on a unix socket. Only its own process imports it; everybody
else speaks to it through `p2pnet.lab_client`.

Where to read: `lab` composes; `ground` is what a target must offer, `local` the one of this machine and `pod` the
one of a cluster, where `agents` reach processes; `gateway` and `links` reach the nodes; `collector` gathers events;
`runs`, `run` and `runner` are the experiments; `http_*` the door.
"""
