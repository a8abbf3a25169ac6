"""The local backend: what it provisions, when it renews, what it does with a supervisor of its own."""

from datetime import UTC, datetime, timedelta

import pytest

from p2pnet.lab.backends import local
from p2pnet.lab.backends.local import LocalBackend
from p2pnet.model.config import read_node_config
from p2pnet.model.errors import TrustError
from p2pnet.subnet.document import load_subnet
from p2pnet.trust import Bundle, Identity, verify

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


def subnet(**spec):
    return load_subnet(
        {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}
    )


@pytest.fixture
def paths(state):
    return state.subnet("demo").make()


def test_an_authority_is_kept_in_private_until_it_nears_its_end(paths):
    first = local.open_authority(paths, NOW)
    assert local.open_authority(paths, NOW).fingerprint == first.fingerprint
    assert paths.authority.stat().st_mode & 0o777 == 0o700
    assert (paths.authority / "ca.key").stat().st_mode & 0o777 == 0o600
    later = first.not_after - timedelta(days=1)
    assert local.open_authority(paths, later).fingerprint != first.fingerprint


def test_a_leaf_names_its_node_and_is_accepted_under_the_bundle(paths):
    authority, folder = local.open_authority(paths, NOW), paths.node("node-0").identity
    local.issue(authority, local.uri_of(subnet(), "node-0"), folder, now=NOW, ttl_s=3600)
    identity = Identity.read(folder)
    peer = verify(identity.chain_der, Bundle.from_pem(authority.certificate_pem), now=NOW)
    assert peer.uri == "spiffe://p2pnet/ns/local/subnet/demo/node/node-0"
    assert peer.not_after == NOW + timedelta(hours=1)


def test_a_member_list_grows_by_versions_and_remembers_who_was_removed():
    ports = {f"node-{i}": 4000 + i for i in range(5)}
    first = local.membership_of(subnet(nodes=5), ports, None)
    second = local.membership_of(subnet(nodes=3), ports, first)
    third = local.membership_of(subnet(nodes=4), ports, second)
    assert [one.registry.version for one in (first, second, third)] == [1, 2, 3]
    assert [one.uri[-6:] for one in second.registry.removed] == ["node-3", "node-4"]
    assert [(one.uri[-6:], one.version) for one in third.registry.removed] == [("node-4", 2)]
    assert first.edges is None
    assert first.registry.members[0].addresses == ["127.0.0.1:4000"]


def test_sparse_topologies_come_as_edges():
    ports = {f"node-{i}": 4000 + i for i in range(6)}
    membership = local.membership_of(subnet(nodes=6, topology={"kind": "ring"}), ports, None)
    assert membership.edge_count() == 6
    assert len(membership.wanted("node-0")) == 2


def test_a_node_config_says_what_the_document_says(paths):
    document = subnet(nodes=2, seed=7, broadcast={"pushBelow": 0, "keep": "1m"})
    config = read_node_config(local.write_config(document, paths, "node-1", "node", {"node-0": 1, "node-1": 2}))
    assert (config.name, config.subnet, config.seed, config.namespace) == ("node-1", "demo", 7, "local")
    assert (config.broadcast.push_below, config.broadcast.keep_s, config.broadcast.full_mesh) == (0, 60.0, True)


def test_under_discovery_by_seeds_the_first_nodes_are_everybodys_seeds(paths):
    ports = {f"node-{i}": 4000 + i for i in range(5)}
    seeds = {"discovery": {"mode": "seeds"}}
    for count, expected in ((5, [4000, 4001, 4002]), (2, [4000, 4001])):
        written = local.write_config(subnet(nodes=count, **seeds), paths, "node-1", "node", ports)
        config = read_node_config(written)
        assert (config.discovery, config.seeds) == ("seeds", [f"127.0.0.1:{port}" for port in expected])
    config = read_node_config(local.write_config(subnet(nodes=5), paths, "node-1", "node", ports))
    assert (config.discovery, config.seeds) == ("registry", [])


async def test_leaves_are_renewed_when_due_and_only_then(paths):
    backend = LocalBackend(paths, subnet(nodes=2, identity={"ttl": "15m", "renewBefore": "5m"}))
    await backend.open_authority(NOW)
    for node in backend.groups():
        await backend.issue_leaf(node, NOW)
    assert await backend.renew(NOW + timedelta(minutes=9)) == []
    assert backend.identity.version == 1
    assert await backend.renew(NOW + timedelta(minutes=11)) == ["node-0", "node-1"]
    assert backend.identity.version == 2
    assert backend.leaves()["node-0"] == NOW + timedelta(minutes=26)
    assert await backend.renew(NOW + timedelta(minutes=12)) == []
    assert await backend.renew(NOW + timedelta(minutes=12), everything=True) == ["node-0", "node-1"]


async def test_a_node_with_a_stale_certificate_is_given_a_leaf_that_has_ended_and_never_a_better_one(paths):
    backend = LocalBackend(
        paths, subnet(nodes=1, groups=[{"name": "old", "nodes": 1, "behaviour": "stale-certificate"}])
    )
    await backend.open_authority(NOW)
    for node in backend.groups():
        await backend.issue_leaf(node, NOW)
    assert backend.leaves()["old-0"] == NOW - local.STALE_FOR
    shown = Identity.read(paths.node("old-0").identity)
    with pytest.raises(TrustError, match="expired"):
        shown.verify(now=NOW)
    assert shown.verify(now=shown.not_after - timedelta(seconds=1)).uri.endswith("/node/old-0")
    assert await backend.renew(NOW + timedelta(hours=1)) == []
    assert set(await backend.renew(NOW, everything=True)) == {"node-0", "old-0"}
    assert backend.leaves()["old-0"] == NOW - local.STALE_FOR
