"""Scattering: who is dealt what, who passes it on, and what becomes of what is refused or lost."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.broadcast.kit import MS, SECOND, Made, Plain, Script, Urgent, entries, of, ok

from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.context import Timer
from p2pnet.broadcast.scatter import BATCH_BYTES, REQUESTS_PER_PEER, SILENT_LEAST_NS, SINGLE_REQUESTS
from p2pnet.broadcast.stripes import Stripe, decode_stripes, plan_shares
from p2pnet.broadcast.wire import EntryKind, UpdateStatus, decode_updates
from p2pnet.model.limits import KIB, MIB, PART_BYTES

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net

PEERS = ("a", "b", "c", "d", "e")


def meshed(*, client: Any = None, peers: tuple[str, ...] = PEERS, **settings: Any) -> Script:
    script = Script(client, **settings)
    for peer in peers:
        script.up(peer)
    return script


def stripes(sent: effects.SendStripes) -> list[Stripe]:
    return decode_stripes(b"".join(sent.body))


def dealt(done: list[effects.Effect]) -> dict[str, list[int]]:
    """Peer -> first leaves of what it is sent."""
    found: dict[str, list[int]] = {}
    for sent in of(done, effects.SendStripes):
        found.setdefault(sent.peer, []).extend(stripe.first for stripe in stripes(sent))
    return found


def answer(script: Script, sent: effects.SendStripes, status: UpdateStatus | None) -> list[effects.Effect]:
    body = None if status is None else bytes([status]) * len(stripes(sent))
    return script.turn(inputs.StripesAnswered(sent.token, body))


def kinds(done: list[effects.Effect]) -> set[int]:
    return {kind for sent in of(done, effects.SendUpdates) for _, _, kind in entries(sent)}


def test_each_peer_is_dealt_its_share_and_together_they_have_all() -> None:
    script = meshed()
    _, done = script.publish(MIB)
    size = len(script.core.pool.validated[of(done, effects.Published)[0].artifact].data)
    shares = plan_shares(size, len(PEERS))
    assert [dealt(done)[peer] for peer in sorted(PEERS, key=lambda name: (name < "me", name))] == [
        [first for first, _ in share] for share in shares
    ]
    assert script.core.counters["stripes_sent"] == sum(map(len, shares))
    assert all(stripe.first_hand for sent in of(done, effects.SendStripes) for stripe in stripes(sent))


def test_rows_leave_before_stripes_and_carry_the_part_list() -> None:
    script = meshed()
    artifact, done = script.publish(200_000)
    sent = [e for e in done if isinstance(e, effects.SendUpdates | effects.SendStripes)]
    rows = sent[: len(PEERS)]
    assert all(isinstance(row, effects.SendUpdates) for row in rows)
    body = b"".join(rows[0].body)
    (entry,) = decode_updates(body)
    assert entry.kind == EntryKind.STRIPE
    assert body[entry.start : entry.end] == artifact + script.core.pool.validated[artifact].parts


def test_peers_are_served_in_turn_so_that_all_begin_early() -> None:
    script = meshed()
    _, done = script.publish(MIB)
    order = [sent.peer for sent in of(done, effects.SendStripes)]
    rounds = [order[start : start + len(PEERS)] for start in range(0, len(order), len(PEERS))]
    assert all(len(set(names)) == len(names) for names in rounds)


@pytest.mark.parametrize(
    ("settings", "size", "peers", "kind"),
    [
        ({}, PART_BYTES, PEERS, EntryKind.PUSH),
        ({}, PART_BYTES + 1, PEERS, EntryKind.STRIPE),
        ({}, MIB, PEERS[:3], EntryKind.ADVERT),
        ({"relay": "scatter"}, 16 * KIB, PEERS, EntryKind.PUSH),
        ({"relay": "scatter"}, 16 * KIB + 1, PEERS, EntryKind.STRIPE),
        ({"relay": "scatter"}, MIB, PEERS[:3], EntryKind.STRIPE),
        ({"relay": "scatter"}, MIB, PEERS[:2], EntryKind.ADVERT),
        ({"relay": "advert"}, MIB, PEERS, EntryKind.ADVERT),
        ({"relay": "scatter", "full_mesh": False}, MIB, PEERS, EntryKind.ADVERT),
        ({"relay": "auto", "auto_scatters": False}, MIB, PEERS, EntryKind.ADVERT),
        ({"relay": "scatter", "auto_scatters": False}, MIB, PEERS, EntryKind.STRIPE),
    ],
)
def test_what_is_scattered(settings: dict[str, Any], size: int, peers: tuple[str, ...], kind: EntryKind) -> None:
    script = meshed(peers=peers, **settings)
    _, done = script.publish(size)
    assert kinds(done) == {kind}
    assert bool(of(done, effects.SendStripes)) is (kind is EntryKind.STRIPE)


def test_auto_scatters_while_an_access_link_limits_what_leaves() -> None:
    script = meshed(relay="auto", auto_scatters=False)
    found = []
    for narrow in (True, False, True):
        script.core.limit_uplink(narrow)
        found.append(kinds(script.publish(MIB)[1]))
    assert found == [{EntryKind.STRIPE}, {EntryKind.ADVERT}, {EntryKind.STRIPE}]


def test_a_client_may_say_scatter_for_its_own() -> None:
    class Scattering(Plain):
        def relay(self, artifact: Any, key: bytes) -> Any:
            return "scatter"

    script = meshed(client=Scattering(), relay="push")
    done = script.turn(inputs.Publish(bytes(20_000), 20_000))
    assert kinds(done) == {EntryKind.STRIPE}


def test_what_is_urgent_overtakes_what_waits() -> None:
    script = meshed(client=Urgent(), relay="scatter")
    _, done = script.publish(100_000)
    assert kinds(done) == {EntryKind.STRIPE}
    slow = meshed(relay="scatter")
    slow.core.client.is_urgent = lambda artifact, inspected: inspected.size < MIB  # type: ignore[method-assign]
    slow.publish(64 * MIB)
    urgent, _ = slow.publish(20_000)
    first = of(slow.log, effects.SendStripes)[0]
    done = answer(slow, first, UpdateStatus.OK)
    assert {stripe.short for sent in of(done, effects.SendStripes) for stripe in stripes(sent)} == {urgent[:16]}


def test_what_waits_travels_together_and_only_so_much_is_in_flight() -> None:
    script = meshed(relay="scatter", peers=PEERS[:3])
    script.publish(128 * MIB)
    sent = [s for s in of(script.log, effects.SendStripes) if s.peer == "a"]
    assert len(sent) == REQUESTS_PER_PEER
    assert {len(stripes(s)) for s in sent[:SINGLE_REQUESTS]} == {1}
    assert all(sum(map(len, s.body)) <= 2 * BATCH_BYTES for s in sent)
    assert len(of(answer(script, sent[0], UpdateStatus.OK), effects.SendStripes)) == 1


@pytest.mark.parametrize("status", [None, UpdateStatus.UNWANTED, UpdateStatus.BUSY, UpdateStatus.MALFORMED])
def test_what_a_peer_does_not_take_is_dealt_to_another(status: UpdateStatus | None) -> None:
    script = meshed()
    _, done = script.publish(100_000)
    first = of(done, effects.SendStripes)[len(PEERS)]
    assert len(stripes(first)[0].proof) < 100, "its siblings came with the stripe before it"
    again = dealt(answer(script, first, status))
    assert first.peer not in again
    assert stripes(first)[0].first in [leaf for leaves in again.values() for leaf in leaves]
    alone = next(s for sent in reversed(of(script.log, effects.SendStripes)) for s in stripes(sent)
                 if s.first == stripes(first)[0].first)  # fmt: skip
    assert len(alone.proof) == 100, "with its whole proof: its receivers know nothing of that share"


def test_a_lost_connection_leaves_its_share_to_the_others() -> None:
    script = meshed()
    _, done = script.publish(MIB)
    lost = dealt(done)["c"]
    again = dealt(script.down("c"))
    assert sorted(leaf for leaves in again.values() for leaf in leaves) == lost
    assert script.core.counters["stripes_dealt_again"] == len(lost)


class Answering:
    """Peers that answer what they are sent after so many milliseconds; None: never."""

    def __init__(self, script: Script, **after_ms: int | None) -> None:
        self.script = script
        self.after_ms = after_ms
        self.open: list[tuple[int, effects.SendStripes]] = []
        self._read = 0

    def run(self, ms: int) -> dict[str, list[int]]:
        """Let so many milliseconds pass; what peers were dealt meanwhile."""
        begun = len(self.script.log)
        for _ in range(ms):
            self.script.later(MS)
            self._note()
            for at, sent in [due for due in self.open if due[0] <= self.script.now]:
                self.open.remove((at, sent))
                answer(self.script, sent, UpdateStatus.OK)
        return dealt(self.script.log[begun:])

    def _note(self) -> None:
        for sent in of(self.script.log[self._read :], effects.SendStripes):
            after = self.after_ms.get(sent.peer, 10)
            if after is not None:
                self.open.append((self.script.now + after * MS, sent))
        self._read = len(self.script.log)


def test_what_a_silent_peer_does_not_acknowledge_is_dealt_to_others_soon() -> None:
    script = meshed()
    peers = Answering(script, c=None)
    _, done = script.publish(MIB)
    lost = dealt(done)["c"]
    again = peers.run(10 + SILENT_LEAST_NS // MS + 15)
    assert "c" not in again
    assert sorted(leaf for leaves in again.values() for leaf in leaves) == lost
    assert script.core.counters["silent_relay_met"] == 1


def test_a_silent_peer_is_dealt_nothing_until_it_answers() -> None:
    script = meshed()
    peers = Answering(script, c=None)
    _, done = script.publish(MIB)
    peers.run(1_000)
    assert "c" not in dealt(script.publish(MIB)[1])
    answer(script, next(sent for sent in of(done, effects.SendStripes) if sent.peer == "c"), UpdateStatus.OK)
    peers.run(100)
    assert "c" in dealt(script.publish(MIB)[1])


def test_an_answer_of_a_silent_peer_that_comes_after_all_settles_nothing_twice() -> None:
    script = meshed()
    peers = Answering(script, c=None)
    artifact, done = script.publish(MIB)
    peers.run(36)
    again = script.core.counters["stripes_dealt_again"]
    assert script.core._scatter._deals[artifact].open == again > 0
    for sent in of(done, effects.SendStripes):
        if sent.peer == "c":
            answer(script, sent, UpdateStatus.BUSY)
    assert script.core._scatter._deals[artifact].open == script.core.counters["stripes_dealt_again"] == again
    peers.run(100)
    assert artifact not in script.core._scatter._deals
    assert (Timer.DEALT, None) not in script.core._context.timers.armed()


def test_nobody_is_silent_while_nobody_answers() -> None:
    script = meshed()
    script.publish(MIB)
    script.later(SECOND)
    assert script.core.counters["silent_relay_met"] == 0


def test_a_peer_that_is_far_away_is_not_taken_for_silent_again() -> None:
    script = meshed()
    peers = Answering(script, c=150)
    for _ in range(4):
        script.publish(MIB)
        peers.run(1_000)
    assert script.core.counters["silent_relay_met"] == 1, "nothing was known of it"


def test_who_is_late_at_times_is_given_more_time() -> None:
    script = meshed()
    peers = Answering(script)
    for late in (10, 60, 10, 60, 10, 60):
        peers.after_ms["c"] = late
        script.publish(MIB)
        peers.run(1_000)
    assert script.core.counters["silent_relay_met"] == 1


def test_a_dealer_that_stood_still_itself_reads_first_what_was_answered() -> None:
    script = meshed()
    peers = Answering(script, c=30)
    script.publish(MIB)
    peers.run(20)
    script.now += SECOND  # and no look at it was possible meanwhile
    script.turn()
    peers.run(1_000)
    assert script.core.counters["silent_relay_met"] == 0


def test_large_stripes_are_proven_by_themselves() -> None:
    script = meshed()
    for sent in of(script.publish(MIB)[1], effects.SendStripes):
        for stripe in stripes(sent):
            length = 5 - stripe.level if len(stripe.data) > 2048 else None
            assert length is None or len(stripe.proof) == 20 * length


def test_a_stripe_nobody_takes_is_left_to_fetches() -> None:
    script = meshed()
    script.publish(100_000)
    waiting = of(script.log, effects.SendStripes)
    for _ in range(20):
        waiting = [s for sent in waiting for s in of(answer(script, sent, UpdateStatus.BUSY), effects.SendStripes)]
    assert not waiting


def test_a_withdrawn_artifact_stops_its_stripes() -> None:
    script = meshed(relay="scatter")
    artifact, done = script.publish(64 * MIB)
    sent = of(done, effects.SendStripes)
    script.turn(inputs.Withdraw(artifact))
    assert not of(answer(script, sent[0], UpdateStatus.OK), effects.SendStripes)
    assert not of(answer(script, sent[1], None), effects.SendStripes)
    assert script.core.counters["stripes_withdrawn"] == 1


def test_a_peer_that_shows_the_artifact_is_dealt_nothing() -> None:
    script = meshed(relay="scatter")
    publish = script.blob(100_000)
    made = Made.of(publish.data)
    script.updates("b", made.advert())
    assert "b" not in dealt(script.turn(publish))


def test_a_mesh_has_a_large_artifact_after_little_more_than_it_takes_to_send_once(net: "Net") -> None:
    nodes = net.mesh(8, relay="scatter")
    net.run(2)
    artifact = nodes[0].publish(bytes(MIB))
    net.run(0.03)
    assert all(node.holds(artifact) for node in nodes)
    assert sum(node.core.counters["fetches"] for node in nodes) == 0
    assert not any(node.core.gauges()["slots_in_use"] for node in nodes[1:]), "relays take no slot"
    hops = Counter(event.hop for node in nodes for event in node.events if event.kind == "validated")
    assert set(hops) <= {1, 2}
    passed = sum(node.core.counters["stripes_passed_on"] for node in nodes)
    assert passed == 6 * nodes[0].core.counters["stripes_sent"], "each once to every other"
    net.run(10)
    assert all(node.core.at_rest for node in nodes)


def test_a_peer_without_its_link_to_the_publisher_gets_it_all_the_same(net: "Net") -> None:
    nodes = net.mesh(6, relay="scatter")
    net.tell_members()
    net.cut(nodes[0], nodes[5])
    net.run(4)
    artifact = nodes[0].publish(bytes(300_000))
    net.run(6)
    assert nodes[5].holds(artifact)


def test_stripes_take_their_turn_within_milliseconds(net: "Net") -> None:
    nodes = net.mesh(13)
    net.run(2)
    for number in range(5):
        nodes[number].publish(bytes(100_000))
        net.run(1)
    assert all(len(node.core.pool.ids()) == 5 for node in nodes)
    assert sum(node.core.counters["fetches"] for node in nodes) == 0
    assert net.now > MS


def test_ok_is_said_once(net: "Net") -> None:
    script = meshed()
    _, done = script.publish(100_000)
    for row in of(done, effects.SendUpdates):
        script.turn(ok(row))
    for sent in of(done, effects.SendStripes):
        answer(script, sent, UpdateStatus.OK)
    script.later(5_000 * MS)
    assert script.core.counters["stripes_dealt_again"] == 0
    assert not net.nodes
