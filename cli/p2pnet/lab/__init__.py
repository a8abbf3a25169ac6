"""Floor 6, the lab: the experiment server of one live subnet, `python -m p2pnet.lab --state DIR --name NAME`.

It publishes artifacts, collects events, executes runs, and answers `/v1` on a unix socket or in a pod. Only its own
process imports it; everybody else speaks to it through `p2pnet.lab_client`.

Where to read: `serving` is its life, `lab` composes its parts, `status` computes the status document. `backends` is where
nodes run: on this machine (`local`) or in pods (`pod`). `nodes` is what the lab keeps with each node: links, clocks,
events, state. `runs` are the experiments; `http` the routes.
"""
