"""The shapes of a network are within their bounds and travel."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netem.traffic import patient

from p2pnet.model.errors import SpecError
from p2pnet.model.network import CLEAR, AccessShape, LinkShape, NodeNetwork, jitter_max_ns


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delay_ns", -1), ("delay_ns", 3_600_000_000_001), ("jitter_ns", -1), ("loss", 1.1), ("loss", -0.1),
        ("loss", float("nan")), ("loss_burst", 0.5), ("loss_burst", 1_001), ("duplication", 2), ("reorder", float("nan")),
        ("bandwidth_bps", 0), ("bandwidth_bps", 999), ("bandwidth_bps", float("inf")), ("queue_bytes", -1), ("mtu", 1_279),
        ("mtu", 65_536),
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_named(field: str, value: float) -> None:
    with pytest.raises(SpecError, match=f"link {field}"):
        LinkShape(**{field: value})


@pytest.mark.parametrize(("field", "value"), [("bandwidth_bps", 0), ("queue_bytes", -1)])
def test_an_access_links_value_out_of_bounds_is_named(field: str, value: float) -> None:
    with pytest.raises(SpecError, match=f"access link {field}"):
        AccessShape(**({"bandwidth_bps": 1e6} | {field: value}))


networks = st.builds(
    NodeNetwork,
    version=st.integers(0, 1 << 40),
    shapes=st.lists(
        st.builds(
            LinkShape,
            delay_ns=st.integers(0, 1 << 40),
            loss=st.floats(0, 1),
            mtu=st.none() | st.integers(1_280, 65_535),
            queue_kind=st.sampled_from(["droptail", "codel"]),
        ),
        min_size=3,
        max_size=3,
    ),
    paths=st.dictionaries(st.text(), st.integers(0, 2), max_size=3),
    up=st.none() | st.builds(AccessShape, bandwidth_bps=st.floats(1e3, 1e9)),
)


@patient
@given(networks)
def test_a_network_survives_the_wire(network: NodeNetwork) -> None:
    for codec in (msgspec.msgpack, msgspec.json):
        assert codec.decode(codec.encode(network), type=NodeNetwork) == network


def test_a_peer_that_is_not_named_has_a_clear_path() -> None:
    network = NodeNetwork(shapes=[LinkShape(loss=0.1), LinkShape(loss=0.2)], paths={"b": 1})
    assert network.shape("b").loss == 0.2
    assert network.shape("c") is CLEAR


@pytest.mark.parametrize(
    ("shape", "clear"),
    [
        (LinkShape(), True), (LinkShape(queue_bytes=9, loss_burst=3, keep_order=False), True),
        (LinkShape(delay_ns=1), False), (LinkShape(mtu=1_400), False), (LinkShape(blocked=True), False),
        (LinkShape(bandwidth_bps=1e9), False), (LinkShape(duplication=0.1), False), (LinkShape(reorder=0.1), False),
    ],
)  # fmt: skip
def test_a_shape_is_clear_if_packets_pass_as_without_it(shape: LinkShape, clear: bool) -> None:
    assert shape.clear == clear


@pytest.mark.parametrize(
    ("kind", "keep_order", "share"),
    [("normal", True, 0.4714), ("uniform", True, 0.8165), ("normal", False, 0.5774), ("uniform", False, 1.0)],
)
def test_a_delay_carries_so_much_jitter(kind: str, keep_order: bool, share: float) -> None:
    most = jitter_max_ns(1_000_000, kind, keep_order)
    assert most == pytest.approx(share * 1_000_000, abs=100)
    assert jitter_max_ns(0, kind, keep_order) == 0
    std = LinkShape(delay_ns=1_000_000, jitter_ns=999_999, jitter_kind=kind, keep_order=keep_order).jitter_std_ns
    assert std == pytest.approx(1_000_000 / math.sqrt(3) / (math.sqrt(1.5) if keep_order else 1), rel=1e-5)
