"""Every command that is printed about a subnet in a cluster works when it is typed: it says where the subnet lives."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from tests.cli.fake_kube import FakeKube
from tests.cli.test_cluster_target import FakeLab
from tests.commands import COMMAND, options_of_verbs, parse

from p2pnet.cli.program import PLACED, placed
from p2pnet.cli.targets.cluster import lab as cluster_lab
from p2pnet.cli.targets.cluster import target
from p2pnet.cli.verbs import up
from p2pnet.model.report import Report, Status
from p2pnet.store import State

PLACE = {"--on": "cluster", "-n": "blue", "--context": "other"}
TYPED = tuple(word for pair in PLACE.items() for word in pair)
FILLED = {"NAME": "demo", "RUN": "latest", "FILE": "demo.yaml", "ARTIFACT": "latest", "NODE": "node-0"}
"""What a person puts for a word in capitals."""
P2pnet = Callable[..., Any]


@pytest.fixture
def kube(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKube]:
    """A cluster whose subnets are neither in the current context nor in its namespace."""
    fake = FakeKube("blue")
    fake.start()
    monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig(tmp_path / "kube", namespace="default")))
    monkeypatch.setattr(target, "POLL_S", 0.01)
    monkeypatch.setattr(cluster_lab, "PAUSE_S", 0.01)
    monkeypatch.setattr(up, "CLUSTER_POLL_S", 0.01)
    monkeypatch.setattr(target.ClusterTarget._client, "__kwdefaults__", {"retry_s": 0.05})
    yield fake
    fake.stop()


@pytest.fixture
def lab(kube: FakeKube, make_status: Callable[..., Status], report: Report) -> FakeLab:
    kube.lab = FakeLab(make_status(), report)
    return kube.lab


def commands(said: str) -> list[list[str]]:
    """The command lines in what was printed, without the words of the sentence around them; what was typed is left out."""
    text = "\n".join(line for line in said.splitlines() if not line.startswith("where:"))
    return [_command(found.group(1)) for found in COMMAND.finditer(text)]


def _command(text: str) -> list[str]:
    words = [FILLED.get(word, word) for word in shlex.split(text.partition(", ")[0].rstrip(".,:"))]
    for end in range(len(words), 0, -1):
        try:
            parse(words[:end])
        except typer.TyperException:
            continue
        return words[:end]
    pytest.fail(f"p2pnet {text}: no command line")


def says_where(words: list[str], place: dict[str, str]) -> bool:
    pairs = dict(pairwise(words))
    takes = PLACED.get(words[0], ()) if words[0] != "install" else ("--context",)  # it means a cluster anyway
    return all(pairs.get(option) == value for option, value in place.items() if option in takes)


def test_options_of_places_are_those_that_each_verb_takes() -> None:
    for verb, options in options_of_verbs().items():
        if verb != "ping":  # of local subnets alone
            assert set(PLACED.get(verb, ())) <= options, verb
        assert {"--on", "-n", "--context"} & options <= set(PLACED.get(verb, ())) or verb in (
            "ping", "render", "install", "uninstall",
        ), verb  # fmt: skip


SCRIPTS: list[tuple[str, ...]] = [
    ("up", "demo", "--nodes", "3"), ("up", "demo", "--nodes", "3", "--no-wait"), ("status", "demo"), ("status", "nothing"),
    ("inject", "demo"), ("inject", "demo", "--no-wait"), ("inject", "nothing"), ("report", "demo"), ("report", "demo", "r-none"),
    ("report", "nothing"), ("trace", "demo", "latest"), ("trace", "demo", "nofile"), ("trace", "nothing", "abcdef12"),
    ("get", "demo", "abcdef1234"), ("withdraw", "demo", "abcdef1234"), ("runs", "demo"), ("runs", "demo", "--cancel", "latest"),
    ("runs", "nothing"), ("fault", "demo", "list"), ("fault", "demo", "clear", "x"), ("fault", "demo", "clear"),
    ("fault", "demo", "add", "nonsense"), ("logs", "demo", "--node", "node-77"), ("logs", "nothing"), ("collect", "latest"),
    ("down", "nothing", "--yes"), ("down", "demo"), ("doctor",), ("ls",), ("down", "demo", "--yes"), ("ls",),
]  # fmt: skip
"""In this order, against one subnet: how each verb ends well, and how it ends when something is not there."""


def test_every_command_that_a_verb_prints_says_where_the_subnet_is(
    kube: FakeKube, lab: FakeLab, p2pnet: P2pnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: dict[str, list[str]] = {}
    for words in SCRIPTS:
        place = TYPED if "-n" in options_of_verbs()[words[0]] else TYPED[:2]
        ended = p2pnet(*words, *place)
        assert ended.code != 70, ended.err
        for command in commands(ended.err):
            assert says_where(command, PLACE), (words, command, ended.err)
            seen.setdefault(command[0], command)
    assert {"inject", "status", "report", "up", "trace", "down"} <= set(seen)


def test_commands_about_a_subnet_that_was_looked_up_name_the_cluster_too(
    kube: FakeKube, lab: FakeLab, p2pnet: P2pnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` means this machine unless told otherwise."""
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig(tmp_path / "kube", namespace="blue")))
    kube.add("demo")
    for words in (("status", "demo"), ("inject", "demo"), ("down", "demo", "--yes")):
        ended = p2pnet(*words)
        found = commands(ended.err)
        assert ended.code == 0, ended.err
        assert found, ended.err
        assert all(says_where(command, {"--on": "cluster"}) for command in found), found


def test_commands_about_a_subnet_whose_file_names_its_namespace_name_it_too(
    kube: FakeKube, lab: FakeLab, p2pnet: P2pnet, tmp_path: Path
) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(
        "apiVersion: p2pnet.io/v1alpha1\nkind: Subnet\nmetadata: {name: demo, namespace: blue}\nspec: {nodes: 3}\n"
    )
    ended = p2pnet("up", "-f", str(file), "--on", "cluster")
    assert ended.code == 0, ended.err
    assert all(says_where(one, {"--on": "cluster", "-n": "blue"}) for one in commands(ended.err)), ended.err


def test_a_follower_of_a_deleted_subnet_is_told_where_to_run_it_again(
    kube: FakeKube, lab: FakeLab, p2pnet: P2pnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_lab, "LOOK_S", 0.01)
    kube.add("demo")
    asked = lab.__call__

    def answer(method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if method == "GET" and path.startswith("/v1/runs/") and "files" not in path:
            kube.subnets.clear()
            return 200, msgspec.structs.replace(lab.state, state="running", report=None, cursor=1)
        return asked(method, path, query, body)

    kube.lab = answer
    lab.file = msgspec.structs.replace(lab.file, state="running")
    ended = p2pnet("inject", "demo", *TYPED)
    assert ended.code == 5, ended.err
    [command] = commands(ended.err)
    assert says_where(command, PLACE), ended.err


def test_a_subnet_that_nobody_looks_after_is_told_so_with_install(
    kube: FakeKube, p2pnet: P2pnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "UNATTENDED_S", 0.02)
    kube.operator = None
    kube.on_apply = lambda _thing: None
    ended = p2pnet("up", "demo", *TYPED)
    assert ended.code == 3
    assert "demo is applied, but no operator is in context other to look at the document" in ended.err
    assert ["install", "--context", "other"] in commands(ended.err)
    at_once = p2pnet("up", "demo", "--no-wait", *TYPED)
    assert at_once.code == 0
    assert "note: no operator is in context other" in at_once.err
    assert "no operator is in context other" in p2pnet("status", "demo", *TYPED).out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda kube, path: kube.kubeconfig(path, user={"token": "old"}), "are wrong or have expired: log in again"),
        (lambda kube, _path: kube.forbidden.add("/secrets/"), "a Role in blue for this subnet alone: get Secret demo-lab-token"),
    ],
)  # fmt: skip
def test_who_may_not_is_told_what_to_ask_for(
    change: Callable[[FakeKube, Path], object], words: str, kube: FakeKube, lab: FakeLab, p2pnet: P2pnet, tmp_path: Path
) -> None:
    kube.add("demo")
    change(kube, tmp_path / "kube")
    ended = p2pnet("inject", "demo", *TYPED)
    assert ended.code == 3, ended.err
    assert words in ended.err


def test_kubectl_p2pnet_says_its_own_commands_which_mean_the_cluster(
    kube: FakeKube, lab: FakeLab, p2pnet: P2pnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-p2pnet"])
    kube.add("demo")
    ended = p2pnet("status", "demo", "-n", "blue")
    assert ended.code == 0
    assert re.search(r"Next: kubectl p2pnet .* -n blue\n", ended.err), ended.err


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("p2pnet status demo says more", {"-n": "blue"}, "p2pnet status demo -n blue says more"),
        ("p2pnet up demo, or p2pnet sim -f F", {"--on": "kind"}, "p2pnet up demo --on kind, or p2pnet sim -f F"),
        ("p2pnet status demo -n red; p2pnet runs", {"-n": "blue"}, "p2pnet status demo -n red; p2pnet runs -n blue"),
        ("p2pnet status demo --namespace=red", {"-n": "blue"}, "p2pnet status demo --namespace=red"),
        ("p2pnet status demo-2", {"-n": "blue"}, "p2pnet status -n blue demo-2"),
        ("p2pnet inject demo, p2pnet report demo", {"--on": "sim"}, "p2pnet inject demo, p2pnet report demo --on sim"),
        ("no command", {"--on": "cluster"}, "no command"),
        ("p2pnet up demo", {"--context": "a b"}, "p2pnet up demo --context 'a b'"),
    ],
)  # fmt: skip
def test_options_that_are_missing_stand_behind_verb_and_name(text: str, place: dict[str, str], told: str) -> None:
    assert placed(text, place, name="demo") == told
