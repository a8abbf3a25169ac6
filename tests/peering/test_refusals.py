import pytest

from p2pnet.model.events import EventKind
from p2pnet.peering import refusals
from p2pnet.peering.clock import NS
from p2pnet.peering.refusals import DETAIL_CHARS_MAX, EVENTS_PER_S, Refusals


class Log:
    incarnation = "cafe"

    def __init__(self) -> None:
        self.details: list[str] = []

    def add(self, mono_ns: int, kind: EventKind, *, peer: str = "", detail: str = "") -> None:
        assert kind is EventKind.REFUSED
        self.details.append(detail)


def test_every_refusal_is_counted_and_a_few_per_second_become_events(monkeypatch: pytest.MonkeyPatch) -> None:
    log, now = Log(), 5 * NS
    monkeypatch.setattr(refusals, "mono_ns", lambda: now)
    noted = Refusals(log)
    for _ in range(EVENTS_PER_S + 5):
        noted.note("hello", "no edge")
    assert (noted.total, len(log.details), log.details[0]) == (EVENTS_PER_S + 5, EVENTS_PER_S, "hello: no edge")
    now += NS
    noted.note("untrusted", "x" * 2 * DETAIL_CHARS_MAX)
    assert len(log.details) == EVENTS_PER_S + 1
    assert len(log.details[-1]) == DETAIL_CHARS_MAX
