"""What a shell completes words to: in a real bash, and by the protocol of the others. Never an error, never a cluster."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.patience import PATIENCE_S

from p2pnet.cli import shell_completion
from p2pnet.cli.app import main
from p2pnet.model.jobs import RunFile, RunRequest
from p2pnet.store import State, archive

BIN = Path(sys.executable).parent
RUNS = (
    ("r-20261121-201530-3f", "base", ["aa" * 32, "ab" * 32], ["photo.jpg", "generated-9"]),
    ("r-20261121-201531-4a", "two words", ["cc" * 32, "cd" * 32], ["generated-9", "a name"]),
)


@pytest.fixture
def kept(state: State, monkeypatch: pytest.MonkeyPatch) -> State:
    """Subnet demo of three nodes, two of its runs, one of another subnet in a cluster."""
    paths = state.subnet("demo").make()
    paths.document.write_text(
        '{"spec": {"nodes": 3, "clients": [{"name": "blob"}, {"name": "chat"}],'
        ' "faults": [{"name": "cut"}, {"name": "wet"}]}}'
    )
    paths.ports.write_text('{"node-10": 3, "node-0": 1, "node-2": 2}')
    told = [(*run, "demo", "") for run in RUNS] + [("r-20261121-201532-11", "", ["ee" * 32], ["x"], "other", "staging")]
    for created, (run, label, artifacts, names, subnet, context) in enumerate(told):
        file = RunFile(
            run=run, subnet=subnet, target="local", seed=1, request=RunRequest([]), created_at=float(created),
            nodes=["node-0"], version="0", state="finished", label=label, artifacts=artifacts, names=names,
            context=context,
        )  # fmt: skip
        folder = state.run(run)
        folder.mkdir(parents=True)
        (folder / "run.json").write_bytes(archive.pretty(file))
    kubeconfig = state.root / "kubeconfig"
    kubeconfig.write_text("contexts: [{name: kind-p2pnet, context: {cluster: kind}}, {name: staging, context: {}}]")
    monkeypatch.setenv("KUBECONFIG", f"{state.root / 'none'}:{kubeconfig}")
    return state


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """What bash is answered when the last of these words is being typed."""

    def ask(*words: str) -> list[str]:
        monkeypatch.setenv("_P2PNET_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(("p2pnet", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        capsys.readouterr()
        assert main([]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        return said.out.split("\n")[:-1] if said.out.strip() else []

    return ask


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("re",), ["report", "replay", "render"]),
        (("inject", "demo", "--cli"), ["--client"]),
        (("status", ""), ["demo", "other"]),
        (("status", "-o", ""), ["table", "json", "yaml", "ndjson"]),
        (("report", "demo", ""), ["latest", RUNS[1][0], RUNS[0][0], "base"]),
        (("report", "demo", "r-20261121-201530"), [RUNS[0][0]]),
        (("runs", "demo", "--rm", "b"), ["base"]),
        (("runs", "--cancel", "latest"), ["latest"]),
        (("trace", "demo", ""), ["latest", "photo.jpg", "cd" * 6, "cc" * 6, "ab" * 6, "aa" * 6]),
        (("get", "demo", "a"), ["ab" * 6, "aa" * 6]),
        (("withdraw", "demo", "aa" * 8), ["aa" * 32]),
        (("logs", "demo", "--artifact", "ph"), ["photo.jpg"]),
        (("logs", "demo", "--run", "b"), ["base"]),
        (("logs", "demo", "--node", ""), ["node-0", "node-2", "node-10"]),
        (("ping", "--subnet", "demo", "node-1"), ["node-10"]),
        (("inject", "demo", "--from", ""), ["random", "all", "node-0", "node-2", "node-10"]),
        (("inject", "demo", "--client", ""), ["blob", "chat"]),
        (("fault", ""), ["demo", "other"]),
        (("fault", "demo", ""), ["add", "list", "clear"]),
        (("fault", "demo", "add", "la"), ["latency"]),
        (("fault", "demo", "add", "kill", ""), ["node-0", "node-2", "node-10"]),
        (("fault", "demo", "add", "loss", ""), []),
        (("fault", "demo", "add", "loss", "5%", "--node", "node-1"), ["node-10"]),
        (("fault", "demo", "add", "loss", "--dis"), ["--distribution", "--discipline"]),
        (("fault", "demo", "clear", ""), ["cut", "wet"]),
        (("fault", "demo", "clear", "cut", ""), ["wet"]),
        (("status", "--context", ""), ["kind-p2pnet", "staging"]),
        (("schema", "kept"), ["kept-run"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("report", "nobody", ""), []),
        (("logs", "nobody", "--node", ""), []),
    ],
)
def test_a_word_is_completed_to(
    kept: State, complete: Callable[..., list[str]], words: Any, offered: list[str]
) -> None:
    assert complete(*words) == offered


def test_damage_offers_nothing_and_says_nothing(kept: State, complete: Callable[..., list[str]]) -> None:
    kept.subnet("demo").ports.write_text("{half")
    kept.subnet("demo").document.write_text("[]")
    (kept.root / "kubeconfig").write_text("contexts: {a")
    for run, *_ in RUNS:
        (kept.run(run) / "run.json").write_text("garbage")
    for words in (
        ("logs", "demo", "--node", ""), ("inject", "demo", "--client", ""), ("status", "--context", ""),
        ("trace", "demo", ""), ("report", "demo", ""), ("fault", "demo", "clear", ""),
    ):  # fmt: skip
        assert complete(*words) == []


def test_a_run_of_very_many_artifacts_offers_the_newest_few(kept: State, complete: Callable[..., list[str]]) -> None:
    file = archive.read_run_file(kept, RUNS[1][0])
    many = [f"{index:06x}" + "0" * 58 for index in range(20_000)]
    large = msgspec.structs.replace(file, artifacts=many, names=["generated-9"] * 20_000)
    (kept.run(RUNS[1][0]) / "run.json").write_bytes(archive.pretty(large))
    assert len(complete("trace", "demo", "")) == shell_completion.ARTIFACTS_MAX + 2
    assert complete("trace", "demo", "00000") == [artifact[:12] for artifact in many[15::-1]]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_a_real_bash_completes_by_the_script_that_is_printed(kept: State) -> None:
    script = """
    source <(p2pnet completion bash)
    complete -p p2pnet
    COMP_WORDS=(p2pnet report demo r-20261121-201531); COMP_CWORD=3
    _p2pnet_completion p2pnet r-20261121-201531 demo
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    ended = in_shell(["bash", "--norc", "-c", script])
    assert ended.stdout.splitlines() == ["complete -o default -F _p2pnet_completion p2pnet", RUNS[1][0]]
    assert ended.stderr == ""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_a_real_zsh_takes_the_script_that_is_printed(kept: State) -> None:
    script = 'autoload -Uz compinit; compinit -D; eval "$(p2pnet completion zsh)"; print ${_comps[p2pnet]}'
    assert in_shell(["zsh", "-f", "-c", script]).stdout == "_p2pnet_completion\n"


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_a_real_fish_completes_by_the_script_that_is_printed(kept: State) -> None:
    script = "p2pnet completion fish | source; complete -C 'p2pnet trace demo ph'"
    assert in_shell(["fish", "-N", "-c", script]).stdout.split() == ["photo.jpg"]


@pytest.mark.parametrize(
    ("shell", "more"), [("zsh", {}), ("fish", {"_TYPER_COMPLETE_FISH_ACTION": "get-args"})], ids=["zsh", "fish"]
)
def test_shells_that_show_explanations_get_them(kept: State, shell: str, more: dict[str, str]) -> None:
    asked = {"_P2PNET_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "p2pnet report demo b", **more}
    ended = in_shell(["p2pnet"], **asked)
    assert "base" in ended.stdout
    assert RUNS[0][0] in ended.stdout
    assert ended.stderr == ""


def test_kubectl_is_answered_in_its_own_form(kept: State) -> None:
    assert in_shell(["kubectl_complete-p2pnet", "status", ""]).stdout == "other\tin staging\n:4\n"
    assert in_shell(["kubectl_complete-p2pnet", "schema", "kept"]).stdout == "kept-run\n:4\n"
    assert in_shell(["kubectl_complete-p2pnet", "inject", "demo", "./fi"]).stdout == ":0\n"
    assert "inject\t" in in_shell(["kubectl_complete-p2pnet", ""]).stdout


def test_the_script_is_printed_and_no_file_is_written(p2pnet: Callable[..., Any], state: State) -> None:
    home = state.root / "home"
    home.mkdir(parents=True)
    for shell in ("bash", "zsh", "fish"):
        ended = p2pnet("completion", shell)
        assert (ended.code, ended.err) == (0, "")
        assert "_P2PNET_COMPLETE" in ended.out
    assert list(home.iterdir()) == []
    assert p2pnet("completion", "csh").code == 2


def in_shell(words: list[str], **more: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"} | more
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=PATIENCE_S, check=False)
