"""Names and URIs say exactly who is meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model import ids
from p2pnet.model.errors import SpecError

names = st.from_regex(ids.SUBNET_NAME, fullmatch=True)
groups = st.from_regex(ids.GROUP_NAME, fullmatch=True)


def test_a_members_uri_names_trust_domain_namespace_subnet_and_node() -> None:
    uri = ids.member_uri("p2pnet", "local", "demo", "node-0")
    assert uri == "spiffe://p2pnet/ns/local/subnet/demo/node/node-0"
    assert ids.lab_uri("p2pnet", "local", "demo") == "spiffe://p2pnet/ns/local/subnet/demo/lab"


@given(names, names, groups, st.integers(0, 500))
def test_a_node_is_found_in_its_own_uri_and_in_no_other(subnet: str, other: str, group: str, index: int) -> None:
    node = ids.member_name(group, index)
    uri = ids.member_uri("p2pnet", "local", subnet, node)
    assert ids.node_of_uri(uri, "p2pnet", "local", subnet) == node
    assert (ids.node_of_uri(uri, "p2pnet", "local", other) == node) == (subnet == other)
    assert ids.node_of_uri(uri, "elsewhere", "local", subnet) is None
    assert ids.node_of_uri(uri, "p2pnet", "other", subnet) is None


@pytest.mark.parametrize("tail", ["", "node-0/lab", "/node-0"])
def test_a_uri_with_more_or_less_than_a_node_names_none(tail: str) -> None:
    uri = ids.member_uri("p2pnet", "local", "demo", tail)
    assert ids.node_of_uri(uri, "p2pnet", "local", "demo") is None


def test_the_lab_is_no_node() -> None:
    assert ids.node_of_uri(ids.lab_uri("p2pnet", "local", "demo"), "p2pnet", "local", "demo") is None


def test_node_10_follows_node_9() -> None:
    members = ["node-10", "next-2", "node-9", "lone"]
    assert sorted(members, key=ids.member_order) == ["lone", "next-2", "node-9", "node-10"]


@pytest.mark.parametrize("name", ["demo", "a", "a-1", "a" * 40])
def test_a_good_subnet_name_is_itself(name: str) -> None:
    assert ids.check_subnet_name(name) == name


@pytest.mark.parametrize("name", ["", "1a", "-a", "a-", "A", "a_b", "a.b", "a" * 41, "a\n", "ä"])
def test_a_bad_subnet_name_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(SpecError, match="at most 40 characters"):
        ids.check_subnet_name(name)
