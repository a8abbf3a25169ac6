"""Subnets of a Kubernetes cluster."""
