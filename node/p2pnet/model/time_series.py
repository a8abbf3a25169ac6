"""One line of samples.ndjson: a second of one node of a run."""

import msgspec

from p2pnet.model.control import Sample


class NodeSample(msgspec.Struct, frozen=True):
    """A sample with the node it is of. Its links are lists: peer, bytes sent, bytes received, datagrams lost, datagrams that
    the emulated path dropped, bytes that wait in it, round-trip time (ms), congestion window (bytes), bytes that waited in QUIC.
    """

    node: str
    t_ns: int
    """Its end on the run's one time axis, as `Collected.t_ns`."""
    sample: Sample
