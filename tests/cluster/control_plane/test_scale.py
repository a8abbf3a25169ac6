"""Many Subnets, a large one, and such with awkward names, where pods are played: the operator is what is tried."""

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.control import CHILDREN, Control, Place, Twin
from tests.cluster.kit import ROOT, conditions, until
from tests.cluster.scrape import metrics, resident_mib, value

PAGE = ROOT / "docs" / "kubernetes.md"
PORT = 18082
"""Of the operator's metrics: any that is free in the cluster's network."""
LONGEST = "a" + "b" * 39
"""40 characters, the most that a name may have."""


@pytest.fixture
def place(control: Control) -> Iterator[Place]:
    with control.place("scale") as made:
        yield made


def versions(place: Place) -> dict[str, str]:
    """Every object of the place and its resourceVersion: equal twice means that nobody wrote between."""
    return {
        f"{plural}/{one['metadata']['name']}": one["metadata"]["resourceVersion"]
        for plural in ("subnets", *CHILDREN)
        for one in place.find(plural)
    }


def test_ten_subnets_come_about_and_a_new_operator_looks_at_all_of_them_and_writes_nothing(
    control: Control, place: Place
) -> None:
    with control.operator(metrics_port=str(PORT)) as operator:
        subnets = [place.subnet(f"many-{number}", {"nodes": 3}) for number in range(10)]
        for subnet in subnets:
            subnet.until_ready(3)
            assert subnet.everything() == subnet.whole(3)
        before = until(lambda: at_rest(place), "nobody writes any more")
        operator.restart()
        until(lambda: looks(control) >= 10, "all were looked at")
        time.sleep(2)  # time for a mistake
        assert versions(place) == before
        assert resident_mib(operator.pid) < 250


def looks(control: Control) -> float:
    """How many looks have ended well; none while it does not answer yet."""
    with contextlib.suppress(OSError):
        return value(metrics(control, PORT), "p2pnet_reconcile_total", result="ok")
    return 0.0


def at_rest(place: Place) -> dict[str, str]:
    """All versions, when they stay for two seconds."""
    before = versions(place)
    time.sleep(2)
    return before if versions(place) == before else {}


AWKWARD: list[tuple[str, dict[str, Any], int]] = [
    ("a", {"nodes": 2, "groups": [{"name": "node1", "nodes": 2}, {"name": "lab", "nodes": 1}, {"name": "nodes", "nodes": 1}]}, 6),
    ("a-node", {"nodes": 2}, 2),
    ("a-node-1", {"nodes": 1}, 1),
    ("a-node1", {"nodes": 1}, 1),
    ("a-lab", {"nodes": 1, "groups": [{"name": "token", "nodes": 1}]}, 2),
    ("a-nodes", {"nodes": 0, "groups": [{"name": "b", "nodes": 1}]}, 1),
    (LONGEST, {"nodes": 11, "groups": [{"name": "c" * 12, "nodes": 1}]}, 12),
]  # fmt: skip


def test_names_that_almost_collide_and_the_longest_ones_live_beside_each_other(control: Control, place: Place) -> None:
    with control.operator():
        subnets = [(place.subnet(name, spec), count) for name, spec, count in AWKWARD]
        for subnet, count in subnets:
            subnet.until_ready(count)
    for subnet, count in subnets:
        assert len(subnet.children("pods")) == count + 1
        owner = subnet.thing()["metadata"]["uid"]
        for plural in CHILDREN:
            assert all(
                one["metadata"]["ownerReferences"][0]["uid"] == owner for one in subnet.children(plural).values()
            )
    assert (
        sum(len(place.find(plural)) for plural in CHILDREN) == sum(len(one.everything()) for one, _ in subnets) + 1
    ), "nothing is nobody's, but the namespace's own ConfigMap"


def test_a_subnet_scaled_to_nothing_is_refused_and_one_of_groups_alone_takes_and_gives_nodes(
    control: Control, place: Place
) -> None:
    with control.operator():
        demo = place.subnet("demo", {"nodes": 0, "groups": [{"name": "far", "nodes": 1}]})
        demo.until_ready(1)
        scale(demo, 2)
        demo.until_ready(3)
        scale(demo, 0)
        demo.until_ready(1)
        assert set(demo.children("pods")) == {"demo-far-0", "demo-lab"}
        plain = place.subnet("plain", {"nodes": 1})
        with pytest.raises(AssertionError, match="1 to 500 nodes"):
            scale(plain, 0)


def test_an_autoscaler_cannot_read_a_size_that_is_not_written_as_the_page_says(place: Place) -> None:
    plain = place.subnet("plain", {})
    with pytest.raises(AssertionError, match="does not exist") as refused:
        place.get("subnets", "plain/scale")
    [said] = re.findall(r"`(spec replicas field \S+ does not exist)`", PAGE.read_text())
    assert said in str(refused.value).replace("\\", "")
    scale(plain, 5)
    assert plain.thing()["spec"]["nodes"] == 5
    assert (place.get("subnets", "plain/scale") or {})["spec"]["replicas"] == 5


def scale(subnet: Twin, replicas: int) -> None:
    """As `kubectl scale` does."""
    name = f"{subnet.name}/scale"
    subnet.place.patch("subnets", name, {"spec": {"replicas": replicas}})


@pytest.mark.soak
def test_five_hundred_nodes_come_about_and_go(control: Control, place: Place) -> None:
    with control.operator() as operator:
        demo = place.subnet("demo", {"nodes": 500, "topology": {"kind": "random-regular", "degree": 8}})
        demo.until_ready(500, within_s=300)
        assert demo.everything() == demo.whole(500)
        assert resident_mib(operator.pid) < 400
        demo.edit(nodes=1)
        demo.until_ready(1, within_s=300)
        until(lambda: demo.everything() == demo.whole(1), "of the others nothing is left", within_s=120)
        assert conditions(demo.thing())["Degraded"] == "False"
