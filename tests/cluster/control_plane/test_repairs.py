"""What people and accidents do to the parts of a Subnet is put right at once, and nothing else is touched."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.control import CHILDREN as KINDS
from tests.cluster.control import Control, Twin
from tests.cluster.faults import Gap
from tests.cluster.kit import until
from tests.cluster.process import Operator
from tests.cluster.proxy import Proxy, uid_required
from tests.cluster.witness import Witness, check_right

from p2pnet.operator.kube.api import MANAGER
from p2pnet.operator.kube.claims import TURN_S
from p2pnet.operator.subnet.reconcile import COUNTS_EVERY_S, REST_S

NODES = 3
AT_REST_S = COUNTS_EVERY_S + 1
"""After so long without a write none is put off any more."""
RESTS_S = 90.0
"""For it to come to rest."""
REPAIRED_S = 45.0
"""Twenty times what it may take on a machine that does nothing else; who looks by himself only does so every 60 s."""


@pytest.fixture(scope="module")
def proxy(control: Control) -> Iterator[Proxy]:
    with control.proxy() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def demo(control: Control, proxy: Proxy) -> Iterator[Twin]:
    """A Subnet at rest, served by an operator, for this file."""
    with control.place() as place, control.operator(proxy, watch_namespaces=place.name) as operator:
        made = place.subnet("demo", {"nodes": NODES})
        made.until_ready(NODES)
        yield made
        assert not operator.codes, "it has not ended all the time"


@pytest.fixture
def away(control: Control) -> Iterator[tuple[Twin, Operator]]:
    """A Subnet whose operator can go and come."""
    with control.place() as place, control.operator(warm=True, watch_namespaces=place.name) as operator:
        made = place.subnet("demo", {"nodes": 12})
        made.until_ready(12)
        yield made, operator


def stood(demo: Twin) -> dict[str, str]:
    """Uids of everything, by plural and name."""
    kinds = {name.partition("/")[0] for name in demo.everything()}
    return {f"{kind}/{name}": one["metadata"]["uid"] for kind in kinds for name, one in demo.children(kind).items()}


CHILDREN = sorted(Twin.parts("demo", NODES) - {"secrets/demo-ca"})


@pytest.mark.parametrize("child", CHILDREN)
def test_what_is_deleted_is_there_again(demo: Twin, child: str) -> None:
    before = stood(demo)
    plural, _, name = child.partition("/")
    demo.place.delete(plural, name)
    until(
        lambda: before.keys() == (now := stood(demo)).keys() and now[child] != before[child],
        child,
        REPAIRED_S,
        every_s=0.05,
    )
    demo.until_ready(NODES)
    check_right(demo, NODES)
    changed = {name for name, uid in stood(demo).items() if uid != before[name]}
    assert changed == {child}


def test_what_a_pause_leaves_undone_is_done_as_soon_as_it_ends(demo: Twin) -> None:
    demo.annotate("paused", "true")
    until(lambda: demo.thing()["status"]["state"] == "Paused", "it is paused", REPAIRED_S, every_s=0.05)
    before = stood(demo)
    demo.place.delete("pods", "demo-node-1")
    until(lambda: demo.thing()["status"]["ready"] == "2/3", "the status is kept up", REPAIRED_S, every_s=0.05)
    assert "pods/demo-node-1" not in stood(demo)
    demo.annotate("paused", None)
    until(lambda: stood(demo).keys() == before.keys(), "it is back long before anybody looks by himself", REPAIRED_S)
    demo.until_ready(NODES)


def test_what_is_deleted_while_the_operator_is_away_is_there_when_it_is_back(away: tuple[Twin, Operator]) -> None:
    demo, operator = away
    operator.kill()
    before = stood(demo)
    gone = {f"pods/demo-node-{number}" for number in range(10)} | {"secrets/demo-node-11", "configmaps/demo-members"}
    for child in gone:
        demo.place.delete(*child.split("/"))
    until(lambda: stood(demo).keys() == before.keys() - gone, "they are gone", every_s=0.1)
    version = demo.thing()["status"]["registryVersion"]
    operator.start()
    until(lambda: stood(demo).keys() == before.keys(), "they are back", REPAIRED_S, every_s=0.1)
    demo.until_ready(12)
    check_right(demo, 12)
    now = stood(demo)
    assert {child for child in now if now[child] != before[child]} == gone
    assert demo.thing()["status"]["registryVersion"] > version, (
        "a registry that was lost never comes back under its number"
    )


EDITS: dict[str, tuple[str, str, Any]] = {
    "a port": ("services", "demo-lab", {"spec": {"ports": [{"name": "http", "port": 81, "targetPort": 8090}]}}),
    "another port": (
        "services",
        "demo-lab",
        {"spec": {"ports": [{"name": "http", "port": 80}, {"name": "mine", "port": 81}]}},
    ),
    "a selector": ("services", "demo-lab", {"spec": {"selector": {"example.com/mine": "more"}}}),
    "the nodes' Service": ("services", "demo-nodes", {"spec": {"publishNotReadyAddresses": False}}),
    "the registry": ("configmaps", "demo-members", {"data": {"members.json": "{}"}}),
    "the configuration": ("configmaps", "demo-config", {"data": {"node.json": "{}"}}),
    "the budget": ("poddisruptionbudgets", "demo-nodes", {"spec": {"minAvailable": 1}}),
    "the policy": ("networkpolicies", "demo", {"spec": {"ingress": []}}),
    "a certificate": ("secrets", "demo-node-1", {"data": {"node-1.crt": base64.b64encode(b"forged").decode()}}),
    "a bundle": ("secrets", "demo-node-0", {"data": {"ca.crt": base64.b64encode(b"forged").decode()}}),
    "a pod's labels": ("pods", "demo-node-2", {"metadata": {"labels": {"p2pnet.io/role": "other"}}}),
}


def unchanged(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return all(now.get(part) == before.get(part) for part in ("spec", "data"))


def members(thing: dict[str, Any]) -> Any:
    return json.loads(thing["data"]["members.json"]).get("registry", {}).get("members")


AS_WANTED = {
    "the registry": lambda now, before: members(now) == members(before),  # under a version that was never told
    "a certificate": lambda now, before: b"BEGIN" in base64.b64decode(now["data"]["node-1.crt"]),  # another one
}


@pytest.mark.parametrize("what", EDITS)
def test_what_is_edited_by_hand_is_put_back_and_labels_of_others_stay(demo: Twin, what: str) -> None:
    plural, name, edit = EDITS[what]
    before = demo.children(plural)[name]
    foreign = {"metadata": {"labels": {**edit.get("metadata", {}).get("labels", {}), "example.com/mine": "kept"}}}
    demo.place.patch(plural, name, {**edit, **foreign})

    def back() -> bool:
        now = demo.children(plural).get(name, {})
        labels = {**before["metadata"]["labels"], "example.com/mine": "kept"}
        return AS_WANTED.get(what, unchanged)(now, before) and now["metadata"]["labels"] == labels

    until(back, f"{what} is as before", REPAIRED_S, every_s=0.05)
    demo.until_ready(NODES)
    check_right(demo, NODES)
    demo.place.patch(plural, name, {"metadata": {"labels": {"example.com/mine": None}}})


@pytest.mark.parametrize("sealed", ["secrets/demo-node-1", "configmaps/demo-config", "configmaps/demo-members"])
def test_what_was_made_immutable_is_made_again_where_it_must_change(demo: Twin, sealed: str) -> None:
    plural, _, name = sealed.partition("/")
    before = demo.children(plural)[name]
    [key, *_] = sorted(before["data"])
    demo.place.patch(plural, name, {"data": {key: None}, "immutable": True})

    def again() -> bool:
        now = demo.children(plural).get(name, {})
        return (now.get("data") or {}).keys() == before["data"].keys() and not now.get("immutable")

    until(again, f"{sealed} is whole", REPAIRED_S, every_s=0.05)
    demo.until_ready(NODES)
    check_right(demo, NODES)


def test_a_pod_that_goes_while_the_watches_are_deaf_is_there_again(control: Control) -> None:
    gap = Gap()
    with (
        control.place() as place,
        control.proxy(gap) as proxy,
        control.operator(proxy, warm=True, watch_namespaces=place.name) as operator,
    ):
        demo = place.subnet("demo", {"nodes": NODES})
        with Witness.of(demo) as seen:
            demo.until_ready(NODES)
            rest(proxy, AT_REST_S)
            gap.on = True
            before = demo.uids()
            place.delete("pods", "demo-node-1")
            until(lambda: "demo-node-1" not in demo.uids(), "it is gone", every_s=0.05)
            asked = len(proxy.asks)
            time.sleep(0.5)
            assert not proxy.changes(asked), "nobody has told the operator"
            control.inside.do(gap.close())  # 410: it lists again, and what was deleted is in no list
            until(lambda: demo.uids().keys() == before.keys(), "it is there again", REPAIRED_S, every_s=0.05)
            demo.until_ready(NODES)
        check_right(demo, NODES)
        assert {name: len(uids) for name, uids in seen.made.items() if len(uids) != 1} == {"demo-node-1": 2}
        assert not operator.codes


def rest(proxy: Proxy, seconds: float = 1.0) -> None:
    """Wait until nothing has been written for a while."""
    until(lambda: time.monotonic() - proxy.changes()[-1].at > seconds, "it comes to rest", RESTS_S, every_s=0.05)


def test_of_twenty_edits_in_two_seconds_the_last_one_wins(control: Control) -> None:
    with (
        control.place() as place,
        control.proxy() as proxy,
        control.operator(proxy, warm=True, watch_namespaces=place.name),
    ):
        demo = place.subnet("demo", {"nodes": 3})
        with Witness.of(demo) as seen:
            for number in range(20):
                demo.edit(nodes=(12, 3, 7, 1)[number % 4])
                time.sleep(0.1)
            demo.edit(nodes=4)
            demo.until_ready(4)
            rest(proxy)
        check_right(demo, 4)
        subnet = demo.thing()
        assert subnet["status"]["observedGeneration"] == subnet["metadata"]["generation"]
        assert len(seen.authorities) == 1
        assert all(uid_required(ask) for ask in proxy.asks if ask.verb == "delete")


@pytest.mark.parametrize(
    ("nodes", "seconds"),
    [(12, 2.0), pytest.param(50, 10.0, marks=pytest.mark.soak), pytest.param(50, 600.0, marks=pytest.mark.soak)],
)
def test_at_rest_nothing_is_written_and_a_look_reads_little(control: Control, nodes: int, seconds: float) -> None:
    with (
        control.place() as place,
        control.proxy() as proxy,
        control.operator(
            proxy, warm=True, watch_namespaces=place.name, leader_election="true", pod_namespace=place.name
        ) as operator,
    ):
        demo = place.subnet("demo", {"nodes": nodes})
        demo.until_ready(nodes)
        rest(proxy, AT_REST_S)
        before = len(proxy.asks)
        time.sleep(seconds)
        assert not [str(ask) for ask in proxy.changes(before)]
        assert {ask.plural for ask in proxy.changes(before, besides=())} <= {"leases"}
        at_rest = [ask for ask in proxy.asks[before:] if not ask.changes and not ask.watch]
        assert not [str(ask) for ask in at_rest if ask.name == MANAGER], "who holds the Lease renews it without a read"
        looked = sum(ask.plural == "subnets" for ask in at_rest)
        claims = sum(ask.plural == "leases" for ask in at_rest)
        assert looked <= 3 + seconds / REST_S, "a look a minute, and what was due already"
        assert claims <= 2 + seconds / TURN_S
        assert len(at_rest) <= claims + looked * (1 + len(KINDS)), [str(ask) for ask in at_rest]
        before = len(proxy.asks)
        demo.annotate("looked-at", "once")
        until(lambda: len(looks(proxy, before)) > 0, "a look", every_s=0.02)
        time.sleep(1)
        [look] = looks(proxy, before)
        reads = [str(ask) for ask in proxy.asks[look:] if not ask.changes and not ask.watch and ask.plural != "leases"]
        assert not [str(ask) for ask in proxy.changes(before)]
        assert len(reads) <= 1 + len(KINDS), f"the Subnet, and each kind once: {reads}"
        assert not operator.codes


def looks(proxy: Proxy, since: int) -> list[int]:
    """Where in what was asked looks at a Subnet begin."""
    return [
        place
        for place, ask in enumerate(proxy.asks)
        if place >= since and ask.plural == "subnets" and ask.verb == "get"
    ]
