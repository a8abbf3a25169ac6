"""Several shapes of one path add up."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from tests.netem.traffic import patient

from p2pnet.netem import CLEAR, LinkShape, combined

simple = st.builds(
    LinkShape,
    delay_ns=st.integers(0, 10_000_000_000),
    jitter_ns=st.sampled_from([0, 1_000, 2_000_000]),
    jitter_kind=st.sampled_from(["normal", "uniform"]),
    keep_order=st.booleans(),
    loss=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    loss_burst=st.sampled_from([1.0, 4.0]),
    bandwidth_bps=st.sampled_from([None, 1e6, 1e7]),
    queue_bytes=st.sampled_from([1_000, 2_000]),
    queue_kind=st.sampled_from(["droptail", "codel"]),
    mtu=st.sampled_from([None, 1_400, 1_500]),
    blocked=st.booleans(),
)


def test_nothing_combined_is_clear() -> None:
    assert combined([]) == CLEAR
    assert combined([CLEAR, CLEAR]).clear


@patient
@given(st.lists(simple, max_size=5), st.integers())
def test_the_order_of_shapes_does_not_matter(shapes: list[LinkShape], seed: int) -> None:
    shuffled = list(shapes)
    Random(seed).shuffle(shuffled)
    assert combined(shapes) == combined(shuffled)


@patient
@given(simple)
def test_a_shape_alone_stays_what_it_is(shape: LinkShape) -> None:
    assert combined([shape]) == shape


@patient
@given(simple, simple)
def test_two_shapes_are_at_least_as_hard_as_each(one: LinkShape, other: LinkShape) -> None:
    both = combined([one, other])
    assert both.delay_ns == one.delay_ns + other.delay_ns
    assert both.loss >= max(one.loss, other.loss)
    assert both.loss_burst == max(one.loss_burst, other.loss_burst)
    assert both.blocked == (one.blocked or other.blocked)
    assert both.keep_order == (one.keep_order and other.keep_order)
    for field in ("bandwidth_bps", "mtu"):
        asked = [value for shape in (one, other) if (value := getattr(shape, field)) is not None]
        assert getattr(both, field) == min(asked, default=None)


def test_jitters_add_up_as_variances_do_whatever_their_kinds() -> None:
    normal, uniform = LinkShape(jitter_ns=4_000), LinkShape(jitter_ns=5_196, jitter_kind="uniform")  # deviates by 3,000
    assert combined([normal, uniform]) == LinkShape(jitter_ns=5_000)
    wider = LinkShape(jitter_ns=8_660, jitter_kind="uniform")  # 5,000
    assert combined([LinkShape(jitter_ns=1), wider]) == wider


def test_the_narrowest_bandwidth_brings_its_queue() -> None:
    wide = LinkShape(bandwidth_bps=1e7, queue_bytes=10, queue_kind="codel")
    narrow = LinkShape(bandwidth_bps=1e6, queue_bytes=99)
    assert combined([wide, narrow, CLEAR]) == narrow
