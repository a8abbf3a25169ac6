"""Networks on their way to nodes that are silent, restart, refuse or heal themselves, in virtual time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from p2pnet.lab.network.pusher import LATE_S, LEASE_S, RENEW_S, NetworkOrder, Pusher
from p2pnet.lab.nodes.node_client import NodeSilentError
from p2pnet.model.control import ControlRefusal, NetworkPush, NetworkTaken
from p2pnet.model.network import LinkShape, NodeNetwork
from p2pnet.quic.memory import run_virtual


class Nodes:
    """A node client at nodes that only take networks."""

    def __init__(self) -> None:
        self.silent: set[str] = set()
        self.refusal: ControlRefusal | None = None
        self.dead: set[str] = set()
        self.got: list[tuple[str, NetworkPush]] = []

    async def ask(self, node: str, route: bytes, request: NetworkPush, *, timeout_s: float = 5.0) -> Any:
        if node in self.silent | self.dead:
            await asyncio.sleep(timeout_s)
            raise NodeSilentError(node, "no answer in time")
        await asyncio.sleep(0.01)
        self.got.append((node, request))
        return self.refusal or NetworkTaken(request.network.version)

    def versions(self, node: str) -> list[int]:
        return [push.network.version for name, push in self.got if name == node]


def network(version: int, delay_ns: int = 1) -> NodeNetwork:
    return NodeNetwork(version, [LinkShape(delay_ns=delay_ns)], {"node-9": 0})


def pushing(nodes: Nodes, work: Coroutine[Any, Any, None], pusher: list[Pusher], *, awaited: bool = False) -> None:
    async def scenario() -> None:
        pusher.append(Pusher(nodes, lambda node: node not in nodes.dead, awaited=awaited))
        pusher[0].start()
        try:
            await work
        finally:
            await pusher[0].close()

    run_virtual(scenario())


def test_a_node_is_told_when_it_has_a_link_and_whenever_its_network_changes() -> None:
    nodes = Nodes()
    made: list[Pusher] = []

    async def work() -> None:
        [pusher] = made
        pusher.order({"node-0": NetworkOrder(network(5)), "node-1": NetworkOrder(NodeNetwork())})
        await asyncio.sleep(1)
        assert nodes.got == []  # nobody is there yet
        for node in ("node-0", "node-1"):
            pusher.linked(node)
        await asyncio.sleep(1)
        assert [name for name, _ in nodes.got] == ["node-0"]  # of the other nothing is shaped: that costs nothing
        assert nodes.got[0][1] == NetworkPush(network(5))
        pusher.seen("node-0", 5)
        pusher.order({"node-0": NetworkOrder(network(6)), "node-1": NetworkOrder(network(7))})
        pusher.seen("node-1", 0)
        await asyncio.sleep(1)
        assert (nodes.versions("node-0"), nodes.versions("node-1")) == ([5, 6], [7])
        pusher.linked("node-1")  # another incarnation of it
        await asyncio.sleep(1)
        assert nodes.versions("node-1") == [7, 7]
        pusher.order({})
        pusher.linked("node-1")
        assert pusher.lacking() == []

    pushing(nodes, work(), made)


def test_a_node_that_does_not_take_it_is_asked_again_and_told_of_until_it_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nodes = Nodes()
    made: list[Pusher] = []
    changes: list[int] = []
    caplog.set_level("INFO")

    async def work() -> None:
        [pusher] = made
        pusher.on_change = lambda: changes.append(1)
        nodes.silent = {"node-0"}
        pusher.order({"node-0": NetworkOrder(network(5))})
        pusher.linked("node-0")
        await asyncio.sleep(LATE_S - 0.1)
        assert (pusher.lacking(), pusher.problems()) == (["node-0"], {})
        await asyncio.sleep(LATE_S)
        assert "has not taken its network for 10 s: does not answer: no answer in time" in pusher.problems()["node-0"]
        nodes.silent, nodes.refusal = set(), ControlRefusal("bad-request", "no such route")
        await asyncio.sleep(LATE_S)
        assert "refused: bad-request: no such route" in pusher.problems()["node-0"]
        nodes.refusal = None
        await asyncio.sleep(LATE_S)
        assert (pusher.lacking(), pusher.problems(), changes) == ([], {}, [1])

    pushing(nodes, work(), made)
    assert [record.message for record in caplog.records if "network" in record.message] == [
        "node-0: has not taken its network for 5 s: does not answer: no answer in time",
        "node-0: has taken its network",
    ]


def test_a_node_that_is_not_expected_to_answer_is_no_problem_and_is_told_when_it_is_back() -> None:
    nodes = Nodes()
    made: list[Pusher] = []

    async def work() -> None:
        [pusher] = made
        nodes.dead = {"node-0"}
        pusher.order({"node-0": NetworkOrder(network(5))})
        pusher.linked("node-0")
        await asyncio.sleep(60)
        assert (pusher.lacking(), pusher.problems(), nodes.got) == ([], {}, [])
        nodes.dead = set()
        pusher.linked("node-0")
        assert pusher.lacking() == ["node-0"]
        await asyncio.sleep(0.1)
        assert pusher.lacking() == []

    pushing(nodes, work(), made)


def test_leased_faults_go_with_their_lease_and_what_stays_without_them_and_are_renewed_in_time() -> None:
    nodes = Nodes()
    made: list[Pusher] = []

    async def work() -> None:
        [pusher] = made
        leased = NetworkOrder(network(6, 2), healed=network(5))
        pusher.order({"node-0": leased, "node-1": NetworkOrder(network(5))})
        for node in ("node-0", "node-1"):
            pusher.linked(node)
        await asyncio.sleep(1)
        assert dict(nodes.got)["node-0"] == NetworkPush(network(6, 2), LEASE_S, network(5))
        await asyncio.sleep(LEASE_S)
        assert len(nodes.versions("node-0")) >= LEASE_S / RENEW_S > 2
        assert nodes.versions("node-1") == [5]
        pusher.order({"node-0": NetworkOrder(network(7)), "node-1": NetworkOrder(network(5))})
        await asyncio.sleep(LEASE_S)
        assert nodes.got[-1] == ("node-0", NetworkPush(network(7)))

    pushing(nodes, work(), made)


def test_a_node_that_has_healed_itself_is_told_again() -> None:
    nodes = Nodes()
    made: list[Pusher] = []

    async def work() -> None:
        [pusher] = made
        pusher.order({"node-0": NetworkOrder(network(6, 2), healed=network(5))})
        pusher.linked("node-0")
        await asyncio.sleep(1)
        pusher.seen("node-0", 5)  # it was paused for longer than its lease
        assert pusher.lacking() == ["node-0"]
        await asyncio.sleep(0.1)
        assert nodes.versions("node-0") == [6, 6]
        assert pusher.lacking() == []

    pushing(nodes, work(), made)


def test_a_node_that_waits_for_its_network_is_told_that_nothing_is_shaped_and_an_older_one_may_refuse_that() -> None:
    nodes = Nodes()
    made: list[Pusher] = []

    async def work() -> None:
        [pusher] = made
        pusher.order({"node-0": NetworkOrder(NodeNetwork())})
        pusher.linked("node-0")
        pusher.seen("node-0", 0)
        await asyncio.sleep(1)
        assert nodes.got == [("node-0", NetworkPush(NodeNetwork()))]
        nodes.refusal = ControlRefusal("bad-request", "no such route")
        pusher.linked("node-0")
        await asyncio.sleep(60)
        assert (len(nodes.got), pusher.lacking()) == (2, [])

    pushing(nodes, work(), made, awaited=True)


def test_an_order_that_changes_while_it_is_on_its_way_arrives_as_it_is_last() -> None:
    nodes = Nodes()
    made: list[Pusher] = []

    async def work() -> None:
        [pusher] = made
        for version in (5, 6, 7):
            pusher.order({"node-0": NetworkOrder(network(version))})
            pusher.linked("node-0")
            await asyncio.sleep(0.004)
        await asyncio.sleep(1)
        assert nodes.versions("node-0")[-1] == 7
        assert pusher.lacking() == []

    pushing(nodes, work(), made)
