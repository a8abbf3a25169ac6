"""What a flooding or broken peer costs: itself only."""

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pnet.broadcast import BlobClient, Broadcast, effects, inputs, make_blob
from p2pnet.broadcast.charges import Charges
from p2pnet.broadcast.pool import Change, ChangeAction, PoolView
from p2pnet.broadcast.wire import PREFIX_BYTES, Status, encode_advert, encode_empty, encode_push
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.errors import P2pnetError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net, Node

K = EventKind


def from_peer(net: "Net", node: "Node", peer: str, body: bytes) -> bytes:
    """The statuses a node answers to an update request."""
    connection = node.connections.get(peer)
    if connection is None:
        connection = node.connections[peer] = 1000 + len(node.connections)
        node.core.handle(inputs.PeerUp(peer, connection), net.now, net.wall)
    done = node.core.handle(inputs.UpdatesReceived(peer, connection, 5, body), net.now, net.wall)
    node.events += [e for e in done if isinstance(e, effects.Emit)]
    node.arm()
    return next((e.body for e in done if isinstance(e, effects.AnswerUpdates)), b"")


def blob(size: int, nonce: int, wall: float) -> bytes:
    return make_blob("f", bytes(size), nonce.to_bytes(16, "big"), wall, wall + 600)


def test_rows_of_a_peer_stay_within_the_slot_limit_and_replacement_still_works(net: "Net") -> None:
    node = net.node("me", slots_per_peer=100)
    for slot in range(1100):
        status = from_peer(net, node, "p", encode_advert(slot, slot, 0, 100, ArtifactId(slot.to_bytes(32, "big"))))
        assert status == bytes([Status.OK if slot < 100 else Status.LIMIT])
    assert node.core._table.rows("p") == 100
    assert node.core.gauges()["tasks"] == 100
    assert from_peer(net, node, "p", encode_empty(5, 5000)) == bytes([Status.OK])
    assert from_peer(net, node, "q", encode_empty(5, 0)) == bytes([Status.OK])
    assert node.core.counters["rows_over_limit"] == 1000


class Undecided(BlobClient):
    """Leaves everything in the unvalidated section."""

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        return []


def test_unvalidated_bytes_are_charged_to_their_deliverer_and_beyond_the_bound_adverts_are_asked_for(
    net: "Net",
) -> None:
    node = net.node("me", client=Undecided(), unvalidated_bytes_per_peer=5000)
    statuses = [from_peer(net, node, "p", b"".join(encode_push(i, i, 0, blob(900, i, net.wall))))[0] for i in range(10)]
    assert statuses == [Status.OK] * 5 + [Status.ADVERTISE] * 5
    assert node.core._charges.held("p") <= 5000
    assert from_peer(net, node, "q", b"".join(encode_push(0, 0, 0, blob(900, 77, net.wall)))) == b"\x00"


def test_a_fetch_waits_for_room_and_goes_on_when_there_is_some(net: "Net") -> None:
    a = net.node("a")
    b = net.node("b", unvalidated_bytes_per_peer=150_000)
    net.link(a, b)
    net.run(1)
    ids = [a.publish(bytes(100_000)) for _ in range(4)]
    most = 0
    for _ in range(300):
        net.run(0.005)
        most = max(most, b.core._charges.held("a"))
    assert all(b.holds(artifact) for artifact in ids)
    assert most <= 150_000


def test_a_declared_size_beyond_the_bound_is_malformed_and_nothing_is_fetched(net: "Net") -> None:
    node = net.node("me", artifact_bytes_max=1000)
    assert from_peer(net, node, "p", encode_advert(0, 0, 0, 1_000_000, ArtifactId(bytes(32)))) == bytes(
        [Status.MALFORMED]
    )
    assert not node.core.gauges()["tasks"]


def test_a_flooding_peer_waits_behind_the_others_and_is_answered_busy_at_last(net: "Net") -> None:
    node = net.node("me")
    node.core.handle(inputs.Wake(), 0, net.wall)
    node.core.handle(inputs.PeerUp("flood", 1), 0, net.wall)
    node.core.handle(inputs.PeerUp("calm", 2), 0, net.wall)
    body = encode_empty(0, 0) * (16_384 // PREFIX_BYTES)
    statuses = []
    for token in range(600):
        done = node.core.handle(inputs.UpdatesReceived("flood", 1, token, body), 0, net.wall)
        statuses += [e.body[:1] for e in done if isinstance(e, effects.AnswerUpdates)]
    assert statuses.count(bytes([Status.OK])) <= 17
    assert statuses.count(bytes([Status.BUSY])) > 300
    calm = node.core.handle(inputs.UpdatesReceived("calm", 2, 999, encode_empty(0, 0)), 0, net.wall)
    assert effects.AnswerUpdates(999, b"\x00") in calm
    assert node.core.next_wakeup() == 0
    answered = 0
    while node.core.next_wakeup() == 0:
        done = node.core.handle(inputs.Wake(), 0, net.wall)
        turn = sum(isinstance(e, effects.AnswerUpdates) for e in done)
        assert turn <= 17
        answered += turn
    assert answered == 256


def test_requests_that_wait_are_forgotten_with_their_connection(net: "Net") -> None:
    node = net.node("me")
    node.core.handle(inputs.PeerUp("p", 1), 0, net.wall)
    body = encode_empty(0, 0) * 700
    for token in range(50):
        node.core.handle(inputs.UpdatesReceived("p", 1, token, body), 0, net.wall)
    node.core.handle(inputs.PeerDown("p", 1), 0, net.wall)
    done = node.core.handle(inputs.Wake(), 0, net.wall)
    assert not [e for e in done if isinstance(e, effects.AnswerUpdates)]


def test_malformed_requests_are_answered_so_and_reported(net: "Net") -> None:
    node = net.node("me")
    assert from_peer(net, node, "p", b"nonsense") == bytes([Status.MALFORMED])
    assert [e.peer for e in node.seen(K.REJECTED)] == ["p"]


def test_an_artifact_the_client_cannot_read_is_malformed_and_not_taken_again(net: "Net") -> None:
    node = net.node("me")
    push = b"".join(encode_push(0, 0, 0, b"not a blob"))
    assert from_peer(net, node, "p", push) == bytes([Status.MALFORMED])
    push = b"".join(encode_push(1, 1, 0, b"not a blob"))
    assert from_peer(net, node, "p", push) == bytes([Status.UNWANTED])
    assert len(node.seen(K.REJECTED)) == 1
    assert node.core._charges.held("p") == 0


def test_an_artifact_from_the_future_is_rejected_with_its_reason(net: "Net") -> None:
    node = net.node("me")
    from_peer(net, node, "p", b"".join(encode_push(0, 0, 0, blob(5, 1, net.wall + 1000))))
    net.run(1)
    assert [(e.peer, "future" in e.detail) for e in node.seen(K.REJECTED)] == [("p", True)]
    assert not node.core.pool.ids()
    assert not node.core.pool.unvalidated


def test_an_expired_artifact_is_unwanted(net: "Net") -> None:
    node = net.node("me")
    push = b"".join(encode_push(0, 0, 0, blob(5, 1, net.wall - 1000)))
    assert from_peer(net, node, "p", push) == bytes([Status.UNWANTED])


def test_members_that_left_lose_their_rows_in_every_slot_all_at_once(net: "Net") -> None:
    node = net.node("me", client=Undecided())
    node.core.handle(inputs.MembersChanged(frozenset({"me", "p", "q", "r"})), net.now, net.wall)
    push = [b"".join(encode_push(i, i, 0, blob(5, 1, net.wall))) for i in range(2)]
    for peer in "pqr":
        from_peer(net, node, peer, push[0])
        from_peer(net, node, peer, push[1])
    assert len(node.core.pool.unvalidated) == 1
    node.core.handle(inputs.MembersChanged(frozenset({"me", "r"})), net.now, net.wall)
    assert len(node.core.pool.unvalidated) == 1
    node.core.handle(inputs.MembersChanged(frozenset({"me"})), net.now, net.wall)
    assert not node.core.pool.unvalidated
    assert node.core.gauges()["rows"] == 0


def test_an_unvalidated_artifact_leaves_when_the_last_announcing_row_is_overwritten(net: "Net") -> None:
    node = net.node("me", client=Undecided())
    push = b"".join(encode_push(0, 0, 0, blob(5, 1, net.wall)))
    from_peer(net, node, "p", push)
    from_peer(net, node, "q", push)
    from_peer(net, node, "p", encode_empty(0, 1))
    assert len(node.core.pool.unvalidated) == 1
    from_peer(net, node, "q", encode_empty(0, 1))
    assert not node.core.pool.unvalidated


def test_the_rows_of_a_peer_that_stays_away_end_after_a_while(net: "Net") -> None:
    a, b = net.mesh(2)
    a.publish(b"x")
    net.run(1)
    net.cut(a, b)
    net.run(590)
    assert b.core._table.rows("n0") == 1
    net.run(20)
    assert b.core._table.rows("n0") == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("pqr"), st.integers(0, 60)), max_size=60))
def test_charges_never_exceed_the_limit_and_add_up(steps: list[tuple[int, str, int]]) -> None:
    charges, model = Charges(100), dict[ArtifactId, tuple[str, int]]()
    for number, peer, size in steps:
        artifact = ArtifactId(bytes([number]) * 32)
        if size % 3 == 0:
            charges.release(artifact)
            model.pop(artifact, None)
        elif charges.take(artifact, peer, size):
            model.setdefault(artifact, (peer, size))
        for name in "pqr":
            held = sum(size for payer, size in model.values() if payer == name)
            assert charges.held(name) == held <= 100


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=120)), max_size=20), st.randoms(use_true_random=False))
def test_any_bytes_from_a_peer_leave_the_core_standing(messages: list[tuple[int, bytes]], chance: object) -> None:
    from random import Random

    core = Broadcast(BlobClient(), "me", BroadcastSettings(slots_per_peer=8), Random(1))
    core.handle(inputs.PeerUp("p", 1), 0, 1000.0)
    advert = encode_advert(1, 1, 0, 200_000, ArtifactId(bytes(32)))
    done = core.handle(inputs.UpdatesReceived("p", 1, 0, advert), 0, 1000.0)
    done += core.handle(inputs.Wake(), 0, 1000.0)
    for now, (kind, body) in enumerate(messages):
        fetches = [e.token for e in done if isinstance(e, effects.Fetch)]
        what: inputs.Input
        match kind:
            case 0:
                what = inputs.UpdatesReceived("p", 1, now, body)
            case 1:
                what = inputs.FetchReceived("p", 1, now, body)
            case 2:
                what = inputs.FetchAnswered(fetches[-1] if fetches else 0, body)
            case _:
                what = inputs.UpdatesAnswered(now, body)
        try:
            done = core.handle(what, now, 1000.0) + core.handle(inputs.Wake(), now, 1000.0)
        except P2pnetError as error:
            raise AssertionError("errors of peers stay inside") from error
    assert core.gauges()["rows"] <= 8
