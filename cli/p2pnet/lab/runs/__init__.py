"""The runs of a lab: asked for, in line, measured, recorded, reported."""
