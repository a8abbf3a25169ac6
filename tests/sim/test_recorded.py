"""A run that is done again as it was recorded: its publications and faults at their own times."""

import pytest

from p2pnet.measure.injection import Planned
from p2pnet.model.errors import SpecError
from p2pnet.model.events import EventKind
from p2pnet.model.jobs import FaultTime, Payload
from p2pnet.sim.recorded import Recording, simulate_recorded
from p2pnet.sim.simulate import SimLoad
from p2pnet.subnet.document import default_subnet

LOAD = SimLoad(payloads=[("x", 100)], within_s=2.0)
OUT = {"name": "out", "from": "node-1", "block": True}


def planned(*at_ms: int) -> list[Planned]:
    return [Planned(n, "x", 100, "node-0", ms * 1_000_000, Payload("x", size=100)) for n, ms in enumerate(at_ms)]


def test_what_was_published_is_published_again_at_its_time_by_whoever_did():
    outcome = simulate_recorded(default_subnet("demo", 4), LOAD, Recording(planned(100, 950), []), seed=1)
    at = [event.t_ns for event in outcome.events if event.kind is EventKind.PUBLISHED]
    assert (at[1] - at[0]) == 850_000_000
    assert outcome.report.publishers == ["node-0"]
    assert (outcome.report.verdict, outcome.report.artifacts) == ("pass", 2)


@pytest.mark.parametrize(
    ("begun_s", "ended_s", "missed"),
    [
        (-90.0, None, 2),
        (-5.0, 0.5, 0),
        (0.05, None, 2),
        (0.5, None, 1),
        (-90.0, -80.0, 0),
        (5.0, None, 0),
        (-90.0, -31.0, 0),
    ],
)
@pytest.mark.parametrize("timed", [False, True], ids=["cleared", "for"])
def test_a_fault_is_in_force_when_it_was(begun_s, ended_s, missed, timed):
    fault = {**OUT, "to": "node-0", "bothWays": True, **({"for": "1s", "after": "3s"} if timed else {})}
    subnet = default_subnet("demo", 2)  # nobody else to have it from
    recording = Recording(planned(100, 900), [FaultTime(fault, begun_s, ended_s)])
    report = simulate_recorded(subnet, LOAD, recording, seed=1).report
    assert report.reach.expected - report.reach.delivered == missed


def test_a_process_that_was_killed_dies_again_and_comes_back():
    kill = FaultTime({"name": "k", "from": "node-1", "kill": True}, 0.5, 0.5)
    events = simulate_recorded(default_subnet("demo", 3), LOAD, Recording(planned(100, 3_000), [kill]), seed=1).events
    starts = {event.incarnation for event in events if event.node == "node-1"}
    assert len(starts) == 2


def test_a_record_that_published_nothing_is_invalid_and_over_at_once():
    report = simulate_recorded(default_subnet("demo", 3), LOAD, Recording([], []), seed=1).report
    assert (report.verdict, report.artifacts) == ("invalid", 0)


def test_a_fault_of_a_node_that_is_not_there_is_refused_and_a_run_is_told_to_stop():
    strange = FaultTime({"name": "x", "from": "node-9", "block": True}, 0.0, None)
    with pytest.raises(SpecError):
        simulate_recorded(default_subnet("demo", 3), LOAD, Recording(planned(100), [strange]), seed=1)
    stopped = simulate_recorded(
        default_subnet("demo", 3), LOAD, Recording(planned(100), []), seed=1, is_stopped=lambda: True
    )
    assert stopped.interrupted
