import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.sim import World, timeline
from p2pnet.sim.timeline import Timeline


def test_calls_happen_in_the_order_of_their_times_and_within_one_in_the_order_they_were_planned():
    line, seen = Timeline(), list[object]()
    for what, when in enumerate((30, 10, 20, 10, 30, 0)):
        line.send(when, seen.append, what)
    line.run(30)
    assert seen == [5, 1, 3, 2, 0, 4]
    assert line.now == 30
    assert line.is_quiet


def test_what_a_call_plans_for_its_own_instant_happens_after_everything_planned_before():
    line, seen = Timeline(), list[object]()

    def first(what: str) -> None:
        seen.append(what)
        line.send(10, seen.append, "planned within")

    line.send(10, first, "first")
    line.at(10, seen.append, "second")
    line.run(10)
    assert seen == ["first", "second", "planned within"]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_what_is_in_flight_is_told_soonest_first(plans):
    line = Timeline()
    for number, (when, counts) in enumerate(plans):
        (line.send if counts else line.at)(when, lambda _: None, number)
    expected = sorted((when, number) for number, (when, counts) in enumerate(plans) if counts)
    assert list(line.in_flight()) == [number for _, number in expected]
    assert line.flying == len(expected)


def test_a_quiet_world_keeps_what_was_planned_for_the_same_instant():
    line, seen = Timeline(), list[object]()
    line.send(10, seen.append, "message")
    line.at(10, seen.append, "timer")
    assert line.run_until_quiet(100)
    assert (seen, line.now) == (["message"], 10)
    line.run(10)
    assert seen == ["message", "timer"]


def test_a_world_that_is_not_quiet_in_time_has_let_the_time_pass():
    line = Timeline()
    line.send(500, lambda _: None, None)
    assert not line.run_until_quiet(100)
    assert line.now == 100
    assert line.run_until_quiet(1_000)


def test_the_collector_is_off_while_time_passes_and_as_before_after_it():
    line, seen = Timeline(), list[object]()
    line.send(1, lambda _: seen.append(gc.isenabled()), None)
    line.run(1)
    assert seen == [False]
    assert gc.isenabled()


def test_short_steps_of_time_do_not_go_through_what_somebody_has_frozen(monkeypatch):
    """A process that freezes what it imported pays nothing for a hundred thousand looks at a world; for a long run once."""
    asked = list[int]()

    def frozen() -> int:
        asked.append(1)
        return 1

    monkeypatch.setattr(gc, "get_freeze_count", frozen)
    line, kept = Timeline(), list[object]()
    for when in range(1, 100):
        line.send(when, lambda _: kept.append([]), None)
        line.run(when)
    assert asked == []

    monkeypatch.setattr(timeline, "YOUNG_MIN", 100)
    line.send(200, lambda _: kept.extend([number] for number in range(1_000)), None)
    line.run(200)
    assert asked == [1]


def test_young_garbage_of_a_clients_own_cycles_is_collected_now_and_then(monkeypatch):
    monkeypatch.setattr(timeline, "COLLECT_EVERY", 10)
    line, left = Timeline(), list[object]()

    class Knot:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            left.append(None)

    for when in range(100):
        line.send(when, lambda _: Knot() and None, None)
    line.run(100)
    assert len(left) > 80


@pytest.mark.parametrize("model", ["plain", "messages"])
def test_a_running_world_makes_no_garbage_that_only_the_collector_finds(model):
    """Thousands of nodes run with the collector off: a cycle per message would be gigabytes."""
    world = World(4, model=model)
    nodes = [world.node(f"n{number}", up="20Mbit") for number in range(12)]
    world.regular(5, delay="20ms", loss="2%")
    world.settle()
    nodes[0].publish(bytes(300_000), keep="20s")
    world.settle()
    gc.collect()
    gc.disable()
    try:
        before = world.inputs
        for number, node in enumerate(nodes):
            node.publish(bytes(1_000 + 40_000 * (number % 3)), keep="20s")
            world.run("500ms")
        world.settle()
        world.run("30s")  # everything expires
        assert world.inputs - before > 1_000
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_budget_of_calls_ends_in_the_midst_of_an_instant_and_the_next_one_goes_on_from_there():
    timeline, seen = Timeline(), list[int]()
    for number in range(5):
        timeline.send(10, seen.append, number)
    assert not timeline.run_until_quiet(100, 3)
    assert (seen, timeline.now, timeline.is_mid_instant) == ([0, 1, 2], 10, True)
    assert timeline.run_until_quiet(100, 3)
    assert (seen, timeline.now, timeline.is_mid_instant) == ([0, 1, 2, 3, 4], 10, False)


def test_a_budget_that_is_just_enough_tells_that_the_world_is_quiet():
    timeline, seen = Timeline(), list[int]()
    timeline.send(10, seen.append, 0)
    assert timeline.run_until_quiet(100, 1)
    assert (seen, timeline.now) == ([0], 10)


def test_what_a_run_has_made_is_not_searched_for_cycles_when_it_ends():
    assert gc.isenabled()
    line, kept = Timeline(), list[list[object]]()
    line.send(10, lambda _: kept.extend([line] for _ in range(5_000)), None)
    line.run(10)
    young = {id(one) for one in gc.get_objects(generation=0)}
    assert not any(id(one) in young for one in kept)


def test_what_somebody_has_frozen_stays_so_after_a_run():
    gc.freeze()
    try:
        before = gc.get_freeze_count()
        Timeline().run(10)
        assert gc.get_freeze_count() > before / 2 > 0  # some of what is frozen may have gone by itself
    finally:
        gc.unfreeze()
