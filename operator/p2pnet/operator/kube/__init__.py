"""The Kubernetes layer, generic over kinds: API, client, desired objects, work queue, Lease, conditions and events."""
