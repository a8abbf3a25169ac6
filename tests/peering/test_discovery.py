from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.peering.recordkit import BUNDLE, NOW, record

from p2pnet.model.errors import SpecError
from p2pnet.model.ids import member_uri
from p2pnet.model.registry import Member, Membership, Registry, Removed
from p2pnet.model.text import parse_address
from p2pnet.peering.discovery import RecordDirectory, RegistryDirectory, read_membership

SCOPE = ("p2pnet", "local", "demo")


def uri(name: str) -> str:
    return member_uri(*SCOPE, name)


def membership(
    version: int, names: list[str], removed: Sequence[str] = (), edges: list[tuple[str, str]] | None = None
) -> Membership:
    members = [Member(name, uri(name), [f"127.0.0.1:{4100 + i}"]) for i, name in enumerate(names)]
    return Membership(Registry(version, members, [Removed(uri(name), version) for name in removed]), edges)


def table(*memberships: Membership, name: str = "node-0") -> RegistryDirectory:
    made = RegistryDirectory(name, *SCOPE)
    for one in memberships:
        made.offer(one)
    return made


NAMES = st.sampled_from([f"node-{i}" for i in range(6)])
MEMBERSHIPS = st.builds(
    membership,
    version=st.integers(1, 8),
    names=st.lists(NAMES, unique=True),
    removed=st.lists(NAMES, unique=True),
)


@given(st.lists(MEMBERSHIPS, max_size=12))
def test_whatever_the_order_the_newest_version_is_in_force(offers: list[Membership]) -> None:
    registry = table()
    for offer in offers:
        before = registry.version
        assert registry.offer(offer) == (offer.registry.version > before)
        assert registry.version == max(before, offer.registry.version)


@given(st.lists(MEMBERSHIPS, min_size=1, max_size=12), NAMES)
def test_only_a_newer_listing_ends_a_removal(offers: list[Membership], name: str) -> None:
    registry = table(*offers, name="node-9")
    newest = registry.membership.registry
    listed = any(member.name == name for member in newest.members)
    removed = any(entry.uri == uri(name) for entry in newest.removed)
    assert (registry.refusal(uri(name)) is not None) == (removed and not listed)


def test_a_valid_leaf_the_registry_does_not_know_is_admitted() -> None:
    assert table(membership(3, ["node-0", "node-1"])).refusal(uri("node-77")) is None


def test_a_removed_node_is_refused_until_a_newer_version_lists_it_again() -> None:
    registry = table(membership(1, ["node-0", "node-1"]), membership(2, ["node-0"], ["node-1"]))
    assert registry.refusal(uri("node-1")) is not None
    assert not registry.offer(membership(1, ["node-0", "node-1"]))
    assert registry.refusal(uri("node-1")) is not None
    assert registry.offer(membership(3, ["node-0", "node-1"]))
    assert registry.refusal(uri("node-1")) is None


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "spiffe://p2pnet/ns/local/subnet/demo/lab",
        "spiffe://p2pnet/ns/local/subnet/other/node/node-1",
        "spiffe://p2pnet/ns/other/subnet/demo/node/node-1",
        "spiffe://else/ns/local/subnet/demo/node/node-1",
        "spiffe://p2pnet/ns/local/subnet/demo/node/",
        "spiffe://p2pnet/ns/local/subnet/demo/node/node-1/x",
        "spiffe://p2pnet/ns/local/subnet/demo/node/node-0",
    ],
)
def test_foreigners_the_lab_and_oneself_are_no_peers(foreign: str) -> None:
    assert table(membership(1, ["node-0", "node-1"])).refusal(foreign) is not None


def test_a_name_with_another_registered_uri_is_refused() -> None:
    odd = Membership(Registry(1, [Member("node-1", "spiffe://p2pnet/ns/local/subnet/demo/node/node-2")]))
    assert table(odd).refusal(uri("node-1")) is not None


def test_a_full_mesh_takes_everyone_admitted_and_wants_all_members() -> None:
    registry = table(membership(1, ["node-0", "node-1", "node-2"]))
    assert registry.wanted == ["node-1", "node-2"]
    assert registry.wants("node-44", 0)


def test_a_sparse_topology_takes_its_edges_and_those_who_know_a_newer_one() -> None:
    registry = table(membership(2, ["node-0", "node-1", "node-2"], edges=[("node-0", "node-2"), ("node-1", "node-2")]))
    assert registry.wanted == ["node-2"]
    assert registry.wants("node-2", 1)
    assert not registry.wants("node-1", 2)
    assert registry.wants("node-1", 3)


def test_a_node_that_was_removed_itself_wants_nobody() -> None:
    assert table(membership(2, ["node-1", "node-2"], ["node-0"])).wanted == []


def test_addresses_that_are_none_are_left_out() -> None:
    member = Member("node-1", uri("node-1"), ["127.0.0.1:4100", "nonsense", "[::1]:4101", "host:0", "host:99999", ":1"])
    registry = table(Membership(Registry(1, [member])))
    assert registry.addresses("node-1") == [("127.0.0.1", 4100), ("::1", 4101)]
    assert registry.addresses("node-5") == []
    assert parse_address("host:x") is None


def test_a_boot_copy_is_read_and_a_broken_one_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "members.json"
    path.write_bytes(msgspec.json.encode(membership(4, ["node-0"])))
    assert read_membership(path).registry.version == 4
    path.write_text('{"registry": {"version": "x"}}')
    with pytest.raises(SpecError, match=r"members\.json"):
        read_membership(path)
    with pytest.raises(SpecError, match=r"absent\.json"):
        read_membership(tmp_path / "absent.json")


def member_list(*, members: list[str] | None = None, removed: list[str] | None = None, version: int = 1) -> Membership:
    listed = [Member(name, uri(name), ["10.9.9.9:4100"]) for name in members or []]
    return Membership(Registry(version, listed, [Removed(uri(name), version) for name in removed or []]))


def test_a_member_list_gives_no_members_no_addresses_and_no_edges() -> None:
    known = RecordDirectory("node-0", *SCOPE)
    assert known.offer(Membership(member_list(members=["node-1", "node-2"]).registry, edges=[("node-1", "node-2")]))
    assert not known.offer(member_list(members=["node-1", "node-2"]))
    assert known.wanted == []
    assert known.members == frozenset({"node-0"})
    assert known.version == 1
    assert (known.addresses("node-1"), known.uri_of("node-1")) == ([], None)
    assert known.refusal(uri("node-1")) is None
    assert known.wants("node-1", 0)


def test_whose_record_is_in_force_is_wanted_at_its_own_addresses() -> None:
    known = RecordDirectory("node-0", *SCOPE)
    for name in ("node-5", "node-1"):
        known.records.offer(record(name, 5), BUNDLE, now=NOW)
    known.refresh()
    assert known.wanted == ["node-1", "node-5"]
    assert known.members == {"node-0", "node-1", "node-5"}
    assert (known.addresses("node-5"), known.uri_of("node-5")) == ([("10.0.0.5", 4100)], uri("node-5"))


def test_whom_the_list_removes_is_dropped_and_refused_until_a_newer_one_ends_it() -> None:
    known = RecordDirectory("node-0", *SCOPE)
    known.records.offer(record("node-1"), BUNDLE, now=NOW)
    known.refresh()
    known.offer(member_list(removed=["node-1"], version=2))
    assert known.wanted == []
    assert known.refusal(uri("node-1")) is not None
    assert known.records.offer(record("node-1", 1), BUNDLE, now=NOW) == ""
    assert not known.offer(member_list(version=1))
    known.offer(member_list(members=["node-1"], removed=["node-1"], version=3))
    assert known.refusal(uri("node-1")) is None
    assert known.records.offer(record("node-1", 2), BUNDLE, now=NOW) == "node-1"


def test_under_records_a_node_that_was_removed_itself_wants_nobody() -> None:
    known = RecordDirectory("node-0", *SCOPE)
    known.records.offer(record("node-1"), BUNDLE, now=NOW)
    known.offer(member_list(removed=["node-0"]))
    assert known.wanted == []
    assert not known.wants("node-1", 1)
