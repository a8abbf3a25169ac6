"""The plan of the network says of every link what the document says of it, in its direction."""

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pnet.model.network import CLEAR, AccessShape, LinkShape, NodeNetwork, jitter_max_ns
from p2pnet.netem import combined
from p2pnet.netem.presets import preset
from p2pnet.subnet import placement
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.fault_nodes import victims
from p2pnet.subnet.network import NetworkPlan, network_plan
from p2pnet.subnet.spec import API_VERSION, Subnet

MS = 1_000_000
GROUPS: list[dict[str, Any]] = [
    {"name": "eu", "nodes": 2, "labels": {"region": "eu-west-1", "tier": "core"}},
    {"name": "us", "nodes": 1, "labels": {"region": "us-east-1", "tier": "edge"}},
    {"name": "away", "nodes": 2, "labels": {"region": "moon"}},
]
SELECTORS = [
    "*", "node-0", "eu-1", "node=us-0", "group=eu", "group=node", "tier=core", "tier=edge", "region=moon",
    "tier=edge,group=us", "node=eu-0,tier=core",
]  # fmt: skip


def subnet(**spec: Any) -> Subnet:
    return load_subnet({"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec})


def planned(subnet: Subnet) -> NetworkPlan:
    return network_plan(subnet, subnet.spec.faults)


# --- the same once more, link by link and without any table ---


def naive_rank(selector: str) -> int:
    if selector == "*":
        return 0
    if "=" not in selector:
        return 100
    return sum({"node": 100, "group": 2}.get(part.partition("=")[0], 1) for part in selector.split(","))


def naive_matches(selector: str, node: str) -> bool:
    group = node.rpartition("-")[0]
    facts = {"node": node, "group": group}
    facts |= next((one["labels"] for one in GROUPS if one["name"] == group), {})
    if selector == "*":
        return True
    if "=" not in selector:
        return selector == node
    return all(facts.get(part.partition("=")[0]) == part.partition("=")[2] for part in selector.split(","))


def naive_shape(written: dict[str, Any]) -> LinkShape:
    return LinkShape(
        delay_ns=int(written.get("latency", "0ms")[:-2]) * MS,
        loss=int(written.get("loss", "0%")[:-1]) / 100,
        bandwidth_bps=int(written["bandwidth"][:-4]) * 1e6 if "bandwidth" in written else None,
        mtu=written.get("mtu"),
    )


def naive_place(nodes: list[str], node: str, places: tuple[str, ...]) -> str:
    def label(name: str) -> str:
        return next((one["labels"]["region"] for one in GROUPS if name.startswith(one["name"] + "-")), "")

    if label(node) in places:
        return label(node)
    return places[[name for name in nodes if label(name) not in places].index(node) % len(places)]


def naive_path(document: Subnet, nodes: list[str], source: str, to: str) -> tuple[LinkShape, str]:
    spec = document.model_dump(mode="json", by_alias=True, exclude_unset=True)["spec"]
    network = spec.get("network", {})
    base, label = naive_shape(network.get("default", {})), "default"
    if network.get("preset", "none") != "none":
        matrix = preset(network["preset"])
        found = matrix.paths[naive_place(nodes, source, matrix.places), naive_place(nodes, to, matrix.places)]
        most = int(network.get("lossMax", "100%")[:-1]) / 100
        base = msgspec.structs.replace(base, delay_ns=found.delay_ns)
        if network["preset"] == "aws":
            base = msgspec.structs.replace(base, jitter_ns=found.jitter_ns)
        if network["preset"] == "ic-lhg73":
            base = msgspec.structs.replace(base, loss=min(most, found.loss))
        label = f"preset {network['preset']}"
    best: tuple[int, int] = (-1, -1)
    for index, rule in enumerate(network.get("rules", [])):
        ends = rule.get("from", "*"), rule.get("to", "*")
        rank = (max(map(naive_rank, ends)), min(map(naive_rank, ends)))
        if naive_matches(ends[0], source) and naive_matches(ends[1], to) and rank >= best:
            base, label, best = naive_shape(rule), f"rules[{index}]", rank
    labels = [label] if not base.clear or label.startswith("preset") else []
    shapes = [base]
    for written, fault in zip(spec.get("faults", []), document.spec.faults, strict=True):
        if naive_acts(document, written, fault, source, to):
            shapes.append(LinkShape(blocked=True) if "latency" not in written else naive_shape(written))
            labels.append(f"fault {written['name']}")
    shape = combined(shapes) if len(shapes) > 1 else base
    return (CLEAR, "") if shape.clear else (shape, " + ".join(labels))


def naive_acts(document: Subnet, written: dict[str, Any], fault: Any, source: str, to: str) -> bool:
    if "partition" in written:
        parts = written["partition"].get("groups") or []
        if parts:
            own, other = ([naive_matches(part, node) for part in parts] for node in (source, to))
            return own != other
        cut = victims(document, fault)
        return (source in cut) != (to in cut)
    if "access" in written:
        return False
    named = written.get("from", "*")

    def from_it(node: str) -> bool:
        return node in victims(document, fault) if "%" in named else naive_matches(named, node)

    def to_it(node: str) -> bool:
        return naive_matches(written.get("to", "*"), node)

    return (from_it(source) and to_it(to)) or bool(written.get("bothWays") and from_it(to) and to_it(source))


def differing(document: Subnet, path: Callable[[str, str], tuple[LinkShape, str]], nodes: list[str]) -> list[str]:
    """Links of which a plan says something else than the document does."""
    return [
        f"{source} to {to}: {path(source, to)} instead of {naive_path(document, nodes, source, to)}"
        for source in nodes
        for to in nodes
        if source != to and path(source, to) != naive_path(document, nodes, source, to)
    ]


# --- documents ---

shapes = st.fixed_dictionaries(
    {"latency": st.integers(1, 900).map(lambda ms: f"{ms}ms")},
    optional={
        "loss": st.integers(1, 40).map(lambda share: f"{share}%"),
        "bandwidth": st.integers(1, 99).map(lambda rate: f"{rate}Mbit"),
        "mtu": st.sampled_from([1280, 1400]),
    },
)
ends = st.fixed_dictionaries({}, optional={"from": st.sampled_from(SELECTORS), "to": st.sampled_from(SELECTORS)})
rules = st.builds(lambda ends, shape: {**ends, **shape}, ends, st.just({}) | shapes)
links = st.builds(
    lambda ends, what, share: {**ends, **what, **share},
    ends,
    shapes | st.just({"block": True}),
    st.fixed_dictionaries({}, optional={"from": st.sampled_from(["20%", "50%"]), "bothWays": st.booleans()}),
)
partitions = st.sampled_from(
    [{"minority": "30%"}, {"groups": ["group=eu"]}, {"groups": ["tier=core", "tier=edge", "group=node"]}]
).map(lambda partition: {"partition": partition})
lines = st.just({"access": {"up": "1Mbit"}})
networks = st.fixed_dictionaries(
    {},
    optional={
        "preset": st.sampled_from(["none", "ic-lhg73", "ic-io67", "aws"]),
        "default": shapes,
        "rules": st.lists(rules, max_size=8),
    },
)


@st.composite
def documents(draw: st.DrawFn) -> Subnet:
    network = draw(networks)
    if network.get("preset") == "ic-lhg73" and draw(st.booleans()):
        network["lossMax"] = "5%"
    faults = draw(st.lists(links | partitions | lines, max_size=4))
    named = [{"name": f"f{index}", **fault} for index, fault in enumerate(faults)]
    nodes = draw(st.integers(2, 15))
    network["rules"] = [rule for rule in network.get("rules", []) if not lonely(rule)]
    return subnet(nodes=nodes, groups=GROUPS, network=network, faults=[one for one in named if not lonely(one)])


def lonely(rule: dict[str, Any]) -> bool:
    """Whether both ends are the same single node, which is refused."""
    return rule.get("from", "*") == rule.get("to", "*") in ("node-0", "eu-1", "node=us-0", "tier=edge", "group=us",
                                                            "tier=edge,group=us", "node=eu-0,tier=core")  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(documents())
def test_every_path_is_what_an_evaluation_link_by_link_finds(document: Subnet) -> None:
    plan = planned(document)
    assert differing(document, plan.path, plan.members) == []
    found = {plan.path(one, other)[1] for one in plan.members for other in plan.members if one != other}
    assert found - {""} <= set(plan.labels)
    assert all(len(plan.selectors(label)) == 2 for label in plan.labels)


@settings(max_examples=40, deadline=None)
@given(documents())
def test_a_node_is_told_what_the_plan_says(document: Subnet) -> None:
    plan = planned(document)
    for node in plan.members:
        told = plan.node_network(node, [*plan.members, "gone-7"], 3)
        assert [told.shape(peer) for peer in plan.members if peer != node] == [
            plan.path(node, peer)[0] for peer in plan.members if peer != node
        ]
        assert told.shape("gone-7") == told.shape(node) == CLEAR
        assert len(set(told.shapes)) == len(told.shapes)
        assert (told.up, told.down) == plan.access(node)
        assert msgspec.json.decode(msgspec.json.encode(told), type=NodeNetwork) == told


def test_a_plan_that_lies_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = {"from": "group=eu", "to": "group=us", "latency": "90ms"}
    document = subnet(nodes=15, groups=GROUPS, network={"preset": "ic-lhg73", "rules": [rule]})
    plan = planned(document)
    assert differing(document, plan.path, plan.members) == []
    assert differing(document, lambda source, to: plan.path(to, source), plan.members), "the wrong direction"

    def off_by_one(name: str) -> object:
        found = preset(name)
        index = {place: number for number, place in enumerate(found.places)}
        flat = [found.paths[source, to] for source in found.places for to in found.places]
        shifted = {
            (source, to): flat[min(len(flat) - 1, 12 * index[source] + index[to])] for source in index for to in index
        }
        return dataclasses.replace(found, paths=shifted)

    monkeypatch.setattr(placement, "preset", off_by_one)
    wrong = differing(document, planned(document).path, plan.members)
    assert len(wrong) > len(plan.members), "another row's figures"


# --- what the document means ---


def path(plan: NetworkPlan, source: str, to: str) -> tuple[float, str]:
    shape, label = plan.path(source, to)
    return shape.delay_ns / MS, label


def test_where_nothing_is_asked_nothing_acts() -> None:
    plan = planned(subnet(nodes=3))
    assert plan.path("node-0", "node-1") == (CLEAR, "")
    assert (plan.labels, plan.notes, plan.shaped) == ([], [], False)
    assert plan.access("node-0") == (None, None)
    assert plan.node_network("node-0", plan.members, 0) == NodeNetwork()


def test_the_most_specific_rule_decides_as_a_whole_and_in_its_direction() -> None:
    network = {
        "default": {"latency": "1ms", "loss": "1%"},
        "rules": [
            {"from": "node-0", "to": "group=eu", "latency": "2ms"},
            {"to": "group=eu", "latency": "3ms"},
            {"from": "tier=core", "latency": "4ms", "bandwidth": "1Mbit"},
            {"from": "group=node", "to": "tier=core", "latency": "5ms"},
        ],
    }
    plan = planned(subnet(nodes=2, groups=GROUPS, network=network))
    assert path(plan, "node-0", "node-1") == (1, "default")
    assert path(plan, "node-0", "eu-0") == (2, "rules[0]")
    assert path(plan, "eu-0", "node-0") == (4, "rules[2]")
    assert path(plan, "us-0", "eu-0") == (3, "rules[1]")
    assert path(plan, "node-1", "eu-0") == (5, "rules[3]"), "the same largest part, and a larger second one"
    assert plan.path("node-0", "eu-0")[0].loss == 0, "a rule does not add to the default"
    assert plan.labels == ["default", "rules[0]", "rules[1]", "rules[2]", "rules[3]"]
    assert plan.selectors("rules[0]") == ("node-0", "group=eu")
    assert plan.selectors("default") == ("*", "*")


def test_a_rule_that_does_nothing_clears_its_links() -> None:
    network = {"default": {"latency": "50ms"}, "rules": [{"from": "node-0"}]}
    plan = planned(subnet(nodes=2, network=network))
    assert plan.path("node-0", "node-1") == (CLEAR, "")
    assert path(plan, "node-1", "node-0") == (50, "default")


def test_a_preset_comes_over_the_default_field_by_field() -> None:
    default = {"latency": "1ms", "loss": "3%", "bandwidth": "10Mbit", "mtu": 1400}
    plan = planned(subnet(nodes=13, network={"preset": "ic-io67", "default": default}))
    shape, label = plan.path("node-2", "node-11")
    assert (shape.delay_ns, shape.loss, shape.bandwidth_bps, shape.mtu) == (1_260_000, 0.03, 10e6, 1400)
    assert label == "preset ic-io67"
    assert plan.path("node-11", "node-2")[0].delay_ns == preset("ic-io67").paths["11", "2"].delay_ns
    assert plan.labels == ["preset ic-io67"]


def test_no_link_of_a_preset_loses_more_than_loss_max() -> None:
    asked = {"preset": "ic-lhg73"}
    losses = [
        [plan.path(one, other)[0].loss for one in plan.members for other in plan.members if one != other]
        for plan in (planned(subnet(nodes=13, network=network)) for network in (asked, {**asked, "lossMax": "5%"}))
    ]
    assert max(losses[0]) == pytest.approx(0.549909)
    assert losses[1] == [min(loss, 0.05) for loss in losses[0]]


def test_nodes_are_placed_by_their_groups_label_and_the_others_in_turn() -> None:
    groups = [{"name": "eu", "nodes": 1, "labels": {"region": "eu-west-1"}}]
    plan = planned(subnet(nodes=35, groups=groups, network={"preset": "aws"}))
    aws = preset("aws")
    assert plan.path("eu-0", "node-0")[0] == aws.paths["eu-west-1", aws.places[0]]
    assert plan.path("node-1", "eu-0")[0] == aws.paths[aws.places[1], "eu-west-1"]
    assert plan.path("node-34", "eu-0")[0] == aws.paths[aws.places[34 - 33], "eu-west-1"], "33 places"
    assert plan.path("node-1", "node-34")[0] == aws.paths[aws.places[1], aws.places[1]], "the same place"


def test_a_jitter_of_the_default_is_cut_to_what_a_measured_delay_carries() -> None:
    plan = planned(subnet(nodes=13, network={"preset": "ic-io67", "default": {"jitter": "9ms"}}))
    shape, _ = plan.path("node-2", "node-11")
    assert shape.jitter_ns == jitter_max_ns(1_260_000, "normal", keep_order=True)
    assert plan.path("node-0", "node-1")[0].jitter_ns == 9 * MS
    assert "default.jitter 9ms is cut where a latency of preset ic-io67 is too small for it" in plan.notes


def test_faults_act_on_top_of_what_the_network_does() -> None:
    network = {"default": {"latency": "10ms", "loss": "10%"}}
    faults = [
        {"name": "slow", "from": "node-0", "latency": "5ms", "loss": "50%"},
        {"name": "cut", "from": "node-0", "to": "node-1", "block": True},
        {"name": "still", "from": "node-2", "pause": True},
    ]
    plan = planned(subnet(nodes=3, network=network, faults=faults))
    shape, label = plan.path("node-0", "node-2")
    assert (shape.delay_ns, label) == (15 * MS, "default + fault slow")
    assert shape.loss == pytest.approx(0.55)
    shape, label = plan.path("node-0", "node-1")
    assert (shape.blocked, label) == (True, "default + fault slow + fault cut")
    assert path(plan, "node-1", "node-0") == (10, "default")
    assert plan.labels == ["default", "default + fault slow", "default + fault slow + fault cut"]
    assert plan.selectors("default + fault slow + fault cut") == ("node-0", "node-1")


def test_a_block_is_one_way_unless_both_are_asked_for() -> None:
    for both in (False, True):
        fault = {"name": "cut", "from": "node-0", "to": "node-1", "block": True, "bothWays": both}
        plan = planned(subnet(nodes=3, faults=[fault]))
        assert plan.path("node-0", "node-1")[0].blocked
        assert plan.path("node-1", "node-0")[0].blocked is both
        assert plan.path("node-0", "node-2") == (CLEAR, "")


def test_a_partition_cuts_its_parts_from_each_other_and_from_the_rest() -> None:
    fault = {"name": "split", "partition": {"groups": ["group=eu", "group=us"]}}
    plan = planned(subnet(nodes=2, groups=GROUPS, faults=[fault]))
    together = [("eu-0", "eu-1"), ("node-0", "node-1"), ("node-0", "away-1")]
    apart = [("eu-0", "us-0"), ("eu-0", "node-0"), ("node-1", "us-0")]
    for one, other in together:
        assert plan.path(one, other) == plan.path(other, one) == (CLEAR, "")
    for one, other in apart:
        assert plan.path(one, other)[0].blocked
        assert plan.path(other, one)[0].blocked
    assert plan.labels == ["fault split"]


def test_an_access_link_is_the_groups_or_everybodys_and_a_fault_makes_it_narrower() -> None:
    access = {"up": "10Mbit", "queue": "64KiB", "groups": {"us": {"down": "2Mbit", "discipline": "codel"}, "away": {}}}
    faults = [
        {"name": "thin", "from": "eu-0", "access": {"up": "1Mbit", "down": "3Mbit"}},
        {"name": "wide", "from": "group=us", "access": {"down": "5Mbit"}},
    ]
    plan = planned(subnet(nodes=1, groups=GROUPS, network={"access": access}, faults=faults))
    ten = AccessShape(10e6, 64 << 10)
    assert plan.access("node-0") == (ten, None)
    assert plan.access("us-0") == (None, AccessShape(2e6, queue_kind="codel"))
    assert plan.access("away-0") == (None, None), "a group's line stands in the place of the rest as a whole"
    assert plan.access("eu-0") == (AccessShape(1e6), AccessShape(3e6))
    assert plan.access("eu-1") == (ten, None)
    assert plan.access_label("eu-0") == "access + fault thin"
    assert plan.access_label("us-0") == "access.groups.us + fault wide"
    assert plan.access_label("away-0") == ""
    assert plan.shaped
    assert plan.labels == []


def test_a_fault_that_a_scaling_has_made_impossible_is_left_out_and_said() -> None:
    before = subnet(nodes=5, faults=[{"name": "some", "from": "20%", "block": True}, {"name": "one", "from": "node-4",
                                                                                     "latency": "9ms"}])  # fmt: skip
    plan = network_plan(subnet(nodes=2), before.spec.faults)
    assert plan.labels == []
    assert plan.notes == [
        "fault some is not in force: from: 20% of 2 nodes is nobody (0.4 is rounded): write a larger share, or a selector",
        "fault one acts on nothing: no node is what it selects",
    ]


def test_paths_are_asked_of_members_only() -> None:
    with pytest.raises(KeyError):
        planned(subnet(nodes=2)).path("node-0", "node-2")


def test_five_hundred_nodes_cost_what_the_document_says_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    figures = placement.PresetLinks.shape

    def counted(self: Any, source: str, to: str) -> LinkShape:
        asked.append((source, to))
        return figures(self, source, to)

    monkeypatch.setattr(placement.PresetLinks, "shape", counted)
    network = {
        "preset": "ic-lhg73",
        "rules": [{"from": "node-7", "latency": "5ms"}, {"from": "group=eu", "latency": "9ms"}],
    }
    plan = planned(subnet(nodes=495, groups=GROUPS, network=network))
    for node in plan.members:
        plan.node_network(node, plan.members, 1)
    assert len(asked) <= 45**2, "13 places, and what tells a handful of nodes apart"
