"""The lab's HTTP API under /v1, as docs/architecture.md describes it."""
