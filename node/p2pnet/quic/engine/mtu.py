"""How large a datagram one path carries: the search of DPLPMTUD (RFC 8899) for QUIC (RFC 9000 section 14.3).

Sizes are bytes of UDP payload, times are monotonic seconds. Pure: the caller sends what `probe` names, as PING and
PADDING in one datagram of its own, tells the outcome of that packet, and of no other, through `on_probe_acked` and
`on_probe_lost`, and takes no loss of a probe for congestion (RFC 9000 section 14.4). `size` only ever rises by a probe
that was acknowledged.

    search       one size is probed at a time      acknowledged, or lost for good  -> search what is left between
                                                   nothing left worth a probe      -> complete
    complete     the raise timer runs              it ends                         -> search, the largest first
    both         ordinary packets vanish           size = BASE                     -> search, the old size first
"""

BASE = 1_200  # what every QUIC path carries (RFC 9000 section 14)
TOLERANCE = 20  # bytes: a smaller gain is not worth three lost probes
MAX_PROBES = 3  # losses of one size before it counts as too large (RFC 8899 section 5.1.2)
RAISE_S = 600.0  # then a finished search looks whether the path has grown (RFC 8899 section 5.1.1)
HOLE_PACKETS = 3  # lost in a row, larger than BASE, before the path is taken for a black hole
HOLE_TIMEOUTS = 2  # probe timeouts in a row (RFC 9002 section 6.2) that mean the same

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
"""Sizes that real paths have, exactly: tried before the numbers between them."""


def next_size(proven: int, ceiling: int) -> int | None:
    """The size to probe between what a path is known to carry and the most it may; None when nothing is left to gain.

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
    """The search on one connection's path. Start it when the handshake is confirmed.

    Numbers are packet numbers of the application's space: they tell what was sent after what.
    """

    __slots__ = ("_allowed", "_candidate", "_ceiling", "_due", "_fallen", "_first_number", "_in_flight", "_largest_proof",
                 "_losses", "_newest_proof", "_silent", "_suspects", "size")  # fmt: skip

    def __init__(self, *, largest: int) -> None:
        """`largest` is the most to look for; below BASE it counts as BASE."""
        self.size = BASE
        """What a datagram may have now."""
        self._allowed = max(BASE, largest)
        self._candidate = 0  # probed now or next; 0: none
        self._in_flight = False
        self._due: float | None = None  # the candidate's next probe, or without one the raise timer
        self.reset(0.0, 0)

    def reset(self, now: float, first_number: int) -> None:
        """Another path: nothing is known of it, and packets numbered below `first_number` tell nothing about it."""
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
        """The peer's transport parameter. Values below BASE are invalid (RFC 9000 section 18.2) and count as BASE."""
        self._allowed = max(BASE, min(self._allowed, peer_max_udp_payload_size))
        self.size = min(self.size, self._allowed)
        self._ceiling = min(self._ceiling, self._allowed)
        if self._candidate > self._allowed or self.size == self._allowed:
            self._try(self._ceiling, self._due or 0.0)

    # Probing

    @property
    def next_at(self) -> float | None:
        """When to call `probe` again; a time already past means now. None: not before something else happens."""
        return None if self._in_flight or self._silent else self._due

    def probe(self, now: float) -> int | None:
        """The size of the probe to send now, if one is due. It is in flight from here on."""
        if self._in_flight or self._silent or self._due is None or now < self._due:
            return None
        if not self._candidate:  # the raise timer
            self._ceiling = self._allowed
            self._try(self._ceiling, now)
        self._in_flight = True
        return self._candidate

    def on_probe_acked(self, size: int, number: int, now: float) -> None:
        """The path carries this size."""
        if not self.size < size == self._candidate or number < self._first_number:  # of a search that is over
            return
        self.size = size
        self._arrived(size, number)
        self._try(next_size(self.size, self._ceiling), now)

    def on_probe_lost(self, size: int, number: int, now: float) -> None:
        """A probe was declared lost: perhaps by chance, until it happens MAX_PROBES times."""
        if size != self._candidate or not self._in_flight or number < self._first_number:
            return
        self._losses += 1
        self._in_flight = False
        self._due = now
        if self._losses == MAX_PROBES:
            self._ceiling = size - 1
            self._try(next_size(self.size, self._ceiling), now)

    def on_too_big(self, size: int, now: float) -> None:
        """The system refused a datagram of this size (EMSGSIZE), probe or not: it never left."""
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
        """An ordinary packet of the application's space arrived. Cheap: called for every one."""
        self._silent = False
        if size > BASE and number >= self._first_number:
            self._fallen = 0
            self._arrived(size, number)

    def on_packet_lost(self, size: int, number: int, now: float) -> None:
        """An ordinary packet of the application's space was declared lost.

        Congestion loses packets of a size that others of that size, sent later, survive: those count for nothing.
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
        """So many probe timeouts in a row: where whatever is sent is too large, nothing is ever declared lost."""
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
        """Back to BASE at once. The old size is the first one probed: three losses may have been chance.

        Where that probe arrives and packets vanish again, none having arrived between, it is given up.
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
        """Probe this size next, at once; without one the search is complete until the raise timer ends."""
        self._losses = 0
        self._in_flight = False
        if size is not None and size > self.size:
            self._candidate = size
            self._due = now
        else:
            self._candidate = 0
            self._due = now + RAISE_S if self.size < self._allowed else None
