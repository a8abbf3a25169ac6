"""The operator: Subnet resources -> pods in Kubernetes. `python -m p2pnet.operator` runs it.

`kube` is the Kubernetes layer and knows no resource of ours: API, client, work queue, leader election, desired objects.
`subnet` reconciles Subnets: `observe` what there is, `plan` what to do (pure), `executor` does it, `status` reports (pure), and
`reconcile` is the loop around them. `handlers` turns kopf's watch events into keys of the queue. `__main__` puts these together;
another kind of resource needs a `Controller` there, a CRD and its rights in `rbac`.

The command line uses `subnet.plan` for `p2pnet render`; nothing else is imported from outside.
"""
