import socket
from pathlib import Path

import pytest

from p2pnet.supervisor.table import BACKOFF_MAX_S, SETTLED_S, SupervisedNode, exit_text


def supervised(*, wanted: bool = True) -> SupervisedNode:
    return SupervisedNode(
        "node-0", socket.socket(socket.AF_INET, socket.SOCK_DGRAM), Path("/x"), Path("/y"), wanted=wanted
    )


def test_a_node_that_dies_young_waits_from_200_ms_doubled_to_10_s() -> None:
    node, now, waits = supervised(), 0.0, []
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
    node = supervised()
    with node.sock:
        node.backoff_s = 6.4
        node.started(1, 0.0)
        assert node.ended(SETTLED_S) == pytest.approx(0.2)


def test_a_restart_that_was_asked_for_does_not_wait() -> None:
    node = supervised()
    with node.sock:
        node.started(1, 0.0)
        node.start_at_once = True
        assert node.ended(0.1) == 0.0
        node.started(2, 0.1)
        assert not node.start_at_once


def test_a_node_that_is_not_wanted_any_more_is_not_started_again() -> None:
    node = supervised(wanted=False)
    with node.sock:
        node.started(1, 0.0)
        assert node.ended(5.0) is None
        assert (node.restarts, node.start_due_s, node.pid) == (0, None, None)


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
def test_the_text_about_an_end_names_signal_or_code_and_whose_doing_it_was(code: int, how: dict, words: str) -> None:
    assert exit_text(code, **how) == words


def test_a_process_that_somebody_else_stopped_is_neither_paused_nor_running() -> None:
    node = supervised()
    with node.sock:
        node.started(7, 0.0)
        node.serves, node.halted = True, 19
        process = node.process()
        assert process.state == "unknown"
        assert process.detail == "process 7 is stopped by SIGSTOP, which nobody here ordered (kill -CONT 7)"
        node.continues()
        assert node.process().state == "running"


def test_a_node_that_is_held_is_stopped_in_the_words_of_who_ordered_it_and_comes_back_without_back_off() -> None:
    node = supervised()
    with node.sock:
        node.started(7, 0.0)
        node.backoff_s = 6.4
        node.hold("fault two-die", 60.0)
        assert node.ended(1.0) is None
        process = node.process()
        assert (process.state, process.detail) == ("stopped", "killed as ordered (fault two-die)")
        assert 60.0 in node.due_s()
        node.release()
        assert (node.process().state, node.restarts, node.backoff_s) == ("restarting", 1, 0.0)
        assert node.due_s() == (None,) * 4


def test_a_node_that_is_released_while_it_still_dies_is_counted_once() -> None:
    node = supervised()
    with node.sock:
        node.started(7, 0.0)
        node.hold("x", None)
        node.release()
        assert node.ended(0.1) is not None
        assert node.restarts == 1
