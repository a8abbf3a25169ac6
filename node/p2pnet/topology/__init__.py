"""Members, topology kind and seed in, edges out. Pure: the same arguments give the same edges, on every machine.

Called by lab, operator and sim; nodes are told their edges and never compute them.
"""

from p2pnet.topology.graphs import degree_range, diameter, is_connected
from p2pnet.topology.shapes import edges

__all__ = ["degree_range", "diameter", "edges", "is_connected"]
