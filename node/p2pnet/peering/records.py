"""Signed records under discovery by seeds, and the store of the newest one of each node. No I/O; `now` is an argument.

The shape of a record stands in `model.peer_messages`. A record is taken when its chain is vouched for at `now`, its leaf's key
made the signature, its URI is of this subnet and not denied, it has not expired, and nothing newer is known. Times are
judged as a certificate's are: a record that has ended counts no more, and one may end later than allowed by as much as
leaves are backdated (BACKDATE), for the signer's clock may be ahead.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import msgspec

from p2pnet.model import limits
from p2pnet.model.errors import LimitError, MalformedError, RemoteError, TrustError
from p2pnet.model.peer_messages import RECORD_CONTEXT, Envelope, Record
from p2pnet.trust import BACKDATE, Bundle, Identity, sign, signed_by, verify

AHEAD_S = limits.RECORD_S + BACKDATE.total_seconds()
"""Longest time from `now` to a record's end, seconds: its life, and the signer's clock ahead by BACKDATE."""

Order = tuple[int, int]
"""(incarnation, sequence); of two records of one node the higher order counts."""


class RecordRefusedError(RemoteError):
    """A well-formed record that will not be used."""


class SignedRecord(msgspec.Struct, frozen=True):
    """A record whose signature and chain were verified."""

    uri: str
    record: Record
    ends_s: float
    """Unix seconds at which the record or its chain ends, whichever is first."""
    envelope: bytes


def write_record(record: Record, identity: Identity) -> bytes:
    """The record signed with the identity's key. Raises LimitError when it is too long with its chain, SpecError for a key
    that cannot sign.
    """
    body = msgspec.msgpack.encode(record)
    chain = list(identity.chain_der)
    envelope = msgspec.msgpack.encode(Envelope(body, sign(identity, RECORD_CONTEXT + body), chain))
    if len(envelope) > limits.RECORD_BYTES_MAX:
        raise LimitError(
            f"the record of {identity.uri} has {len(envelope)} bytes, {sum(map(len, chain))} of them its chain of"
            f" {len(chain)}: discovery by seeds allows {limits.RECORD_BYTES_MAX}. Issue an ECDSA P-256 leaf straight from"
            " an authority of the bundle, under shorter names, or use discovery by registry"
        )
    return envelope


def read_record(envelope: bytes, bundle: Bundle, *, now: datetime) -> SignedRecord:
    """The record in an envelope, whichever node it is about. Raises MalformedError, TrustError or RecordRefusedError."""
    # Cheap checks first: anybody with a valid leaf may send records.
    if len(envelope) > limits.RECORD_BYTES_MAX:
        raise MalformedError(f"a record of {len(envelope)} bytes: at most {limits.RECORD_BYTES_MAX}")
    try:
        outer = msgspec.msgpack.decode(envelope, type=Envelope)
        record = msgspec.msgpack.decode(outer.body, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"not a record: {error}") from error
    peer = verify(outer.chain, bundle, now=now)
    if not signed_by(outer.chain[0], RECORD_CONTEXT + outer.body, outer.signature):
        raise RecordRefusedError(f"the record of {peer.uri} is not signed with its leaf's key")
    return SignedRecord(peer.uri, record, min(float(record.expiry), peer.not_after.timestamp()), envelope)


class OwnRecord:
    """This node's own record, signed anew before it ends. `now` and the start are arguments."""

    def __init__(self, addresses: list[str], life_s: float, started: datetime) -> None:
        """Each signed record lives `life_s` seconds."""
        self._addresses = addresses
        self._life_s = life_s
        self._signed_s = self._due_s = 0.0
        self.order: Order = (int(started.timestamp() * 1000), -1)
        self.envelope = b""

    def due(self, now: datetime, echo: Order) -> bool:
        """Whether to sign it: half of its life is over, the clock was put back, or others hold a newer one of this
        node (`RecordStore.echo`).
        """
        return not self._signed_s <= now.timestamp() < self._due_s or echo > self.order

    def sign(self, identity: Identity, now: datetime, echo: Order) -> None:
        """Sign a newer one. Raises LimitError or SpecError, see `write_record`; the former one is then kept."""
        order = (echo[0] + 1, 0) if echo > self.order else (self.order[0], self.order[1] + 1)
        expiry = int(now.timestamp() + self._life_s)
        self.envelope = write_record(Record(*order, expiry, self._addresses), identity)
        self.order, self._signed_s, self._due_s = order, now.timestamp(), now.timestamp() + self._life_s / 2


class RecordStore:
    """The newest record of each other node, at most RECORDS_MAX."""

    def __init__(self, name: str, name_of: Callable[[str], str | None]) -> None:
        """The store of the node `name`; `name_of` gives the node of a URI of this subnet."""
        self._name = name
        self._name_of = name_of
        self._held: dict[str, SignedRecord] = {}
        self._denied: frozenset[str] = frozenset()
        self.lost: set[str] = set()
        """Nodes whose record expired without another, and that nobody removed: they may come back. At most RECORDS_MAX."""
        self.echo: Order = (0, -1)
        """The highest order of this node's own records that others hold: of a former incarnation, perhaps with a clock ahead."""

    @property
    def names(self) -> frozenset[str]:
        """Nodes with a record in force."""
        return frozenset(self._held)

    def record(self, name: str) -> Record | None:
        """The record in force of a node."""
        held = self._held.get(name)
        return held.record if held else None

    def offer(self, envelope: bytes, bundle: Bundle, *, now: datetime, of: str = "") -> str:
        """Take a record if it is newer; the name of the node then, else empty. `of`: the node it has to be of.

        Raises MalformedError, TrustError or RecordRefusedError; the store is then unchanged.
        """
        signed = read_record(envelope, bundle, now=now)
        name, record = self._name_of(signed.uri), signed.record
        if name is None or (of and name != of):
            raise RecordRefusedError(f"a record of {signed.uri} in place of one of {of or 'a node of this subnet'}")
        if record.expiry <= now.timestamp():
            raise RecordRefusedError(f"the record of {name} has ended: it is late, or the clocks differ")
        if record.expiry > now.timestamp() + AHEAD_S:
            raise RecordRefusedError(f"the record of {name} ends in more than {AHEAD_S:.0f} s")
        if name == self._name:
            # A record of ours from before a restart: the own record must be signed with a higher order.
            self.echo = max(self.echo, record.order)
            return ""
        held = self._held.get(name)
        if name in self._denied or (held is not None and record.order <= held.record.order):
            return ""
        if held is None and len(self._held) >= limits.RECORDS_MAX:
            raise RecordRefusedError(f"no room for the record of {name}: {limits.RECORDS_MAX} are kept")
        self._held[name] = signed
        self.lost.discard(name)
        return name

    def expire(self, now: datetime) -> list[str]:
        """Drop records that have ended; the names of their nodes."""
        ended = self._drop(name for name, held in self._held.items() if held.ends_s <= now.timestamp())
        # Bounded too: names come from the network.
        self.lost.update(ended[: limits.RECORDS_MAX - len(self.lost)])
        return ended

    def deny(self, uris: Iterable[str]) -> list[str]:
        """Refuse the records of these nodes from now on, and of no others; the names of those dropped."""
        self._denied = frozenset(name for uri in uris if (name := self._name_of(uri)) is not None)
        self.lost -= self._denied
        return self._drop(self._denied & self._held.keys())

    def recheck(self, bundle: Bundle, *, now: datetime) -> list[str]:
        """The bundle has changed: drop records whose chain it no longer vouches for; the names of their nodes."""
        return self._drop(name for name, held in self._held.items() if not _is_vouched_for(held, bundle, now))

    def known(self) -> dict[str, Order]:
        """The order of every record held, by node: what a question to a peer carries."""
        return {name: held.record.order for name, held in self._held.items()}

    def newer(self, known: Mapping[str, Order], now: datetime, start: float) -> tuple[list[bytes], bool]:
        """Envelopes newer than those `known`, at most RECORDS_PER_REPLY less one (the own record); and whether there are more.

        `start` in [0, 1) says where to begin: an asker that refuses some of them would else be sent the same page for ever.
        """
        found = [
            held.envelope
            for name, held in self._held.items()
            if held.record.order > known.get(name, (-1, -1)) and held.ends_s > now.timestamp()
        ]
        first = int(start * len(found))
        page = (found[first:] + found[:first])[: limits.RECORDS_PER_REPLY - 1]
        return page, len(page) < len(found)

    def _drop(self, names: Iterable[str]) -> list[str]:
        dropped = list(names)
        for name in dropped:
            del self._held[name]
        return dropped


def _is_vouched_for(held: SignedRecord, bundle: Bundle, now: datetime) -> bool:
    try:
        read_record(held.envelope, bundle, now=now)
    except TrustError:
        return False
    return True
