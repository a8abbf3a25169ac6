"""`run`: a scenario from its file to an exit code, in the simulator and against a target without processes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml

from p2pnet.cli import app
from p2pnet.cli.stages import live
from p2pnet.cli.verbs.schema import schema_of
from p2pnet.model.jobs import RunRequest, RunState
from p2pnet.store import State, archive
from p2pnet.subnet.document import default_subnet

Call = Callable[..., Any]
NETWORK = {"default": {"latency": "10ms"}}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """Write a scenario; its path."""

    def write(*steps: dict[str, Any], **spec: Any) -> str:
        where = {} if "subnetFrom" in spec else {"subnet": {"nodes": 4, "network": NETWORK}}
        document = {
            "apiVersion": "p2pnet.io/v1alpha1", "kind": "Scenario",
            "metadata": {"name": "story", "description": "What happens."}, "spec": {**where, **spec, "steps": list(steps)},
        }  # fmt: skip
        path = tmp_path / "story.yaml"
        path.write_text(yaml.safe_dump(document))
        return str(path)

    return write


BEFORE = {"name": "before", "inject": {"size": "1KiB", "count": 3, "rate": "10/s", "expect": "p95 <= 500ms"}}
AFTER = {"name": "after", "inject": {"size": "1KiB"}}
COMPARED = {"expect": ["after.p95 <= 2 * before.p95"]}
LATE = {"expect": ["before.p50 <= 1ms"]}


def document_of(ended: Any, code: int = 0) -> Any:
    assert ended.code == code, ended.err
    found = json.loads(ended.out)
    jsonschema.validate(found, schema_of("scenario-run"))
    return found


# --- in the simulator ---


def test_a_scenario_in_its_document_out(p2pnet: Call, written: Callable[..., str], state: State) -> None:
    found = document_of(p2pnet("run", written(BEFORE, AFTER, COMPARED), "--on", "sim", "-o", "json"))

    assert (found["scenario"], found["target"], found["seed"], found["verdict"]) == ("story", "sim", 42, "pass")
    assert [(one["expr"], one["name"], one["ok"]) for one in found["expectations"]] == [
        ("p95 <= 500ms", "before", True), ("reach == 100%", "before", True), ("reach == 100%", "after", True),
        ("after.p95 <= 2 * before.p95", "after", True),
    ]  # fmt: skip
    assert [step["kind"] for step in found["steps"]] == ["inject", "inject", "expect"]
    assert found["rerun"] == ""
    assert len(found["digest"]) == 64
    runs = [step["run"] for step in found["steps"][:2]]
    kept = [archive.read_run(state, run)[0] for run in runs]
    assert [(run.subnet, run.target, run.label, run.state) for run in kept] == [
        ("story", "sim", "story/before", "finished"), ("story", "sim", "story/after", "finished"),
    ]  # fmt: skip


def test_the_runs_of_its_steps_are_read_like_all_others(
    p2pnet: Call, written: Callable[..., str], tmp_path: Path
) -> None:
    ended = p2pnet("run", written(BEFORE, AFTER), "--on", "sim")
    assert ended.code == 0, ended.err
    *_, hint = ended.err.splitlines()
    assert hint.startswith("Next: p2pnet report story r-")
    assert p2pnet(*hint.split()[2:]).code == 0
    assert json.loads(p2pnet("report", "story", "story/after", "-o", "json").out)["artifacts"] == 1
    assert p2pnet("trace", "story", "latest").code == 0
    got = p2pnet("get", "story", "latest", "-O", str(tmp_path / "bytes"), "--node", "node-0")
    assert (got.code, (tmp_path / "bytes").stat().st_size) == (0, 1024)


def test_the_same_seed_gives_the_same_digest_and_another_another(p2pnet: Call, written: Callable[..., str]) -> None:
    path = written(BEFORE, {"fault": {"loss": "20%"}}, AFTER)

    def digest(*words: str) -> str:
        return str(document_of(p2pnet("run", path, "--on", "sim", "-o", "json", *words))["digest"])

    assert digest() == digest("--seed", "42")
    assert digest() != digest("--seed", "43")


def test_what_did_not_hold_is_exit_1_with_the_command_that_runs_it_again(
    p2pnet: Call, written: Callable[..., str]
) -> None:
    path = written(BEFORE, LATE)
    ended = p2pnet("run", path, "--on", "sim", "--seed", "7")

    assert ended.code == 1
    assert "MISS before.p50 <= 1ms" in ended.out
    assert ended.err.splitlines()[-1] == f"Next: p2pnet run {path} --seed 7 --on sim"
    assert p2pnet(*ended.err.splitlines()[-1].split()[2:]).code == 1


def test_every_step_that_is_over_is_told_and_quiet_leaves_the_table_alone(
    p2pnet: Call, written: Callable[..., str]
) -> None:
    path = written(
        BEFORE, {"name": "slow", "fault": {"latency": "50ms"}}, {"parallel": [AFTER, {"at": "1s", "heal": "slow"}]}
    )
    ended = p2pnet("run", path, "--on", "sim")
    told = [line.split()[:3] for line in ended.err.splitlines()]
    for line in (["1", "ok", "before"], ["2", "ok", "slow"], ["3.1", "ok", "after"], ["3.2", "ok", "heal-1"]):
        assert line in told
    assert p2pnet("run", path, "--on", "sim", "-q").err == ""


@pytest.mark.parametrize("output", ["table", "yaml", "ndjson"])
def test_it_has_every_form(p2pnet: Call, written: Callable[..., str], output: str) -> None:
    ended = p2pnet("run", written(BEFORE, COMPARED | {"expect": "before.reach == 100%"}), "--on", "sim", "-o", output)
    assert ended.code == 0
    assert "before.reach == 100%" in ended.out


def test_trials_have_a_seed_each_and_keep_no_runs(p2pnet: Call, written: Callable[..., str], state: State) -> None:
    path = written(BEFORE, LATE)
    words = ("run", path, "--on", "sim", "--trials", "3", "--seed", "5", "-o", "json")
    found = document_of(p2pnet(*words, "--jobs", "2"), code=1)

    assert [(one["seed"], one["verdict"], one["missed"]) for one in found["trials"]] == [
        (seed, "fail", ["before.p50 <= 1ms"]) for seed in (5, 6, 7)
    ]  # fmt: skip
    assert [(one["expr"], one["held"]) for one in found["held"]][-1] == ("before.p50 <= 1ms", 0)
    assert found["rerun"] == f"p2pnet run {path} --seed 5 --on sim"
    assert len({one["digest"] for one in found["trials"]}) == 3
    assert archive.list_heads(state, "story") == []
    single = document_of(p2pnet("run", path, "--on", "sim", "--seed", "6", "-o", "json"), code=1)
    assert single["digest"] == found["trials"][1]["digest"]


def test_a_case_for_each_expectation(p2pnet: Call, written: Callable[..., str], tmp_path: Path) -> None:
    file, page = tmp_path / "junit.xml", tmp_path / "page.md"
    ended = p2pnet("run", written(BEFORE, AFTER, LATE), "--on", "sim", "--junit", str(file), "--md", str(page))

    assert ended.code == 1
    root = ET.parse(file).getroot()
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert list(cases) == [
        "before: p95 <= 500ms", "before: reach == 100%", "after: reach == 100%", "before.p50 <= 1ms"
    ]  # fmt: skip
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "1", "0")
    assert "again: p2pnet run" in cases["before.p50 <= 1ms"].find("failure").text
    assert "| ❌ | before | before.p50 \\<= 1ms |" in page.read_text()


def test_files_lie_beside_the_scenario(p2pnet: Call, written: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x" * 3000)
    (tmp_path / "empty").touch()
    assert p2pnet("run", written({"inject": {"files": ["photo.jpg"]}}), "--on", "sim").code == 0
    for name, why in (("none.jpg", "there is no such file"), ("empty", "from 1 B"), (".", "it is no file")):
        ended = p2pnet("run", written({"inject": {"files": [name]}}), "--on", "sim")
        assert ended.code == 2
        assert why in ended.err
        assert "spec.steps[0].inject.files[0]" in ended.err


def test_the_subnet_may_stand_in_a_file_of_its_own(p2pnet: Call, written: Callable[..., str], tmp_path: Path) -> None:
    subnet = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": {"nodes": 3}}
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump(subnet))
    found = document_of(p2pnet("run", written(AFTER, subnetFrom="demo.yaml"), "--on", "sim", "-o", "json"))
    assert (found["subnet"], found["nodes"]) == ("story", 3)
    ended = p2pnet("run", written(AFTER, subnetFrom="none.yaml"), "--on", "sim")
    assert (ended.code, "there is no such file" in ended.err) == (2, True)


# --- what is wrong ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--jobs", "2"), "--jobs is for several simulated trials"),
        (("--on", "sim", "--jobs", "2"), "--jobs is for several simulated trials"),
        (("--on", "sim", "--keep"), "a simulated subnet ends with its scenario"),
        (("--keep", "--trials", "2"), "each one begins with a new subnet"),
        (("--trials", "101"), "at most 100 of live nodes"),
        (("--on", "sim", "--junit", "-", "--md", "-"), "--junit names it too"),
        (("--on", "sim", "--junit", "/nowhere/x.xml"), "there is no directory"),
        (("--on", "sim", "--context", "c"), "contexts and namespaces belong to clusters"),
    ],
)
def test_options_that_contradict_each_other_are_exit_2(
    p2pnet: Call, written: Callable[..., str], words: Any, said: str
) -> None:
    ended = p2pnet("run", written(AFTER), *words)
    assert ended.code == 2
    assert said in ended.err


def test_a_wrong_document_is_exit_2_with_every_mistake(
    p2pnet: Call, written: Callable[..., str], tmp_path: Path
) -> None:
    ended = p2pnet("run", written({"inject": {"from": "node-9"}}, {"heal": "x"}), "--on", "sim")
    assert ended.code == 2
    assert "spec.steps[0].inject.from" in ended.err
    assert "spec.steps[1].heal[0]" in ended.err
    assert p2pnet("run", str(tmp_path / "none.yaml")).code == 2
    (tmp_path / "empty.yaml").touch()
    assert "is empty" in p2pnet("run", str(tmp_path / "empty.yaml")).err


def test_a_step_that_the_target_lacks_is_refused_or_skipped_and_said(p2pnet: Call, written: Callable[..., str]) -> None:
    path = written(AFTER, {"upgrade": {"image": "node:2"}}, {"fault": {"duplication": "5%"}})
    ended = p2pnet("run", path, "--on", "sim")
    assert ended.code == 2
    assert "spec.steps[1].upgrade.image: has no meaning here" in ended.err
    found = document_of(p2pnet("run", path, "--on", "sim", "--ignore-unsupported", "-o", "json"))
    assert [step["state"] for step in found["steps"]] == ["done", "skipped", "skipped"]
    assert [line.partition(":")[0] for line in found["ignored"]] == [
        "spec.steps[1].upgrade.image", "spec.steps[2].fault.duplication",
    ]  # fmt: skip


def test_more_nodes_than_fit_at_any_step_are_refused(
    p2pnet: Call, written: Callable[..., str], monkeypatch: Any
) -> None:
    from p2pnet.cli import capacity
    from p2pnet.cli.capacity import Machine

    monkeypatch.setattr(capacity, "this_machine", lambda: Machine(2, 55 << 20))
    assert p2pnet("run", written(AFTER), "--on", "sim").code == 0
    ended = p2pnet("run", written(AFTER, {"scale": {"nodes": 50}}), "--on", "sim")
    assert (ended.code, "of memory" in ended.err) == (2, True)


def test_larger_injections_than_fit_are_refused_and_none_that_lives_too_shortly_to_meet_the_rest(
    p2pnet: Call, written: Callable[..., str], monkeypatch: Any
) -> None:
    from p2pnet.cli import capacity
    from p2pnet.cli.capacity import Machine

    monkeypatch.setattr(capacity, "this_machine", lambda: Machine(2, 60 << 20))
    load = {"count": 100, "size": "1MiB", "from": "node-0"}
    for inject in (load, {**load, "rate": "10/s"}, {**load, "from": "all", "count": 25}):
        ended = p2pnet("run", written({"inject": inject}), "--on", "sim")
        assert (ended.code, "100 MiB of artifacts that live at the same time" in ended.err) == (2, True), ended.err
    brief = {"nodes": 4, "network": NETWORK, "broadcast": {"keep": "2s"}}
    ended = p2pnet("run", written({"inject": {**load, "rate": "4/s"}}, subnet=brief), "--on", "sim")
    assert ended.code == 0, ended.err


# --- against a target without processes ---


@pytest.fixture
def lived(p2pnet: Call, target: Any, monkeypatch: pytest.MonkeyPatch, make_status: Callable[..., Any]) -> Call:
    """The command line with a live target of four nodes that are up at once, and a lab that is quick."""
    monkeypatch.setattr(app, "find_target", lambda *_, **__: target)
    monkeypatch.setattr(live, "POLL_S", 0.001)
    target.seen = "absent"
    target.fake.statuses = [make_status(4, name="story")]
    return p2pnet


def test_a_live_subnet_is_started_for_it_and_taken_down_after_it(
    lived: Call, target: Any, written: Callable[..., str]
) -> None:
    ended = lived("run", written(BEFORE, {"name": "f", "fault": {"loss": "5%"}}, {"heal": "f"}), "-o", "json")
    assert ended.code == 0, ended.err
    assert [subnet.name for subnet in target.started] == ["story"]
    assert target.removed == ["story"]
    [request] = [asked[1] for asked in target.fake.asked if asked[0] == "run"]
    assert isinstance(request, RunRequest)
    assert (request.label, request.seed, request.expect, request.shared) == (
        "story/before",
        42,
        ["p95 <= 500ms"],
        False,
    )
    assert [asked for asked in target.fake.asked if asked[0] in ("add", "clear")] == [
        ("add", {"loss": "5%", "name": "f"}, 60.0), ("clear", "f"),
    ]  # fmt: skip


def test_faults_that_nothing_healed_are_healed_at_the_end(
    lived: Call, target: Any, written: Callable[..., str]
) -> None:
    assert lived("run", written(AFTER, {"name": "f", "fault": {"loss": "5%"}})).code == 0
    assert ("clear", "f") in target.fake.asked
    assert target.removed == ["story"]


def test_it_is_left_standing_when_that_is_wanted(lived: Call, target: Any, written: Callable[..., str]) -> None:
    ended = lived("run", written(AFTER), "--keep")
    assert (ended.code, target.removed) == (0, [])
    assert "story is left standing: p2pnet down story takes it down" in ended.err
    assert ended.err.splitlines()[-1] == "Next: p2pnet down story"


def test_a_subnet_of_its_name_that_is_up_is_nobody_s_to_take_down(
    lived: Call, target: Any, written: Callable[..., str]
) -> None:
    target.fake.subnet = default_subnet("story", 4)
    target.seen = "up"
    ended = lived("run", written(AFTER), "-o", "json")
    assert ended.code == 2
    assert "there is a subnet story already (p2pnet down story, or give it another metadata.name)" in ended.out
    assert (target.started, target.removed) == ([], [])


def test_a_subnet_that_is_not_ready_in_time_is_exit_4_and_taken_down(
    lived: Call, target: Any, written: Callable[..., str], make_status: Callable[..., Any]
) -> None:
    target.fake.statuses = [make_status(4, connected=2, name="story")]
    ended = lived("run", written(AFTER, subnet={"nodes": 4, "ready": {"within": "1s"}}), "-o", "json")
    assert ended.code == 4
    assert "links 1/6" in ended.out
    assert target.removed == ["story"]


def test_a_run_that_ends_without_a_report_is_exit_5(lived: Call, target: Any, written: Callable[..., str]) -> None:
    target.fake.states = [RunState(run="r-1", state="cancelled", request=RunRequest([]), created_at=0.0)]
    ended = lived("run", written(AFTER), "-o", "json")
    assert ended.code in (2, 5)
    assert target.removed == ["story"]


def test_live_trials_follow_each_other_each_with_a_new_subnet(
    lived: Call, target: Any, written: Callable[..., str]
) -> None:
    ended = lived("run", written(AFTER), "--trials", "2", "-o", "json")
    assert ended.code == 0, ended.err
    assert target.removed == ["story", "story"]
    assert [asked[1].seed for asked in target.fake.asked if asked[0] == "run"] == [42, 43]
    assert "trial 2 of 2, seed 43" in ended.err


def test_a_client_that_no_node_here_could_run_is_refused_before_any_is_started(
    lived: Call, target: Any, written: Callable[..., str]
) -> None:
    clients = [{"name": "blob"}, {"name": "chat", "class": "no.such.module:Chat"}]
    ended = lived("run", written(AFTER, subnet={"nodes": 3, "clients": clients}))
    assert ended.code == 2
    assert "spec.clients[1].class" in ended.err
    assert (target.started, target.removed) == ([], [])
