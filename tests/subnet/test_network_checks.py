"""What contradicts in `spec.network` and `spec.faults` is refused at its path, with what to do about it."""

from typing import Any

import pytest

from p2pnet.model.errors import SpecError
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.spec import API_VERSION

GROUPS = [{"name": "home", "nodes": 2, "labels": {"region": "eu"}}]


def load(**spec: Any) -> None:
    document = {"nodes": 4, "groups": GROUPS, **spec}
    load_subnet({"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}, "spec": document})


def mistakes(**spec: Any) -> str:
    with pytest.raises(SpecError) as caught:
        load(**spec)
    return str(caught.value)


SHAPES = [
    ({"latency": "61m"}, ".latency: 61m: at most 1h; what takes longer is a block"),
    ({"jitter": "5ms"}, ".jitter: 5ms without a latency: give it the latency around which it varies"),
    ({"latency": "0ms", "jitter": "5ms"}, ".jitter: 5ms without a latency"),
    ({"latency": "10ms", "jitter": "4.8ms"},
     (".jitter: 4.8ms is too much for a latency of 10ms, of which some would have to be below nothing: at most 4.71 ms (normal,"
     " order kept)")),
    ({"latency": "10ms", "jitter": "5.8ms", "keepOrder": False}, "at most 5.77 ms (normal, order not kept)"),
    ({"latency": "10ms", "jitter": "9ms", "distribution": "uniform"}, "at most 8.16 ms (uniform, order kept)"),
    ({"latency": "10ms", "jitter": "11ms", "distribution": "uniform", "keepOrder": False}, "at most 10 ms (uniform,"),
    ({"latency": "10ms", "distribution": "uniform"}, ".distribution: belongs to a jitter, and none is given"),
    ({"latency": "10ms", "keepOrder": False}, ".keepOrder: belongs to a jitter, and none is given"),
    ({"loss": "100%"}, ".loss: 100%: nothing would arrive; write a fault with block: true"),
    ({"latency": "10ms", "lossBurst": 3.0}, ".lossBurst: belongs to a loss, and none is given"),
    ({"loss": "90%", "lossBurst": 3.0}, ".lossBurst: 3: so many losses come at least 9 in a row"),
    ({"loss": "1%", "lossBurst": 0.5}, ".lossBurst: should be greater than or equal to 1"),
    ({"reorder": "100%"}, ".reorder: 100%: some packets must be left to overtake the others"),
    ({"bandwidth": "999bit"}, ".bandwidth: 999bit: from 1kbit to 100Gbit; leave it out for no limit"),
    ({"bandwidth": "101Gbit"}, ".bandwidth: 101Gbit: from 1kbit to 100Gbit"),
    ({"loss": "1%", "queue": "64KiB"}, ".queue: belongs to bandwidth, and none is given"),
    ({"loss": "1%", "discipline": "codel"}, ".discipline: belongs to bandwidth, and none is given"),
    ({"bandwidth": "1Mbit", "queue": "1400B"}, ".queue: 1400B: from 1500B, one packet, to 64MiB"),
    ({"bandwidth": "1Mbit", "queue": "65MiB"}, ".queue: 65MiB: from 1500B, one packet, to 64MiB"),
    ({"mtu": 1279}, ".mtu: should be greater than or equal to 1280"),
    ({"mtu": 65536}, ".mtu: should be less than or equal to 65535"),
    ({"latency": "-5ms"}, ".latency: '-5ms' is no duration"),
    ({"loss": "-1%"}, ".loss: '-1%' is no share"),
    ({"bandwidth": "-1Mbit"}, ".bandwidth: '-1Mbit' is no bandwidth"),
]  # fmt: skip


@pytest.mark.parametrize("place", ["default", "rule", "fault"])
@pytest.mark.parametrize(("shape", "words"), SHAPES)
def test_a_shape_that_cannot_be_is_refused_wherever_it_stands(place: str, shape: dict[str, Any], words: str) -> None:
    if place == "default":
        said, path = mistakes(network={"default": shape}), "spec.network.default"
    elif place == "rule":
        said, path = mistakes(network={"rules": [{"from": "node-0", **shape}]}), "spec.network.rules[0]"
    else:
        said, path = mistakes(faults=[{"name": "x", **shape}]), "spec.faults[0]"
    assert words in said
    assert said.startswith(path)


@pytest.mark.parametrize(
    "shape",
    [
        {"latency": "1h"}, {"latency": "10ms", "jitter": "4.7ms"}, {"latency": "10ms", "jitter": "0ms"},
        {"latency": "10ms", "jitter": "10ms", "distribution": "uniform", "keepOrder": False},
        {"loss": "99.9%"}, {"loss": "50%", "lossBurst": 1.5}, {"bandwidth": "1kbit", "queue": "1500B", "discipline": "codel"},
        {"bandwidth": "100Gbit", "queue": "64MiB"}, {"mtu": 1280}, {"duplication": "100%"},
        {"loss": "1%", "keepOrder": True, "distribution": "normal", "discipline": "droptail", "lossBurst": 1.0},
    ],
)  # fmt: skip
def test_the_outermost_shapes_are_taken(shape: dict[str, Any]) -> None:
    load(network={"default": shape, "rules": [{"from": "node-0", **shape}]}, faults=[{"name": "x", **shape}])


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"lossMax": "5%"}, "spec.network.lossMax: belongs to a preset with losses, not to none"),
        ({"preset": "aws", "lossMax": "5%"}, "spec.network.lossMax: belongs to a preset with losses, not to aws"),
        ({"preset": "gcp"}, "spec.network.preset: should be 'none', 'ic-lhg73', 'ic-io67' or 'aws'"),
        ({"access": {"groups": {"work": {"up": "1Mbit"}}}}, "spec.network.access.groups: no group is named 'work'"),
        ({"access": {"groups": {"home": {"up": "1bit"}}}}, "spec.network.access.groups.home.up: 1bit: from 1kbit"),
        ({"access": {"up": "1bit"}}, "spec.network.access.up: 1bit: from 1kbit to 100Gbit; leave it out for no limit"),
        ({"access": {"down": "1Tbit"}}, "spec.network.access.down: '1Tbit' is no bandwidth"),
        ({"access": {"queue": "64KiB"}}, "spec.network.access.queue: belongs to up or down, and none is given"),
        ({"access": {"discipline": "codel"}}, "spec.network.access.discipline: belongs to up or down"),
        ({"preset": "ic-io67", "default": {"distribution": "uniform"}}, "spec.network.default.distribution: belongs to a"),
        ({"preset": "ic-io67", "default": {"keepOrder": False}}, "spec.network.default.keepOrder: belongs to a jitter"),
        ({"preset": "aws", "default": {"lossBurst": 3.0}}, "spec.network.default.lossBurst: belongs to a loss"),
        ({"rules": [{"from": "20%"}]}, "spec.network.rules[0].from: no node is named '20%': shares belong into a fault's from"),
        ({"rules": [{"from": "region=us"}]}, "spec.network.rules[0].from: 'region=us' selects no node"),
        ({"rules": [{"from": "node-0", "to": "node-0"}]}, "spec.network.rules[0].to: 'node-0' is the only node in from, too"),
    ],
)  # fmt: skip
def test_a_network_that_contradicts_itself_is_refused(network: dict[str, Any], words: str) -> None:
    assert words in mistakes(network=network)


def test_a_default_may_add_to_what_a_preset_gives() -> None:
    load(network={"preset": "ic-lhg73", "lossMax": "5%", "default": {"jitter": "3ms", "lossBurst": 4.0}})
    load(network={"preset": "aws", "default": {"keepOrder": False, "bandwidth": "50Mbit"}})
    load(network={"access": {"up": "1Mbit", "groups": {"home": {}, "node": {"down": "2Mbit"}}}})


ENDS = {"from": "node-0", "to": "node-1"}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({}, ": does nothing: give it a shape, access, block, partition, pause, kill, restart or churn"),
        ({"latency": "0ms"}, ": does nothing"),
        ({"block": True, "loss": "5%"}, ": shape and block: a fault does one thing: write another one for the rest"),
        ({"pause": True, "kill": True, "restart": True}, ": pause and kill and restart: a fault does one thing"),
        ({"pause": True, **ENDS}, ".to: belongs to a shape or a block, not to pause"),
        ({"access": {"up": "1Mbit"}, **ENDS}, ".to: belongs to a shape or a block, not to access"),
        ({"churn": {"rate": "1/m"}, "bothWays": True}, ".bothWays: belongs to a shape or a block, not to churn"),
        ({"partition": {"minority": "30%"}, "from": "node-0"}, ".from: has no meaning with a partition"),
        ({"kill": True}, ".from: say whom in from: '*' is every node; here would be kill of all"),
        ({"pause": True}, ".from: say whom in from"),
        ({"restart": True}, ".from: say whom in from"),
        ({"access": {}}, ".access: does nothing: give it up or down"),
        ({"access": {"up": "1bit"}}, ".access.up: 1bit: from 1kbit"),
        ({"block": True, "lossBurst": 2.0}, ".lossBurst: belongs to a loss, and none is given"),
        ({"kill": True, "from": "node-0", "queue": "1MiB"}, ".queue: belongs to bandwidth, and none is given"),
        ({"block": True, "after": "31d"}, ".after: 31d: at most 30d"),
        ({"block": True, "for": "10ms"}, ".for: 10ms: from 100ms to 30d; leave it out for until it is cleared"),
        ({"block": True, "for": "31d"}, ".for: 31d: from 100ms to 30d"),
        ({"restart": True, "from": "node-0", "for": "1s"}, ".for: a restart is done once; for a time away write kill with for"),
        ({"churn": {"rate": "11/s", "down": "100ms"}}, ".churn.rate: 11/s: at most 10/s"),
        ({"churn": {"rate": "1/h", "down": "50ms"}}, ".churn.down: 50ms: from 100ms to 1h"),
        ({"churn": {"rate": "1/m", "down": "2h"}}, ".churn.down: 2h: from 100ms to 1h"),
        ({"churn": {"rate": "1/m", "down": "6m"}}, ".churn: 1/m, each away for 6m, would keep 6 of 6 nodes away"),
        ({"churn": {"rate": "0/m"}}, ".churn.rate: '0/m' is no rate"),
        ({"block": True, "from": "5%"}, ".from: 5% of 6 nodes is nobody (0.3 is rounded)"),
        ({"block": True, "to": "50%"}, ".to: no node is named '50%': shares belong into a fault's from"),
        ({"block": True, "from": "region=us"}, ".from: 'region=us' selects no node"),
        ({"block": True, "from": "node-1", "to": "node-1"}, ".to: 'node-1' is the only node in from, too: there is no link"),
    ],
)  # fmt: skip
def test_a_fault_that_contradicts_itself_is_refused(fault: dict[str, Any], words: str) -> None:
    assert f"spec.faults[0]{words}" in mistakes(faults=[{"name": "x", **fault}])


@pytest.mark.parametrize(
    "fault",
    [
        {"kill": True, "from": "*"}, {"kill": True, "from": "node-0", "for": "30s", "after": "0s"},
        {"pause": True, "from": "30%"}, {"restart": True, "from": "group=home"}, {"churn": {"rate": "6/m"}},
        {"churn": {"rate": "6/m", "down": "10s", "seed": 7}, "from": "50%", "for": "1h"}, {"block": True},
        {"block": True, "bothWays": True, **ENDS}, {"access": {"down": "1Mbit", "queue": "64KiB", "discipline": "codel"}},
        {"partition": {"groups": ["group=home", "node-0"]}, "for": "100ms"}, {"partition": {"minority": "50%"}},
        {"latency": "90ms", "from": "20%", "to": "region=eu", "bothWays": True, "after": "30d"},
    ],
)  # fmt: skip
def test_faults_of_every_kind_are_taken(fault: dict[str, Any]) -> None:
    load(faults=[{"name": "x", **fault}])


def test_a_scaling_that_leaves_a_share_nobody_is_refused_with_the_fault() -> None:
    fault = {"name": "some", "from": "20%", "block": True}
    load(faults=[fault])
    assert "spec.faults[0].from: 20% of 2 nodes is nobody" in mistakes(nodes=2, groups=[], faults=[fault])


def test_every_mistake_of_a_document_is_told_at_once() -> None:
    said = mistakes(
        network={"default": {"loss": "100%"}, "lossMax": "1%"}, faults=[{"name": "x"}, {"name": "x", "kill": True}]
    )
    assert said.startswith("5 mistakes")
