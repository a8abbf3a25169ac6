"""The canary's judgement: an honest network is never called invalid, every lie is caught, and sentences name the link."""

import pytest
from tests.measure.probing import MS, Course, Process, Truth, many, probe, truth_of

from p2pnet.measure import canary
from p2pnet.measure.canary import LinkSeen, Selectors, problems_of, rows_of, unmeasured_rules
from p2pnet.measure.probes import ProbedLink
from p2pnet.model.network import CLEAR, AccessShape, LinkShape
from p2pnet.netem.presets import preset

RULES = {"rules[0]": Selectors("region=eu", "region=us"), "preset ic-lhg73": Selectors("*", "*")}
LINE = AccessShape(bandwidth_bps=10e6)

HONEST = {
    "1 ms": LinkShape(delay_ns=1 * MS),
    "90 ms": LinkShape(delay_ns=90 * MS),
    "300 ms and a normal jitter": LinkShape(delay_ns=300 * MS, jitter_ns=5 * MS),
    "the largest jitter": LinkShape(delay_ns=90 * MS, jitter_ns=42 * MS),
    "a jitter that overtakes": LinkShape(delay_ns=90 * MS, jitter_ns=20 * MS, keep_order=False),
    "a uniform jitter": LinkShape(delay_ns=90 * MS, jitter_ns=60 * MS, jitter_kind="uniform"),
    "0.2% loss": LinkShape(delay_ns=20 * MS, loss=0.002),
    "20% loss": LinkShape(loss=0.2),
    "loss in bursts": LinkShape(loss=0.05, loss_burst=8),
    "duplication and reorder": LinkShape(delay_ns=50 * MS, reorder=0.1, duplication=0.1),
    "1 Mbit/s": LinkShape(delay_ns=20 * MS, bandwidth_bps=1e6),
    "20 Mbit/s and jitter": LinkShape(delay_ns=20 * MS, jitter_ns=2 * MS, bandwidth_bps=20e6),
    "200 Mbit/s": LinkShape(bandwidth_bps=200e6),
    "a block": LinkShape(blocked=True),
    "all together": LinkShape(delay_ns=40 * MS, jitter_ns=4 * MS, loss=0.01, duplication=0.01, reorder=0.01, bandwidth_bps=5e6),
}  # fmt: skip


def link_of(shape: LinkShape, source: str = "node-1", to: str = "node-7", **more: object) -> ProbedLink:
    return ProbedLink(source, to, "rules[0]", shape, **more)


def rows(*links: LinkSeen, **more: object) -> list:
    return rows_of(links, RULES, **more)


# --- honest networks ---


@pytest.mark.parametrize("what", HONEST)
def test_an_honest_link_is_in_force_whatever_the_chance(what):
    link = link_of(HONEST[what])
    for seed in range(40):
        assert problems_of(rows(probe(link, truth_of(link), seed))) == []


def test_an_honest_network_of_many_links_is_in_force_whatever_the_chance():
    names = [f"node-{i}" for i in range(6)]
    pairs = [(a, b) for a in names for b in names if a != b]
    shapes = list(HONEST.values())
    for seed in range(6):
        links = [
            ProbedLink(a, b, f"rules[{i % len(shapes)}]", shapes[i % len(shapes)], LINE, None, "access", "")
            for i, (a, b) in enumerate(pairs)
        ]
        assert problems_of(rows_of(many(links, seed), RULES)) == []


def test_false_alarms_are_no_more_than_stated(monkeypatch):
    """A rate that can be counted: with an alarm of 2 %, no more than 2 % of all looks at honest links raise one."""
    monkeypatch.setattr(canary, "FALSE_ALARM", 0.02)
    looks = alarms = 0
    for what in (
        "300 ms and a normal jitter",
        "a uniform jitter",
        "20% loss",
        "loss in bursts",
        "duplication and reorder",
    ):
        link = link_of(HONEST[what])
        for seed in range(200):
            looks += 1
            alarms += bool(problems_of(rows(probe(link, truth_of(link), seed))))
    assert alarms <= 0.02 * looks + 3 * (0.02 * looks) ** 0.5


def test_the_figures_seen_are_those_asked_for():
    link = link_of(LinkShape(delay_ns=90 * MS, jitter_ns=20 * MS, loss=0.1, bandwidth_bps=10e6))
    row = rows(probe(link, truth_of(link), 1, Course(probes=4000, bursts=30, burst=200)))[0]
    assert row.seen.delay_ms == pytest.approx(90, rel=0.02)
    assert row.seen.jitter_ms == pytest.approx(20, rel=0.05)
    assert row.seen.loss == pytest.approx(0.1, rel=0.15)
    assert row.seen.bandwidth_bps == pytest.approx(10e6, rel=0.05)
    assert row.seen.samples == 4000


def test_what_is_not_asked_for_has_no_figure():
    link = link_of(LinkShape(delay_ns=90 * MS))
    row = rows(probe(link, truth_of(link), 1))[0]
    assert (row.asked.jitter_ms, row.asked.loss, row.asked.bandwidth_bps) == (None, None, None)
    assert (row.seen.jitter_ms, row.seen.loss, row.seen.bandwidth_bps) == (None, None, None)
    assert (row.rule, row.source, row.to, row.links, row.links_total) == ("rules[0]", "region=eu", "region=us", 1, 1)


def test_what_too_few_probes_tell_has_no_figure_and_is_no_lie():
    link = link_of(LinkShape(delay_ns=90 * MS, jitter_ns=5 * MS, loss=0.01))
    row = rows(probe(link, truth_of(link), 1, Course(probes=3, train=3)))[0]
    assert (row.seen.delay_ms, row.seen.jitter_ms, row.seen.loss, row.ok) == (None, None, None, True)


# --- lies ---


def test_a_matrix_that_is_off_by_one_row_is_caught():
    matrix = preset("ic-lhg73")
    places = matrix.places
    pairs = [(a, b) for a in places for b in places if a != b]
    figures = [matrix.figures(a, b) for a in places for b in places]
    wrong = {
        f"{a}_{b}": Truth(figures[12 * places.index(a) + places.index(b)]) for a, b in pairs
    }  # as the original read it: 12 columns, though there are 13
    links = [ProbedLink(a, b, "preset ic-lhg73", matrix.figures(a, b)) for a, b in pairs]
    for seed in range(3):
        assert problems_of(rows_of(many(links, seed, Course(probes=8)), RULES)) == []
        found = rows_of(many(links, seed, Course(probes=8), **wrong), RULES)
        assert [row.ok for row in found] == [False, False]
        assert found[0].problem.startswith(f"{found[1].source} to {found[1].to} asked ")
        assert "more of its links" in found[0].problem


LIES = {
    "delay halved": (LinkShape(delay_ns=90 * MS), LinkShape(delay_ns=45 * MS)),
    "a short delay halved": (LinkShape(delay_ns=2 * MS), LinkShape(delay_ns=1 * MS)),
    "delay doubled": (LinkShape(delay_ns=90 * MS), LinkShape(delay_ns=180 * MS)),
    "delay a tenth too long": (LinkShape(delay_ns=90 * MS), LinkShape(delay_ns=99 * MS)),
    "gone after a restart": (LinkShape(delay_ns=90 * MS, loss=0.01), CLEAR),
    "delay where none is asked": (LinkShape(loss=0.1), LinkShape(loss=0.1, delay_ns=90 * MS)),
    "jitter ignored": (LinkShape(delay_ns=90 * MS, jitter_ns=5 * MS), LinkShape(delay_ns=90 * MS)),
    "jitter doubled": (
        LinkShape(delay_ns=90 * MS, jitter_ns=5 * MS, keep_order=False),
        LinkShape(delay_ns=90 * MS, jitter_ns=10 * MS, keep_order=False),
    ),
    "a uniform jitter ignored": (
        LinkShape(delay_ns=90 * MS, jitter_ns=50 * MS, jitter_kind="uniform"), LinkShape(delay_ns=90 * MS)
    ),
    "loss ignored": (LinkShape(loss=0.2), CLEAR),
    "a small loss ignored": (LinkShape(loss=0.002), CLEAR),
    "loss halved": (LinkShape(loss=0.2), LinkShape(loss=0.1)),
    "loss doubled": (LinkShape(loss=0.1), LinkShape(loss=0.2)),
    "loss in bursts ignored": (LinkShape(loss=0.1, loss_burst=5), CLEAR),
    "loss where none is asked": (LinkShape(delay_ns=20 * MS), LinkShape(delay_ns=20 * MS, loss=0.1)),
    "bandwidth ignored": (LinkShape(bandwidth_bps=10e6), CLEAR),
    "a large bandwidth ignored": (LinkShape(bandwidth_bps=100e6), LinkShape(bandwidth_bps=400e6)),
    "bandwidth halved": (LinkShape(bandwidth_bps=10e6), LinkShape(bandwidth_bps=5e6)),
    "bandwidth doubled": (LinkShape(bandwidth_bps=10e6), LinkShape(bandwidth_bps=20e6)),
    "a block that leaks": (LinkShape(blocked=True), LinkShape(loss=0.95)),
    "a block that is not there": (LinkShape(blocked=True), CLEAR),
}  # fmt: skip
ENOUGH = {
    "jitter doubled": 2_400, "loss ignored": 120, "a block that leaks": 400, "a small loss ignored": 10_000,
    "loss halved": 800, "loss doubled": 800, "loss in bursts ignored": 4_000, "loss where none is asked": 300,
    "delay where none is asked": 400,
}  # fmt: skip
"""Probes that a lie takes, where it takes more than a link gets at once."""


@pytest.mark.parametrize("what", LIES)
def test_a_lie_is_caught_every_time(what):
    asked, does = LIES[what]
    link = link_of(asked)
    course = Course(probes=ENOUGH.get(what, 40), interval_ns=20 * MS if what in ENOUGH else 100 * MS)
    for seed in range(5 if what in ENOUGH else 20):
        found = rows(probe(link, Truth(does), seed, course))
        assert len(problems_of(found)) == 1, found
        assert problems_of(found)[0].startswith("network rule rules[0] is not in force: node-1 to node-7 asked")


def test_a_rule_on_the_wrong_direction_is_caught():
    there, back = LinkShape(delay_ns=90 * MS), LinkShape(delay_ns=10 * MS)
    links = [ProbedLink("a", "b", "rules[0]", there), ProbedLink("b", "a", "default", back)]
    for seed in range(20):
        found = rows_of(many(links, seed, a_b=Truth(back), b_a=Truth(there)), RULES)
        assert [row.ok for row in found] == [False, False]


def test_a_small_loss_is_told_by_all_links_together_though_no_single_one_tells():
    names = [f"node-{i}" for i in range(20)]
    shape = LinkShape(delay_ns=20 * MS, loss=0.008)
    links = [ProbedLink(a, b, "rules[0]", shape) for a in names[:10] for b in names[10:]]
    lies = {f"{link.source}_{link.to}": Truth(LinkShape(delay_ns=20 * MS)) for link in links}
    honest, lying = rows_of(many(links, 1), RULES), rows_of(many(links, 1, **lies), RULES)
    assert problems_of(honest) == []
    assert honest[0].seen.loss == pytest.approx(0.008, rel=0.5)
    assert problems_of(lying) == [
        "network rule rules[0] is not in force: asked 0.8% loss, seen 0% (0 of 4,000 probes lost on 100 links)"
    ]
    assert lying[1].worst
    assert lying[1].ok


def test_an_uplink_that_does_not_limit_is_caught_under_its_own_name():
    links = [
        ProbedLink("node-1", f"node-{i}", "default", LinkShape(delay_ns=20 * MS), LINE, None, "access")
        for i in (2, 3, 4)
    ]
    lies = {f"{one.source}_{one.to}": Truth(one.shape) for one in links}
    course = Course(bursts=4)
    for seed in range(10):
        assert problems_of(rows_of(many(links, seed, course), RULES)) == []
        found = rows_of(many(links, seed, course, **lies), RULES)
        assert {row.rule: row.ok for row in found if not row.worst} == {"default": True, "access": False}
        problem = next(row.problem for row in found if row.rule == "access")
        assert "asked 10 Mbit/s, seen" in problem


# --- what is no lie ---


def test_a_queue_that_other_traffic_fills_is_neither_a_longer_delay_nor_a_loss():
    link = link_of(LinkShape(delay_ns=20 * MS, bandwidth_bps=10e6))
    slow = Truth(LinkShape(delay_ns=200 * MS, loss=0.3, bandwidth_bps=4e6))  # as the probes see a full queue
    assert problems_of(rows(probe(link, slow, 1))) != []
    assert problems_of(rows(probe(link, slow, 1, busy=True))) == []


def test_delays_are_told_by_the_fastest_probes_where_packets_may_queue():
    link = link_of(LinkShape(delay_ns=20 * MS, bandwidth_bps=10e6))
    idle = probe(link, truth_of(link), 1, busy=True)  # no other traffic then, which nobody can know
    queued = probe(link, Truth(LinkShape(delay_ns=200 * MS, bandwidth_bps=10e6)), 1, busy=True)
    both = LinkSeen(link, [*idle.trains[:2], *queued.trains[:3]])
    assert rows(both)[0].seen.delay_ms == pytest.approx(20, abs=1)


def test_what_clocks_cannot_tell_is_no_lie():
    link = link_of(LinkShape(delay_ns=10 * MS))
    shifted = Truth(LinkShape(delay_ns=12 * MS))
    assert problems_of(rows(probe(link, shifted, 1, bound_ns=3 * MS))) == []
    assert problems_of(rows(probe(link, shifted, 1, bound_ns=1 * MS))) != []


def test_a_few_late_probes_change_nothing():
    link = link_of(LinkShape(delay_ns=90 * MS, jitter_ns=5 * MS))
    halting = Process(stall_ns=400 * MS, stalls_per_s=0.5)
    for seed in range(20):
        assert problems_of(rows(probe(link, truth_of(link), seed, process=halting))) == []


def test_a_starved_process_makes_the_rule_invalid_and_is_named():
    link = link_of(LinkShape(delay_ns=10 * MS))
    starved = probe(link, truth_of(link), 1, process=Process(usual_ns=20 * MS))
    calm, told = rows(starved)[0], rows(starved, lag_s={"node-7": 0.31})[0]
    assert not calm.ok
    assert "starved" not in calm.problem
    assert told.problem.endswith("; the process of node-7 was starved of CPU, its event loop came up to 310 ms late")


def test_a_shorter_delay_is_never_the_fault_of_a_starved_process():
    link = link_of(LinkShape(delay_ns=90 * MS))
    assert "starved" not in rows(probe(link, Truth(LinkShape(delay_ns=45 * MS)), 1), lag_s={"node-7": 9.0})[0].problem


def test_a_blocked_link_that_is_down_is_blocked_as_asked():
    row = rows(LinkSeen(link_of(LinkShape(blocked=True)), cut=True))[0]
    assert (row.ok, row.asked.loss, row.seen.loss, row.links) == (True, 1.0, 1.0, 1)


def test_a_link_that_is_down_tells_nothing_of_a_delay():
    found = rows(LinkSeen(link_of(LinkShape(delay_ns=90 * MS)), cut=True))
    assert (found[0].ok, found[0].seen.delay_ms, found[0].links, found[0].links_total) == (True, None, 0, 1)
    assert unmeasured_rules(found) == ["rules[0]"]


def test_the_worst_link_is_the_one_furthest_from_what_was_asked():
    links = [link_of(LinkShape(delay_ns=90 * MS), to=f"node-{i}") for i in range(4)]
    found = rows(*many(links, 1, **{"node-1_node-2": Truth(LinkShape(delay_ns=93 * MS))}))
    assert [(row.worst, row.source, row.to, row.ok) for row in found] == [
        (False, "region=eu", "region=us", True), (True, "node-1", "node-2", True)
    ]  # fmt: skip
    assert found[1].seen.delay_ms == pytest.approx(93.1, abs=0.3)
    assert (found[0].links, found[0].links_total) == (4, 4)


def test_the_asked_delay_of_a_preset_is_the_mean_over_the_links_that_were_probed():
    links = [link_of(LinkShape(delay_ns=i * 10 * MS), to=f"node-{i}") for i in (1, 2, 3)]
    found = rows(*many(links[:2], 1), LinkSeen(links[2]))
    assert (found[0].asked.delay_ms, found[0].links, found[0].links_total) == (15.0, 2, 3)
