"""What is odd about a network is told in its notes, with the figures and how they were found."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from p2pnet.model.ids import member_uri
from p2pnet.model.network import PACKET_OVERHEAD_BYTES
from p2pnet.quic import Endpoint, Trust
from p2pnet.quic.memory import MemoryNetwork, run_virtual
from p2pnet.quic.trust import FixedIdentity
from p2pnet.subnet import network_notes
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.network import network_plan
from p2pnet.subnet.spec import API_VERSION
from p2pnet.trust import Authority, Identity


def notes(**spec: Any) -> list[str]:
    subnet = load_subnet({"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec})
    return network_plan(subnet, subnet.spec.faults).notes


def test_a_plain_network_has_no_notes() -> None:
    assert (
        notes(nodes=13, network={"preset": "ic-lhg73", "access": {"up": "10Mbit"}, "rules": [{"latency": "5ms"}]}) == []
    )


def test_rules_between_which_only_their_order_decides_are_named() -> None:
    groups = [
        {"name": "eu", "nodes": 2, "labels": {"region": "eu"}},
        {"name": "us", "nodes": 2, "labels": {"region": "us"}},
    ]
    rules = [{"from": "region=eu", "latency": "1ms"}, {"to": "region=us", "latency": "2ms"}, {"latency": "9ms"}, {}]
    assert notes(groups=groups, network={"rules": rules[:2]}) == [
        (
            "rules[0] and rules[1] overlap: they are as specific as each other and differ, and on 4 links, like eu-0 to us-1,"
            " rules[1] decides because it is the later one"
        )
    ]
    more = [*rules[2:], rules[0], {"from": "node=eu-0", "latency": "1ms"}]
    assert notes(groups=groups, network={"rules": more}) == [
        ("rules[0] and rules[1] overlap: they are as specific as each other and differ, and on 6 links, like us-0 to eu-0,"
        " rules[1] decides because it is the later one"),
        "rules[0] decides of no link: other rules are more specific or later on all that it matches",
    ]  # fmt: skip


def test_a_preset_with_more_nodes_than_places_and_nodes_that_share_one_are_told() -> None:
    assert notes(nodes=20, network={"preset": "ic-lhg73"}) == [
        "preset ic-lhg73 has 13 places for 20 nodes",
        (
            "14 of 20 nodes share 7 places of preset ic-lhg73, and have between them what it says of a place with itself:"
            " 2 nodes at 0, with no latency"
        ),
    ]
    groups = [
        {"name": "eu", "nodes": 3, "labels": {"region": "eu-west-1"}},
        {"name": "x", "nodes": 1, "labels": {"region": "moon"}},
    ]
    assert notes(groups=groups, network={"preset": "aws"}) == [
        "group x: region 'moon' is no place of preset aws; its nodes take places in turn",
        (
            "3 of 4 nodes share 1 place of preset aws, and have between them what it says of a place with itself: 3 nodes at"
            " eu-west-1, with a latency of 1.6 ms"
        ),
    ]


@pytest.mark.parametrize("where", ["default", "rules[0]", "fault thin"])
def test_a_bandwidth_or_delay_with_which_no_handshake_ends_in_time_is_told(where: str) -> None:
    def odd(shape: dict[str, Any]) -> list[str]:
        if where == "default":
            return notes(network={"default": shape})
        if where == "rules[0]":
            return notes(network={"rules": [shape]})
        return notes(faults=[{"name": "thin", **shape}])

    assert odd({"bandwidth": "1.9kbit"}) == [
        (
            f"{where}: bandwidth 1.9kbit carries no handshake, so links will not come up: 2500 bytes take 10.5 s, and 10 s is the"
            " longest"
        )
    ]
    assert odd({"latency": "5s"}) == [
        f"{where}: latency 5s is too long for a handshake, so links will not come up: there and back it takes longer than 10 s"
    ]
    assert odd({"bandwidth": "2kbit", "latency": "4.9s"}) == []


def test_an_access_link_that_cannot_carry_the_keep_alives_of_all_peers_is_told() -> None:
    assert notes(nodes=50, network={"access": {"down": "4kbit"}}) == [
        "access down: 4kbit cannot carry the keep-alives of 49 links, which are 4.78 kbit/s (61 bytes every 5 s of each)"
    ]
    assert notes(nodes=50, topology={"kind": "ring"}, network={"access": {"up": "20kbit"}}) == []
    assert notes(nodes=50, network={"access": {"up": "100kbit"}}) == [
        (
            "access up: with 100kbit the 49 links of a node take 44.7 s to come up together (11.1 KiB of each), longer than"
            " the 10 s of a handshake: some are dialled again and again"
        )
    ]
    edges = [["node-0", f"node-{index}"] for index in range(1, 50)]
    thin = [{"name": "thin", "access": {"up": "4kbit"}}]
    [said] = notes(nodes=50, topology={"kind": "edges", "edges": edges}, faults=thin)
    assert said.startswith("fault thin up: 4kbit cannot carry the keep-alives of 49 links")


def test_everybodys_access_link_is_not_judged_where_every_group_has_its_own() -> None:
    access = {"up": "1kbit", "groups": {"node": {"up": "10Mbit"}}}
    assert notes(nodes=50, network={"access": access}) == []


def test_the_number_of_notes_is_bounded() -> None:
    rules = [{"from": f"node-{index}", "latency": "9s"} for index in range(40)]
    found = notes(nodes=40, network={"rules": rules})
    assert len(found) == network_notes.NOTES_MAX + 1
    assert found[-1] == "and 8 more"


def test_the_figures_are_those_of_real_links() -> None:
    sizes: dict[str, list[int]] = {}

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        network = MemoryNetwork(delay_s=0.01)
        authority = Authority.create("p2pnet demo", now=datetime.now(UTC))

        async def endpoint(name: str, host: str) -> Endpoint:
            uri = member_uri("p2pnet", "local", "demo", name)
            leaf = authority.issue(uri, now=datetime.now(UTC), ttl=timedelta(days=7), ip_addresses=[host])
            trust = Trust.subnet(FixedIdentity(Identity.of(leaf, authority.certificate_pem)))
            times: Any = {"clock": loop.time, "utc_now": loop.utc_now}  # type: ignore[attr-defined]
            return await Endpoint.bind(transport=network.transport((host, 4100)), trust=trust, **times)

        one, other = await endpoint("node-0", "10.0.0.1"), await endpoint("node-1", "10.0.0.2")
        network.on_send = lambda source, _, data: sizes.setdefault(source[0], []).append(
            len(data) + PACKET_OVERHEAD_BYTES
        )
        await one.connect(other.address)
        await asyncio.sleep(0.5)
        probe = network_notes.LINK_BYTES - network_notes.HANDSHAKE_BYTES
        for sent in sizes.values():
            total = sum(sent)
            assert network_notes.LINK_BYTES * 0.8 < total < network_notes.LINK_BYTES * 1.05
            assert total - probe < network_notes.HANDSHAKE_BYTES * 1.05
        await asyncio.sleep(30)
        sizes.clear()
        await asyncio.sleep(60)
        for sent in sizes.values():
            assert max(sent) <= network_notes.KEEP_ALIVE_BYTES
            assert len(sent) == pytest.approx(60 / network_notes.KEEP_ALIVE_S, abs=1)
        assert max(max(sent) for sent in sizes.values()) == network_notes.KEEP_ALIVE_BYTES
        for end in (one, other):
            end.close(0, "done")
            await end.wait_closed()

    run_virtual(scenario())
