"""A bandwidth shared by what is under way, in arithmetic: no event ends a service, and nothing is stored of what waits."""

import math

from p2pnet.model.network import AccessShape, LinkShape
from p2pnet.netem import codel

_NS_BITS = 8_000_000_000  # of a byte, at one bit per second
_CODEL_WAIT_NS = codel.TARGET_NS + codel.INTERVAL_NS  # a standing queue under CoDel is never much longer


class Pipe:
    """Serves pieces of messages in the order of the calls, each for as long as its bits take.

    A piece is several packets: its first leaves, and its last arrives, while others of it are still in service.
    """

    __slots__ = ("_free_ns", "_limit", "_ns_per_byte")

    def __init__(self, shape: LinkShape | AccessShape) -> None:
        self._free_ns = 0  # when all that was taken in is through
        self._ns_per_byte, self._limit = _numbers(shape)

    def reshape(self, shape: LinkShape | AccessShape, now_ns: int) -> None:
        """Go on with another bandwidth and room: what is in it keeps its times, later pieces wait as long as it takes now."""
        before = self._ns_per_byte
        self._ns_per_byte, self._limit = _numbers(shape)
        if self._free_ns > now_ns:
            self._free_ns = now_ns + math.ceil((self._free_ns - now_ns) / before * self._ns_per_byte)

    def waiting_bytes(self, now_ns: int) -> int:
        """Bytes that are not through at this time."""
        return max(0, math.ceil((self._free_ns - now_ns) / self._ns_per_byte))

    def wait_ns(self, at_ns: int) -> int:
        """How long a piece that comes at this time waits for what is in it now."""
        return max(0, self._free_ns - at_ns)

    def cross(self, size: int, packet: int, now_ns: int, first_ns: int, last_ns: int) -> tuple[int, int, int]:
        """Take in a piece of `size` bytes in packets of `packet`, which come between `first_ns` and `last_ns`.

        `now_ns`: its place in the order. Returns when its first packet and all of it are through, and how many bytes of it
        found no room.
        """
        ns_per_byte = self._ns_per_byte
        begins = max(now_ns, self._free_ns)
        # What is served while the piece comes in leaves room for the rest of it; the packet in service does not wait.
        over = (begins - now_ns - (last_ns - first_ns)) / ns_per_byte + size - packet - self._limit
        dropped = 0 if over <= 0 else min(size, math.ceil(over / packet) * packet)
        kept = size - dropped
        self._free_ns = begins + math.ceil(kept * ns_per_byte)
        one_ns = math.ceil(min(kept, packet) * ns_per_byte)
        return max(begins, first_ns) + one_ns, max(self._free_ns, last_ns + one_ns), dropped


def _numbers(shape: LinkShape | AccessShape) -> tuple[float, float]:
    """Nanoseconds per byte, and the bytes that may wait."""
    ns_per_byte = _NS_BITS / (shape.bandwidth_bps or math.inf)
    limit = float(shape.queue_bytes)
    return ns_per_byte, min(limit, _CODEL_WAIT_NS / ns_per_byte) if shape.queue_kind == "codel" else limit
