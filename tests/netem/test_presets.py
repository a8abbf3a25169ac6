"""Presets are what was measured: each path has the figures of its own pair, typed here by hand from the sources."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from random import Random

import pytest

from p2pnet import netem
from p2pnet.model.errors import SpecError
from p2pnet.model.network import jitter_max_ns
from p2pnet.netem import LinkShape
from p2pnet.netem.presets import PRESETS, Preset, preset

MS = 1_000_000
DATA = Path(netem.__file__).parent / "data"
EVERY = pytest.mark.parametrize("name", PRESETS)

# Rows of the sources: to each place, from the place they are named by.
LHG73_RTT_MS = {
    "0": "0,617.12,161.38,197.9,315.23,33.31,30.1,96.8,144.8,269.26,49.16,38.23,316.36",
    "1": "445.7,0,215.71,317.76,310.94,349.94,243.53,363.81,56.38,214.07,336.22,277.87,39.22",
    "6": "30.04,245.37,136.75,165.01,278.03,27.77,0,74.66,135.92,238.01,18.87,19.72,294.73",
    "12": "316.34,39.19,167.81,315.43,408.34,329.47,294.7,276.95,237.13,52.68,292.73,308.78,0",
}
LHG73_LOSS = {
    "0": "0,0.109967,0,0.000145,0.000175,0,0.000218,0.000028,0,0.000174,0.000420,0.000251,0.000175",
    "1": "0.464623,0,0,0.004377,0,0.003830,0.549909,0.130399,0,0.000351,0.000062,0.000030,0",
    "6": "0.003000,0.003387,0.003237,0.003335,0.003400,0.002598,0,0.003056,0.003529,0.002148,0.003550,0.003492,0.003374",
    "12": "0.000088,0,0,0,0.000240,0,0,0.000057,0,0,0,0.000029,0",
}
IO67_RTT_MS = {
    "0": "0,167.34,273.53,305.55,237.37,258.76,194.05,250.64,181.61,237.36,55.76,281.2,114.74",
    "7": "250.65,263.37,190.3,242.96,181.48,182.48,285.89,0,258.25,320.82,425.51,191.9,303.28",
    "10": "55.77,228.17,327.39,372.52,325.32,310.36,32.66,425.51,216.58,128.26,0,333.59,163.65",
    "12": "114.49,91.44,169.3,205.61,135.81,147.66,202.31,303.1,69.71,193.8,163.66,169.5,0",
}
AWS_RTT_P50_P90_MS = {
    ("af-south-1", "ap-east-1"): (347.6, 376.1), ("ap-east-1", "af-south-1"): (353.1, 377.8),
    ("us-east-1", "eu-west-1"): (69.6, 74.6), ("eu-west-1", "us-east-1"): (69.7, 72.8),
    ("us-west-2", "us-west-1"): (21.7, 23.6), ("eu-west-3", "ap-east-2"): (196.2, 248.1),
    ("ap-east-2", "eu-west-3"): (196.6, 247.8), ("mx-central-1", "us-west-2"): (93.1, 99.4),
    ("us-west-2", "mx-central-1"): (90.4, 93.4), ("sa-east-1", "ap-southeast-7"): (354.2, 367.7),
}  # fmt: skip


def typed(rows: dict[str, str]) -> dict[tuple[str, str], float]:
    """Place numbers -> figure, of rows typed above."""
    return {(source, str(to)): float(cell) for source, row in rows.items() for to, cell in enumerate(row.split(","))}


@pytest.mark.parametrize(("name", "rows"), [("ic-lhg73", LHG73_RTT_MS), ("ic-io67", IO67_RTT_MS)])
def test_each_path_of_the_internet_computer_has_half_the_round_trip_of_its_own_pair(
    name: str, rows: dict[str, str]
) -> None:
    figures = typed(rows)
    assert len(figures) == 4 * 13
    for (source, to), rtt_ms in figures.items():
        shape = preset(name).figures(source, to)
        assert (source, to, shape.delay_ns) == (source, to, round(rtt_ms / 2 * MS))
        assert shape.jitter_ns == 0


def test_each_path_of_lhg73_has_the_loss_of_its_own_pair_and_direction() -> None:
    for (source, to), loss in typed(LHG73_LOSS).items():
        assert (source, to, preset("ic-lhg73").figures(source, to).loss) == (source, to, loss)
    assert preset("ic-lhg73").figures("1", "0").loss == 0.464623
    assert preset("ic-lhg73").figures("0", "1").loss == 0.109967


@pytest.mark.parametrize(
    ("name", "column", "digest"),
    [
        ("ic-lhg73", "rtt_ms", "5d721c502816d7c595ec8f999128ce28"), ("ic-lhg73", "loss", "339aec3cf0842894dcea085e33272e75"),
        ("ic-io67", "rtt_ms", "57fdef9216b3ba75b430a9c29707e837"), ("aws", "rtt_p50_ms", "dc7672e8af58e0c108ed8f5ffc6fc294"),
        ("aws", "rtt_p90_ms", "a284b08c809dfbaf3e6ab49a864ee4ef"),
    ],
)  # fmt: skip
def test_the_data_are_the_matrices_of_the_sources_cell_by_cell(name: str, column: str, digest: str) -> None:
    """Digests of the matrices as published, a line per place from which, a figure per place to which."""
    assert matrix_digest(cells(name, column), preset(name).places) == digest


@pytest.mark.parametrize("name", PRESETS)
def test_every_path_has_the_figures_of_its_own_row_of_the_data(name: str) -> None:
    rtt = cells(name, "rtt_p50_ms" if name == "aws" else "rtt_ms")
    for pair, shape in preset(name).paths.items():
        assert (pair, shape.delay_ns) == (pair, round(float(rtt[pair]) / 2 * MS))
    if name == "ic-lhg73":
        assert {pair: shape.loss for pair, shape in preset(name).paths.items()} == {
            pair: float(loss) for pair, loss in cells(name, "loss").items()
        }


def cells(name: str, column: str) -> dict[tuple[str, str], str]:
    """A column of the data by pair, read without the code under test."""
    lines = [line for line in (DATA / f"{name}.csv").read_text().splitlines() if not line.startswith("#")]
    index = lines[0].split(",").index(column)
    rows = [line.split(",") for line in lines[1:]]
    return {(row[0], row[1]): row[index] for row in rows}


def matrix_digest(figures: dict[tuple[str, str], str], places: tuple[str, ...]) -> str:
    rows = ([f"{float(figures[source, to]):g}" for to in places] for source in places)
    return hashlib.sha256("\n".join(" ".join(row) for row in rows).encode()).hexdigest()[:32]


def test_a_digest_would_tell_a_matrix_that_is_shifted_or_turned_over() -> None:
    figures, places = cells("ic-io67", "rtt_ms"), preset("ic-io67").places
    flat = list(figures.values())
    shifted = dict(zip(figures, [*flat[1:], flat[0]], strict=True))
    turned = {(to, source): one for (source, to), one in figures.items()}
    assert len({matrix_digest(one, places) for one in (figures, shifted, turned)}) == 3


def test_an_index_that_is_off_by_a_row_or_the_other_way_round_would_be_seen() -> None:
    """The figures typed above tell a matrix from the same one with rows shifted or ends swapped."""
    paths, places = preset("ic-lhg73").paths, preset("ic-lhg73").places
    for moved in (
        lambda s, d: 12 * int(s) + int(d),
        lambda s, d: 13 * int(d) + int(s),
        lambda s, d: 13 * int(s) + int(d) + 1,
    ):
        cells = [paths[pair].delay_ns for pair in itertools.product(places, places)]
        wrong = [pair for pair, rtt in typed(LHG73_RTT_MS).items() if cells[moved(*pair) % 169] != round(rtt / 2 * MS)]
        assert len(wrong) > 20


def test_each_path_between_regions_has_half_the_median_and_a_jitter_from_the_90th_percentile() -> None:
    for (source, to), (p50_ms, p90_ms) in AWS_RTT_P50_P90_MS.items():
        shape = preset("aws").figures(source, to)
        assert shape.delay_ns == p50_ms / 2 * MS
        assert shape.jitter_ns / MS == pytest.approx((p90_ms - p50_ms) / 1.2816 / 2**0.5, rel=1e-4)
        assert (shape.jitter_kind, shape.loss) == ("normal", 0)


def test_two_round_trips_halves_make_up_the_90th_percentile_that_was_measured() -> None:
    there, back = preset("aws").figures("us-east-1", "eu-west-1"), preset("aws").figures("eu-west-1", "us-east-1")
    random = Random(1)
    trips = sorted(random.gauss(one.delay_ns, one.jitter_ns) + random.gauss(other.delay_ns, other.jitter_ns)
                   for one, other in [(there, back)] * 20_000)  # fmt: skip
    assert trips[18_000] / MS == pytest.approx((74.6 + 72.8) / 2, abs=0.5)


@EVERY
def test_a_preset_knows_every_pair_of_its_places_and_says_what_it_is_made_of(name: str) -> None:
    one = preset(name)
    assert set(one.paths) == set(itertools.product(one.places, one.places))
    assert len(one.places) == (33 if name == "aws" else 13)
    assert ("cloudping.co" if name == "aws" else "dfinity/ic") in one.facts
    for (source, to), shape in one.paths.items():
        assert (shape.delay_ns > 0) == (source != to or name == "aws")
        assert shape.jitter_ns <= jitter_max_ns(shape.delay_ns, shape.jitter_kind, shape.keep_order)
        assert shape == LinkShape(**{field: getattr(shape, field) for field in one.measured})
        assert (source, to) == (source, source) or shape != one.paths[source, source]


def test_two_nodes_at_one_place_have_the_path_of_the_place_to_itself() -> None:
    assert preset("aws").figures("af-south-1", "af-south-1").delay_ns == 2_250_000
    assert preset("ic-lhg73").figures("3", "3") == LinkShape()


def test_a_loss_above_the_most_allowed_is_cut_to_it_and_others_are_as_measured() -> None:
    lhg73 = preset("ic-lhg73")
    assert lhg73.figures("1", "6", loss_max=0.05) == LinkShape(delay_ns=121_765_000, loss=0.05)
    assert lhg73.figures("6", "1", loss_max=0.05) == lhg73.figures("6", "1")


@pytest.mark.parametrize("ends", [("mars", "eu-west-1"), ("eu-west-1", "mars")])
def test_an_unknown_place_is_named(ends: tuple[str, str]) -> None:
    with pytest.raises(SpecError, match="preset aws: no place mars; there are af-south-1, "):
        preset("aws").figures(*ends)


def test_an_unknown_preset_is_named_with_those_that_there_are() -> None:
    with pytest.raises(SpecError, match="preset moon: unknown; there are ic-lhg73, ic-io67, aws"):
        preset("moon")


def test_a_preset_is_read_once() -> None:
    assert isinstance(preset("aws"), Preset)
    assert preset("aws") is preset("aws")
