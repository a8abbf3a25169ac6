import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.node.nursery_table import BACKOFF_MAX_S, SETTLED_S, Kept, Request, read_request


def kept(*, wanted: bool = True) -> Kept:
    return Kept("node-0", socket.socket(socket.AF_INET, socket.SOCK_DGRAM), Path("/x"), Path("/y"), wanted=wanted)


def test_a_node_that_dies_young_waits_from_200_ms_doubled_to_10_s() -> None:
    node, now, waits = kept(), 0.0, []
    with node.sock:
        for pid in range(1, 10):
            node.started(pid, now)
            now += 1.0
            delay = node.ended(now)
            assert delay is not None
            assert node.start_due_s == now + delay
            waits.append(delay)
            now += delay
    assert waits[:6] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4])
    assert set(waits[6:]) == {BACKOFF_MAX_S}
    assert (node.restarts, node.starts) == (9, 9)


def test_a_node_that_lived_long_enough_waits_only_shortly() -> None:
    node = kept()
    with node.sock:
        node.backoff_s = 6.4
        node.started(1, 0.0)
        assert node.ended(SETTLED_S) == pytest.approx(0.2)


def test_a_restart_that_was_asked_for_waits_not_at_all() -> None:
    node = kept()
    with node.sock:
        node.started(1, 0.0)
        node.hurry = True
        assert node.ended(0.1) == 0.0
        node.started(2, 0.1)
        assert not node.hurry


def test_a_node_that_is_not_wanted_any_more_is_not_started_again() -> None:
    node = kept(wanted=False)
    with node.sock:
        node.started(1, 0.0)
        assert node.ended(5.0) is None
        assert (node.restarts, node.start_due_s, node.pid) == (0, None, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "truncated"),
        (b"[]", "object"),
        (b'{"op":"dance","name":"node-0"}', "dance"),
        (b'{"op":"stop"}', "needs a name"),
        (b'{"op":"start","name":"node-0"}', "needs a config"),
        (b'{"op":"bind","name":"node-0","port":70000}', "no port"),
        (b'{"op":"bind","name":"node-0","port":"x"}', "port"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong_with_it(line: bytes, words: str) -> None:
    wrong = read_request(line)
    assert isinstance(wrong, str)
    assert words in wrong


def test_a_request_may_say_more_than_the_nursery_understands() -> None:
    assert read_request(b'{"op":"kill","name":"a-0","revive":false,"why":1}') == Request("kill", "a-0", revive=False)


@given(st.binary(max_size=80))
def test_any_line_is_a_request_or_a_sentence(line: bytes) -> None:
    assert isinstance(read_request(line), Request | str)
