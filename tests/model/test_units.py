"""Quantities are read with their units, or refused; and are shown to people shortly."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model import units
from p2pnet.model.errors import SpecError

PARSERS = [units.parse_duration, units.parse_size, units.parse_bandwidth, units.parse_rate, units.parse_share]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90ms", 0.09),
        ("30s", 30),
        ("10m", 600),
        ("2h", 7200),
        ("7d", 604_800),
        ("1.5s", 1.5),
        ("250us", 0.00025),
        ("0ms", 0),
    ],
)
def test_a_duration_is_in_seconds(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 65_536), ("128Mi", 128 << 20), ("1MB", 1_000_000), ("1.5KiB", 1536), ("7B", 7), ("2GiB", 2 << 30)],
)
def test_a_size_is_in_whole_bytes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["0.3B", "0.1KiB", "1.00000000000000000000000000001B"])
def test_a_fraction_of_a_byte_however_small_is_no_size(text: str) -> None:
    with pytest.raises(SpecError, match="whole number of bytes"):
        units.parse_size(text)


@pytest.mark.parametrize(("text", "rate"), [("2/s", 2.0), ("30/m", 0.5), ("3600/h", 1.0)])
def test_a_rate_is_per_second(text: str, rate: float) -> None:
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize(("text", "share"), [("0.2%", 0.002), ("100%", 1.0), ("0%", 0.0)])
def test_a_share_is_between_nothing_and_all(text: str, share: float) -> None:
    assert units.parse_share(text) == share


def test_a_bandwidth_is_in_bits_per_second() -> None:
    assert units.parse_bandwidth("50Mbit") == 50_000_000


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("text", ["", "5", "ms", "-5ms", "5 parsecs", "1e3ms", "٣ms", "5ms5ms", "nan%", "101%", "0/s"])
def test_a_number_without_its_unit_is_refused(parse: Callable[[str], float], text: str) -> None:
    with pytest.raises(SpecError):
        parse(text)


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text(max_size=20))
def test_any_text_is_a_quantity_or_a_spec_error(parse: Callable[[str], float], text: str) -> None:
    try:
        value = parse(text)
    except SpecError:
        return
    assert value >= 0


@given(st.integers(0, 10**6), st.sampled_from([("ms", 1e-3), ("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)]))
def test_a_duration_is_its_number_times_its_unit(number: int, unit: tuple[str, float]) -> None:
    assert units.parse_duration(f"{number}{unit[0]}") == pytest.approx(number * unit[1])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00085, "850 µs"), (0.0123, "12.3 ms"), (4.5, "4.5 s"),
     (200, "3m 20s"), (7500, "2h 5m"), (529_200, "6d 3h"), (-1, "-1 s")],
)  # fmt: skip
def test_a_duration_is_shown_with_two_or_three_digits(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(12, "12 B"), (65_536, "64 KiB"), (1_572_864, "1.5 MiB"), (1023 * 1024, "1023 KiB")]
)
def test_a_size_is_shown_in_binary_units(size: int, text: str) -> None:
    assert units.format_size(size) == text
