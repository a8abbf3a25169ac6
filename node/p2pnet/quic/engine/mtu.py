"""The search for a path's MTU: DPLPMTUD (RFC 8899) for QUIC (RFC 9000 section 14.3).

Sizes are bytes of UDP payload, times are monotonic seconds. Pure: the caller sends a probe of the size that `probe` returns, as
PING and PADDING in one datagram of its own, and reports the outcome of that packet, and of no other, to `on_probe_acked` or
`on_probe_lost`. It must not take the loss of a probe for congestion (RFC 9000 section 14.4). `size` only ever rises when a probe
is acknowledged.

    search       one size is probed at a time      acknowledged, or lost for good  -> search what is left between
                                                   nothing left worth a probe      -> complete
    complete     the raise timer runs              it ends                         -> search, the largest first
    both         ordinary packets vanish           size = BASE                     -> search, the old size first
"""

BASE = 1_200
"""What every QUIC path carries (RFC 9000 section 14)."""
TOLERANCE = 20
"""Bytes: a smaller gain is not worth three lost probes."""
MAX_PROBES = 3
"""Losses of one size before it counts as too large (RFC 8899 section 5.1.2)."""
RAISE_S = 600.0
"""After this time a finished search starts again, for the path may have grown (RFC 8899 section 5.1.1)."""
HOLE_PACKETS = 3
"""Packets larger than BASE lost in a row before the path is taken for a black hole (RFC 8899 section 4.3)."""
HOLE_TIMEOUTS = 2
"""Probe timeouts in a row (RFC 9002 section 6.2) that mean the same."""

_LINKS = (
    9000,  # jumbo Ethernet
    8896,  # Google Cloud, jumbo
    1500,  # Ethernet
    1480,  # IP in IP
    1460,  # Google Cloud
    1450,  # VXLAN, Geneve
    1440,  # WireGuard over IPv4
    1420,  # WireGuard over IPv6
    1400,  # tunnels in tunnels, most VPNs
    1280,  # the least that IPv6 allows
)
_HEADERS = (28, 48)  # of IPv4 and UDP, of IPv6 and UDP
COMMON = tuple(sorted({link - headers for link in _LINKS for headers in _HEADERS}))
"""Sizes that real paths have: tried before the numbers between them."""


def next_size(proven: int, ceiling: int) -> int | None:
    """The size to probe, between what a path is known to carry and the most it may carry; None when nothing can be gained.

    Halves the common sizes first, then looks just above one (most paths end there), then halves the numbers.
    """
    common = [size for size in COMMON if proven < size <= ceiling]
    if common:
        return common[len(common) // 2]
    if ceiling - proven < TOLERANCE:
        return None
    if proven == BASE or proven in COMMON:
        return proven + TOLERANCE
    return (proven + ceiling + 1) // 2


class PathMtu:
    """The search on one connection's path. It may send probes once the handshake is confirmed.

    Numbers are packet numbers of the application's space: they show which packet was sent after which.
    """

    __slots__ = ("_allowed", "_candidate", "_ceiling", "_due", "_fallen", "_first_number", "_in_flight", "_largest_proof",
                 "_losses", "_newest_proof", "_silent", "_suspects", "size")  # fmt: skip

    def __init__(self, *, largest: int) -> None:
        """`largest`: the largest size to search for; below BASE it counts as BASE."""
        self.size = BASE
        """The largest datagram that may be sent now."""
        self._allowed = max(BASE, largest)
        self._candidate = 0  # probed now or next; 0: none
        self._in_flight = False
        self._due: float | None = None  # the candidate's next probe, or without one the raise timer
        self.reset(0.0, 0)

    def reset(self, now: float, first_number: int) -> None:
        """Start anew on another path, about which packets numbered below `first_number` say nothing."""
        self.size = BASE
        self._first_number = first_number
        self._ceiling = self._allowed  # the most it may be
        self._losses = 0  # of the candidate
        self._silent = False  # nothing answers at all: probes would prove nothing
        self._fallen = 0  # the size last given up, until a packet larger than BASE arrives again
        self._suspects: list[tuple[int, int]] = []  # (number, size) lost, nothing of that size arrived since
        self._newest_proof = self._largest_proof = (-1, 0)  # (number, size) of packets that arrived
        self._try(self._ceiling, now)

    def limit(self, peer_max_udp_payload_size: int) -> None:
        """Apply the peer's transport parameter. Values below BASE are invalid (RFC 9000 section 18.2) and count as BASE."""
        self._allowed = max(BASE, min(self._allowed, peer_max_udp_payload_size))
        self.size = min(self.size, self._allowed)
        self._ceiling = min(self._ceiling, self._allowed)
        if self._candidate > self._allowed or self.size == self._allowed:
            self._try(self._ceiling, self._due or 0.0)

    # Probing

    @property
    def next_at(self) -> float | None:
        """When to call `probe` next, perhaps in the past; None: not before something else happens."""
        return None if self._in_flight or self._silent else self._due

    def probe(self, now: float) -> int | None:
        """The size of the probe to send now, if one is due; it counts as in flight from then on."""
        if self._in_flight or self._silent or self._due is None or now < self._due:
            return None
        if not self._candidate:  # the raise timer
            self._ceiling = self._allowed
            self._try(self._ceiling, now)
        self._in_flight = True
        return self._candidate

    def on_probe_acked(self, size: int, number: int, now: float) -> None:
        """A probe was acknowledged: the path carries this size."""
        if not self.size < size == self._candidate or number < self._first_number:  # of a search that is over
            return
        self.size = size
        self._arrived(size, number)
        self._try(next_size(self.size, self._ceiling), now)

    def on_probe_lost(self, size: int, number: int, now: float) -> None:
        """A probe was declared lost. That may be chance, until it happens MAX_PROBES times."""
        if size != self._candidate or not self._in_flight or number < self._first_number:
            return
        # Counted per size: three of one size mean that this size is too large, not that the path is bad.
        self._losses += 1
        self._in_flight = False
        self._due = now
        if self._losses == MAX_PROBES:
            self._ceiling = size - 1
            self._try(next_size(self.size, self._ceiling), now)

    def on_too_big(self, size: int, now: float) -> None:
        """The system refused a datagram of this size (EMSGSIZE), probe or not."""
        if size <= BASE:  # no QUIC on such a path, and nothing smaller to offer
            return
        self._ceiling = min(self._ceiling, size - 1)
        if self.size > self._ceiling:
            self.size = BASE
            self._suspects.clear()
        if not self.size < self._candidate <= self._ceiling:
            self._try(next_size(self.size, self._ceiling), now)

    # Black holes

    def on_packet_acked(self, size: int, number: int) -> None:
        """An ordinary packet of the application's space was acknowledged. Called for nearly every one, so it is cheap."""
        self._silent = False
        if size > BASE and number >= self._first_number:
            self._fallen = 0
            self._arrived(size, number)

    def on_packet_lost(self, size: int, number: int, now: float) -> None:
        """An ordinary packet of the application's space was declared lost.

        It does not count if a packet as large, sent later, has arrived: then it was congestion that lost it.
        """
        if not BASE < size <= self.size or number < self._first_number:
            return
        for proof_number, proof_size in (self._newest_proof, self._largest_proof):
            if number < proof_number and size <= proof_size:
                return
        self._suspects.append((number, size))
        if len(self._suspects) == HOLE_PACKETS:
            self._fall(now)

    def on_timeouts(self, count: int, now: float) -> None:
        """There were `count` probe timeouts in a row. Where everything sent is too large, nothing is ever declared lost."""
        if count >= HOLE_TIMEOUTS and self.size > BASE:
            self._fall(now)
            self._silent = True

    # Private

    def _arrived(self, size: int, number: int) -> None:
        if number > self._newest_proof[0]:
            self._newest_proof = (number, size)
        if size >= self._largest_proof[1]:
            self._largest_proof = (max(number, self._largest_proof[0]), size)
        if self._suspects:
            self._suspects = [one for one in self._suspects if one[0] > number or one[1] > size]

    def _fall(self, now: float) -> None:
        """Go back to BASE at once, and probe the old size first: the losses may have been chance.

        If that probe arrives and then packets vanish again, with none arriving in between, the old size is given up.
        """
        old, self.size = self.size, BASE
        self._suspects.clear()
        if old == self._fallen:
            self._ceiling = old - 1
            self._try(next_size(self.size, self._ceiling), now)
        else:
            self._try(old, now)
        self._fallen = old

    def _try(self, size: int | None, now: float) -> None:
        """Probe this size next, at once; None: the search is complete until the raise timer ends."""
        self._losses = 0
        self._in_flight = False
        if size is not None and size > self.size:
            self._candidate = size
            self._due = now
        else:
            self._candidate = 0
            self._due = now + RAISE_S if self.size < self._allowed else None
