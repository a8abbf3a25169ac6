"""The lab's HTTP API under `/v1`: `server` listens, the other modules are its routes."""
