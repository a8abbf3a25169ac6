"""Secrets' data and moments are read from objects whatever others have written into them."""

from tests.operator.kit import NOW

from p2pnet.operator.kube.api import (
    BUDGET,
    POD,
    decoded,
    earliest,
    encoded,
    parse_time,
)


def test_base64_that_is_none_counts_as_missing() -> None:
    assert decoded({"data": {"a": "%%%", **encoded({"b": b"x"})}}) == {"b": b"x"}


def test_moments_that_are_none_are_none() -> None:
    assert parse_time("2030-01-01T12:00:00Z") == NOW
    assert parse_time("soon") is None
    assert parse_time("0001-01-01T00:00:00+14:00") is None
    assert parse_time("9999-12-31T23:59:59-14:00") is None
    assert parse_time(None) is None
    assert earliest(None, NOW, None) == NOW


def test_paths_follow_the_group_and_the_namespace() -> None:
    assert BUDGET.path("ns", "x") == "/apis/policy/v1/namespaces/ns/poddisruptionbudgets/x"
    assert POD.path("ns", "x", "status") == "/api/v1/namespaces/ns/pods/x/status"
    assert POD.path() == "/api/v1/pods"
