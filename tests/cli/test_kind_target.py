"""The target `kind`: which commands it issues, in which order, and what it says where docker or kind is missing."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.cli.fake_kube import FakeKube

from p2pnet.cli.progress import NoProgress
from p2pnet.cli.targets.cluster import installation
from p2pnet.cli.targets.cluster.kind import KindTarget, ShellRunner
from p2pnet.model.errors import TargetError
from p2pnet.store import State
from p2pnet.subnet.document import default_subnet


class Tools:
    """A machine with docker and kind on it, that only writes down."""

    def __init__(self, *, clusters: str = "", has: tuple[str, ...] = ("docker", "kind")) -> None:
        self.clusters = clusters
        self.programs = has
        self.ran: list[str] = []

    def has(self, program: str) -> bool:
        return program in self.programs

    def run(self, words: Sequence[str]) -> str:
        line = " ".join(words)
        if line == "kind get clusters":
            return self.clusters
        self.ran.append(line)
        if line.startswith("kind create cluster"):
            self.clusters += "p2pnet\n"
        return ""


@pytest.fixture
def kube(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch):
    fake = FakeKube()
    fake.start()
    monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig(tmp_path / "kubeconfig", context="kind-p2pnet")))
    monkeypatch.setattr(installation, "POLL_S", 0.01)
    yield fake
    fake.stop()


async def test_the_first_up_makes_cluster_images_and_operator(kube: FakeKube, state: State, tmp_path: Path) -> None:
    kube.installed = False
    (tmp_path / "Dockerfile").touch()
    tools = Tools(clusters="other\n")
    target = KindTarget(state, runner=tools, source=tmp_path)
    assert (target.presence("demo"), target.names()) == ("absent", [])
    await target.start(default_subnet("demo", 3), NoProgress(), timeout_s=10)

    operator, node = installation.images(installation.manifest())
    assert tools.ran == [
        "kind create cluster --name p2pnet --wait 120s",
        f"docker build --target operator --tag {operator} {tmp_path}",
        f"kind load docker-image --name p2pnet {operator}",
        f"docker build --target node --tag {node} {tmp_path}",
        f"kind load docker-image --name p2pnet {node}",
    ]
    assert [one["kind"] for one in kube.applied][:2] == ["Namespace", "CustomResourceDefinition"]
    assert kube.applied[-1]["kind"] == "Subnet"
    assert target.presence("demo") == "up"


async def test_a_cluster_with_p2pnet_in_it_is_used_as_it_is(kube: FakeKube, state: State, tmp_path: Path) -> None:
    tools = Tools(clusters="p2pnet\n")
    target = KindTarget(state, runner=tools, source=tmp_path)
    await target.start(default_subnet("demo", 3), NoProgress(), timeout_s=10)
    assert tools.ran == []
    assert await target.remove("demo", NoProgress())


async def test_images_are_pulled_where_there_is_nothing_to_build_them_from(
    kube: FakeKube, state: State, tmp_path: Path
):
    kube.installed = False
    tools = Tools(clusters="p2pnet\n")
    await KindTarget(state, runner=tools, source=tmp_path).start(default_subnet("demo", 3), NoProgress(), timeout_s=10)
    assert tools.ran[0] == f"docker pull {installation.images(installation.manifest())[0]}"


@pytest.mark.parametrize(("has", "missing"), [((), "docker and kind"), (("docker",), "kind"), (("kind",), "docker")])
def test_what_is_missing_is_named(state: State, has: tuple[str, ...], missing: str) -> None:
    with pytest.raises(TargetError, match=f"missing on this machine: {missing}") as caught:
        KindTarget(state, runner=Tools(has=has))
    assert caught.value.exit_code == 3


async def test_without_its_cluster_a_desk_names_up(state: State) -> None:
    target = KindTarget(state, runner=Tools())
    with pytest.raises(TargetError, match="there is no kind cluster p2pnet") as caught:
        async with target.lab("demo"):
            pass
    assert caught.value.exit_code == 3
    assert not await target.remove("demo", NoProgress())


def test_a_command_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(TargetError, match="no docker here") as caught:
        ShellRunner().run(["sh", "-c", "echo no docker here >&2; exit 1"])
    assert caught.value.exit_code == 3
