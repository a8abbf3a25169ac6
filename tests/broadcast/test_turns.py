"""Fair turns: what a peer sends beyond its share of a loop turn waits behind what the others send, updates and stripes alike."""

from tests.broadcast.kit import Made, Script, of

from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.stripes import STRIPE_HEAD_BYTES, encode_stripe
from p2pnet.broadcast.turns import INBOX_BYTES_PER_PEER, TURN_BYTES_PER_PEER
from p2pnet.broadcast.wire import PREFIX_BYTES, UpdateStatus, encode_empty
from p2pnet.model.limits import KIB, UPDATE_BATCH_BYTES

EMPTIES = encode_empty(0, 0) * (UPDATE_BATCH_BYTES // PREFIX_BYTES)
STRIPE = b"".join(encode_stripe(Made().id, 0, 5, b"", memoryview(bytes(64 * KIB)), first_hand=True))
"""Of nothing that anybody has announced."""


def test_a_flooding_peer_waits_behind_the_others_and_is_answered_busy_at_last() -> None:
    script = Script()
    script.up("flood", 1)
    script.up("calm", 2)
    flood = [script.give(inputs.UpdatesReceived("flood", 1, token, EMPTIES)) for token in range(600)]
    statuses = [answer.body[0] for done in flood for answer in of(done, effects.AnswerUpdates)]
    assert statuses.count(UpdateStatus.OK) <= 17
    assert statuses.count(UpdateStatus.BUSY) > 300
    calm = script.give(inputs.UpdatesReceived("calm", 2, 999, encode_empty(0, 0)))
    assert of(calm, effects.AnswerUpdates) == [effects.AnswerUpdates(999, b"\x00")]
    assert script.kinds_pending() == {"request", "wake"}
    answered = 0
    while script.core.next_wakeup() == script.now:
        turn = len(of(script.give(inputs.Wake()), effects.AnswerUpdates))
        assert turn <= 17
        answered += turn
    assert answered + len(statuses) == 600


def test_peers_that_wait_are_served_one_request_each_in_turn() -> None:
    script = Script()
    for connection, peer in enumerate("pq", start=1):
        script.up(peer, connection)
    for token in range(40):
        script.give(inputs.UpdatesReceived("p", 1, token, EMPTIES))
    for token in range(100, 140):
        script.give(inputs.UpdatesReceived("q", 2, token, EMPTIES))
    tokens = [answer.token for answer in of(script.give(inputs.Wake()), effects.AnswerUpdates)]
    assert [token >= 100 for token in tokens[:8]] == [False, True] * 4


def test_a_flood_of_stripes_waits_behind_the_others_and_is_answered_busy_at_last() -> None:
    script = Script()
    script.up("flood", 1)
    script.up("calm", 2)
    flood = [script.give(inputs.StripesReceived("flood", 1, token, STRIPE)) for token in range(100)]
    answers = [answer for done in flood for answer in of(done, effects.AnswerStripes)]
    waiting = 100 - len(answers)
    assert waiting == INBOX_BYTES_PER_PEER // len(STRIPE)
    assert {answer.body[0] for answer in answers[TURN_BYTES_PER_PEER // len(STRIPE) + 1 :]} == {UpdateStatus.BUSY}
    calm = script.give(inputs.UpdatesReceived("calm", 2, 999, encode_empty(0, 0)))
    assert of(calm, effects.AnswerUpdates) == [effects.AnswerUpdates(999, b"\x00")]
    assert script.kinds_pending() >= {"request", "wake"}
    while script.core.next_wakeup() == script.now:
        turn = len(of(script.give(inputs.Wake()), effects.AnswerStripes))
        assert turn <= TURN_BYTES_PER_PEER // len(STRIPE) + 1
        waiting -= turn
    assert not waiting


def test_stripes_and_updates_of_one_peer_share_its_turn_and_keep_their_order() -> None:
    script = Script()
    script.up("p", 1)
    for token in range(40):
        script.give(inputs.StripesReceived("p", 1, token, STRIPE))
    assert not script.give(inputs.UpdatesReceived("p", 1, 99, EMPTIES))
    done: list[effects.Effect] = []
    while script.core.next_wakeup() == script.now:
        done += script.give(inputs.Wake())
    answers = of(done, effects.AnswerStripes | effects.AnswerUpdates)
    assert answers[-1].token == 99


def test_requests_that_wait_are_forgotten_with_their_connection() -> None:
    script = Script()
    script.up("p", 1)
    for token in range(50):
        script.give(inputs.UpdatesReceived("p", 1, token, EMPTIES))
    script.give(inputs.PeerDown("p", 1))
    assert not of(script.turn(), effects.AnswerUpdates)
    assert "request" not in script.kinds_pending()


def test_what_waits_of_a_peer_whose_connection_ends_is_dropped() -> None:
    script = Script()
    script.up("p", 1)
    for token in range(40):
        script.give(inputs.StripesReceived("p", 1, token, STRIPE))
    assert not of(script.down("p"), effects.AnswerStripes)
    assert "request" not in script.kinds_pending()


def test_malformed_stripes_beyond_the_inbox_are_malformed() -> None:
    script = Script()
    script.up("p", 1)
    wrong = bytes(STRIPE_HEAD_BYTES) + STRIPE
    answers = [
        of(script.give(inputs.StripesReceived("p", 1, token, wrong)), effects.AnswerStripes) for token in range(100)
    ]
    assert {answer.body[0] for found in answers for answer in found} == {UpdateStatus.MALFORMED}
