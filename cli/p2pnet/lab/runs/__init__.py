"""The runs of a lab: queued, planned, published, measured, recorded, reported."""
