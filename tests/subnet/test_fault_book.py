"""Faults and their times: whatever happens in whatever order, on a clock that only goes forward."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2pnet.model.errors import LimitError, SpecError
from p2pnet.subnet.fault_book import (
    DONE,
    ENDED_KEPT,
    LAPSED,
    LEASED_MAX,
    RECORD_MAX,
    BookedFault,
    FaultBook,
    UnknownFaultError,
    status_of_fault,
    time_of_fault,
)
from p2pnet.subnet.network_spec import FaultSpec

WALL = 1_795_939_200.0  # 2026-11-29T08:00:00Z


def fault(name: str = "cut", **what: object) -> FaultSpec:
    return FaultSpec.model_validate({"name": name, **(what or {"block": True})})


def names(faults: list[BookedFault]) -> list[str]:
    return [one.name for one in faults]


def happened(book: FaultBook, now: float) -> list[tuple[str, str]]:
    return [(change.kind, change.fault.name) for change in book.due(now)]


def test_a_fault_of_the_document_begins_when_it_is_first_seen_and_ends_after_its_time() -> None:
    book = FaultBook()
    written = [fault("now"), fault("soon", block=True, after="10s", **{"for": "5s"})]
    book.take(written, 100.0)
    assert names(book.active(100.0)) == ["now"]
    assert book.next_s() == 110.0
    book.take([*written, fault("more")], 105.0)  # an edit of something else changes nothing about these
    assert names(book.active(110.0)) == ["now", "soon", "more"]
    assert names(book.active(115.0)) == ["now", "more"]
    assert happened(book, 115.0) == [("begun", "now"), ("begun", "more"), ("begun", "soon"), ("ended", "soon")]
    book.take([fault("now", block=True, to="node-1")], 120.0)
    assert happened(book, 120.0) == [("ended", "now"), ("ended", "more"), ("begun", "now")]


def test_a_lease_keeps_a_fault_until_nobody_renews_it() -> None:
    book = FaultBook()
    book.add(fault(), 60.0, 0.0)
    book.renew("cut", 60.0, 50.0)
    assert names(book.active(109.9)) == ["cut"]
    assert book.active(110.0) == []
    assert happened(book, 110.0) == [("begun", "cut"), ("lapsed", "cut")]
    with pytest.raises(UnknownFaultError, match=r"fault cut has ended \(its lease lapsed.*add it again"):
        book.renew("cut", 60.0, 111.0)
    status = status_of_fault(book.all()[0], 200.0, WALL)
    assert (status.state, status.until, status.detail) == ("ended", "2026-11-29T07:58:30Z", LAPSED)
    book.add(fault(), 60.0, 112.0)  # the name is free again
    assert names(book.active(113.0)) == ["cut"]


def test_the_time_of_a_fault_that_is_over_before_its_lease_is_no_lapse() -> None:
    book = FaultBook()
    book.add(fault(block=True, **{"for": "30s"}), 30.0, 0.0)
    assert happened(book, 40.0) == [("begun", "cut"), ("ended", "cut")]


def test_a_fault_that_would_last_for_ever_needs_a_lease_and_one_that_happens_once_does_not() -> None:
    book = FaultBook()
    with pytest.raises(SpecError, match="no end: give it a time"):
        book.add(fault(), None, 0.0)
    for name, what in (("once", {"kill": True}), ("again", {"restart": True}), ("for", {"kill": True, "for": "5s"})):
        book.add(fault(name, **what), None, 0.0)
    [once, again, _] = book.active(0.0)
    book.done(once, 1.0)
    book.done(again, 1.0)
    book.done(again, 2.0)
    assert (once.state, once.over, again.over_s) == ("ended", DONE, 1.0)
    assert names(book.active(1.0)) == ["for"]


def test_a_name_is_used_once_and_a_document_takes_over_a_leased_fault_of_its_name() -> None:
    book = FaultBook()
    book.take([fault("doc")], 0.0)
    book.add(fault(), 60.0, 0.0)
    for name in ("doc", "cut"):
        with pytest.raises(SpecError, match=f"there is a fault '{name}' already"):
            book.add(fault(name), 60.0, 1.0)
        with pytest.raises(SpecError, match=r"a lease of 0\.5 s: 1 to 3600 seconds"):
            book.add(fault("other"), 0.5, 1.0)
    for what in (lambda: book.clear("doc", 1.0), lambda: book.renew("doc", 60.0, 1.0)):
        with pytest.raises(SpecError, match="stands in the document"):
            what()
    book.take([fault("doc"), fault("cut", kill=True)], 2.0)
    assert [(one.name, one.origin) for one in book.active(2.0)] == [("doc", "spec"), ("cut", "spec")]
    with pytest.raises(UnknownFaultError, match="there is no fault 'nothing'"):
        book.clear("nothing", 2.0)


def test_there_are_not_more_leased_faults_than_a_document_may_have_and_those_that_ended_are_forgotten() -> None:
    book = FaultBook()
    for number in range(LEASED_MAX):
        book.add(fault(f"f-{number}"), 60.0, 0.0)
    with pytest.raises(LimitError):
        book.add(fault("one-more"), 60.0, 0.0)
    book.clear_leased(1.0)
    assert len(book.all()) == ENDED_KEPT
    with pytest.raises(UnknownFaultError, match="has ended already"):
        book.clear(f"f-{LEASED_MAX - 1}", 1.0)


def test_a_fault_that_acts_on_nobody_has_failed_until_the_document_gives_it_somebody() -> None:
    book = FaultBook()
    book.add(fault("third", kill=True, **{"from": "30%", "for": "5m"}), None, 0.0)

    def nobody(_fault: FaultSpec) -> list[str]:
        raise SpecError("from: 30% of 1 nodes is nobody")

    book.aim(nobody)
    assert book.active(1.0) == []
    assert status_of_fault(book.all()[0], 1.0, WALL).detail == "from: 30% of 1 nodes is nobody"
    book.aim(lambda _fault: ["node-1"])
    assert book.active(2.0)[0].nodes == ["node-1"]


def test_a_record_has_every_fault_that_was_in_force_since_and_not_those_before() -> None:
    book = FaultBook()
    for name, lease in (("before", 5.0), ("through", 60.0)):
        book.add(fault(name), lease, 0.0)
    assert names(book.active(10.0)) == ["through"]
    record = book.record()
    book.add(fault("short"), 2.0, 11.0)
    book.add(fault("waits", block=True, after="1m"), 300.0, 11.0)
    book.add(fault("short"), 2.0, 20.0)
    book.clear("through", 30.0)
    assert names(list(record.values())) == ["through", "short", "short"]
    for number in range(2 * RECORD_MAX):
        book.add(fault("again"), 1.0, 100.0 + 2 * number)
    assert len(record) == RECORD_MAX
    book.forget(record)
    book.forget(record)


class AnyOrder(RuleBasedStateMachine):
    """Adds, renewals, clearings, edits and time, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.book = FaultBook()
        self.now = 0.0
        self.lease: dict[str, float] = {}
        """Until when each leased fault is known to be kept."""
        self.document: set[str] = set()
        self.history: dict[int, list[str]] = {}

    @rule(seconds=st.floats(0.0, 100.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.lease = {name: until for name, until in self.lease.items() if until > self.now}

    @rule(
        name=st.sampled_from("abcd"), lease=st.sampled_from([1.0, 30.0, 3600.0]), after=st.sampled_from([None, "40s"])
    )
    def add(self, name: str, lease: float, after: str | None) -> None:
        spec = fault(name, block=True, after=after)
        if name in self.lease or name in self.document:
            with pytest.raises(SpecError):
                self.book.add(spec, lease, self.now)
        else:
            self.book.add(spec, lease, self.now)
            self.lease[name] = self.now + lease

    @rule(name=st.sampled_from("abcd"))
    def renew(self, name: str) -> None:
        if name in self.lease:
            self.book.renew(name, 60.0, self.now)
            self.lease[name] = self.now + 60.0
        else:
            with pytest.raises(SpecError):
                self.book.renew(name, 60.0, self.now)

    @rule(name=st.sampled_from("abcd"))
    def clear(self, name: str) -> None:
        if name in self.lease:
            self.book.clear(name, self.now)
            del self.lease[name]
        else:
            with pytest.raises(SpecError):
                self.book.clear(name, self.now)

    @rule(written=st.sets(st.sampled_from("abxy")))
    def edit(self, written: set[str]) -> None:
        self.book.take([fault(name) for name in sorted(written)], self.now)
        self.document = written
        for name in written:
            self.lease.pop(name, None)

    @precondition(lambda self: self.lease)
    @rule()
    def the_next_thing_happens(self) -> None:
        next_s = self.book.next_s()
        if next_s is not None and next_s > self.now:
            self.time_passes(next_s - self.now)

    @invariant()
    def what_is_in_force_is_in_the_document_or_leased_now(self) -> None:
        active = self.book.active(self.now)
        assert {one.name for one in active if one.origin == "spec"} == self.document
        assert {one.name for one in active if one.origin == "lease"} <= self.lease.keys()
        assert self.book.taken() == self.document | self.lease.keys()
        assert len({one.name for one in active}) == len(active)
        next_s = self.book.next_s()
        assert next_s is None or next_s > self.now

    @invariant()
    def each_begins_at_most_once_and_then_ends_once(self) -> None:
        for change in self.book.due(self.now):
            self.history.setdefault(change.fault.number, []).append(change.kind)
        for kinds in self.history.values():
            assert kinds in (["begun"], ["begun", "ended"], ["begun", "lapsed"], ["ended"], ["lapsed"])


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def test_when_a_fault_was_in_force_is_counted_from_the_begin_of_a_run_with_what_it_was():
    book = FaultBook()
    book.take(
        [FaultSpec.model_validate({"name": "late", "kill": True, "from": "node-1", "after": "20s", "for": "3s"})], 0.0
    )
    cut = book.add(FaultSpec.model_validate({"name": "cut", "partition": {"minority": "30%"}}), 600.0, 5.0)
    record = book.record()
    book.due(30.0)
    times = {one.fault["name"]: one for one in (time_of_fault(fault, 15.0) for fault in record.values())}

    assert (times["cut"].begun_s, times["cut"].ended_s) == (-10.0, None)
    assert (times["late"].begun_s, times["late"].ended_s) == (5.0, 8.0)
    assert FaultSpec.model_validate(times["cut"].fault) == cut.spec
