"""A document becomes a world: its clients, settings and topology are those of live nodes."""

import pytest
from tests.sim.documents import arrivals_ms, load, subnet

from p2pnet.model.errors import SpecError
from p2pnet.model.events import EventKind
from p2pnet.sim import World
from p2pnet.sim.simulate import simulate
from p2pnet.sim.subnet_world import subnet_world
from p2pnet.subnet.members import edges_of

STAMPED = {"name": "stamped", "class": "tests.sim.stamped_client:Stamped", "settings": {"most": 1000}}


def test_a_users_client_runs_unchanged_with_its_settings_and_its_nodes_name() -> None:
    asked = subnet(nodes=4, clients=[{"name": "blob"}, STAMPED])
    small = simulate(asked, load(500, client="stamped"), seed=1)
    assert small.report.verdict == "pass"
    assert small.report.client == "stamped"
    assert {event.client for event in small.events} == {"stamped"}
    large = simulate(asked, load(2000, client="stamped", within_s=5.0), seed=1)
    assert set(arrivals_ms(large)) == {"node-1"}  # whose bouncer takes all


def test_a_client_that_cannot_be_made_is_refused_with_its_place() -> None:
    broken = {**STAMPED, "settings": {"most": 0}}
    with pytest.raises(SpecError, match=r"spec\.clients\[1\]\.settings: most 0: at least 1 byte"):
        simulate(subnet(nodes=2, clients=[{"name": "blob"}, broken]), load(client="stamped"), seed=1)
    missing = {"name": "other", "class": "tests.sim.stamped_client:Missing"}
    with pytest.raises(SpecError, match=r"spec\.clients\[0\]\.class: .* has no class Missing"):
        simulate(subnet(nodes=2, clients=[missing]), load(), seed=1)


def test_a_client_that_acts_by_itself_shares_the_access_links_of_its_nodes() -> None:
    """What it says costs bandwidth, and a blob waits for it."""
    chatty = {"name": "chatty", "class": "tests.sim.stamped_client:Chatty"}
    thin = {"nodes": 4, "network": {"access": {"up": "2Mbit"}}}
    alone = simulate(subnet(**thin), load(20_000, count=5, rate_per_s=1.0), seed=1)
    beside = simulate(subnet(**thin, clients=[{"name": "blob"}, chatty]), load(20_000, count=5, rate_per_s=1.0), seed=1)
    assert beside.report.verdict == alone.report.verdict == "pass"
    assert beside.report.latency_ms.max > alone.report.latency_ms.max
    assert beside.report.bytes.sent > 2 * alone.report.bytes.sent
    assert {event.client for event in beside.events} == {"blob"}
    assert "bytes sent are those of all clients (blob, chatty)" in beside.report.notes


@pytest.mark.parametrize("access", [{"up": "100Mbit"}, {"down": "100Mbit"}, {}], ids=str)
def test_nodes_deal_out_what_is_large_where_their_uplink_has_a_limit(access: dict[str, str]) -> None:
    asked = subnet(nodes=5, clients=[{"name": "blob"}, STAMPED], network={"access": access} if access else {})
    world, *_ = subnet_world(asked, seed=1, client="blob", on_event=lambda *_: None)
    world.run("2s")
    node = world.nodes["node-1"]
    node.publish(bytes(300_000))
    scattered = [node.counters.get("scattered", 0)]
    node.restart()
    world.run("5s")
    node.publish(bytes(400_000))
    scattered.append(node.counters.get("scattered", 0))
    assert scattered == ([1, 1] if "up" in access else [0, 0])


def test_what_hits_a_node_hits_all_of_its_clients() -> None:
    chatty = {"name": "chatty", "class": "tests.sim.stamped_client:Chatty"}
    kill = {"name": "gone", "from": "node-1", "kill": True, "for": "1h"}
    asked = subnet(nodes=3, clients=[{"name": "blob"}, chatty], faults=[kill])
    world, _, faults, _ = subnet_world(asked, seed=1, client="blob", on_event=lambda *_: None)
    world.run(0)
    faults.begin(0.0)
    assert [name for name, node in world.nodes.items() if not node.is_up] == ["node-1", "node-1 chatty"]


def test_whoever_takes_the_events_of_a_world_takes_them_from_its_records() -> None:
    taken: list[tuple[str, int, EventKind, int]] = []
    world = World(1, on_event=lambda node, start, event, now: taken.append((node, start, event.kind, now)))
    a, b = world.node("a"), world.node("b")
    world.link("a", "b", delay="10ms")
    artifact = a.publish(b"x")
    world.settle()
    assert ("a", 1, EventKind.PUBLISHED, 0) in taken
    assert ("b", 1, EventKind.VALIDATED, 10_000_000) in taken
    assert (list(a.events), list(b.events), world.delivered(artifact), world.broken()) == ([], [], {}, [])


def test_without_a_client_asked_for_blob_publishes_wherever_it_stands() -> None:
    assert simulate(subnet(nodes=2, clients=[STAMPED, {"name": "blob"}]), load(), seed=1).report.client == "blob"


@pytest.mark.parametrize(
    "topology",
    [
        {"kind": "full"},
        {"kind": "random-regular", "degree": 4},
        {"kind": "ring", "degree": 2},
        {"kind": "small-world", "degree": 4},
        {"kind": "edges", "edges": [[f"node-{index}", f"node-{index + 1}"] for index in range(11)]},
    ],
)
def test_links_are_those_of_the_topology_that_live_nodes_have(topology: dict[str, object]) -> None:
    asked = subnet(nodes=12, topology=topology, seed=5)
    world, _, _, _ = subnet_world(asked, seed=99, client="blob", on_event=lambda *_: None)
    edges = edges_of(asked)
    found = {frozenset(link) for link in world.links()}
    assert found == ({frozenset(edge) for edge in edges} if edges is not None else found)
    assert len(found) == (66 if edges is None else len(edges))


def test_the_seed_of_the_run_changes_no_link() -> None:
    asked = subnet(nodes=30, topology={"kind": "random-regular", "degree": 4})
    one, other = (subnet_world(asked, seed=seed, client="blob", on_event=lambda *_: None)[0].links() for seed in (1, 2))
    assert one == other


def test_settings_of_the_broadcast_are_in_force() -> None:
    expiring = subnet(nodes=3, broadcast={"keep": "5s", "pushBelow": 0})
    outcome = simulate(expiring, load(count=3, rate_per_s=0.1), seed=1)
    removed = [event for event in outcome.events if event.kind is EventKind.REMOVED]
    assert {event.detail for event in removed} == {"expired"}
    assert [round(event.t_ns / 1e9) for event in removed if event.node == "node-0"] == [5, 15]
    assert any(event.kind is EventKind.ADVERTISED for event in outcome.events)  # nothing is pushed


def test_what_is_larger_than_the_document_allows_is_refused_as_by_a_lab() -> None:
    report = simulate(subnet(nodes=3, broadcast={"artifactBytesMax": "1KiB"}), load(2000), seed=1).report
    assert report.verdict == "invalid"
    [why] = [why for why in report.invalid if "published" in why and "node-0" in why]
    assert (
        why
        == "not everything could be published: node-0 refused x: too-large: 2000 bytes: an artifact has at most 1024"
    )


def test_more_artifacts_than_slots_make_a_run_invalid_that_names_the_refusal() -> None:
    report = simulate(subnet(nodes=2, broadcast={"slotsPerPeer": 1}), load(count=1100, within_s=1.0), seed=1).report
    assert report.verdict == "invalid"
    assert report.invalid[0].startswith("not everything could be published: node-0 refused x: no-slot: ")
