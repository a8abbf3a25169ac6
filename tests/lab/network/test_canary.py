"""The canary at work: what it orders and when, what counts of it, and that a network that lies is found out."""

import asyncio
from random import Random

import pytest
from tests.lab.network.probed_nodes import ProbedNodes
from tests.measure.probing import MS, Process, S, Truth

from p2pnet.lab.network.canary import BEFORE_S, Canary, links_of, parts_of
from p2pnet.lab.network.probe_choice import BEFORE_PROBES, DURING, LINK_PROBES, REST, goal_of
from p2pnet.measure.canary import problems_of, unmeasured_rules
from p2pnet.model.control import PROBES_PER_ORDER_MAX, ControlRefusal, ProbeTrain
from p2pnet.model.network import CLEAR, LinkShape
from p2pnet.subnet.network import network_plan

SLOW = {"nodes": 4, "network": {"default": {"latency": "10ms"}}}
MIXED = {
    "nodes": 4,
    "network": {
        "default": {"latency": "10ms"},
        "access": {"up": "20Mbit"},
        "rules": [
            {"from": "node-1", "latency": "90ms", "jitter": "5ms", "loss": "1%"},
            {"from": "node-2", "to": "node-3", "latency": "20ms", "bandwidth": "5Mbit"},
            {"from": "node-3", "to": "node-0", "loss": "20%"},
        ],
    },
}
HALF = Truth(LinkShape(delay_ns=5 * MS))


async def measured(canary: Canary) -> list:
    return await canary.look(await canary.measure())


def ok(rows: list) -> dict[str, bool]:
    return {row.rule: row.ok for row in rows if not row.worst}


# --- what is probed ---


def test_nothing_is_asked_of_nodes_where_nothing_is_shaped():
    nodes = ProbedNodes({"nodes": 4})

    async def scenario(canary: Canary) -> None:
        assert not canary.shapes
        assert await measured(canary) == []
        await asyncio.sleep(300)
        assert canary.rows == []

    nodes.run(scenario)
    assert nodes.asks == 0


def test_every_directed_link_is_measured_before_a_run_and_all_rules_are_in_force():
    nodes = ProbedNodes(MIXED)

    async def scenario(canary: Canary) -> tuple[list, float]:
        begin = asyncio.get_running_loop().time()
        rows = await measured(canary)
        return rows, asyncio.get_running_loop().time() - begin

    rows, seconds = nodes.run(scenario)
    assert problems_of(rows) == []
    assert seconds < BEFORE_S
    assert nodes.links() == {(a, b) for a in nodes.names for b in nodes.names if a != b}
    assert {row.rule: (row.links, row.links_total) for row in rows if not row.worst} == {
        "default": (7, 7), "rules[0]": (3, 3), "rules[1]": (1, 1), "rules[2]": (1, 1), "access": (4, 4)
    }  # fmt: skip
    seen = {row.rule: row.seen for row in rows if not row.worst}
    assert seen["default"].delay_ms == pytest.approx(10, abs=0.5)
    assert seen["rules[0]"].jitter_ms == pytest.approx(5, rel=0.5)
    assert seen["rules[1]"].bandwidth_bps == pytest.approx(5e6, rel=0.1)
    assert seen["access"].bandwidth_bps == pytest.approx(20e6, rel=0.1)
    assert seen["rules[2]"].loss == pytest.approx(0.2, rel=0.5)


def test_what_was_measured_lately_is_not_measured_again_before_the_next_run():
    nodes = ProbedNodes(MIXED)

    async def scenario(canary: Canary) -> tuple[float, list]:
        await canary.measure()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        rows = await measured(canary)
        return loop.time() - begin, rows

    seconds, rows = nodes.run(scenario)
    assert seconds == 0
    assert all(row.seen.samples for row in rows)


def test_a_measurement_ends_in_bounded_time_though_nobody_takes_probes():
    nodes = ProbedNodes(SLOW)
    nodes.refuses = ControlRefusal("not-yet", "busy")

    async def scenario(canary: Canary) -> tuple[list, float, str | None]:
        rows = await measured(canary)
        return rows, asyncio.get_running_loop().time(), canary.why_unmeasured("default")

    rows, seconds, why = nodes.run(scenario)
    assert seconds <= BEFORE_S + 1
    assert unmeasured_rules(rows) == ["default"]
    assert why is None


def test_at_rest_and_throughout_a_run_probes_keep_within_their_budgets():
    nodes = ProbedNodes({"nodes": 12, "network": {"default": {"latency": "10ms"}}})

    async def scenario(canary: Canary) -> tuple[int, int]:
        await asyncio.sleep(200)
        rest = nodes.sent()
        canary.watch(lambda _seen, _rules: None)
        await asyncio.sleep(60)
        return rest, nodes.sent() - rest

    rest, during = nodes.run(scenario)
    assert 0 < rest <= 220 * REST.probes_per_s
    assert 0.8 * 60 * DURING.probes_per_s < during <= 62 * DURING.probes_per_s
    assert len(nodes.links()) == 12 * 11


def test_at_rest_the_status_has_rows_of_every_rule_within_a_minute():
    nodes = ProbedNodes(MIXED)

    async def scenario(canary: Canary) -> list:
        await asyncio.sleep(60)
        return canary.rows

    rows = nodes.run(scenario)
    assert ok(rows) == {"default": True, "rules[0]": True, "rules[1]": True, "rules[2]": True, "access": True}
    assert unmeasured_rules(rows) == []


def test_of_more_links_than_the_budget_a_seeded_choice_covers_every_rule():
    nodes = ProbedNodes({
        "nodes": 70, "topology": {"kind": "full"},
        "network": {"default": {"latency": "10ms"}, "rules": [{"from": "node-3", "to": "node-4", "latency": "20ms"}]}
    })  # fmt: skip
    links = links_of(nodes.plan, nodes.membership.all_wanted(), Random(1))
    assert len(links) == 70 * 69
    goal = goal_of(links, Random(5))
    assert sum(goal.probes.values()) <= BEFORE_PROBES
    assert ("node-3", "node-4") in goal.probes
    assert goal == goal_of(links, Random(5))
    assert goal != goal_of(links, Random(6))


def test_a_small_loss_gets_more_probes_than_a_delay():
    nodes = ProbedNodes({"nodes": 2, "network": {"default": {"latency": "10ms", "loss": "0.5%"}}})
    goal = goal_of(links_of(nodes.plan, nodes.membership.all_wanted(), Random(1)), Random(5))
    assert set(goal.probes.values()) == {2_000}
    slow = ProbedNodes(SLOW)
    goal = goal_of(links_of(slow.plan, slow.membership.all_wanted(), Random(1)), Random(5))
    assert set(goal.probes.values()) == {LINK_PROBES}


def test_orders_are_cut_to_what_a_node_takes():
    trains = [ProbeTrain("a", 2_000, 0) for _ in range(6)]
    parts = parts_of(trains)
    assert [len(part) for part in parts] == [2, 2, 2]
    assert all(sum(train.count for train in part) <= PROBES_PER_ORDER_MAX for part in parts)


# --- what counts ---


def test_a_change_of_the_network_begins_anew_and_what_was_under_way_does_not_count():
    nodes = ProbedNodes(SLOW)

    async def scenario(canary: Canary) -> tuple[list, list]:
        canary.watch(lambda _seen, _rules: None)
        await canary.measure()
        await asyncio.sleep(0.4)
        nodes.order({"name": "slow", "latency": "40ms"})  # in the middle of trains
        canary.changed()
        await asyncio.sleep(0.01)
        fresh = await canary.look(0)
        await asyncio.sleep(30)
        return fresh, await canary.look(0)

    fresh, later = nodes.run(scenario)
    assert [(row.rule, row.links) for row in fresh] == [("default + fault slow", 0)]
    assert ok(later) == {"default + fault slow": True}
    assert later[0].seen.delay_ms == pytest.approx(50, abs=1)
    assert later[0].links == 12


def test_nodes_get_the_time_to_take_a_changed_network_before_they_are_probed():
    nodes = ProbedNodes(SLOW)

    async def scenario(canary: Canary) -> None:
        canary.watch(lambda _seen, _rules: None)
        nodes.lacking = ["node-2"]
        nodes.order({"name": "slow", "latency": "40ms"}, really=False)
        canary.changed()
        await asyncio.sleep(2)
        assert nodes.sent(0.1) == 0
        nodes.really, nodes.lacking = nodes.plan, []
        await asyncio.sleep(20)
        assert problems_of(await canary.look(0)) == []
        assert nodes.sent(2) > 0

    nodes.run(scenario)


def test_nodes_that_never_take_a_fault_are_found_out():
    nodes = ProbedNodes(SLOW)

    async def scenario(canary: Canary) -> list[str]:
        nodes.order({"name": "slow", "latency": "40ms"}, really=False)
        nodes.lacking = ["node-2"]
        return problems_of(await measured(canary))

    (problem,) = nodes.run(scenario)
    assert problem.startswith("network rule default + fault slow is not in force: node-")


def test_links_of_nodes_that_are_paused_or_dead_are_left_out():
    nodes = ProbedNodes(SLOW)
    nodes.out = nodes.still = {"node-1"}

    async def scenario(canary: Canary) -> list:
        rows = await measured(canary)
        assert asyncio.get_running_loop().time() < 5
        return rows

    rows = nodes.run(scenario)
    assert {end for link in nodes.links() for end in link} == {"node-0", "node-2", "node-3"}
    assert (rows[0].ok, rows[0].links, rows[0].links_total) == (True, 6, 12)


def test_probes_under_way_to_a_node_that_dies_do_not_count_as_lost():
    nodes = ProbedNodes({"nodes": 3, "network": {"default": {"latency": "300ms"}}})

    async def scenario(canary: Canary) -> list:
        canary.watch(lambda _seen, _rules: None)
        await canary.measure()
        for _ in range(10):
            await asyncio.sleep(2.2)
            nodes.out = {"node-1"}  # paused as ordered
            nodes.lies = {link: Truth(LinkShape(blocked=True)) for link in (("node-0", "node-1"), ("node-2", "node-1"))}
            await asyncio.sleep(2.2)
            nodes.out, nodes.lies = set(), {}
        return await canary.look(0)

    rows = nodes.run(scenario)
    assert problems_of(rows) == []


def test_a_node_that_does_not_answer_voids_its_trains_alone():
    nodes = ProbedNodes(SLOW)

    async def scenario(canary: Canary) -> list:
        canary.watch(lambda _seen, _rules: None)
        await asyncio.sleep(3)
        nodes.silent = {"node-1"}
        await asyncio.sleep(30)
        return await canary.look(0)

    rows = nodes.run(scenario)
    assert problems_of(rows) == []
    assert rows[0].links >= 6


def test_a_node_on_its_way_back_is_waited_for_before_a_run():
    nodes = ProbedNodes(SLOW)
    nodes.out = {"node-1"}

    async def scenario(canary: Canary) -> list:
        measuring = asyncio.create_task(measured(canary))
        await asyncio.sleep(4)
        nodes.out = set()
        return await measuring

    rows = nodes.run(scenario)
    assert (rows[0].ok, rows[0].links) == (True, 12)


def test_what_was_measured_before_a_restart_does_not_count_for_the_next_run():
    nodes = ProbedNodes(SLOW)

    async def scenario(canary: Canary) -> list:
        await measured(canary)
        nodes.restart("node-1")
        nodes.lies = {("node-1", "node-2"): Truth(CLEAR)}  # its faults are gone
        return await measured(canary)

    rows = nodes.run(scenario)
    assert [(row.ok, row.source) for row in rows if row.worst] == [(False, "node-1")]


def test_a_restarted_node_is_measured_anew():
    nodes = ProbedNodes(SLOW)

    async def scenario(canary: Canary) -> tuple[list, list]:
        canary.watch(lambda _seen, _rules: None)
        await canary.measure()
        before = await canary.look(0)
        nodes.restart("node-1")
        nodes.lies = {("node-1", to): Truth(CLEAR) for to in ("node-0", "node-2", "node-3")}  # its faults are gone
        await asyncio.sleep(20)
        return before, await canary.look(0)

    before, after = nodes.run(scenario)
    assert problems_of(before) == []
    assert len(problems_of(after)) == 1
    assert after[1].source == "node-1"


def test_a_blocked_link_is_in_force_while_it_is_up_and_when_it_has_gone_down():
    nodes = ProbedNodes({"nodes": 3, "network": {"default": {"latency": "10ms"}}})
    nodes.order({"name": "cut", "from": "node-0", "to": "node-1", "block": True})

    async def scenario(canary: Canary) -> tuple[list, list]:
        up = await measured(canary)
        nodes.down = {frozenset(("node-0", "node-1"))}
        await asyncio.sleep(60)
        return up, await canary.look(canary.now_ns)

    up, down = nodes.run(scenario)
    for rows in (up, down):
        cut = next(row for row in rows if "fault cut" in row.rule)
        assert (cut.ok, cut.asked.loss, cut.seen.loss, cut.links) == (True, 1.0, 1.0, 1)
    assert next(row.seen.samples for row in up if "fault cut" in row.rule) >= LINK_PROBES


def test_a_link_that_is_down_though_no_block_was_asked_for_is_not_measured():
    nodes = ProbedNodes({"nodes": 2, "network": {"default": {"latency": "10ms"}}})
    nodes.down = {frozenset(("node-0", "node-1"))}

    async def scenario(canary: Canary) -> tuple[list, str | None]:
        rows = await measured(canary)
        return rows, canary.why_unmeasured("default")

    rows, why = nodes.run(scenario)
    assert (rows[0].ok, rows[0].links, why) == (True, 0, "none of its links is up")
    assert nodes.sent() == 0


def test_links_that_came_up_since_the_last_look_are_measured():
    nodes = ProbedNodes({"nodes": 2, "network": {"default": {"latency": "10ms"}}})
    nodes.down = {frozenset(("node-0", "node-1"))}

    async def scenario(canary: Canary) -> list:
        await asyncio.sleep(1)
        nodes.down = set()
        return await measured(canary)

    assert nodes.run(scenario)[0].links == 2


def test_a_rule_that_probes_tell_nothing_of_says_so():
    nodes = ProbedNodes({"nodes": 2, "network": {"default": {"mtu": 1400}}})

    async def scenario(canary: Canary) -> tuple[list, str | None]:
        return await measured(canary), canary.why_unmeasured("default")

    rows, why = nodes.run(scenario)
    assert (unmeasured_rules(rows), why) == (["default"], "it asks for nothing that probes can tell")


def test_clocks_of_other_machines_are_taken_into_account():
    nodes = ProbedNodes(SLOW)
    for index, name in enumerate(nodes.names):
        nodes.nodes[name].boot, nodes.nodes[name].skew_ns = f"boot-{index % 2}", (index % 2) * 77 * S

    rows = nodes.run(measured)
    assert problems_of(rows) == []
    assert rows[0].seen.delay_ms == pytest.approx(10, abs=0.6)


# --- lies ---


@pytest.mark.parametrize("what", ["delay halved", "gone", "loss ignored", "bandwidth ignored", "uplink ignored"])
def test_a_network_that_lies_is_found_out_before_the_run(what):
    nodes = ProbedNodes(MIXED)
    plan = nodes.plan

    def truth(source: str, to: str, shape: LinkShape, *, line: bool = True) -> None:
        nodes.lies[source, to] = Truth(shape, plan.access(source)[0] if line else None, None)

    match what:
        case "delay halved":
            truth("node-0", "node-1", LinkShape(delay_ns=5 * MS))
        case "gone":
            truth("node-1", "node-2", CLEAR)
        case "loss ignored":
            truth("node-3", "node-0", CLEAR)
        case "bandwidth ignored":
            truth("node-2", "node-3", LinkShape(delay_ns=20 * MS))
        case "uplink ignored":
            for to in ("node-1", "node-2", "node-3"):
                truth("node-0", to, plan.path("node-0", to)[0], line=False)
    rules = {
        "delay halved": "default", "gone": "rules[0]", "loss ignored": "rules[2]", "bandwidth ignored": "rules[1]",
        "uplink ignored": "access",
    }  # fmt: skip
    rows = nodes.run(measured)
    assert [rule for rule, fine in ok(rows).items() if not fine] == [rules[what]]


def test_a_rule_on_the_wrong_direction_is_found_out():
    spec = {
        "nodes": 4,
        "network": {"default": {"latency": "10ms"}, "rules": [{"from": "node-0", "to": "node-1", "latency": "90ms"}]},
    }
    nodes = ProbedNodes(spec)
    nodes.lies = {
        ("node-0", "node-1"): Truth(LinkShape(delay_ns=10 * MS)), ("node-1", "node-0"): Truth(LinkShape(delay_ns=90 * MS))
    }  # fmt: skip
    assert ok(nodes.run(measured)) == {"default": False, "rules[0]": False}


def test_a_network_that_is_given_up_in_the_middle_of_a_run_is_found_out():
    nodes = ProbedNodes(SLOW)

    async def scenario(canary: Canary) -> list[str]:
        canary.watch(lambda _seen, _rules: None)
        await canary.measure()
        await asyncio.sleep(100)
        assert problems_of(await canary.look(0)) == []
        nodes.lies = {(a, b): HALF for a in nodes.names for b in nodes.names if a != b}
        since_ns = canary.now_ns
        await asyncio.sleep(50)
        return problems_of(await canary.look(since_ns))

    assert len(nodes.run(scenario)) == 1


def test_a_process_that_halts_now_and_then_is_no_lie():
    nodes = ProbedNodes(MIXED)
    nodes.process = Process(stall_ns=300 * MS, stalls_per_s=0.5)
    assert problems_of(nodes.run(measured)) == []


def test_the_plan_is_followed_when_members_change():
    nodes = ProbedNodes(SLOW)

    async def scenario(canary: Canary) -> set[tuple[str, str]]:
        await asyncio.sleep(30)
        grown = ProbedNodes({**SLOW, "nodes": 5})
        nodes.nodes, nodes.names, nodes.membership = grown.nodes, grown.names, grown.membership
        nodes.plan = nodes.really = network_plan(grown.subnet)
        canary.changed()
        await canary.measure()
        return nodes.links(30)

    assert len(nodes.run(scenario)) == 20
