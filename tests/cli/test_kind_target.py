"""The target `kind`: which commands it issues, what it leaves as it is, and what it says where a program is missing or fails."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.cli.fake_kube import FakeKube, deployment
from tests.patience import PATIENCE_S

from p2pnet.cli.cluster_checks import examine
from p2pnet.cli.documents import Examination
from p2pnet.cli.progress import NoProgress
from p2pnet.cli.targets.cluster import installation
from p2pnet.cli.targets.cluster.containers import ProgramFailedError, ShellRunner, choose_program, full_name
from p2pnet.cli.targets.cluster.kind import REPOSITORY, KindTarget
from p2pnet.lab_client import kubeconfig
from p2pnet.model.errors import TargetError
from p2pnet.store import State
from p2pnet.subnet.document import default_subnet
from p2pnet.subnet.spec import Subnet

OPERATOR, NODE = installation.images(installation.manifest())


class Machine:
    """A machine with kind and a program that holds its containers; writes down what is done, not what is asked."""

    def __init__(self, kube: FakeKube | None = None, *, clusters: str = "", has: tuple[str, ...] = ("docker", "kind")):
        self.kube = kube
        self.clusters = clusters.split()
        self.programs = has
        self.here: dict[str, str] = {}
        """Image -> id, of this machine."""
        self.there: dict[str, str] = {}
        """The same of the cluster's nodes, by full name."""
        self.broken: dict[str, str] = {}
        """The beginning of a command -> what it says as it fails."""
        self.hitches: list[str] = []
        """What `kind load` says as it fails, once each, the last first."""
        self.built = 0
        self.ran: list[str] = []

    def has(self, program: str) -> bool:
        return program in self.programs

    def ask(self, words: Sequence[str]) -> str:
        line = " ".join(words)
        self._fail(words)
        match words:
            case ["kind", "get", "clusters"]:
                return "".join(f"{name}\n" for name in self.clusters)
            case ["kind", "get", "nodes", "--name", name]:
                return f"{name}-control-plane\n{name}-external-load-balancer\n"
            case ["kind", "get", "kubeconfig", "--name", name]:
                assert self.kube is not None
                return _kubeconfig_of(name, self.kube.port)
            case [_, "image", "inspect", "--format", "{{.Id}}", image]:
                if image not in self.here:
                    raise ProgramFailedError(words, f"Error: No such image: {image}")
                return f"sha256:{self.here[image]}\n"
            case [_, "exec", node, "crictl", "images", "--output", "json"]:
                assert node.endswith("-control-plane")
                images = [{"id": f"sha256:{one}", "repoTags": [name]} for name, one in self.there.items()]
                return json.dumps({"images": images})
        raise AssertionError(line)

    async def run(self, words: Sequence[str], tell: Callable[[str], None], *, timeout_s: float) -> None:
        assert 0 < timeout_s <= 3600
        self.ran.append(_without_folder(words))
        tell("it goes on")
        self._fail(words)
        if words[:2] == ["kind", "load"] and self.hitches:
            raise ProgramFailedError(words, self.hitches.pop())
        match words:
            case ["kind", "create", "cluster", "--name", name, *_]:
                self.clusters.append(name)
            case [_, "build", "--target", _, "--tag", image, _]:
                self.here.setdefault(image, f"built-{self.built}-{image}")
            case [_, "pull", image]:
                self.here[OPERATOR if "operator" in image else NODE] = f"pulled-{image}"
            case ["kind", "load", "docker-image", "--name", _, image]:
                self.there[full_name(image)] = self.here[image]

    def _fail(self, words: Sequence[str]) -> None:
        for beginning, said in self.broken.items():
            if " ".join(words).startswith(beginning):
                raise ProgramFailedError(words, said)


def _without_folder(words: Sequence[str]) -> str:
    return " ".join("FILE" if "/tmp" in word and not word.endswith("repo") else word for word in words)


def _kubeconfig_of(name: str, port: int) -> str:
    context = f"kind-{name}"
    return yaml.safe_dump(
        {
            "clusters": [{"name": context, "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": context, "user": {"token": "of-the-user"}}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            "current-context": context,
        }
    )


@pytest.fixture
def kube(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKube]:
    """A cluster without p2pnet, which the user's kubeconfig does not know; its current context is another."""
    fake = FakeKube()
    fake.start()
    monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig(tmp_path / "kubeconfig", context="staging")))
    monkeypatch.setattr(installation, "POLL_S", 0.01)
    monkeypatch.delenv("KIND_CLUSTER_NAME", raising=False)
    monkeypatch.delenv("KIND_EXPERIMENTAL_PROVIDER", raising=False)
    fake.installed, fake.operator = False, None
    yield fake
    fake.stop()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository to build images from."""
    folder = tmp_path / "repo"
    (folder / "charts").mkdir(parents=True)
    (folder / "Dockerfile").touch()
    return folder


@pytest.fixture
def machine(kube: FakeKube) -> Machine:
    return Machine(kube, clusters="other")


@pytest.fixture
def up(machine: Machine, state: State, repo: Path) -> Callable[..., KindTarget]:
    """A command `up`: a target of its own each."""

    def start(subnet: Subnet | None = None, **options: str) -> KindTarget:
        target = KindTarget(state, runner=machine, source=repo, **options)
        machine.ran.clear()
        asyncio.run(target.start(subnet or default_subnet("demo", 3), NoProgress(), timeout_s=10))
        return target

    return start


def built_and_loaded(repo: Path, cluster: str = "p2pnet") -> list[str]:
    return [
        f"docker build --target operator --tag {OPERATOR} {repo}",
        f"docker build --target node --tag {NODE} {repo}",
        f"kind load docker-image --name {cluster} {OPERATOR}",
        f"kind load docker-image --name {cluster} {NODE}",
    ]


def test_the_first_up_makes_cluster_images_and_operator(up, machine: Machine, kube: FakeKube, state, repo) -> None:
    before = KindTarget(state, runner=machine, source=repo)
    assert (before.presence("demo"), before.names()) == ("absent", [])
    target = up()
    create = "kind create cluster --name p2pnet --wait 120s --kubeconfig FILE"
    assert machine.ran == [create, *built_and_loaded(repo)]
    assert [one["kind"] for one in kube.applied][:2] == ["Namespace", "CustomResourceDefinition"]
    assert kube.applied[-1]["kind"] == "Subnet"
    assert target.presence("demo") == "up"


def test_a_cluster_is_made_by_a_configuration_of_kinds_own(up, machine: Machine, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("P2PNET_KIND_CONFIG", str(tmp_path / "kind.yaml"))
    up()
    assert machine.ran[0] == "kind create cluster --name p2pnet --wait 120s --kubeconfig FILE --config FILE"


def test_the_repository_of_a_checkout_is_the_one_with_the_dockerfile() -> None:
    assert (REPOSITORY / "Dockerfile").is_file() == (REPOSITORY / "charts").is_dir()
    assert (REPOSITORY / "cli" / "p2pnet" / "cli").is_dir(), "these tests run in a checkout"


def test_a_second_up_builds_and_loads_nothing_and_starts_no_operator_anew(up, machine: Machine, kube: FakeKube) -> None:
    up()
    was = kube.operator
    up(default_subnet("two", 3))
    assert machine.ran == []
    assert kube.operator == was


def test_images_are_built_again_when_a_file_of_theirs_changed_or_they_are_gone(
    up, machine: Machine, repo: Path
) -> None:
    up()
    up(default_subnet("two", 3))
    assert machine.ran == []
    (repo / "cli").mkdir()
    (repo / "cli" / "new.py").write_text("new")
    up(default_subnet("three", 3))
    assert [line.split()[1] for line in machine.ran] == ["build", "build"]
    del machine.here[NODE]
    up(default_subnet("four", 3))
    assert machine.ran == [f"docker build --target node --tag {NODE} {repo}"]
    (repo / "docs").mkdir()
    (repo / "docs" / "page.md").write_text("not in any image")
    up(default_subnet("five", 3))
    assert machine.ran == []


def test_an_image_that_changed_is_loaded_and_the_operator_started_with_it(up, machine: Machine, kube: FakeKube) -> None:
    up()
    machine.here[OPERATOR] = "another"
    up(default_subnet("two", 3))
    assert [line for line in machine.ran if line.startswith("kind load")] == [
        f"kind load docker-image --name p2pnet {OPERATOR}"
    ]
    assert kube.operator is not None
    assert kube.operator["spec"]["template"]["metadata"]["annotations"]["p2pnet.io/image-id"] == "another"


SNAPSHOT_GONE = (
    'ctr: failed to prepare extraction snapshot "extract-1": parent snapshot sha256:ab does not exist: not found'
)


def test_an_image_whose_layers_the_cluster_was_taking_away_is_loaded_again(up, machine: Machine) -> None:
    machine.hitches = [SNAPSHOT_GONE] * 2
    up()
    loaded = [line for line in machine.ran if line.startswith("kind load")]
    assert loaded == [f"kind load docker-image --name p2pnet {image}" for image in (OPERATOR, OPERATOR, OPERATOR, NODE)]


@pytest.mark.parametrize(("hitches", "tries"), [([SNAPSHOT_GONE] * 5, 3), (["no space left on device"], 1)])
def test_loading_ends_after_a_few_tries_and_at_once_where_it_would_fail_again(
    up, machine: Machine, hitches: list[str], tries: int
) -> None:
    machine.hitches = list(hitches)
    with pytest.raises(ProgramFailedError, match=hitches[0].split("sha")[0].split('"')[0]):
        up()
    assert len([line for line in machine.ran if line.startswith("kind load")]) == tries


def test_half_an_installation_is_finished(up, machine: Machine, kube: FakeKube) -> None:
    kube.installed = True  # the definition of Subnets alone: a former `up` was interrupted behind it
    machine.clusters.append("p2pnet")
    up()
    assert "Deployment" in [one["kind"] for one in kube.applied]


def test_up_waits_until_the_operator_works(up, kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "READY_S", 0.1)
    monkeypatch.setattr(installation, "_is_ready", lambda _: False)
    kube.namespace = "p2pnet-system"
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    kube.pods["p2pnet-1"] = {
        "metadata": {"name": "p2pnet-1", "labels": {}}, "status": {"containerStatuses": [waiting]}
    }  # fmt: skip
    with pytest.raises(TargetError, match="operator is not ready after 0 s: ImagePullBackOff: no such image") as caught:
        up()
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("theirs", ["chart", "elsewhere", "older"])
def test_an_operator_that_others_installed_stays_as_it_is(up, machine: Machine, kube: FakeKube, theirs: str) -> None:
    labels = {"app.kubernetes.io/managed-by": "Helm"} if theirs == "chart" else {}
    image = "p2pnet/p2pnet-operator:0.0.1" if theirs == "older" else OPERATOR
    place = "mine" if theirs == "elsewhere" else "p2pnet-system"
    kube.installed, kube.operator = True, deployment(image, namespace=place, node_image=NODE, **labels)
    machine.clusters.append("p2pnet")
    up()
    assert [one["kind"] for one in kube.applied] == ["Subnet"]
    assert f"kind load docker-image --name p2pnet {NODE}" in machine.ran
    machine.there[full_name(image)] = machine.here[image] = "old"
    up(default_subnet("two", 3))
    machine.here[image] = "new"
    up(default_subnet("three", 3))
    patches = [one for one in kube.applied if one.get("kind") != "Subnet"]
    assert patches == [{"spec": {"template": {"metadata": {"annotations": {"p2pnet.io/image-id": "new"}}}}}]


def test_images_of_the_document_are_loaded_when_this_machine_has_them(up, machine: Machine) -> None:
    document = default_subnet("demo", 3).model_dump(mode="json", by_alias=True, exclude_unset=True)
    pinned = "there/x@sha256:" + "0" * 64
    document["spec"] |= {
        "image": "mine:dev",
        "groups": [
            {"name": "next", "nodes": 1, "image": "mine/next:dev"},
            {"name": "far", "nodes": 1, "image": "registry.example/far:1"},
            {"name": "pinned", "nodes": 1, "image": pinned},
        ],
    }
    machine.here |= {"mine:dev": "a", "mine/next:dev": "b", pinned: "c"}
    up(Subnet.model_validate(document))
    loaded = [line.rpartition(" ")[2] for line in machine.ran if line.startswith("kind load")]
    assert loaded == [OPERATOR, NODE, "mine:dev", "mine/next:dev"]


async def test_an_edit_that_names_an_image_loads_it(machine: Machine, kube: FakeKube, state: State, repo: Path) -> None:
    target = KindTarget(state, runner=machine, source=repo)
    await target.start(default_subnet("demo", 3), NoProgress(), timeout_s=10)
    machine.here["mine:next"] = "n"
    await target.edit("demo", lambda _: {"spec": {"image": "mine:next"}}, NoProgress())
    assert machine.ran[-1] == "kind load docker-image --name p2pnet mine:next"
    assert kube.subnets["demo"]["spec"]["image"] == "mine:next"


def test_images_are_pulled_where_there_is_nothing_to_build_them_from(
    machine: Machine, state: State, tmp_path: Path
) -> None:
    machine.clusters.append("p2pnet")
    target = KindTarget(state, runner=machine, source=tmp_path)
    asyncio.run(target.start(default_subnet("demo", 3), NoProgress(), timeout_s=10))
    assert machine.ran[:2] == [f"docker pull {full_name(image)}" for image in (OPERATOR, NODE)]


def test_podman_gets_full_names_and_writes_an_archive(kube: FakeKube, state: State, repo: Path) -> None:
    machine = Machine(kube, clusters="p2pnet", has=("podman", "kind"))
    machine.here[OPERATOR] = "was here"
    asyncio.run(
        KindTarget(state, runner=machine, source=repo).start(default_subnet("demo", 3), NoProgress(), timeout_s=10)
    )
    full = full_name(OPERATOR)
    assert machine.ran[0] == f"podman build --target operator --tag {full} {repo}"
    save = f"podman save --format docker-archive --output FILE {OPERATOR} {full}"
    assert machine.ran[2:4] == [save, "kind load image-archive --name p2pnet FILE"]


# --- names ---


def test_any_kind_cluster_is_named_by_its_context_or_kinds_own_variable(
    up, machine: Machine, monkeypatch: pytest.MonkeyPatch, repo: Path
) -> None:
    assert up(context="kind-one").where == "context kind-one, namespace default"
    assert machine.ran[0].startswith("kind create cluster --name one ")
    monkeypatch.setenv("KIND_CLUSTER_NAME", "two")
    target = up()
    assert target.cluster.name == "two"
    assert machine.clusters == ["other", "one", "two"]
    assert up(context="kind-one").cluster.name == "one"


@pytest.mark.parametrize(
    ("context", "said"),
    [("staging", "no kind cluster has the context staging"), ("kind-", "cannot be called ''"), ("kind-A b", "'A b'")],
)
def test_a_context_that_no_kind_cluster_has_is_a_wrong_command_line(state: State, context: str, said: str) -> None:
    with pytest.raises(TargetError, match=said) as caught:
        KindTarget(state, runner=Machine(), context=context)
    assert caught.value.exit_code == 2


def test_what_tells_to_install_names_this_very_cluster(machine: Machine, kube: FakeKube, state: State) -> None:
    machine.clusters.append("one")
    target = KindTarget(state, runner=machine, context="kind-one")
    examined = asyncio.run(examine(target)).document
    assert isinstance(examined, Examination)
    steps = {check.name: check.next_step for check in examined.checks}
    assert steps["Subnet definition"] == steps["operator"] == "p2pnet install --on kind --context kind-one"


# --- the user's kubeconfig ---


def test_the_current_context_is_kept_and_the_new_one_is_there(up, tmp_path: Path) -> None:
    up()
    found = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    assert found["current-context"] == "staging"
    assert [one["name"] for one in found["contexts"]] == ["staging", "other", "kind-p2pnet"]
    before = (tmp_path / "kubeconfig").stat()
    up(default_subnet("two", 3))
    assert (tmp_path / "kubeconfig").stat() == before


def test_where_there_is_no_current_context_yet_it_becomes_this_one(tmp_path: Path) -> None:
    file = tmp_path / "below" / "config"
    assert kubeconfig.add({"KUBECONFIG": str(file)}, "kind-x", _kubeconfig_of("x", 1))
    assert yaml.safe_load(file.read_text())["current-context"] == "kind-x"
    assert file.stat().st_mode & 0o777 == 0o600
    assert not kubeconfig.add({"KUBECONFIG": str(file)}, "kind-x", _kubeconfig_of("x", 1))


def test_a_context_of_a_former_cluster_of_that_name_is_put_right_and_its_namespace_stays(tmp_path: Path) -> None:
    file = tmp_path / "config"
    environment = {"KUBECONFIG": f"{tmp_path / 'none'}:{file}"}
    kubeconfig.add(environment, "kind-x", _kubeconfig_of("x", 1))
    found = yaml.safe_load(file.read_text())
    found["contexts"][0]["context"]["namespace"] = "mine"
    file.write_text(yaml.safe_dump(found))
    assert kubeconfig.add(environment, "kind-x", _kubeconfig_of("x", 2))
    again = kubeconfig.read(environment)
    assert again.clusters["kind-x"][0]["server"] == "http://127.0.0.1:2"
    assert again.contexts["kind-x"][0]["namespace"] == "mine"
    assert len(yaml.safe_load(file.read_text())["clusters"]) == 1


def test_a_kubeconfig_that_another_program_is_writing_is_waited_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(kubeconfig, "LOCK_S", 0.1)
    (tmp_path / "config.lock").touch()
    with pytest.raises(TargetError, match=r"another program writes the kubeconfig .*; if none does: rm .*config\.lock"):
        kubeconfig.add({"KUBECONFIG": str(tmp_path / "config")}, "kind-x", _kubeconfig_of("x", 1))


def test_verbs_that_only_look_leave_the_kubeconfig_alone(up, machine: Machine, state: State, tmp_path: Path) -> None:
    machine.clusters.append("p2pnet")
    before = (tmp_path / "kubeconfig").read_text()
    assert KindTarget(state, runner=machine).names() == []
    assert (tmp_path / "kubeconfig").read_text() == before


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("has", "provider", "missing"),
    [
        ((), "", "docker and kind"),
        (("docker",), "", "kind"),
        (("podman",), "", "kind"),
        (("kind",), "", "docker"),
        (("kind", "docker"), "podman", "podman"),
    ],
)
def test_what_is_missing_is_named(has: tuple[str, ...], provider: str, missing: str) -> None:
    with pytest.raises(TargetError, match=f"missing on this machine: {missing}$") as caught:
        choose_program(Machine(has=has), {"KIND_EXPERIMENTAL_PROVIDER": provider})
    assert caught.value.exit_code == 3
    assert "https://kind.sigs.k8s.io" in caught.value.hint


def test_the_provider_is_chosen_as_kind_chooses_it() -> None:
    everything = Machine(has=("kind", "podman", "nerdctl", "docker"))
    assert choose_program(everything, {}) == "docker"
    assert choose_program(everything, {"KIND_EXPERIMENTAL_PROVIDER": "podman"}) == "podman"
    assert choose_program(Machine(has=("kind", "podman")), {}) == "podman"
    with pytest.raises(TargetError, match="'lxc' cannot hold a kind cluster") as caught:
        choose_program(everything, {"KIND_EXPERIMENTAL_PROVIDER": "lxc"})
    assert caught.value.exit_code == 2


async def test_without_its_cluster_a_desk_names_up(state: State) -> None:
    target = KindTarget(state, runner=Machine())
    with pytest.raises(TargetError, match="there is no kind cluster p2pnet") as caught:
        async with target.lab("demo"):
            pass
    assert caught.value.exit_code == 3
    assert not await target.remove("demo", NoProgress())


def test_a_cluster_whose_making_fails_is_taken_away_again(up, machine: Machine) -> None:
    machine.broken["kind create cluster"] = "no room"
    with pytest.raises(TargetError, match="kind failed: no room"):
        up()
    assert machine.ran[-1] == "kind delete cluster --name p2pnet --kubeconfig FILE"


def test_a_cluster_that_somebody_else_made_meanwhile_is_left_alone(up, machine: Machine) -> None:
    machine.broken["kind create cluster"] = 'node(s) already exist for a cluster with the name "p2pnet"'
    with pytest.raises(TargetError, match="already exist"):
        up()
    assert not any("delete" in line for line in machine.ran)


def test_a_cluster_that_does_not_answer_is_named_with_what_to_do(up, machine: Machine) -> None:
    machine.clusters.append("p2pnet")
    machine.broken["kind get kubeconfig"] = "container p2pnet-control-plane is not running"
    with pytest.raises(TargetError, match="the kind cluster p2pnet is there, but does not answer") as caught:
        up()
    assert (caught.value.exit_code, caught.value.hint.split(";")[0]) == (
        3, "start its container: docker start p2pnet-control-plane",
    )  # fmt: skip


def test_docker_that_does_not_run_is_no_missing_image(up, machine: Machine) -> None:
    machine.clusters.append("p2pnet")
    machine.broken["docker image inspect"] = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
    with pytest.raises(TargetError, match="docker failed: Cannot connect") as caught:
        up()
    assert "start docker" in caught.value.hint


# --- commands ---


async def test_a_command_that_fails_is_told_with_its_last_words() -> None:
    words = ["sh", "-c", "echo first; printf '\\033[1mno docker\\033[0m here\\n' >&2; exit 1"]
    with pytest.raises(TargetError, match="no docker") as caught:
        ShellRunner().ask(words)
    assert caught.value.exit_code == 3
    heard: list[str] = []
    with pytest.raises(TargetError, match="sh failed: first; no docker here"):
        await ShellRunner().run(words, heard.append, timeout_s=60)
    assert heard == ["first", "no docker here"]


async def test_a_command_ends_with_the_one_who_waits_for_it(tmp_path: Path) -> None:
    words = ["sh", "-c", f"trap 'echo ended > {tmp_path}/said; exit' TERM; echo begun; while :; do sleep 0.05; done"]
    begun = asyncio.Event()
    running = asyncio.create_task(ShellRunner().run(words, lambda _: begun.set(), timeout_s=60))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (tmp_path / "said").read_text() == "ended\n"


async def test_a_command_whose_children_hold_its_pipe_ends_when_it_ends(tmp_path: Path) -> None:
    heard: list[str] = []
    words = ["sh", "-c", f"sleep 600 & echo $! > {tmp_path}/pid; echo done"]
    await asyncio.wait_for(ShellRunner().run(words, heard.append, timeout_s=300), PATIENCE_S)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert heard == ["done"]


async def test_a_command_that_takes_too_long_is_ended() -> None:
    with pytest.raises(TargetError, match="not done within 0 s"):
        await ShellRunner().run(["sleep", "60"], lambda _: None, timeout_s=0.1)


def test_names_of_images_are_read_as_a_container_runtime_reads_them() -> None:
    full = {
        "node": "docker.io/library/node:latest", "me/node:1": "docker.io/me/node:1", "localhost/n:1": "localhost/n:1",
        "r.example:5000/n": "r.example:5000/n:latest", "a/b@sha256:1": "docker.io/a/b@sha256:1",
    }  # fmt: skip
    assert {name: full_name(name) for name in full} == full
