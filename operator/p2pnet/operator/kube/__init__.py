"""The Kubernetes API for the operator: kinds, the client, desired objects, the work queue and the Lease."""
