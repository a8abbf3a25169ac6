"""One core under direct control, artifacts that scripted peers offer it, and clients with a will of their own."""

from collections import deque
from random import Random
from typing import Any

from p2pnet.broadcast import BlobClient, Bounce, Broadcast, effects, inputs, make_blob
from p2pnet.broadcast.artifact import artifact_id, id_prefix, part_count, part_list
from p2pnet.broadcast.pool import Change, ChangeAction, Inspected, MoveToValidated, PoolView
from p2pnet.broadcast.wire import UpdateStatus, decode_fetch, decode_updates, encode_advert, encode_parts, encode_push
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

MS = 1_000_000
SECOND = 1_000 * MS
EPOCH = 1_700_000_000.0
PREFIX = id_prefix("blob")


class Made:
    """An artifact that no core under test has made, and what a peer that has it says."""

    def __init__(self, size: int = 10, *, nonce: int = 0, created: float = EPOCH, keep_s: float = 90_000.0) -> None:
        self.data = make_blob("f", Random(nonce).randbytes(size), nonce.to_bytes(16, "big"), created, created + keep_s)
        self._describe()

    def _describe(self) -> None:
        self.parts = part_list(self.data)
        self.id = artifact_id(PREFIX, b"", len(self.data), self.parts)

    @classmethod
    def of(cls, data: bytes) -> "Made":
        """Around these encoded bytes, whatever they are."""
        made = cls()
        made.data = data
        made._describe()
        return made

    def advert(self, slot: int = 0, commit: int = 0, *, have: int | None = None, hop: int = 0) -> bytes:
        return encode_advert(slot, commit, hop, len(self.data), self.id, have=have)

    def push(self, slot: int = 0, commit: int = 0, *, hop: int = 0, origin: int = 0) -> bytes:
        return b"".join(encode_push(slot, commit, hop, self.data, origin=origin))

    def answer(self, *numbers: int, first: bool = False) -> bytes:
        """A fetch answer with these parts; `first`: and the part list."""
        parts = [(n, self.data[n * PART_BYTES : (n + 1) * PART_BYTES]) for n in numbers]
        return b"".join(encode_parts(self.parts if first else b"", parts))


class Script:
    """One core whose peers are scripted."""

    def __init__(self, client: Any = None, *, bytes_max: int | None = None, **settings: Any) -> None:
        more = {} if bytes_max is None else {"unvalidated_bytes_per_peer": bytes_max}
        self.core = Broadcast(client or BlobClient(), "me", BroadcastSettings(**settings), Random(1), **more)
        self.now = 0
        self.log: list[effects.Effect] = []
        self.connections: dict[str, int] = {}
        self._made = 0
        self._tokens = 1_000_000
        self.turn()

    @property
    def wall(self) -> float:
        return EPOCH + self.now / SECOND

    def give(self, what: inputs.Input) -> list[effects.Effect]:
        done = self.core.handle(what, self.now, self.wall)
        self.log += done
        return done

    def turn(self, *what: inputs.Input) -> list[effects.Effect]:
        """Inputs, then the Wake that ends the turn; a RunClient is answered at once."""
        done = [effect for one in what for effect in self.give(one)]
        done += self.give(inputs.Wake())
        for run in of(done, effects.RunClient):
            done += self.give(self._run_client(run))
            done += self.give(inputs.Wake())
        return done

    def _run_client(self, run: effects.RunClient) -> inputs.ClientAnswered:
        try:
            return inputs.ClientAnswered(self.core.client.on_state_change(run.changes, self.core.pool, self.wall), 0)
        except ValueError as error:
            return inputs.ClientAnswered([], 0, failed=repr(error))

    def later(self, ns: int) -> list[effects.Effect]:
        """Let time pass, waking when asked to."""
        end, done = self.now + ns, list[effects.Effect]()
        while (at := self.core.next_wakeup()) is not None and at <= end:
            self.now = max(self.now, at)
            done += self.turn()
        self.now = end
        return done

    # This node's user

    def blob(self, size: int = 10) -> inputs.Publish:
        self._made += 1
        return inputs.Publish(make_blob("f", bytes(size), self._made.to_bytes(16, "big"), EPOCH, EPOCH + 90_000), size)

    def publish(self, size: int = 10) -> tuple[ArtifactId, list[effects.Effect]]:
        done = self.turn(self.blob(size))
        (published,) = of(done, effects.Published)
        return published.artifact, done

    # Peers

    def connect(self, peer: str, connection: int | None = None) -> list[effects.Effect]:
        """A connection greater than all before, unless it is said."""
        self.connections[peer] = connection or max(self.connections.values(), default=0) + 1
        return self.turn(inputs.PeerUp(peer, self.connections[peer]))

    def up(self, peer: str, connection: int | None = None) -> list[effects.Effect]:
        """Connect, and take everything that is due at first."""
        done = self.connect(peer, connection)
        for sent in of(done, effects.SendUpdates):
            done += self.turn(ok(sent))
        for synced in of(done, effects.SendSynced):
            self.turn(inputs.SyncedAnswered(synced.token, ok=True))
        return done

    def down(self, peer: str) -> list[effects.Effect]:
        return self.turn(inputs.PeerDown(peer, self.connections[peer]))

    def updates(self, peer: str, *entries: bytes) -> list[effects.Effect]:
        """One update request of a peer, and the turn it ends."""
        self._tokens += 1
        return self.turn(inputs.UpdatesReceived(peer, self.connections[peer], self._tokens, b"".join(entries)))

    def statuses(self, peer: str, *entries: bytes) -> list[int]:
        """The same; what is answered."""
        (answer,) = of(self.updates(peer, *entries), effects.AnswerUpdates)
        return list(answer.body)

    def ask(self, peer: str, question: bytes) -> bytes:
        """The answer to a peer's fetch."""
        self._tokens += 1
        done = self.turn(inputs.FetchReceived(peer, self.connections[peer], self._tokens, question))
        (answer,) = of(done, effects.AnswerFetch)
        return b"".join(answer.body)

    def answer(self, fetch: effects.Fetch, body: bytes | None) -> list[effects.Effect]:
        return self.turn(inputs.FetchAnswered(fetch.token, body))

    # What happened

    def events(self, kind: EventKind) -> list[effects.Emit]:
        return [emit for emit in of(self.log, effects.Emit) if emit.kind is kind]

    def kinds_pending(self) -> set[str]:
        return {pending.kind for pending in self.core.pending()}


def of(done: list[effects.Effect], kind: type[Any]) -> list[Any]:
    """Those of one kind."""
    return [effect for effect in done if isinstance(effect, kind)]


def serve(script: Script, fetch: effects.Fetch, *mades: Made) -> list[effects.Effect]:
    """Answer as an honest source of these does."""
    question = decode_fetch(fetch.body)
    made = next(made for made in mades if made.id == question.artifact)
    count = part_count(len(made.data))
    return script.answer(
        fetch, made.answer(*(question.parts or range(min(count, question.most))), first=not question.parts)
    )


def entries(sent: effects.SendUpdates) -> list[tuple[int, int, int]]:
    """(slot, commit, kind) of each."""
    return [(e.slot, e.commit, e.kind) for e in decode_updates(b"".join(sent.body))]


def ok(sent: effects.SendUpdates, status: UpdateStatus = UpdateStatus.OK) -> inputs.UpdatesAnswered:
    """The same word on every update of a request."""
    return inputs.UpdatesAnswered(sent.token, bytes([status]) * len(entries(sent)))


class Urgent(BlobClient):
    """Pushes at any size."""

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:
        return True


class Undecided(BlobClient):
    """Leaves everything in the unvalidated section."""

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        return []


class Moody(BlobClient):
    """A bouncer that changes its mind."""

    def __init__(self, says: Bounce) -> None:
        self.says = says

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        return self.says


class Ticking(Moody):
    """The same, run twice a second."""

    tick_s = 0.5


class Failing(BlobClient):
    """Raises in the methods it is told to."""

    def __init__(self, *methods: str) -> None:
        self.fails_in = set(methods)

    def _perhaps(self, method: str) -> None:
        if method in self.fails_in:
            raise ValueError("as it was told")

    def inspect(self, data: bytes) -> Inspected:
        self._perhaps("inspect")
        return super().inspect(data)

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        self._perhaps("bouncer")
        return super().bouncer(artifact, key, size)

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:
        self._perhaps("is_urgent")
        return super().is_urgent(artifact, inspected)

    def relay(self, artifact: ArtifactId, key: bytes) -> Any:
        self._perhaps("relay")
        return super().relay(artifact, key)

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        self._perhaps("on_state_change")
        return super().on_state_change(changes, pool, now)


class Plain:
    """Artifacts are the user's bytes, the first of which is their key and height; takes all, keeps all."""

    name = "plain"
    tick_s: float | None = None

    def make(self, name: str, data: bytes, *, nonce: bytes, now: float, keep_s: float) -> bytes:
        return data

    def inspect(self, data: bytes) -> Inspected:
        return Inspected(size=len(data), key=data[:1], height=data[0])

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        return [MoveToValidated(artifact) for artifact in pool.unvalidated]

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        return Bounce.WANTS

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:
        return False

    def relay(self, artifact: ArtifactId, key: bytes) -> Any:
        return None


def footprint(core: Broadcast) -> dict[str, int]:
    """How many entries each container inside a core has, by its place; empty ones left out."""
    sizes: dict[str, int] = {}
    seen: set[int] = set()

    def look(thing: Any, place: str) -> None:
        if id(thing) in seen or callable(thing):
            return
        seen.add(id(thing))
        if isinstance(thing, dict | list | set | deque):
            if thing:
                sizes[place] = len(thing)
            for inner in thing.values() if isinstance(thing, dict) else thing:
                look(inner, f"{place}[]")
        elif type(thing).__module__.startswith("p2pnet.broadcast"):
            slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
            for name in [*slots, *getattr(thing, "__dict__", ())]:
                look(getattr(thing, name, None), f"{place}.{name}")

    look(core, type(core).__name__)
    return sizes
