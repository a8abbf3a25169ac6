"""Documents -> rich renderables, one module per document. Pure: no clock, no console; used by `render.py` alone."""
