"""The script that any CI runs, and the action around it: which commands it gives, what it leaves, and whose exit code it is."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "actions" / "p2pnet"
SCRIPT = FOLDER / "run.sh"
ACTION = yaml.safe_load((FOLDER / "action.yml").read_text())

P2PNET = """#!/bin/bash
echo "p2pnet $*" >>"$SAID"
words=("$@")
option() { for i in "${!words[@]}"; do [ "${words[i]}" != "$1" ] || echo "${words[i + 1]}"; done; }
case $1 in
  run)
    [ ! -e "$2.slow" ] || { trap 'echo interrupted >&2; exit 130' TERM; echo begun >&2; while :; do sleep 0.05; done; }
    code=$(cat "$2" 2>/dev/null || echo 2)
    [ "$code" != 2 ] || { echo "error: cannot read $2" >&2; exit 2; }
    echo "## $2" >"$(option --md)"
    echo "<testsuites/>" >"$(option --junit)"
    more=', "trials": '
    echo '{"steps": [{"run": null}, {"run": "r-of-'"$2"'"}, {"run": null}]'"${TRIALS:+$more$TRIALS}"'}'
    exit "$code" ;;
  compare)
    [ "${COMPARED:-0}" != 2 ] || { echo "error: no such side" >&2; exit 2; }
    echo "<!-- p2pnet compare -->" >"$(option --md)"; exit "${COMPARED:-0}" ;;
  collect)
    [ -z "${NOT_COLLECTED:-}" ] || { echo "error: it is gone" >&2; exit "$NOT_COLLECTED"; }
    touch "$(option --output-file)" ;;
  install) [ -z "${NOT_INSTALLED:-}" ] || { echo "error: no room" >&2; exit "$NOT_INSTALLED"; } ;;
esac
"""
OTHER = '#!/bin/bash\necho "$(basename "$0") $*" >>"$SAID"\n[ "$1 $2" != "get clusters" ] || echo "${CLUSTERS:-}"\n'


class Ci:
    """A checkout in some CI, with a p2pnet, a kind and a kubectl that only write down what they were told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        for name, text in {"p2pnet": P2PNET, "kind": OTHER, "kubectl": OTHER}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "P2PNET_"))}
        self.environment = kept | {"SAID": str(folder / "said"), "PATH": f"{programs}:{os.environ['PATH']}"}

    def scenario(self, name: str, code: int = 0) -> str:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(str(code))
        return name

    def __call__(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(SCRIPT), *words], cwd=self.folder, env=self.environment | variables, capture_output=True,
            text=True, check=False, timeout=PATIENCE_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def said(self, *beginnings: str) -> list[str]:
        file = self.folder / "said"
        lines = file.read_text().splitlines() if file.exists() else []
        here = f"{self.folder.resolve()}/"
        return [line.replace(here, "") for line in lines if line.startswith(beginnings or ("",))]

    def results(self) -> set[str]:
        folder = self.folder / "p2pnet-results"
        return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.name != ".written"}

    def summary(self) -> str:
        return (self.folder / "p2pnet-results" / "summary.md").read_text()


@pytest.fixture
def ci(tmp_path: Path) -> Ci:
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    return Ci(tmp_path)


def test_a_scenario_on_kind_makes_the_cluster_ready_runs_and_leaves_its_reports(ci: Ci) -> None:
    done = ci(ci.scenario("one.yaml"), "--trials", "3")
    assert done.returncode == 0, done.stderr
    place = "--on kind --context kind-p2pnet"
    written = "--junit p2pnet-results/one.xml --md p2pnet-results/one.md --output json"
    assert ci.said("p2pnet") == [f"p2pnet install {place}", f"p2pnet run one.yaml {place} --trials 3 {written}"]
    assert ci.results() == {"install.log", "one.json", "one.log", "one.md", "one.xml", "summary.md"}


def test_every_scenario_is_run_and_the_first_failure_is_the_exit_code(ci: Ci) -> None:
    names = [ci.scenario("a.yaml", 0), ci.scenario("b.yaml", 5), ci.scenario("c.yaml", 1), "none.yaml"]
    done = ci("--on", "sim", *names)
    assert done.returncode == 5
    assert [line.split()[2] for line in ci.said("p2pnet run")] == names
    collected = [f"p2pnet collect r-of-{name} --output-file p2pnet-results/{name[0]}.tar.gz" for name in names[1:3]]
    assert ci.said("p2pnet collect") == collected
    assert ci.said("kubectl", "kind") == []
    summary = ci.summary()
    assert "## a.yaml\n\n## b.yaml\n\n## c.yaml\n" in summary
    assert "**none** ended with exit code 2: error: cannot read none.yaml" in summary


def test_after_a_failure_on_kind_the_cluster_is_asked_what_it_knows(ci: Ci) -> None:
    done = ci(ci.scenario("a.yaml", 1), "--cluster", "two")
    assert done.returncode == 1
    assert len(ci.said("kubectl --context kind-two ")) == 4
    assert ci.said("kind export") == ["kind export logs p2pnet-results/cluster/kind --name two"]
    assert {"cluster/objects.txt", "cluster/operator.log", "a.tar.gz"} <= ci.results()


def test_what_keeps_the_operator_from_working_ends_it_with_that_exit_code(ci: Ci) -> None:
    done = ci(ci.scenario("a.yaml"), NOT_INSTALLED="4")
    assert done.returncode == 4
    assert ci.said("p2pnet run") == []
    assert "**p2pnet install** ended with exit code 4: error: no room" in ci.summary()


@pytest.mark.parametrize(("there", "deleted"), [("", ["kind delete cluster --name p2pnet"]), ("p2pnet", [])])
def test_the_cluster_is_deleted_on_request_if_it_was_made_here(ci: Ci, there: str, deleted: list[str]) -> None:
    assert ci(ci.scenario("a.yaml"), "--delete", CLUSTERS=there).returncode == 0
    assert ci.said("kind delete") == deleted


def test_scenarios_and_gates_come_from_variables_line_by_line_and_patterns_are_expanded(ci: Ci) -> None:
    for name in ("x one.yaml", "y.yaml", "z.yml"):
        ci.scenario(name)
    gates = "p99:+10%\n\n  p50:+5ms \n"
    done = ci(
        P2PNET_CI_ON="sim", P2PNET_CI_SCENARIOS="y.yaml\n  *.yml\n", P2PNET_CI_BASE="a.yaml", P2PNET_CI_HEAD="b.yaml",
        P2PNET_CI_GATE=gates, P2PNET_CI_LOAD="--size 4KiB --count 20",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.split()[2] for line in ci.said("p2pnet run")] == ["y.yaml", "z.yml"]
    [compare] = ci.said("p2pnet compare")
    wanted = "p2pnet compare a.yaml b.yaml --gate p99:+10% --gate p50:+5ms --size 4KiB --count 20 --md"
    assert compare.startswith(wanted)


def test_a_scenario_whose_name_has_a_blank_is_one_scenario(ci: Ci) -> None:
    assert ci("--on", "sim", ci.scenario("x one.yaml")).returncode == 0
    assert ci.said("p2pnet run")[0].startswith("p2pnet run x one.yaml --on sim")


def test_a_regression_is_the_exit_code_and_the_comment_is_asked_for(ci: Ci) -> None:
    words = ["--on", "sim", "--base", "1", "--head", "2", "--comment", "--compare-on", "kind"]
    done = ci(*words, COMPARED="6")
    assert done.returncode == 6
    assert "error: which repository?" in done.stderr  # comment.py says what it wants
    assert ci.said("p2pnet compare")[0].startswith("p2pnet compare 1 2 --on kind --context kind-p2pnet --md ")


def test_a_comment_that_cannot_be_written_fails_a_job_that_would_pass_unless_that_is_no_fault_of_its_own(
    ci: Ci,
) -> None:
    words = ["--on", "sim", "--base", "1", "--head", "2", "--comment"]
    assert ci(*words).returncode == 2  # no repository is named
    told = {"GITHUB_REPOSITORY": "a/b", "GITHUB_TOKEN": "t", "P2PNET_COMMENT_PAUSE_S": "0.01", "no_proxy": "127.0.0.1"}
    told["GITHUB_API_URL"] = "http://127.0.0.1:1"
    assert ci(*words, **told).returncode == 0  # a push has no pull request
    assert ci(*words, **told, GITHUB_REF="refs/pull/7/merge").returncode == 1  # nobody listens there
    assert ci(*words, **told, GITHUB_REF="refs/pull/7/merge", COMPARED="6").returncode == 6


@pytest.mark.parametrize("verdicts", [("fail", "fail"), ("pass", "fail", "pass", "invalid")])
def test_every_trial_that_kept_runs_is_packed_first_those_that_did_not_pass(ci: Ci, verdicts: tuple[str, ...]) -> None:
    trials = [{"seed": 42 + i, "verdict": one, "runs": [f"r-{i}-1", f"r-{i}-2"]} for i, one in enumerate(verdicts)]
    order = sorted(range(len(verdicts)), key=lambda i: verdicts[i] == "pass")
    done = ci("--on", "local", ci.scenario("a.yaml", 1), TRIALS=json.dumps(trials))
    assert done.returncode == 1
    names = ["a.tar.gz", *(f"a-seed-{42 + i}.tar.gz" for i in order[1:])]
    packed = [(line.split()[2], Path(line.split()[-1]).name) for line in ci.said("p2pnet collect")]
    assert packed == [(f"r-{i}-2", name) for i, name in zip(order, names, strict=True)]


def test_trials_without_runs_are_not_packed_and_of_many_no_more_than_twenty(ci: Ci) -> None:
    none = [{"seed": seed, "verdict": "fail", "runs": []} for seed in range(3)]
    ci("--on", "sim", ci.scenario("a.yaml", 1), TRIALS=json.dumps(none))
    assert ci.said("p2pnet collect") == []
    many = [*none, *({"seed": seed, "verdict": "fail", "runs": [f"r-{seed}"]} for seed in range(3, 25))]
    done = ci("--on", "local", "a.yaml", TRIALS=json.dumps(many))
    assert "run.sh: a: 20 of 22 trials that kept runs are packed" in done.stderr
    assert len(ci.said("p2pnet collect")) == 20


def test_the_bundle_of_a_trial_takes_no_other_scenarios_name(ci: Ci) -> None:
    trials = [{"seed": seed, "verdict": "fail", "runs": [f"r-{seed}"]} for seed in (1, 2)]
    names = [ci.scenario("a-seed-2.yaml", 0), ci.scenario("a.yaml", 1)]
    ci("--on", "local", *names, TRIALS=json.dumps(trials))
    assert {one for one in ci.results() if one.endswith(".gz")} == {"a.tar.gz", "a-seed-2-1.tar.gz"}


def test_a_run_that_cannot_be_packed_is_told(ci: Ci) -> None:
    done = ci("--on", "sim", ci.scenario("a.yaml", 1), NOT_COLLECTED="2")
    assert done.returncode == 1
    assert "run.sh: a: run r-of-a.yaml is not packed: error: it is gone" in done.stderr


def test_two_comparisons_have_a_comment_each_by_its_name(ci: Ci) -> None:
    (ci.folder / "bin" / "python3").write_text(OTHER)
    (ci.folder / "bin" / "python3").chmod(0o755)
    words = ["--on", "sim", "--base", "1", "--head", "2", "--comment"]
    assert ci(*words).returncode == ci(*words, "--comment-name", "over the sea").returncode == 0
    said = [line.partition("compare.md ")[2] for line in ci.said("python3 ")]
    assert said == ["--name compare --optional", "--name over the sea --optional"]


# --- the folder ---


def test_a_comparison_that_fails_shows_no_table_of_a_run_before_it(ci: Ci) -> None:
    words = ["--on", "sim", "--base", "1", "--head", "2", "--comment"]
    assert ci(*words[:-1]).returncode == 0
    assert ci.summary() == "<!-- p2pnet compare -->\n\n"
    done = ci(*words, COMPARED="2")
    assert done.returncode == 2
    assert "comment" not in done.stderr  # there is nothing to say in one
    assert ci.summary() == "**compare** ended with exit code 2: error: no such side\n\n"
    assert ci.results() == {"compare.json", "compare.log", "summary.md"}


def test_nothing_that_a_run_wrote_is_there_after_the_next(ci: Ci) -> None:
    first = ci(ci.scenario("a.yaml", 1), ci.scenario("x one.yaml"), "--base", "1", "--head", "2")
    assert first.returncode == 1
    assert {"a.tar.gz", "a.xml", "x one.json", "compare.md", "install.log", "cluster/events.txt"} <= ci.results()
    second = ci("--on", "sim", "none.yaml")
    assert second.returncode == 2
    assert ci.results() == {"none.json", "none.log", "summary.md"}
    assert "what a former run wrote" in second.stderr


def test_files_of_others_in_the_folder_stay_as_they_are(ci: Ci) -> None:
    mine = {"a.json": "a scenario", "b.md": "what b is for", "cluster/kind.yaml": "of mine", "-n.txt": "a note"}
    for name, text in mine.items():
        (ci.folder / name).parent.mkdir(exist_ok=True)
        (ci.folder / name).write_text(text)
    words = ["--results", ".", ci.scenario("a.yaml"), ci.scenario("b.yaml", 1)]
    for _ in range(2):
        assert ci(*words).returncode == 1
        assert {name: (ci.folder / name).read_text() for name in mine} == mine
        assert sorted(one.name for one in ci.folder.glob("*.xml")) == ["a-1.xml", "b-1.xml"]
        assert ci.said("kubectl")[-1].startswith("kubectl --context kind-p2pnet logs")


def test_a_list_of_former_files_removes_nothing_outside_the_folder(ci: Ci) -> None:
    (ci.folder / "p2pnet-results").mkdir()
    (ci.folder / "mine").write_text("stays")
    (ci.folder / "p2pnet-results" / ".written").write_text("../mine\0..\0.\0\0/\0" + f"{ci.folder}/mine\0")
    assert ci("--on", "sim", ci.scenario("a.yaml")).returncode == 0
    assert (ci.folder / "mine").read_text() == "stays"


def test_scenarios_with_the_name_of_another_output_have_files_of_their_own(ci: Ci) -> None:
    names = ["summary.yaml", "compare.yaml", "install.yaml", "a-2.yaml", "a.yaml", "ab.yaml"]
    names += ["x/a.yaml", "y/a.yaml", "y/a-1.yaml"]
    step, words = ci.folder / "step.md", ["--base", "1", "--head", "2"]
    done = ci(*[ci.scenario(name, 1) for name in names], *words, GITHUB_STEP_SUMMARY=str(step))
    assert done.returncode == 1
    assert step.read_text() == "".join(f"## {name}\n\n" for name in names) + "<!-- p2pnet compare -->\n\n"
    stems = ["summary-1", "compare-1", "install-1", "a-2", "a", "ab", "a-1", "a-3", "a-1-1"]
    written = {f"{stem}.{ending}" for stem in stems for ending in ("json", "xml", "md", "log", "tar.gz")}
    others = {"summary.md", "compare.json", "compare.md", "compare.log", "install.log"}
    assert {one for one in ci.results() if not one.startswith("cluster")} == written | others
    results = ci.folder / "p2pnet-results"
    assert (results / "compare.md").read_text() == "<!-- p2pnet compare -->\n"
    assert "r-of" not in (results / "compare.json").read_text()
    assert (results / "a-3.md").read_text() == "## y/a.yaml\n"
    assert "run.sh: x/a.yaml: its files are a-1.*, for a.* is taken" in done.stderr


def test_the_job_gets_its_summary_and_outputs(ci: Ci) -> None:
    summary, output = ci.folder / "step.md", ci.folder / "output"
    ci("--on", "sim", ci.scenario("a.yaml", 1), GITHUB_STEP_SUMMARY=str(summary), GITHUB_OUTPUT=str(output))
    assert summary.read_text() == "## a.yaml\n\n"
    assert output.read_text() == f"exit-code=1\nresults={ci.folder.resolve()}/p2pnet-results\n"


@pytest.mark.parametrize("to_all", [False, True], ids=["SIGTERM to the script", "Ctrl-C to all of them"])
def test_ci_that_cancels_lets_p2pnet_end_in_order(ci: Ci, to_all: bool) -> None:
    name = ci.scenario("a.yaml")
    (ci.folder / f"{name}.slow").touch()
    words = ["bash", str(SCRIPT), "--on", "sim", name, ci.scenario("b.yaml")]
    with subprocess.Popen(
        words, cwd=ci.folder, env=ci.environment, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        log, deadline = ci.folder / "p2pnet-results" / "a.log", time.monotonic() + PATIENCE_S
        while not (log.exists() and "begun" in log.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if to_all:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 130
    assert "interrupted" in said
    assert len(ci.said("p2pnet run")) == 1
    assert "interrupted" in log.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to do"),
        (("--on", "mars", "a.yaml"), "target mars"),
        (("--base", "a"), "--base and --head go together"),
        (("--no-such",), "unknown option --no-such"),
        (("--on",), "--on wants a value"),
    ],
)
def test_a_wrong_command_line_is_exit_2_and_says_why(ci: Ci, words: tuple[str, ...], said: str) -> None:
    done = ci(*words)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[0]


def test_without_p2pnet_it_says_how_to_get_it(ci: Ci) -> None:
    path = ":".join(one for one in os.environ["PATH"].split(":") if not (Path(one) / "p2pnet").exists())
    done = ci("a.yaml", PATH=path)
    assert (done.returncode, done.stderr) == (2, "run.sh: p2pnet is not in PATH: pip install p2pnet\n")


# --- the action ---


def steps() -> list[dict[str, Any]]:
    return [step for step in ACTION["runs"]["steps"] if "run" in step]


def test_the_action_gives_the_script_every_input_and_nothing_it_does_not_know() -> None:
    [step] = [step for step in steps() if "run.sh" in step["run"]]
    known = set(re.findall(r"P2PNET_CI_[A-Z_]+", SCRIPT.read_text()))
    given = {name for name in step["env"] if name.startswith("P2PNET_")}
    assert given <= known
    assert known - given == {"P2PNET_CI_DELETE"}  # a runner ends with its job
    text = (FOLDER / "action.yml").read_text()
    assert set(re.findall(r"inputs\.([a-z-]+)", text)) == set(ACTION["inputs"])
    assert os.access(SCRIPT, os.X_OK)
    assert SCRIPT.stat().st_mode & stat.S_IXUSR


def test_no_input_of_the_action_becomes_part_of_a_command() -> None:
    assert [step for step in steps() if "${{" in step["run"]] == []


def test_shellcheck_finds_nothing_in_the_actions_own_commands() -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("no shellcheck here")
    for step in steps():
        done = subprocess.run(
            [shellcheck, "--shell", "bash", "-"], input=step["run"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_our_own_workflow_uses_the_action() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "kind.yml").read_text())
    used = [
        step
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if step.get("uses") == "./.github/actions/p2pnet"
    ]
    assert used
    for step in used:
        assert set(step["with"]) <= set(ACTION["inputs"])
        assert (ROOT / step["with"]["scenario"]).is_file()
