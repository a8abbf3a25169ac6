"""Makes `tests.node.kit` importable and hands out subnets on disk, labs and supervisors that end with the test."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.node.kit import Bench, SubnetDir
from tests.quic.conftest import World, until

from p2pnet.node.service import Service

__all__ = ["until"]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A subnet on disk with its lab; nodes and supervisors started through it are gone afterwards."""
    made = Bench(SubnetDir(tmp_path))
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def node(bench: Bench) -> AsyncIterator[Service]:
    """node-0, alone, in this process."""
    subnet = bench.subnet
    subnet.ports = {"node-0": 1, "node-1": 1}
    subnet.write_members(subnet.membership(1, ["node-0"]))
    subnet.ports = {"node-1": 1}
    service = await bench.serve("node-0")
    try:
        yield service
    finally:
        await service.stop()


@pytest.fixture
async def seam_world() -> AsyncIterator[World]:
    """Endpoints on loopback, closed afterwards."""
    made = World()
    yield made
    for endpoint in made.endpoints:
        endpoint.close()
        await endpoint.wait_closed()
