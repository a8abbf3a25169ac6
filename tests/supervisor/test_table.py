import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.supervisor.table import BACKOFF_MAX_S, SETTLED_S, Kept, Request, exit_words, read_request


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


@pytest.mark.parametrize(
    ("code", "how", "words"),
    [
        (-9, {}, "ended with signal 9 (SIGKILL), which nobody here ordered"),
        (-9, {"out_of_memory": True}, "ended with signal 9 (SIGKILL): out of memory, killed by the kernel"),
        (-9, {"order": "kill", "out_of_memory": True}, "ended with signal 9 (SIGKILL), as ordered (kill)"),
        (
            -9,
            {"order": "stop", "forced": True},
            "ended with signal 9 (SIGKILL): it had not stopped 10 s after it was asked to (stop)",
        ),
        (-11, {}, "ended with signal 11 (SIGSEGV), which nobody here ordered"),
        (-99, {}, "ended with signal 99 (signal 99), which nobody here ordered"),
        (0, {"order": "restart"}, "ended with code 0, as ordered (restart)"),
        (2, {}, "ended with code 2: its config or identity cannot be used"),
        (70, {}, "ended with code 70: a fault of p2pnet"),
        (1, {}, "ended with code 1: by itself"),
    ],
)
def test_how_a_process_ended_is_said_with_whose_doing_it_was(code: int, how: dict, words: str) -> None:
    assert exit_words(code, **how) == words


def test_a_process_that_somebody_stopped_is_neither_paused_nor_running() -> None:
    node = kept()
    with node.sock:
        node.started(7, 0.0)
        node.serves, node.halted = True, 19
        told = node.process()
        assert told.state == "unknown"
        assert told.detail == "process 7 is stopped by SIGSTOP, which nobody here ordered (kill -CONT 7)"
        node.runs()
        assert node.process().state == "running"
