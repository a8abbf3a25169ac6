"""The intake of stripes: what is taken, what is passed on, who is believed no more, and what is fetched when nothing comes."""

from random import Random
from typing import TYPE_CHECKING

import pytest
from tests.broadcast.kit import MS, SECOND, Failing, Made, Moody, Script, of, serve

from p2pnet.broadcast import Bounce, effects, inputs
from p2pnet.broadcast.context import Timer
from p2pnet.broadcast.merkle import LEAF_BYTES, Node, proof, tree
from p2pnet.broadcast.stripe_intake import (
    EARLY_BYTES_PER_PEER,
    EARLY_NS,
    FIRST_WAIT_NS,
    HELD_ELSEWHERE_NS,
    WAIT_LEAST_NS,
    WAIT_MOST_NS,
)
from p2pnet.broadcast.stripes import cut_leaves, decode_stripes, encode_stripe, place_of, plan_shares
from p2pnet.broadcast.wire import UpdateStatus, decode_fetch, encode_leaves, encode_scattered
from p2pnet.model.events import EventKind
from p2pnet.model.limits import PART_BYTES

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net

OK, HAVE, UNWANTED, BUSY, MALFORMED = (
    UpdateStatus.OK, UpdateStatus.HAVE, UpdateStatus.UNWANTED, UpdateStatus.BUSY, UpdateStatus.MALFORMED,
)  # fmt: skip


class Dealt(Made):
    """An artifact that peer `p` deals out to `me`, `q` and `r`."""

    def row(self, slot: int = 0, commit: int = 0) -> bytes:
        return b"".join(encode_scattered(slot, commit, 0, len(self.data), self.id, self.parts))

    def shares(self) -> list[list[bytes]]:
        """Three shares, each a list of requests of one stripe."""
        made = []
        for share in plan_shares(len(self.data), 3):
            known: dict[int, set[Node]] = {}
            made.append([self.stripe(first, level, known) for first, level in share])
        return made

    def stripe(
        self, first: int, level: int, known: dict[int, set[Node]] | None = None, *, first_hand: bool = True
    ) -> bytes:
        place = place_of(len(self.data), first, level)
        assert place is not None
        part, node, length = place
        whole = self.data[part * PART_BYTES : (part + 1) * PART_BYTES]
        siblings = proof(tree(whole), node, ({} if known is None else known).setdefault(part, set()))
        data = memoryview(self.data)[first * LEAF_BYTES : first * LEAF_BYTES + length]
        return b"".join(encode_stripe(self.id, first, level, siblings, data, first_hand=first_hand))


def expecting(made: Dealt, *, row: bool = True, client: object = None, **settings: int) -> Script:
    script = Script(client, **settings)
    for peer in "pqr":
        script.up(peer)
    if row:
        script.updates("p", made.row())
    return script


def take(script: Script, peer: str, body: bytes) -> tuple[list[int], list[effects.Effect]]:
    """The statuses answered, and what else is done about a request of stripes."""
    script._tokens += 1
    done = script.turn(inputs.StripesReceived(peer, script.connections[peer], script._tokens, body))
    (answered,) = of(done, effects.AnswerStripes)
    return list(answered.body), done


def second_hand(stripe: bytes) -> bytes:
    (read,) = decode_stripes(stripe)
    full = bytes.fromhex(stripe[:16].hex()).ljust(32, b"\0")
    return b"".join(encode_stripe(full, read.first, read.level, bytes(read.proof), read.data, first_hand=False))


def spoilt(stripe: bytes) -> bytes:
    return stripe[:-1] + bytes([stripe[-1] ^ 1])


@pytest.fixture
def made() -> Dealt:
    return Dealt(150_000)


def test_all_stripes_make_the_artifact_without_a_fetch(made: Dealt) -> None:
    script = expecting(made)
    for peer, share in zip("pqr", made.shares(), strict=True):
        for stripe in share:
            assert take(script, peer, stripe if peer == "p" else second_hand(stripe))[0] == [OK]
    assert made.id in script.core.pool.validated
    assert not of(script.log, effects.Fetch)
    (event,) = script.events(EventKind.RECEIVED)
    assert (event.peer, event.hop) == ("r", 2)
    assert take(script, "q", made.shares()[0][0])[0] == [HAVE]
    script.later(10 * SECOND)
    assert script.core.at_rest


def test_what_the_dealer_sends_is_passed_on_once_to_all_others(made: Dealt) -> None:
    script = expecting(made)
    stripe = made.shares()[0][0]
    _, done = take(script, "p", stripe)
    passed = of(done, effects.SendStripes)
    assert sorted(sent.peer for sent in passed) == ["q", "r"]
    (read,) = decode_stripes(b"".join(passed[0].body))
    assert not read.first_hand
    assert second_hand(stripe) == b"".join(passed[0].body)
    assert not of(take(script, "p", stripe)[1], effects.SendStripes)
    assert script.core.counters["stripes_duplicate"] == 1


@pytest.mark.parametrize("first_hand", [True, False])
def test_what_is_not_first_hand_from_the_dealer_goes_no_further(made: Dealt, first_hand: bool) -> None:
    script = expecting(made)
    stripe = made.shares()[0][0]
    peer = "q" if first_hand else "p"
    assert not of(take(script, peer, stripe if first_hand else second_hand(stripe))[1], effects.SendStripes)


def test_a_wrong_stripe_closes_its_sender_and_goes_no_further(made: Dealt) -> None:
    script = expecting(made)
    wrong, right = spoilt(made.shares()[0][0]), made.shares()[0][0]
    statuses, done = take(script, "q", wrong)
    assert statuses == [MALFORMED]
    assert not of(done, effects.SendStripes)
    (event,) = script.events(EventKind.FETCH_FAILED)
    assert (event.peer, event.detail) == ("q", "wrong stripe")
    assert take(script, "q", right)[0] == [BUSY]
    assert take(script, "p", right)[0] == [OK], "it costs nobody else"
    other = Dealt(150_000, nonce=5)
    script.updates("p", other.row(1, 1))
    assert take(script, "q", other.shares()[0][0])[0] == [OK], "nor the sender's stripes of another artifact"


def test_a_wrong_stripe_of_the_dealer_is_not_passed_on_but_closes_it(made: Dealt) -> None:
    script = expecting(made)
    statuses, done = take(script, "p", spoilt(made.shares()[0][0]))
    assert statuses == [MALFORMED]
    assert not of(done, effects.SendStripes)


@pytest.mark.parametrize("first", [5_000, 3])
def test_a_stripe_that_the_artifact_does_not_have_is_wrong(made: Dealt, first: int) -> None:
    script = expecting(made)
    body = b"".join(encode_stripe(made.id, first, 1, b"", memoryview(bytes(4096)), first_hand=True))
    assert take(script, "q", body)[0] == [MALFORMED]


# Not known, not wanted


def test_stripes_before_their_row_wait_for_it(made: Dealt) -> None:
    script = expecting(made, row=False)
    shares = made.shares()
    assert take(script, "q", second_hand(shares[1][0]))[0] == [OK]
    assert script.core.counters["stripes_received"] == 0
    script.updates("p", made.row())
    assert script.core.counters["stripes_received"] == 1


def test_only_so_many_bytes_of_a_peer_wait_and_not_for_long(made: Dealt) -> None:
    script = expecting(made, row=False)
    large = Dealt(2 * EARLY_BYTES_PER_PEER)
    answered = [take(script, "q", second_hand(stripe))[0] for share in large.shares() for stripe in share]
    kept = sum(1 for statuses in answered if statuses == [OK])
    assert answered[kept:] == [[BUSY]] * (len(answered) - kept)
    assert take(script, "r", second_hand(made.shares()[0][0]))[0] == [OK], "another peer's bytes are its own"
    script.later(EARLY_NS)
    assert script.core.at_rest
    script.updates("p", large.row())
    assert script.core.counters["stripes_received"] == 0


def test_a_stripe_that_overtook_what_proves_it_waits_for_that(made: Dealt) -> None:
    script = expecting(made)
    first, second, *_ = made.shares()[0]
    assert take(script, "q", second_hand(second))[0] == [OK]
    assert script.core.counters["stripe_unproven"] == 1
    take(script, "q", second_hand(first))
    assert script.core.counters["stripes_received"] == 2


def test_nothing_is_taken_that_the_bouncer_does_not_want(made: Dealt) -> None:
    script = expecting(made, row=False, client=Moody(Bounce.UNWANTED))
    assert script.statuses("p", made.row()) == [UNWANTED]
    statuses, done = take(script, "p", made.shares()[0][0])
    assert statuses == [UNWANTED]
    assert not of(done, effects.SendStripes)


def test_maybe_later_takes_no_stripes_and_fetches_when_it_turns_to_wants(made: Dealt) -> None:
    client = Moody(Bounce.MAYBE_LATER)
    script = expecting(made, row=False, client=client)
    assert script.statuses("p", made.row()) == [OK]
    assert take(script, "p", made.shares()[0][0])[0] == [UNWANTED]
    client.says = Bounce.WANTS
    script.publish()
    script.later(SECOND)
    assert of(script.log, effects.Fetch)


def test_a_withdrawn_artifact_is_not_taken_again(made: Dealt) -> None:
    script = expecting(made)
    script.turn(inputs.Withdraw(made.id))
    assert take(script, "p", made.shares()[0][0])[0] == [UNWANTED]
    assert script.core.quota_used("p") == 0


def test_a_row_with_another_part_list_is_malformed(made: Dealt) -> None:
    script = expecting(made, row=False)
    row = bytearray(made.row())
    row[-1] ^= 1
    assert script.statuses("p", bytes(row)) == [MALFORMED]
    assert not script.core.announced_by("p")


def test_stripes_on_an_older_connection_are_not_taken(made: Dealt) -> None:
    script = expecting(made)
    done = script.turn(inputs.StripesReceived("p", 999, 1, made.shares()[0][0]))
    assert of(done, effects.AnswerStripes)[0].body == b""
    assert script.core.counters["stripes_received"] == 0


def test_any_bytes_as_stripes_leave_the_core_standing(made: Dealt) -> None:
    script, rng = expecting(made), Random(1)
    for length in range(60):
        take(script, "q", rng.randbytes(length))
        body = bytearray(second_hand(made.shares()[1][0]))
        body[rng.randrange(len(body))] ^= 1 + rng.randrange(255)
        take(script, "r", bytes(body))
    assert script.core.counters["stripe_wrong"] >= 1


# Quota


def test_stripes_use_the_quota_of_who_sends_them_until_the_artifact_is_judged(made: Dealt) -> None:
    script = expecting(made)
    assert script.core.quota_used("p") == len(made.data)
    stripe = made.shares()[1][0]
    take(script, "q", second_hand(stripe))
    assert script.core.quota_used("q") == len(decode_stripes(stripe)[0].data)
    take(script, "r", spoilt(second_hand(stripe)))
    assert script.core.quota_used("r") == 0
    script.turn(inputs.Withdraw(made.id))
    assert [script.core.quota_used(peer) for peer in "pqr"] == [0, 0, 0]


def test_what_a_peers_quota_does_not_allow_is_dropped(made: Dealt) -> None:
    script = expecting(made, bytes_max=200_000)
    shares = made.shares()
    script.updates("q", Made(140_000, nonce=9).advert())
    statuses = [take(script, "q", second_hand(stripe))[0] for stripe in [*shares[1], *shares[2]]]
    assert [BUSY] in statuses
    assert script.core.quota_used("q") <= 200_000


def test_without_quota_for_its_dealer_it_waits_as_any_fetch_does(made: Dealt) -> None:
    script = expecting(made, bytes_max=200_000)
    other = Dealt(150_000, nonce=3)
    script.updates("p", other.row(1, 1))
    assert take(script, "p", other.shares()[0][0])[0] == [BUSY]
    script.turn(inputs.Withdraw(made.id))
    assert any(decode_fetch(fetch.body).artifact == other.id for fetch in of(script.log, effects.Fetch))


# What does not come


def test_without_any_stripe_it_is_fetched_after_a_while(made: Dealt) -> None:
    script = expecting(made)
    assert not of(script.later(FIRST_WAIT_NS - MS), effects.Fetch)
    assert of(script.later(2 * MS), effects.Fetch)
    assert script.core.counters["stripes_missed"] == 1


def test_a_missing_share_is_fetched_soon_and_only_that(made: Dealt) -> None:
    script = expecting(made)
    shares = made.shares()
    script.later(10 * MS)
    for peer, share in (("q", shares[1]), ("r", shares[2])):
        for stripe in share:
            take(script, peer, second_hand(stripe))
            script.later(MS)
    fetches = of(script.later(WAIT_LEAST_NS + 20 * MS), effects.Fetch)
    asked = [decode_fetch(fetch.body) for fetch in fetches]
    assert sum(question.leaves.bit_count() for question in asked) == sum(
        1 << decode_stripes(stripe)[0].level for stripe in shares[0]
    )
    for fetch, question in zip(fetches, asked, strict=True):
        part = question.parts[0]
        whole = made.data[part * PART_BYTES : (part + 1) * PART_BYTES]
        script.answer(fetch, b"".join(encode_leaves(cut_leaves(made.id, part, whole, question.leaves))))
    assert made.id in script.core.pool.validated
    assert script.core.counters["stripes_repaired"] == len(fetches)
    assert not of(script.log, effects.SendUpdates), "nothing was announced meanwhile"


def test_an_answer_with_wrong_leaves_closes_its_source(made: Dealt) -> None:
    script = expecting(made)
    take(script, "p", made.shares()[0][0])
    fetch = next(
        fetch for fetch in of(script.later(SECOND), effects.Fetch) if decode_fetch(fetch.body).leaves
    )  # fmt: skip
    question = decode_fetch(fetch.body)
    wrong = b"x" * PART_BYTES
    script.answer(fetch, b"".join(encode_leaves(cut_leaves(made.id, question.parts[0], wrong, question.leaves))))
    assert script.core.counters["wrong_content"] == 1


def test_while_its_dealer_is_at_work_on_others_it_waits(made: Dealt) -> None:
    other = Dealt(3_000_000, nonce=4)
    script = expecting(other)
    script.updates("p", made.row(1, 1))
    for stripe in [stripe for share in other.shares() for stripe in share][:20]:
        script.later(FIRST_WAIT_NS // 4)
        take(script, "p", stripe)
    assert not of(script.log, effects.Fetch)


def test_a_dealer_that_dawdles_is_not_waited_for_when_somebody_else_has_it(made: Dealt) -> None:
    other = Dealt(3_000_000, nonce=4)
    script = expecting(other)
    script.updates("p", made.row(1, 1))
    script.updates("r", made.advert())
    for stripe in [stripe for share in other.shares() for stripe in share][:20]:
        script.later(FIRST_WAIT_NS // 4)
        take(script, "p", stripe)
    assert 20 * FIRST_WAIT_NS // 4 > HELD_ELSEWHERE_NS
    assert {decode_fetch(fetch.body).artifact for fetch in of(script.log, effects.Fetch)} == {made.id}


def test_a_dealer_that_withdraws_or_leaves_ends_the_wait(made: Dealt) -> None:
    script = expecting(made)
    script.updates("p", made.advert(0, 7))
    script.updates("p", Made(10).push(0, 8))
    assert not script.core.parts_here(made.id)
    assert (Timer.STRIPES, made.id) not in script.core._context.timers.armed()


def test_a_client_that_raises_gets_it_again_by_a_fetch(made: Dealt) -> None:
    client = Failing("inspect")
    script = expecting(made, client=client)
    for stripe in [stripe for share in made.shares() for stripe in share]:
        take(script, "p", stripe)
    client.fails_in.clear()
    for _ in range(6):
        for fetch in of(script.later(SECOND), effects.Fetch):
            serve(script, fetch, made)
    assert made.id in script.core.pool.validated


def test_who_deals_out_garbage_is_blamed_not_who_passes_it_on() -> None:
    garbage = Dealt.of(b"\0" * 150_000)
    assert isinstance(garbage, Dealt)
    script = expecting(garbage)
    for peer, share in zip("pqr", garbage.shares(), strict=True):
        for stripe in share:
            take(script, peer, stripe if peer == "p" else second_hand(stripe))
    (event,) = script.events(EventKind.REJECTED)
    assert event.peer == "p"


def test_what_a_silent_relay_was_dealt_comes_through_others_and_nobody_fetches(net: "Net") -> None:
    nodes = net.mesh(8, relay="scatter")
    net.run(2)
    net.deaf.add("n7")
    artifact = nodes[0].publish(bytes(1_000_000))
    net.run(0.1)
    assert all(node.holds(artifact) for node in nodes[:7])
    assert sum(node.core.counters["fetches"] for node in nodes[:7]) == 0
    assert nodes[0].core.counters["silent_relay_met"] == 1


def waits_of(script: Script, *late: str) -> list[int]:
    """How long three artifacts are waited for, each after one stripe of `q`, if these peers send another one too late."""
    waits = []
    for number in range(3):
        dealt = Dealt(150_000, nonce=number)
        script.updates("p", dealt.row(number, number))
        shares, begun = dealt.shares(), script.now
        take(script, "q", second_hand(shares[1][0]))
        while not script.core.counters["stripes_missed"] > number:
            script.later(MS)
        waits.append(script.now - begun)
        for peer, stripe in zip(late, shares[2], strict=False):
            take(script, peer, second_hand(stripe))
    return waits


def test_where_many_are_late_it_waits_longer_the_next_time(made: Dealt) -> None:
    waits = waits_of(expecting(made, row=False), "q", "r")
    assert waits[0] < 2 * WAIT_LEAST_NS
    assert 1.7 * waits[0] < waits[1]
    assert 1.7 * waits[1] < waits[2]


def test_one_late_relay_makes_nobody_wait_for_the_others(made: Dealt) -> None:
    waits = waits_of(expecting(made, row=False), "r")
    assert waits == [waits[0]] * 3


def test_it_waits_no_longer_than_a_bound_however_late_stripes_were(made: Dealt) -> None:
    script = expecting(made, row=False)
    for number in range(8):
        dealt = Dealt(150_000, nonce=number)
        script.updates("p", dealt.row(number, number))
        take(script, "q", second_hand(dealt.shares()[1][0]))
        begun = script.now
        while not script.core.counters["stripes_missed"] > number:
            script.later(MS)
        assert script.now - begun <= WAIT_MOST_NS
        script.later(10 * SECOND)
        for peer, stripe in zip("qr", dealt.shares()[2], strict=False):
            take(script, peer, second_hand(stripe))


def test_one_relay_that_trickles_does_not_hide_that_others_are_silent(made: Dealt) -> None:
    script = expecting(Dealt(1_000_000))
    large = Dealt(1_000_000)
    shares = large.shares()
    script.later(10 * MS)
    for peer, share in (("p", shares[0]), ("q", shares[1])):
        for stripe in share:
            take(script, peer, stripe if peer == "p" else second_hand(stripe))
    for stripe in shares[2][:5]:
        script.later(60 * MS)
        take(script, "r", second_hand(stripe))
    assert of(script.log, effects.Fetch)


def test_a_node_that_stood_still_itself_reads_first_what_has_come(made: Dealt) -> None:
    script = expecting(made)
    shares = made.shares()
    take(script, "q", second_hand(shares[1][0]))
    script.now += SECOND  # and no look at it was possible meanwhile
    assert not of(script.turn(), effects.Fetch)
    for peer, share in zip("pqr", shares, strict=True):
        for stripe in share:
            take(script, peer, second_hand(stripe))
    assert made.id in script.core.pool.validated
    assert script.core.counters["fetches"] == 0


def test_a_node_that_stood_still_fetches_after_all_what_has_not_come(made: Dealt) -> None:
    script = expecting(made)
    take(script, "q", second_hand(made.shares()[1][0]))
    script.now += SECOND
    script.turn()
    assert of(script.later(2 * WAIT_LEAST_NS), effects.Fetch)


def test_stripes_that_trickle_are_waited_for_although_somebody_has_it(made: Dealt) -> None:
    script = expecting(made)
    script.updates("r", made.advert())
    for stripe in [stripe for share in made.shares() for stripe in share]:
        take(script, "q", second_hand(stripe))
        script.later(FIRST_WAIT_NS // 3)
        if made.id in script.core.pool.validated:
            break
    assert script.now > HELD_ELSEWHERE_NS
