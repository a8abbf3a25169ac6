"""A shape is within its bounds, travels, and adds up with others."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.errors import SpecError
from p2pnet.netem import CLEAR, LinkShape, combined

simple = st.builds(
    LinkShape,
    delay_s=st.integers(0, 10).map(float),
    loss=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    bandwidth_bps=st.sampled_from([None, 1e6, 1e7]),
    queue_bytes=st.sampled_from([1_000, 2_000]),
    blocked=st.booleans(),
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delay_s", -1), ("delay_s", 4_000), ("delay_s", float("nan")), ("jitter_s", -0.1), ("loss", 1.1), ("loss", -0.1),
        ("duplication", 2), ("reorder", float("nan")), ("bandwidth_bps", 0), ("bandwidth_bps", float("inf")),
        ("queue_bytes", -1),
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_named(field: str, value: float) -> None:
    with pytest.raises(SpecError, match=field):
        LinkShape(**{field: value})


@given(simple)
def test_a_shape_survives_the_wire(shape: LinkShape) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(shape), type=LinkShape) == shape


def test_nothing_combined_is_clear() -> None:
    assert combined([]) == CLEAR
    assert combined([CLEAR, CLEAR]).clear


@given(st.lists(simple, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_orders_does_not_matter(shapes: list[LinkShape], random: object) -> None:
    shuffled = list(shapes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert combined(shapes) == combined(shuffled)


@given(simple, simple)
def test_two_orders_are_at_least_as_hard_as_each(one: LinkShape, other: LinkShape) -> None:
    both = combined([one, other])
    assert both.delay_s == one.delay_s + other.delay_s
    assert both.loss >= max(one.loss, other.loss)
    assert both.blocked == (one.blocked or other.blocked)
    narrow = [bandwidth for bandwidth in (one.bandwidth_bps, other.bandwidth_bps) if bandwidth]
    assert both.bandwidth_bps == (min(narrow) if narrow else None)
