"""`compare`: documents, checkouts and kept runs; its exit codes; and what is wrong is said before anything is measured."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from p2pnet.cli.comparing import Paired, pair_up
from p2pnet.cli.trials import TrialResults
from p2pnet.cli.verbs.schema import schema_of
from p2pnet.measure import statistics
from p2pnet.model.trials import TrialFailure
from p2pnet.present.comparison import MARKER

ROOT = Path(__file__).parents[2]
DOCUMENT = """
apiVersion: p2pnet.io/v1alpha1
kind: Subnet
metadata: {{name: demo}}
spec: {{nodes: 4, network: {{default: {{latency: {latency}, jitter: 2ms}}}}}}
"""
LOAD = ("--size", "1KiB", "--count", "6", "--rate", "4/s")

Compare = Callable[..., Any]


@pytest.fixture
def documents(tmp_path: Path) -> Callable[..., list[str]]:
    def write(*latencies: str) -> list[str]:
        paths = []
        for number, latency in enumerate(latencies):
            path = tmp_path / f"{number}.yaml"
            path.write_text(DOCUMENT.format(latency=latency))
            paths.append(str(path))
        return paths

    return write


@pytest.mark.parametrize(
    ("latencies", "gate", "code", "verdict"),
    [
        (("50ms", "80ms"), "p50:+10%", 6, "regression"), (("50ms", "50ms"), "p50:+10%", 0, "pass"),
        (("80ms", "50ms"), "p50:+10%", 0, "pass"), (("50ms", "55ms"), "p50:+10%", 7, "inconclusive"),
    ],
)  # fmt: skip
def test_two_documents_are_judged_by_paired_trials(
    p2pnet: Compare, documents: Any, latencies: tuple[str, ...], gate: str, code: int, verdict: str
) -> None:
    ended = p2pnet("compare", *documents(*latencies), *LOAD, "--gate", gate, "--trials", "4", "-o", "json")

    assert ended.code == code, ended.err
    found = json.loads(ended.out)
    jsonschema.validate(found, schema_of("comparison"))
    assert (found["verdict"], found["target"], found["base"]["kind"]) == (verdict, "sim", "document")
    assert [pair["seed"] for pair in found["pairs"]] == list(range(42, 42 + found["trials"]))
    assert found["stopped_early"] == (found["trials"] < 4)
    assert bool(found["rerun"]) == (verdict == "inconclusive" and found["gates"][0]["trials_needed"] is not None)


def test_the_table_and_the_markdown_say_the_same(p2pnet: Compare, documents: Any, tmp_path: Path) -> None:
    paper = tmp_path / "comment.md"
    ended = p2pnet("compare", *documents("50ms", "90ms"), *LOAD, "--trials", "3", "--md", str(paper))

    assert ended.code == 6
    assert "REGRESSION" in ended.out
    text = paper.read_text()
    assert text.startswith(MARKER)
    assert "p99:+10%" in text
    assert "| regression |" in text.lower()


def test_equal_documents_are_said_to_do_the_same(p2pnet: Compare, documents: Any) -> None:
    files = documents("50ms", "50ms")
    ended = p2pnet("compare", *files, *LOAD, "--trials", "3")
    assert ended.code == 0
    assert "did the same to the last message" in ended.out
    assert f"Next: p2pnet sim -f {files[1]} --size 1024B --count 6 --rate 4/s" in ended.out + ended.err


def test_two_checkouts_simulate_one_document(p2pnet: Compare, documents: Any, tmp_path: Path) -> None:
    """A checkout whose simulator is broken fails by itself: so it is its own modules that are run."""
    [document] = documents("50ms")
    other = tmp_path / "other"
    for name in ("node", "cli"):
        (other / name).mkdir(parents=True)
        (other / name / "p2pnet").symlink_to(ROOT / name / "p2pnet")
    same = p2pnet("compare", str(ROOT), str(other), "-f", document, *LOAD, "--trials", "3", "-o", "json")
    assert same.code == 0, same.err
    assert json.loads(same.out)["head"]["kind"] == "checkout"

    broken = tmp_path / "broken"
    (broken / "node" / "p2pnet" / "broadcast").mkdir(parents=True)
    (broken / "cli" / "p2pnet" / "cli").mkdir(parents=True)
    (broken / "cli" / "p2pnet" / "cli" / "trial_worker.py").write_text("raise SystemExit('nothing works here')\n")
    (broken / "cli" / "p2pnet" / "cli" / "__init__.py").write_text("")
    ended = p2pnet("compare", str(ROOT), str(broken), "-f", document, *LOAD, "--trials", "3", "-o", "json")
    assert ended.code == 5, ended.err
    found = json.loads(ended.out)
    assert found["verdict"] == "invalid"
    assert {one["side"] for one in found["lost"]} == {"head"}
    assert "nothing works here" in found["lost"][0]["why"]


def test_two_kept_runs_are_compared_by_their_artifacts(p2pnet: Compare, documents: Any) -> None:
    fast, slow = documents("50ms", "90ms")
    for document, label in ((fast, "fast"), (slow, "slow")):
        assert p2pnet("sim", "-f", document, *LOAD, "--count", "12", "--label", label).code == 0
    ended = p2pnet("compare", "fast", "slow", "-o", "json")
    assert ended.code == 6, ended.err
    found = json.loads(ended.out)
    assert (found["trials"], found["base"]["artifacts"], found["gates"][0]["verdict"]) == (0, 12, "regression")
    assert p2pnet("compare", "slow", "fast").code == 0
    assert p2pnet("compare", "fast", "fast").code == 0
    for words in (("--trials", "50"), ("--count", "9"), ("--client", "nosuch"), ("--jobs", "2"), ("--on", "sim")):
        refused = p2pnet("compare", "fast", "slow", *words)
        assert refused.code == 2
        assert f"compared as they are kept: {' '.join(words)} is for trials" in refused.err
    refused = p2pnet("compare", "fast", "slow", "--gate", "bytes:+1%")
    assert refused.code == 2
    assert "has no spread" in refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{document}", "no-such-run"), "two of one kind"), (("nobody", "none"), "no run nobody"),
        (("{document}", "{document}", "--gate", "p99"), "is no gate"), (("{document}", "gone.yaml"), "no such file"),
        (("{folder}", "{folder}", "-f", "{document}"), "is no checkout of this program"),
        (("{root}", "{root}"), "no document for them"),
        (("{document}", "{document}", "-f", "{document}"), "a third one with -f"),
        (("{document}", "{document}", "--from", "node-9"), "no node 'node-9'"),
        (("{document}", "{document}", "--trials", "2"), "trials"),
        (("{document}", "{document}", "--md", "{folder}"), "a directory"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_is_measured(
    p2pnet: Compare, documents: Any, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    [document] = documents("50ms")
    ended = p2pnet("compare", *(word.format(document=document, folder=tmp_path, root=ROOT) for word in words))

    assert ended.code == 2, ended.err
    assert said in ended.err
    assert "simulated" not in ended.err


def test_lost_trials_are_told_in_the_order_of_their_seeds_whichever_ended_first() -> None:
    done = Paired()
    lost = [TrialFailure(seed, "gone") for seed in (44, 42, 43)]
    pair_up(TrialResults(failed=lost[:2]), TrialResults(failed=lost), done)
    assert [(one.seed, one.side) for one in done.lost] == [
        (42, "base"), (42, "head"), (43, "head"), (44, "base"), (44, "head"),
    ]  # fmt: skip


def test_what_there_is_no_memory_for_is_refused(p2pnet: Compare, documents: Any) -> None:
    ended = p2pnet("compare", *documents("50ms", "50ms"), "--size", "100MiB", "--count", "90000")

    assert ended.code == 2
    assert "artifacts that live at the same time" in ended.err
    assert "pairs" not in ended.err


def test_without_scipy_it_says_what_to_install(
    p2pnet: Compare, documents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "is_installed", lambda: False)
    ended = p2pnet("compare", *documents("50ms", "50ms"))
    assert ended.code == 2
    assert "pip install 'p2pnet[compare]'" in ended.err


def test_scipy_is_imported_in_one_module_alone() -> None:
    found = subprocess.run(
        ["grep", "-rlE", r"^\s*(import|from) (scipy|numpy)", "node", "operator", "cli", "--include=*.py"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.split() == ["cli/p2pnet/measure/statistics.py"]
