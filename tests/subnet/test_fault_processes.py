"""How faults want processes to be, at any time."""

from p2pnet.subnet.fault_book import FaultBook
from p2pnet.subnet.fault_processes import FREE, ChurnClock, wanted_of
from p2pnet.subnet.network_spec import FaultSpec


def test_a_node_that_dies_again_before_it_is_back_comes_back_after_the_later_death() -> None:
    clock = ChurnClock(iter([(1.0, "node-0"), (3.0, "node-0")]), 10.0, 5.0)
    clock.advance(11.0)
    assert (clock.back_s, clock.next_s()) == ({"node-0": 16.0}, 13.0)
    clock.advance(13.0)
    assert (clock.back_s, clock.next_s()) == ({"node-0": 18.0}, 18.0)
    clock.advance(18.0)
    assert (clock.back_s, clock.next_s()) == ({}, None)


def test_a_node_that_one_fault_pauses_and_another_kills_is_dead_until_the_last_killer_ends() -> None:
    book = FaultBook()
    specs = [
        FaultSpec.model_validate({"name": "still", "from": "node-0", "pause": True}),
        FaultSpec.model_validate({"name": "gone", "from": "node-0", "kill": True, "for": "5s"}),
        FaultSpec.model_validate({"name": "longer", "from": "node-0", "kill": True, "for": "9s"}),
    ]
    book.take(specs, 1.0)
    book.aim(lambda fault: [fault.from_])
    wanted = wanted_of(["node-0"], book.active(1.0), {})
    assert (wanted.state, wanted.by, wanted.until_s) == ("dead", ("gone", "longer"), 10.0)
    assert wanted_of(["node-0"], book.active(12.0), {}).state == "paused"
    assert wanted_of(["node-1"], book.active(1.0), {}) == FREE
