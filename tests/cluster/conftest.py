"""A cluster for the session, images from this repository in it, and the operator by its chart. All is gone afterwards."""

import os
import random
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.cluster.control import Control
from tests.cluster.kit import KEEP, NODE_IMAGE, OPERATOR_IMAGE, REQUIRED, Cluster, why_none

BUILD_S = 3600
"""For a first test: with cold caches Kubernetes is compiled before it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(BUILD_S))


@pytest.fixture(scope="session")
def built() -> Cluster:
    """A machine that can have clusters, and all they are made of; skips, or fails where a cluster is required."""
    why = why_none()
    if why and os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{REQUIRED}=1, but {why}")
    if why:
        pytest.skip(why)
    cluster = Cluster()
    cluster.script("build")
    return cluster


@pytest.fixture(scope="session")
def cluster(built: Cluster) -> Iterator[Cluster]:
    """A running cluster of one node."""
    keep = os.environ.get(KEEP) == "1"
    running = built.script("exec", "kubectl", "get", "--raw", "/readyz", check=False).returncode == 0
    if not (keep and running):
        built.script("down")  # what a killed session left
        built.script("up")
    try:
        yield built
    finally:
        built.close()
        if not keep:
            built.script("down")


@pytest.fixture(scope="session")
def control(built: Cluster) -> Iterator[Control]:
    """A control plane without machines, beside the cluster: ready in seconds, and nothing but this process runs in it."""
    keep = os.environ.get(KEEP) == "1"
    alone = Cluster(f"{built.name}-api")
    running = alone.script("exec", "kubectl", "get", "--raw", "/readyz", check=False).returncode == 0
    if not (keep and running):
        alone.script("down")
        alone.script("up", "0")
    try:
        with Control(alone) as running_control:
            yield running_control
    finally:
        if not keep:
            alone.script("down")


@pytest.fixture
def chance() -> random.Random:
    """Chance that comes again with pytest's `-p randomly -p "randomly_seed=..."`; its seed stands in what a failure shows."""
    seed = random.getrandbits(32)
    print(f"chance: {seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> Cluster:
    """The cluster with both images, made of the files as they are now."""
    cluster.script("images")
    cluster.script("load", NODE_IMAGE, OPERATOR_IMAGE)
    return cluster


@pytest.fixture(scope="session")
def operator(images: Cluster) -> Cluster:
    """The cluster with the operator serving it, installed as a user would; it goes with the cluster."""
    images.install()
    return images


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own that takes only restricted pods."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield cluster.namespace(name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")
