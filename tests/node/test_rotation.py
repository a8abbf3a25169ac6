"""A new leaf and a new bundle on disk, taken up by running nodes."""

from datetime import timedelta

from tests.node.kit import Bench, until

from p2pnet.model.events import EventKind
from p2pnet.node.service import Service
from p2pnet.quic import CloseCode
from p2pnet.trust import Authority, Identity


async def test_a_new_leaf_is_shown_to_everyone_without_a_gap(bench: Bench) -> None:
    await bench.up(["node-0", "node-1"])
    before = {name: (await bench.peers(name)) for name in ("node-0", "node-1")}
    bench.subnet.identity(bench.subnet.uri("node-1")).write(bench.subnet.folder / "node-1" / "identity")
    event = await bench.until_event("node-1", EventKind.IDENTITY)
    assert event.detail == "leaf"
    for name in ("node-0", "node-1"):

        async def renewed(name: str = name) -> bool:
            return [peer.connection for peer in (await bench.peers(name)).peers] > [
                peer.connection for peer in before[name].peers
            ]

        await until(renewed, f"{name} has a newer connection")
        events = (await bench.events(name, before[name].event_cursor)).events
        ends = [(event.kind, event.mono_ns) for event in events if event.kind.startswith("peer-")]
        # the old link ends in the very moment the new one is in use
        assert [kind for kind, _ in ends] == [EventKind.PEER_DOWN, EventKind.PEER_UP]
        assert ends[0][1] == ends[1][1]
        assert not [event for event in events if event.kind is EventKind.REFUSED]
    [artifact] = await bench.inject("node-0", b"over the new connection")
    assert await bench.until_held("node-1", artifact) == b"over the new connection"


async def test_a_peer_whose_authority_left_the_bundle_is_cut(bench: Bench, node: Service) -> None:
    subnet, folder = bench.subnet, bench.subnet.folder / "node-0" / "identity"
    new = Authority.create("next", now=subnet.now, ttl=timedelta(days=1))
    both = subnet.authority.certificate_pem + new.certificate_pem
    leaf = new.issue(subnet.uri("node-0"), now=subnet.now, ttl=timedelta(hours=1))
    connection = await bench.dial("node-0", subnet.identity(subnet.uri("node-1")))
    # first both are trusted, then the former no longer
    Identity(leaf.chain_pem, leaf.key_pem, both).write(folder)

    async def trusts(count: int) -> bool:
        return len(node.state().trusted) == count

    await until(lambda: trusts(2), "both authorities are trusted")
    assert not connection.closed
    Identity(leaf.chain_pem, leaf.key_pem, new.certificate_pem).write(folder)
    await until(lambda: trusts(1), "the former authority is out")

    async def cut() -> bool:
        return connection.closed

    await until(cut, "the connection is closed")
    assert connection.close_reason is not None
    assert connection.close_reason.code == CloseCode.REFUSED
