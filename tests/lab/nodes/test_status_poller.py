"""Which nodes answer: since when others do not, and what the log says of it."""

import logging

import pytest

from p2pnet.lab.nodes.status_poller import SILENT_S, Liveness, Unresponsive


class Hands:
    def __init__(self) -> None:
        self.now = 1000.0
        self.counts = True
        self.liveness = Liveness(
            lambda _node: "idle 0x0", lambda _node: "its process 7 runs", lambda _node: self.counts, lambda: self.now
        )


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_a_node_is_silent_when_it_has_not_answered_for_a_while(hands):
    hands.liveness.heard("a")
    hands.now += 60  # nobody asked
    assert hands.liveness.unresponsive("a") is None
    hands.liveness.unanswered("a", 1058.0)
    assert hands.liveness.unresponsive("a") is None
    hands.now += SILENT_S
    assert hands.liveness.unresponsive("a") == Unresponsive(1058.0, "idle 0x0")
    assert hands.liveness.last_heard("a") == 1000.0
    hands.liveness.heard("a")
    assert hands.liveness.unresponsive("a") is None


def test_a_silence_is_logged_once_with_its_end_and_how_long_it_was(hands, caplog):
    caplog.set_level(logging.INFO)
    hands.liveness.heard("a")
    for _ in range(20):
        hands.liveness.unanswered("a", hands.now)
        hands.now += 1
    hands.liveness.heard("a")
    hands.liveness.heard("a")
    assert [(one.levelname, one.message) for one in caplog.records] == [
        ("WARNING", "a: silent for 5 s; its process 7 runs; idle 0x0"), ("INFO", "a: answers again after 20.0 s of silence"),
    ]  # fmt: skip


def test_who_is_paused_starts_or_is_gone_is_not_silent_in_the_log(hands, caplog):
    caplog.set_level(logging.INFO)
    hands.counts = False
    for _ in range(20):
        hands.liveness.unanswered("a", hands.now)
        hands.now += 1
    hands.liveness.changed("a", gone=True)
    hands.liveness.heard("a")
    assert caplog.records == []
    hands.liveness.keep(set())
    assert hands.liveness.last_heard("a") is None
