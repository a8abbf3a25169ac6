"""The bench of blocks: its cells are documents, and a row has the figures of its run."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.bench.blocks import NODES, WAYS, Cell, document_of, lines, measure

from p2pnet.subnet.document import load_subnet


@pytest.mark.parametrize("network", NODES)
def test_a_cell_is_a_full_mesh_under_a_preset(network: str) -> None:
    subnet = load_subnet(document_of(Cell(network, "1MiB", "advert"), access="1Gbit"))

    assert (subnet.node_count, subnet.spec.network.preset) == (NODES[network], network)


def test_a_row_has_the_figures_of_its_run() -> None:
    cell = Cell("ic-lhg73", "2KiB", "push")
    report = measure(cell, seconds=2, access="1Gbit", seed=3)
    _, _, row, *_ = lines([cell], seconds=2, access="1Gbit", seed=3)

    assert report.reach.ratio == 1.0
    assert report.hops.max == 1
    assert report.bytes.ratio is not None
    assert [part.strip() for part in row.split("|")][1:4] == ["ic-lhg73, 13", "2KiB", "push"]
    assert f"{report.bytes.ratio:.3f}" in row
    assert (report.digest or "")[:12] in row


def test_a_push_costs_nothing_twice_and_an_advert_asks_first() -> None:
    push, advert = (
        measure(Cell("ic-lhg73", "2KiB", way), seconds=2, access="1Gbit", seed=3) for way in ("push", "advert")
    )

    assert push.duplicates_per_delivery == 0
    assert push.latency_ms.p50 is not None
    assert advert.latency_ms.p50 is not None
    assert push.latency_ms.p50 < advert.latency_ms.p50


def test_there_are_four_ways() -> None:
    assert list(WAYS) == ["push", "advert", "auto", "scatter"]
