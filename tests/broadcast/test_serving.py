"""Serving: what a node answers to peers that ask for parts."""

import pytest
from tests.broadcast.kit import Made, Script, Undecided, of

from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.artifact import HASH_BYTES, part_count
from p2pnet.broadcast.stripes import decode_stripes
from p2pnet.broadcast.wire import (
    FIRST_PARTS_MAX,
    FetchAnswer,
    FetchStatus,
    decode_fetch_answer,
    encode_fetch,
    encode_first_fetch,
    encode_leaves_fetch,
)
from p2pnet.model.limits import PART_BYTES


def ask(script: Script, made: Made, *parts: int, peer: str = "q", most: int = FIRST_PARTS_MAX) -> FetchAnswer:
    """The part list and `most` parts, or these parts."""
    question = encode_fetch(made.id, list(parts)) if parts else encode_first_fetch(made.id, most)
    return decode_fetch_answer(script.ask(peer, question), len(made.data))


def numbers(answer: FetchAnswer) -> list[int]:
    return [number for number, _ in answer.parts]


def holder(parts: int, askers: int = 1) -> tuple[Script, Made]:
    """A node that publishes an artifact of so many parts, and so many peers that wait for it."""
    script, made = Script(artifact_bytes_max=1 << 27), Made(parts * PART_BYTES - 100)
    for peer in "qrstuvwx"[:askers]:
        script.up(peer)
    script.turn(inputs.Publish(made.data, parts * PART_BYTES - 100))
    return script, made


def test_whoever_asks_first_gets_the_part_list_and_parts_in_one_answer() -> None:
    script, made = holder(5)
    answer = ask(script, made)
    assert bytes(answer.part_list) == made.parts
    assert numbers(answer) == [0, 1, 2, 3, 4]
    assert b"".join(bytes(data) for _, data in answer.parts) == made.data


@pytest.mark.parametrize("most", [0, 1, 3, 255])
def test_no_more_parts_come_with_the_list_than_were_asked_for(most: int) -> None:
    script, made = holder(5)
    answer = ask(script, made, most=most)
    assert len(answer.part_list) == 5 * HASH_BYTES
    assert numbers(answer) == list(range(min(most, 5)))


def test_those_that_ask_first_get_different_parts_that_together_make_the_whole() -> None:
    script, made = holder(16, askers=4)
    got = [numbers(ask(script, made, peer=peer)) for peer in "qrst"]
    assert [len(some) for some in got] == [4] * 4
    assert sorted(number for some in got for number in some) == list(range(16))


def test_an_artifact_of_two_parts_is_given_whole_to_everybody() -> None:
    script, made = holder(2, askers=4)
    assert [numbers(ask(script, made, peer=peer)) for peer in "qrst"] == [[0, 1]] * 4


def test_a_peer_that_shows_it_complete_is_no_asker_any_more() -> None:
    script, made = holder(16, askers=4)
    for peer in "qrs":
        script.updates(peer, made.advert())
    assert len(numbers(ask(script, made, peer="t"))) == 16


def test_named_parts_are_given_without_the_part_list_and_those_behind_the_end_left_out() -> None:
    script, made = holder(5)
    answer = ask(script, made, 4, 1, 7)
    assert (numbers(answer), len(answer.part_list)) == ([4, 1], 0)


def test_a_question_for_parts_that_are_not_there_is_answered_by_what_is() -> None:
    script, made = holder(3)
    answer = ask(script, made, 3)
    assert (answer.status, answer.have) == (FetchStatus.HAVE, 0b111)


def test_a_node_without_the_artifact_answers_gone() -> None:
    script, _ = holder(1)
    assert ask(script, Made(nonce=9)).status is FetchStatus.GONE


def test_a_malformed_question_is_answered_gone() -> None:
    script, made = holder(1)
    assert decode_fetch_answer(script.ask("q", b"nonsense"), len(made.data)).status is FetchStatus.GONE


def test_a_withdrawn_artifact_is_gone() -> None:
    script, made = holder(1)
    script.turn(inputs.Withdraw(made.id))
    assert ask(script, made).status is FetchStatus.GONE


def test_one_that_is_still_fetching_gives_what_has_arrived_and_tells_what_has_not() -> None:
    script, made = Script(), Made(3 * PART_BYTES)
    script.up("p")
    script.up("q")
    (first,) = of(script.updates("p", made.advert()), effects.Fetch)
    assert ask(script, made).status is FetchStatus.GONE
    script.answer(first, made.answer(0, 2, first=True))
    answer = ask(script, made)
    assert (bytes(answer.part_list), numbers(answer)) == (made.parts, [0, 2])
    assert numbers(ask(script, made, 1, 2)) == [2]
    answer = ask(script, made, 1)
    assert (answer.status, answer.have) == (FetchStatus.HAVE, 0b0101)


def test_one_that_offers_nothing_of_it_gives_nothing_before_its_client_found_it_valid() -> None:
    script, made = Script(Undecided()), Made(5000)
    script.up("p")
    script.up("q")
    script.updates("p", made.push())
    assert script.core.pool.holds(made.id)
    assert ask(script, made).status is FetchStatus.GONE


def test_what_was_offered_in_part_is_given_while_the_client_still_looks_at_the_whole() -> None:
    script, made = Script(Undecided()), Made(3 * PART_BYTES)
    script.up("p")
    script.up("q")
    (first,) = of(script.updates("p", made.advert()), effects.Fetch)
    for fetch in of(script.answer(first, made.answer(0, first=True)), effects.Fetch):
        script.answer(fetch, made.answer(fetch.body[-1]))
    assert list(script.core.pool.unvalidated) == [made.id]
    answer = ask(script, made)
    assert sorted(numbers(answer)) == list(range(part_count(len(made.data))))


def test_what_is_held_without_a_slot_is_given_too() -> None:
    script, made = Script(), Made(5000)
    script.up("p")
    script.up("q")
    script.updates("p", made.push())
    assert script.core.gauges()["slots_in_use"] == 0
    assert numbers(ask(script, made)) == [0]


def test_what_is_served_is_counted() -> None:
    script, made = holder(5)
    ask(script, made)
    ask(script, made, 3)
    assert script.core.counters["fetches_served"] == 2
    assert script.core.counters["parts_served"] == 6


def test_leaves_of_a_part_are_served_each_with_its_proof() -> None:
    script, made = holder(3)
    body = script.ask("q", encode_leaves_fetch(made.id, 1, 0b1010))
    answer = decode_fetch_answer(body, len(made.data))
    assert answer.status is FetchStatus.LEAVES
    served = decode_stripes(answer.part_list)
    assert [(stripe.first, stripe.level) for stripe in served] == [(33, 0), (35, 0)]
    assert bytes(served[0].data) == made.data[PART_BYTES + 2048 : PART_BYTES + 4096]


def test_leaves_of_a_part_that_is_not_here_are_answered_with_what_is() -> None:
    script, made = holder(3)
    answer = decode_fetch_answer(script.ask("q", encode_leaves_fetch(made.id, 7, 1)), len(made.data))
    assert answer.status is FetchStatus.HAVE
