"""Stripped forms: assembled from the pool, pieces that are missing fetched, and the whole when anything goes wrong."""

from typing import TYPE_CHECKING, Any

import pytest
from tests.broadcast.kit import SECOND, Made, Plain, Script, entries, of, ok, serve

from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.artifact import artifact_id, id_prefix, part_list
from p2pnet.broadcast.pool import Inspected
from p2pnet.broadcast.stripping import PIECES_AT_ONCE, PIECES_MAX, ROUNDS_MAX
from p2pnet.broadcast.wire import EntryKind, UpdateStatus, decode_fetch, encode_gone, encode_stripped
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net

PIECE = 100


class Blocks(Plain):
    """Pieces of 100 bytes, and blocks: `B` and the pieces in them, whole. A block's form is the ids of its pieces."""

    name = "plain"

    def inspect(self, data: bytes) -> Inspected:
        if data[:1] == b"B" and len(data) % PIECE != 1:
            raise MalformedError("a block is made of whole pieces")
        return Inspected(size=len(data), key=data[:1])

    def strip(self, artifact: ArtifactId, data: bytes, pool: Any) -> bytes | None:
        known = {piece.data: piece.id for piece in pool.validated.values()}
        ids = [known.get(data[at : at + PIECE]) for at in range(1, len(data), PIECE)]
        return None if data[:1] != b"B" or None in ids else b"".join(one for one in ids if one)

    def assemble(self, stripped: bytes, pool: Any) -> bytes | list[ArtifactId]:
        ids = [ArtifactId(stripped[at : at + 32]) for at in range(0, len(stripped), 32)]
        found = [pool.validated.get(one) or pool.unvalidated.get(one) for one in ids]
        missing = [one for one, piece in zip(ids, found, strict=True) if piece is None]
        return missing or b"B" + b"".join(piece.data for piece in found if piece is not None)


class Thing(Made):
    """An artifact of `Blocks`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.parts = part_list(data)
        self.id = artifact_id(id_prefix("plain"), data[:1], len(data), self.parts)

    def push(self, slot: int = 0, commit: int = 0, **_: Any) -> bytes:
        return super().push(slot, commit)


def pieces(count: int) -> list[Thing]:
    return [Thing(bytes([97 + number]) * PIECE) for number in range(count)]


def block(of_pieces: list[Thing]) -> Thing:
    return Thing(b"B" + b"".join(piece.data for piece in of_pieces))


def form(made: Thing, of_pieces: list[Thing], slot: int = 50) -> bytes:
    ids = b"".join(piece.id for piece in of_pieces)
    return b"".join(encode_stripped(slot, slot, 3, len(made.data), made.id, ids, key=b"B", origin=7))


def node(client: Any = None, **settings: Any) -> Script:
    script = Script(client or Blocks(), **settings)
    script.up("p")
    return script


def give(script: Script, *things: Thing) -> None:
    for slot, thing in enumerate(things):
        script.updates("p", b"".join([wire_push(thing, slot)]))


def wire_push(thing: Thing, slot: int) -> bytes:
    from p2pnet.broadcast.wire import encode_push

    return b"".join(encode_push(slot, slot, 0, thing.data, thing.data[:1]))


def fetched(done: list[effects.Effect]) -> list[ArtifactId]:
    return [decode_fetch(fetch.body).artifact for fetch in of(done, effects.Fetch)]


def test_a_form_whose_pieces_are_here_becomes_the_artifact_in_one_trip() -> None:
    script, held = node(), pieces(3)
    give(script, *held)
    whole = block(held)
    done = script.updates("p", form(whole, held))
    (answer,) = of(done, effects.AnswerUpdates)
    assert answer.body == bytes([UpdateStatus.OK])
    assert fetched(done) == []
    found = script.core.pool.validated[whole.id]
    assert (found.data, found.hop, found.peer, found.origin) == (whole.data, 4, "p", 7)
    assert script.core.counters["assembled"] == 1


def test_pieces_that_are_missing_are_fetched_from_who_sent_the_form_and_kept_nowhere() -> None:
    script, all_pieces = node(), pieces(3)
    give(script, all_pieces[0])
    whole = block(all_pieces)
    done = script.updates("p", form(whole, all_pieces))
    assert fetched(done) == [all_pieces[1].id, all_pieces[2].id]
    for fetch in of(done, effects.Fetch):
        serve(script, fetch, *all_pieces)
    assert script.core.pool.validated[whole.id].data == whole.data
    assert not script.core.pool.holds(all_pieces[1].id)
    assert script.core.quota_used("p") == 0
    assert script.later(60 * SECOND) is not None
    assert not script.core.pending()


def test_only_a_few_pieces_are_asked_for_at_once() -> None:
    script, all_pieces = node(), pieces(10)
    whole = block(all_pieces)
    done = script.updates("p", form(whole, all_pieces))
    assert len(fetched(done)) == PIECES_AT_ONCE
    waiting = of(done, effects.Fetch)
    while waiting:
        waiting += of(serve(script, waiting.pop(0), *all_pieces), effects.Fetch)
        assert len(waiting) <= PIECES_AT_ONCE
    assert script.core.pool.holds(whole.id)


def refused(script: Script, whole: Thing, fetch: effects.Fetch, body: bytes | None) -> None:
    """After this answer to a piece's fetch the whole is fetched, and arrives."""
    done = script.answer(fetch, body)
    (ask,) = [one for one in of(done, effects.Fetch) if decode_fetch(one.body).artifact == whole.id]
    serve(script, ask, whole)
    assert script.core.pool.validated[whole.id].data == whole.data
    assert script.core.counters["assemblies_failed"] == 1


@pytest.mark.parametrize("answer", ["gone", "lost", "noise", "another"])
def test_when_a_piece_does_not_come_the_whole_is_fetched(answer: str) -> None:
    script, (here, missing, other) = node(), pieces(3)
    give(script, here)
    whole = block([here, missing])
    (fetch,) = of(script.updates("p", form(whole, [here, missing])), effects.Fetch)
    bodies = {"gone": b"".join(encode_gone()), "lost": None, "noise": b"noise", "another": other.answer(0, first=True)}
    refused(script, whole, fetch, bodies[answer])


def test_pieces_that_are_more_than_the_artifact_end_it() -> None:
    script, large = node(), Thing(b"x" * 1000)
    whole = block(pieces(1))
    (fetch,) = of(script.updates("p", form(whole, [large])), effects.Fetch)
    refused(script, whole, fetch, large.answer(0, first=True))


def test_a_form_that_makes_something_else_is_blamed_on_its_sender_and_the_whole_fetched() -> None:
    script, held = node(), pieces(3)
    give(script, *held)
    whole = block(held[:2])
    done = script.updates("p", form(whole, held[1:]))
    assert fetched(done) == [whole.id]
    (event,) = script.events(EventKind.REJECTED)
    assert (event.artifact, event.peer, event.detail) == (whole.id, "p", "its form makes something else")
    serve(script, of(done, effects.Fetch)[0], whole)
    assert script.core.pool.holds(whole.id)


def test_a_client_that_cannot_assemble_fetches_the_whole() -> None:
    script = node(Plain())
    whole = block(pieces(2))
    assert fetched(script.updates("p", form(whole, pieces(2)))) == [whole.id]


@pytest.mark.parametrize("made", [ValueError("a user's mistake"), None, 7, [b"no id"], []])
def test_whatever_a_client_makes_of_a_form_the_node_gets_the_artifact(made: Any) -> None:
    class Odd(Blocks):
        def assemble(self, stripped: bytes, pool: Any) -> Any:
            if isinstance(made, Exception):
                raise made
            return made

    script, whole = node(Odd()), block(pieces(2))
    (fetch,) = of(script.updates("p", form(whole, pieces(2))), effects.Fetch)
    serve(script, fetch, whole)
    assert script.core.pool.holds(whole.id)
    assert script.core.counters["client_failures"] == (0 if isinstance(made, list) else 1)


def test_a_client_that_always_lacks_more_ends_with_the_whole() -> None:
    class Greedy(Blocks):
        asked = 0

        def assemble(self, stripped: bytes, pool: Any) -> list[ArtifactId]:
            self.asked += 1
            return [pieces(9)[self.asked].id]

    client, all_pieces = Greedy(), pieces(9)
    script, whole = node(client), block(all_pieces)
    waiting = of(script.updates("p", form(whole, all_pieces)), effects.Fetch)
    while decode_fetch(waiting[0].body).artifact != whole.id:
        waiting = of(serve(script, waiting[0], *all_pieces), effects.Fetch)
    assert client.asked == ROUNDS_MAX + 1


def test_a_form_with_more_missing_pieces_than_a_bound_is_fetched_whole() -> None:
    class Many(Blocks):
        def assemble(self, stripped: bytes, pool: Any) -> list[ArtifactId]:
            return [ArtifactId(number.to_bytes(32, "big")) for number in range(PIECES_MAX + 1)]

    script, whole = node(Many()), block(pieces(2))
    assert fetched(script.updates("p", form(whole, pieces(2)))) == [whole.id]


def test_without_quota_for_the_whole_an_advert_is_asked_for() -> None:
    class Undecided(Blocks):
        def on_state_change(self, changes: Any, pool: Any, now: float) -> list[Any]:
            return []

    script = node(Undecided(), bytes_max=150)
    give(script, *pieces(1))
    assert script.statuses("p", form(block(pieces(2)), pieces(2))) == [UpdateStatus.ADVERTISE]
    assert script.core.quota_used("p") == PIECE


def test_an_artifact_that_is_here_is_a_duplicate_in_any_form() -> None:
    script, held = node(), pieces(2)
    give(script, *held, block(held))
    assert script.statuses("p", form(block(held), held)) == [UpdateStatus.HAVE]
    assert len(script.events(EventKind.DUPLICATE)) == 1


def test_while_it_is_assembled_other_peers_adverts_start_nothing_and_a_lost_connection_turns_to_them() -> None:
    script, all_pieces = node(), pieces(2)
    script.up("q")
    whole = block(all_pieces)
    script.updates("p", form(whole, all_pieces))
    assert fetched(script.updates("q", form(whole, all_pieces))) == []
    done = script.down("p")
    assert [(fetch.peer, decode_fetch(fetch.body).artifact) for fetch in of(done, effects.Fetch)] == [("q", whole.id)]
    assert {cancelled.token for cancelled in of(done, effects.Cancel)} == {
        fetch.token for fetch in of(script.log, effects.Fetch) if fetch.peer == "p"
    }


def test_what_its_user_withdraws_meanwhile_is_not_assembled() -> None:
    script, all_pieces = node(), pieces(2)
    whole = block(all_pieces)
    done = script.updates("p", form(whole, all_pieces))
    script.turn(inputs.Withdraw(whole.id))
    for fetch in of(done, effects.Fetch):
        serve(script, fetch, *all_pieces)
    assert not script.core.pool.holds(whole.id)
    assert script.core.quota_used("p") == 0
    assert not [pending for pending in script.core.pending() if pending.kind in {"task", "bytes"}]


def test_a_push_that_comes_meanwhile_completes_it() -> None:
    script, all_pieces = node(), pieces(2)
    script.up("q")
    whole = block(all_pieces)
    done = script.updates("p", form(whole, all_pieces))
    script.updates("q", wire_push(whole, 3))
    assert script.core.pool.validated[whole.id].peer == "q"
    for fetch in of(done, effects.Fetch):
        serve(script, fetch, *all_pieces)
    assert script.core.quota_used("p") == script.core.quota_used("q") == 0


# Sent


def test_a_publisher_sends_the_form_and_a_relay_too(net: "Net") -> None:
    nodes = [net.node(f"n{i}", client=Blocks(), full_mesh=False) for i in range(3)]
    net.link(nodes[0], nodes[1])
    net.link(nodes[1], nodes[2])
    held = pieces(20)
    for piece in held:
        nodes[0].publish(piece.data)
    net.run(3)
    before = len(nodes[0].log), len(nodes[1].log)
    artifact = nodes[0].publish(block(held).data)
    net.run(3)
    assert nodes[2].holds(artifact)
    for sender, start in zip(nodes, before, strict=False):
        sent = of(sender.log[start:], effects.SendUpdates)
        assert [entries(one)[0][2] for one in sent] == [EntryKind.STRIPPED]
        assert sum(map(len, sent[0].body)) < 20 * 32 + 100


@pytest.mark.parametrize("made", [ValueError("a user's mistake"), b"x" * 500, 7])
def test_a_client_that_fails_to_strip_has_the_whole_sent(made: Any) -> None:
    class Odd(Blocks):
        def strip(self, artifact: ArtifactId, data: bytes, pool: Any) -> Any:
            if isinstance(made, Exception):
                raise made
            return made

    script = node(Odd())
    done = script.turn(inputs.Publish(block(pieces(2)).data, 201))
    assert [entries(sent)[0][2] for sent in of(done, effects.SendUpdates)] == [EntryKind.PUSH]
    assert script.core.counters["client_failures"] == (0 if isinstance(made, bytes) else 1)


def test_an_artifact_too_large_to_push_is_pushed_in_a_form_that_is_not() -> None:
    class Short(Blocks):
        def strip(self, artifact: ArtifactId, data: bytes, pool: Any) -> bytes:
            return b"short"

    for client, kind in ((Short(), EntryKind.STRIPPED), (Blocks(), EntryKind.ADVERT)):
        script = node(client)
        done = script.turn(inputs.Publish(b"x" * 200_000, 200_000))
        assert [entries(sent)[0][2] for sent in of(done, effects.SendUpdates)] == [kind]
        script.turn(ok(of(done, effects.SendUpdates)[0]))
