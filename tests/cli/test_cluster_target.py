"""The target `cluster` against an API server that is a fake: what is asked, what is waited for, what is said."""

import base64
import json
import re
import ssl
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.cli.fake_kube import BEARER, FakeKube, deployment

from p2pnet.cli.targets.cluster import installation, target
from p2pnet.cli.targets.cluster import lab as cluster_lab
from p2pnet.lab_client import proxy
from p2pnet.model.jobs import Problem, RunFile, RunRequest, RunState
from p2pnet.model.registry import Member, Membership, Registry
from p2pnet.model.report import Condition, Report, Status
from p2pnet.store import State, archive
from p2pnet.subnet.document import default_subnet, to_document
from p2pnet.trust import Authority


@pytest.fixture
def kube(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKube]:
    fake = FakeKube()
    fake.start()
    monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.setattr(proxy, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(target, "POLL_S", 0.02)
    monkeypatch.setattr(cluster_lab, "PAUSE_S", 0.02)
    monkeypatch.setattr(installation, "POLL_S", 0.01)
    yield fake
    fake.stop()


class FakeLab:
    """A lab of three nodes that has run once."""

    def __init__(self, status: Status, report: Report) -> None:
        self.status = msgspec.structs.replace(status, target="cluster")
        self.report = msgspec.structs.replace(report, target="cluster")
        self.lost = False
        self.document = to_document(default_subnet("demo", 3))
        request = RunRequest(payloads=[])
        self.state = RunState(self.report.run, "finished", request, 1.0, report=self.report, cursor=3)
        self.file = RunFile(
            run=self.report.run, subnet="demo", target="cluster", seed=7, request=request, created_at=1.0,
            nodes=["node-0"], version="0", state="finished", artifacts=self.report.artifact_ids,
        )  # fmt: skip

    def __call__(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        match method, path.split("/")[2:]:
            case "GET", ["summary"]:
                return 200, self.status
            case "GET", ["spec"]:
                return 200, self.document
            case "GET", ["members"]:
                members = [Member(f"node-{index}", f"spiffe://x/node-{index}") for index in range(3)]
                return 200, Membership(Registry(1, members))
            case "POST", ["runs"]:
                return 202, msgspec.structs.replace(self.state, state="running", report=None, cursor=1)
            case "GET", ["runs"]:
                return 200, {"runs": [] if self.lost else [msgspec.to_builtins(self.state)]}
            case "GET", ["runs", _run]:
                return (404, Problem("there is no such run")) if self.lost else (200, self.state)
            case "GET", ["runs", _run, "files", "run.json"]:
                return 200, self.file
            case "GET", ["runs", _run, "files", "summary.json"]:
                return 200, self.report
            case "GET", ["runs", _run, "files", "events.ndjson"]:
                return 200, b""
        return 404, Problem(f"{method} {path}: not found", exit_code=2)


@pytest.fixture
def lab(kube: FakeKube, make_status: Callable[..., Status], report: Report) -> FakeLab:
    lab = FakeLab(make_status(), report)
    kube.lab = lab
    return lab


def test_ls_lists_what_is_here_and_in_the_cluster_and_of_a_cluster_all_namespaces(
    kube: FakeKube, lab: FakeLab, p2pnet
) -> None:
    kube.add("demo")

    both = json.loads(p2pnet("ls", "-o", "json").out)["subnets"]
    assert [(one["name"], one["target"], one["context"], one["namespace"]) for one in both] == [
        ("demo", "cluster", "fake", "default")
    ]
    assert (both[0]["state"], both[0]["desired"], both[0]["links_up"]) == ("up", 3, 3)
    every = p2pnet("ls", "-A", "--on", "cluster", "-o", "json")
    assert json.loads(every.out)["subnets"] == both
    assert "context fake" in every.err
    assert json.loads(p2pnet("ls", "--on", "local", "-o", "json").out)["subnets"] == []


def injection(name: str, subnet: str = "demo", minute: int = 0, **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "creationTimestamp": f"2026-11-21T10:{minute:02}:00Z"}
    return {"metadata": metadata, "spec": {"subnet": subnet}, **({"status": status} if status else {})}


def test_status_tells_of_the_injections_of_a_subnet_and_does_without_the_right_to(
    kube: FakeKube, lab: FakeLab, p2pnet
) -> None:
    kube.add("demo")
    why = {"type": "Finished", "status": "False", "reason": "SubnetNotReady", "message": "links 2/3"}
    kube.experiments = [
        injection("old", minute=1, state="Failed", run="r-1", reach={"ratio": 0.5}, latencyMs={"p95": 80.5}),
        injection("elsewhere", "other", minute=2, state="Running"),
        injection("newer", minute=3, state="Propagated", run="r-2", reach={"ratio": 1.0}, latencyMs={"p95": 12.0}),
        injection("patient", minute=0, state="Waiting", conditions=[why]),
        injection("unseen", minute=4),
    ]
    lines = json.loads(p2pnet("status", "demo", "-o", "json").out)["injections"]
    assert [line["name"] for line in lines] == ["unseen", "patient", "newer", "old"], "open ones, then the newest"
    assert (lines[1]["reason"], lines[1]["message"], lines[1]["run"]) == ("SubnetNotReady", "links 2/3", "")
    assert (lines[3]["state"], lines[3]["run"], lines[3]["reach"], lines[3]["p95_ms"]) == ("Failed", "r-1", 0.5, 80.5)
    shown = p2pnet("status", "demo").out
    assert re.search(r"INJECTION +STATE +REASON +RUN", shown)
    assert re.search(r"patient +Waiting +SubnetNotReady", shown)
    assert "elsewhere" not in shown
    kube.lab = None
    assert "patient" in p2pnet("status", "demo").out, "without a lab, too"
    kube.forbidden.add("/injections")
    without = p2pnet("status", "demo", "-o", "json")
    assert json.loads(without.out)["injections"] == []


def test_runs_of_a_cluster_are_listed_and_labelled_by_their_copies(kube: FakeKube, lab: FakeLab, p2pnet) -> None:
    kube.add("demo")

    [run] = json.loads(p2pnet("runs", "demo", "-o", "json").out)["runs"]
    assert (run["run"], run["context"], run["namespace"], run["verdict"]) == (
        lab.report.run, "fake", "default", lab.report.verdict,
    )  # fmt: skip
    assert p2pnet("runs", "demo", "--set-label", "latest=baseline").code == 0
    assert json.loads(p2pnet("runs", "--label", "baseline", "-o", "json").out)["matched"] == 1
    assert p2pnet("runs", "demo", "--rm", "baseline", "-y").code == 0
    assert "no run" in p2pnet("runs", "-o", "table").out + p2pnet("runs", "demo").err  # and it is not copied again


def test_up_applies_the_document_and_waits_until_the_lab_says_connected(kube: FakeKube, lab: FakeLab, p2pnet) -> None:
    ended = p2pnet("up", "demo", "--nodes", "3", "--on", "cluster", "-o", "json")

    assert ended.code == 0, ended.err
    assert kube.applied[0]["metadata"] == {"name": "demo", "namespace": "default"}
    assert kube.applied[0]["spec"]["nodes"] == 3
    assert json.loads(ended.out)["nodes"]["connected"] == 3
    assert "context fake, namespace default" in ended.err
    assert "p2pnet inject demo --size 64KiB --count 20 --rate 10/s --on cluster" in ended.err


def test_up_leaves_out_what_is_ignored_and_says_so_on_the_object(
    kube: FakeKube, lab: FakeLab, p2pnet, tmp_path
) -> None:
    file = tmp_path / "demo.yaml"
    document = to_document(default_subnet("demo", 3))
    document["spec"]["groups"] = [{"name": "next", "nodes": 0, "behaviour": "stale-certificate"}]
    file.write_text(json.dumps(document))
    said = "spec.groups[0].behaviour: is not implemented yet (target cluster)"

    assert p2pnet("up", "-f", str(file), "--on", "cluster").code == 2
    ended = p2pnet("up", "-f", str(file), "--on", "cluster", "--ignore-unsupported")

    assert ended.code == 0, ended.err
    assert kube.applied[0]["spec"]["groups"] == [{"name": "next", "nodes": 0}]
    assert kube.applied[0]["metadata"]["annotations"] == {"p2pnet.io/ignored": said}
    assert p2pnet("up", "demo", "--nodes", "4", "--on", "cluster", "--no-wait").code == 0
    assert kube.applied[1]["metadata"]["annotations"] == {"p2pnet.io/ignored": said}  # an edit forgets nothing
    kube.lab = None
    away = json.loads(p2pnet("status", "demo", "--on", "cluster", "-o", "json").out)
    assert away["ignored"] == [said]


def test_up_that_is_not_ready_in_time_names_image_and_lab(kube: FakeKube, p2pnet) -> None:
    def stuck(thing: dict[str, Any]) -> None:
        pod = kube.add_pod("demo", "node-0", phase="Pending")
        waiting = {"reason": "ErrImagePull", "message": "no such image: nowhere/p2pnet:1"}
        pod["status"]["containerStatuses"] = [{"state": {"waiting": waiting}}]
        degraded = {
            "type": "Degraded",
            "status": "True",
            "reason": "ImagePull",
            "message": "demo-node-0: no such image",
        }
        thing["status"] = {"observedGeneration": 1, "certificates": {"issued": 1}, "conditions": [degraded]}

    kube.on_apply = stuck
    ended = p2pnet("up", "demo", "--nodes", "2", "--on", "cluster", "--timeout", "1s")

    assert ended.code == 4
    assert "certificates 1/2, nodes running 0/2, nodes ready 0/2, links 0/1, the lab" in ended.err
    assert "ImagePull: demo-node-0: no such image" in ended.err
    assert "node-0 starting (0/1 links, ErrImagePull: no such image: nowhere/p2pnet:1)" in ended.err
    assert "node-1 starting (0/1 links, has no pod yet)" in ended.err


def test_an_edit_is_ready_only_when_the_operator_has_rolled_it_out(
    kube: FakeKube, lab: FakeLab, p2pnet, tmp_path
) -> None:
    kube.add("demo")
    kube.on_apply = lambda thing: None  # an operator that does not look
    file = tmp_path / "demo.yaml"
    document = to_document(default_subnet("demo", 3))
    document["spec"]["broadcast"] = {"pushBelow": 2048}
    file.write_text(json.dumps(document))
    ended = p2pnet("up", "-f", str(file), "--on", "cluster", "--timeout", "1s")

    assert ended.code == 4
    assert "the operator has not looked at the document yet" in ended.err
    assert kube.applied[0]["spec"]["broadcast"] == {"pushBelow": 2048}


def test_a_subnet_whose_document_was_refused_is_used_as_it_runs_and_corrected_by_up(
    kube: FakeKube, lab: FakeLab, p2pnet, tmp_path: Path
) -> None:
    kube.add("demo", nodes=4, topology={"kind": "edges", "edges": [["node-0", "node-9"]]})
    ended = p2pnet("inject", "demo", "--from", "node-2", "--on", "cluster")
    assert ended.code == 0, ended.err
    ended = p2pnet("inject", "demo", "--from", "node-3", "--on", "cluster")
    assert ended.code == 2, "the node of the refused document is not there"
    file = tmp_path / "demo.yaml"
    file.write_text(json.dumps(to_document(default_subnet("demo", 3))))
    ended = p2pnet("up", "-f", str(file), "--on", "cluster")
    assert ended.code == 0, ended.err
    assert "took the edit of a document that was refused" in ended.err
    assert kube.applied[0]["spec"]["nodes"] == 3


def test_what_nobody_may_change_is_refused_before_the_api_server_is_asked(kube: FakeKube, p2pnet, tmp_path) -> None:
    kube.add("demo", seed=1)
    file = tmp_path / "demo.yaml"
    file.write_text(json.dumps({**to_document(default_subnet("demo", 3)), "spec": {"nodes": 3, "seed": 2}}))
    ended = p2pnet("up", "-f", str(file), "--on", "cluster")
    assert (ended.code, kube.applied) == (2, [])
    assert "spec.seed" in ended.err


def test_what_the_api_server_refuses_as_wrong_is_exit_2(kube: FakeKube, p2pnet, tmp_path) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(json.dumps({**to_document(default_subnet("demo", 3)), "spec": {"nodes": 3, "seed": 666}}))
    ended = p2pnet("up", "-f", str(file), "--on", "cluster")
    assert ended.code == 2
    assert "spec.seed: not that one" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("up", "demo", "-n", "nope", "--nodes", "2"), "there is no namespace nope"),
        (("status", "demo", "--on", "cluster"), "there is no subnet demo"),
        (("status", "demo", "--context", "mars"), "(there: fake, other)"),
    ],
)
def test_what_is_not_there_is_exit_3(kube: FakeKube, p2pnet, words: tuple[str, ...], said: str) -> None:
    ended = p2pnet(*words)
    assert ended.code == 3
    assert said in ended.err


def test_a_cluster_without_p2pnet_names_install(kube: FakeKube, p2pnet) -> None:
    kube.installed = False
    ended = p2pnet("up", "demo", "--on", "cluster")
    assert ended.code == 3
    assert "p2pnet install --context fake" in ended.err


def test_a_namespace_of_the_file_is_gone_to_unless_the_command_line_says_another(kube: FakeKube, lab, p2pnet, tmp_path):
    kube.namespace = "team"
    document = to_document(default_subnet("demo", 3))
    document["metadata"]["namespace"] = "team"
    file = tmp_path / "demo.yaml"
    file.write_text(json.dumps(document))
    assert p2pnet("up", "-f", str(file), "--on", "cluster").code == 0
    assert kube.applied[0]["metadata"]["namespace"] == "team"
    ended = p2pnet("up", "-f", str(file), "--on", "cluster", "-n", "default")
    assert ended.code == 2
    assert "metadata.namespace says team" in ended.err


def test_a_name_is_looked_up_here_and_then_in_the_current_context(
    kube: FakeKube, lab: FakeLab, p2pnet, state: State
) -> None:
    kube.add("demo")
    found = p2pnet("status", "demo", "-o", "json")
    assert found.code == 0
    assert "context fake" in found.err
    assert json.loads(found.out)["target"] == "cluster"
    [line] = json.loads(p2pnet("status", "-o", "json").out)["subnets"]
    assert (line["name"], line["target"], line["context"], line["namespace"]) == ("demo", "cluster", "fake", "default")

    state.subnet("demo").make().document.write_text(json.dumps(to_document(default_subnet("demo", 3))))
    both = p2pnet("status", "demo")
    assert both.code == 2
    assert "demo is on this machine and in context fake, namespace default" in both.err
    assert p2pnet("status", "demo", "--on", "cluster").code == 0


def test_status_falls_back_to_the_object_while_the_lab_is_away(kube: FakeKube, p2pnet) -> None:
    thing = kube.add("demo")
    thing["status"]["conditions"] = [
        {"type": "Connected", "status": "Unknown", "reason": "LabUnreachable", "message": ""}
    ]
    kube.pods["demo-node-1"]["status"]["containerStatuses"] = [{"restartCount": 4, "state": {}}]
    status = msgspec.json.decode(p2pnet("status", "demo", "--on", "cluster", "-o", "json").out.encode(), type=Status)

    assert (status.nodes.desired, status.nodes.ready, status.nodes.connected) == (3, 3, 0)
    assert (status.links.expected, status.links.up, status.certificates.issued) == (3, 0, 3)
    assert [member.restarts for member in status.members] == [0, 4, 0]
    away = next(one for one in status.conditions if one.type == "LabAway")
    assert "no endpoints available" in away.message
    assert Condition("Connected", "Unknown", "LabUnreachable", "") in status.conditions


def test_a_run_is_followed_through_a_proxy_that_stumbles_and_its_files_are_kept(
    kube: FakeKube, lab: FakeLab, p2pnet, state
):
    kube.add("demo")
    kube.away = [503, 502]
    ended = p2pnet("inject", "demo", "--on", "cluster", "-o", "json")

    assert ended.code == 0, ended.err
    assert msgspec.json.decode(ended.out.encode(), type=Report) == lab.report
    kept = msgspec.structs.replace(lab.file, context="fake", namespace="default")
    assert archive.read_run(state, lab.report.run) == (kept, lab.report)
    assert archive.invalidate_open_runs(state, "demo", "a local lab of that name died") == []
    kube.lab = None
    assert p2pnet("down", "demo", "-y", "--on", "cluster").code == 0
    assert p2pnet("report", "demo").code == 0  # from the copy: the subnet is gone


def test_a_run_that_another_lab_knows_nothing_of_is_invalid(kube: FakeKube, lab: FakeLab, p2pnet) -> None:
    kube.add("demo")
    lab.lost = True
    ended = p2pnet("inject", "demo", "--on", "cluster")
    assert ended.code == 5
    assert "its lab was replaced during the run" in ended.err


@pytest.mark.parametrize("lost", [True, False])
def test_a_run_whose_lab_stays_away_is_invalid_and_the_machine_that_is_lost_is_named(
    kube: FakeKube, lab: FakeLab, p2pnet, state: State, monkeypatch: pytest.MonkeyPatch, *, lost: bool
) -> None:
    monkeypatch.setattr(cluster_lab, "FOLLOW_S", 0.0)
    monkeypatch.setattr(proxy, "RETRY_FIRST_S", 20.0)
    monkeypatch.setattr(proxy, "RETRY_MAX_S", 20.0)
    thing = kube.add("demo")
    asked = lab.__call__

    def answer(method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if method == "GET" and path.startswith("/v1/runs/") and "files" not in path:
            kube.lab = None
            said = "machine node1 does not answer, since 10:00:00 UTC; its pods: demo-lab. Bring it back; or delete it"
            condition = {"type": "Degraded", "status": "True", "reason": "MachineLost", "message": said}
            thing["status"]["conditions"] = [condition] if lost else []
            kube.away = [503]
        return asked(method, path, query, body)

    kube.lab = answer
    lab.state = msgspec.structs.replace(lab.state, state="running", report=None, cursor=1)
    lab.file = msgspec.structs.replace(lab.file, state="running")
    ended = p2pnet("inject", "demo", "--on", "cluster")
    assert ended.code == 5, ended.err
    assert "is invalid: its lab has been away for" in ended.err
    assert ("machine node1 does not answer, since 10:00:00 UTC; its pods: demo-lab" in ended.err) is lost
    assert "p2pnet status demo --on cluster -n default" in ended.err
    again = p2pnet("report", "demo", "--on", "cluster")
    assert again.code == 5, again.err


@pytest.mark.parametrize("what", ["the object", "its namespace with a lab that hangs", "another of its name"])
def test_a_follower_whose_subnet_is_deleted_says_so_and_ends(
    what: str, kube: FakeKube, lab: FakeLab, p2pnet, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_lab, "LOOK_S", 0.02)
    thing = kube.add("demo")
    asked = lab.__call__

    def answer(method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if method == "GET" and path.startswith("/v1/runs/") and "files" not in path:
            match what:
                case "the object":
                    kube.subnets.clear()
                case "another of its name":
                    thing["metadata"]["uid"] = "another"
                case _:
                    thing["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
            return 200, msgspec.structs.replace(lab.state, state="running", report=None, cursor=1)
        return asked(method, path, query, body)

    kube.lab = answer
    lab.file = msgspec.structs.replace(lab.file, state="running")
    ended = p2pnet("inject", "demo", "--on", "cluster")
    assert ended.code == 5, ended.err
    assert "is invalid: its subnet was deleted" in ended.err
    assert ended.err.count("is invalid") == 1
    assert archive.read_run(state, lab.report.run)[0].state == "finished"


def test_a_run_that_was_left_alone_is_reported_as_invalid_when_its_lab_was_replaced(
    kube: FakeKube, lab: FakeLab, p2pnet, state: State
) -> None:
    kube.add("demo")
    lab.file = msgspec.structs.replace(lab.file, state="running")
    ticket = json.loads(p2pnet("inject", "demo", "--no-wait", "--on", "cluster", "-o", "json").out)
    lab.lost = True  # and its list is empty: nobody there has heard of the run
    for words in (("report", "demo"), ("report", "demo", ticket["run"])):
        ended = p2pnet(*words, "--on", "cluster")
        assert ended.code == 5, ended.err
        assert "its lab was replaced during the run" in ended.err + ended.out
    run, report = archive.read_run(state, ticket["run"])
    assert (run.state, run.context, run.namespace) == ("finished", "fake", "default")
    assert report is not None
    assert report.verdict == "invalid"
    assert p2pnet("report", "demo", "--on", "cluster", "--namespace", "other").code == 3, "a run of another namespace"


def test_a_lab_that_stays_away_is_exit_3_and_names_itself(
    kube: FakeKube, p2pnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target.ClusterTarget._client, "__kwdefaults__", {"retry_s": 0.05})
    kube.add("demo")
    ended = p2pnet("withdraw", "demo", "abcdef123", "--on", "cluster")
    assert ended.code == 3
    assert "the lab of demo does not answer" in ended.err


def test_a_token_that_may_not_be_read_is_exit_3_and_says_which(kube: FakeKube, lab: FakeLab, p2pnet) -> None:
    kube.add("demo")
    kube.forbidden = {"/secrets/"}
    ended = p2pnet("inject", "demo", "--on", "cluster")
    assert ended.code == 3
    assert "Secret demo-lab-token" in ended.err


def test_who_may_use_one_lab_and_nothing_else_can_run_experiments(kube: FakeKube, lab: FakeLab, p2pnet) -> None:
    kube.add("demo")
    lab.status = msgspec.structs.replace(lab.status, nodes=msgspec.structs.replace(lab.status.nodes, connected=2))
    kube.forbidden = {"/pods"}
    assert p2pnet("inject", "demo", "--on", "cluster").code == 0
    assert p2pnet("status", "demo", "--on", "cluster").code == 0
    assert p2pnet("logs", "demo", "--on", "cluster").code == 3


def test_who_may_only_look_sees_what_the_object_says(kube: FakeKube, lab: FakeLab, p2pnet) -> None:
    kube.add("demo")
    kube.forbidden = {"/secrets/", "/proxy/"}
    ended = p2pnet("status", "demo", "--on", "cluster", "-o", "json")
    assert ended.code == 0
    assert json.loads(ended.out)["nodes"]["ready"] == 3


def test_logs_are_those_of_all_pods_by_time(kube: FakeKube, p2pnet) -> None:
    kube.add("demo", nodes=2)
    kube.logs = {
        "demo-node-0": "2026-11-21T20:00:01.5Z one\n2026-11-21T20:00:03Z three\n",
        "demo-node-1": "2026-11-21T20:00:02.123456789Z two\n",
        "demo-lab": "2026-11-21T20:00:04Z four\n",
    }
    ended = p2pnet("logs", "demo", "--on", "cluster", "-o", "ndjson")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["node"], line["line"]) for line in lines] == [
        ("node-0", "one"), ("node-1", "two"), ("node-0", "three"), ("lab", "four"),
    ]  # fmt: skip
    assert lines[0]["time"] == "2026-11-21T20:00:01.500Z"
    assert p2pnet("logs", "demo", "--on", "cluster", "--grep", "t[wh]").out.count("\n") == 2
    assert "three" in p2pnet("logs", "demo", "--on", "cluster", "--node", "node-0").out
    ended = p2pnet("logs", "demo", "--on", "cluster", "--node", "node-9")
    assert ended.code == 2
    assert "no pod of node 'node-9'" in ended.err


def test_what_the_lab_says_about_a_node_is_among_the_lines_of_that_node(kube: FakeKube, p2pnet) -> None:
    kube.add("demo", nodes=2)
    told = "2026-11-21T20:00:02.000Z WARNING p2pnet.lab.nodes: node-0: its process ended with signal 9 (SIGKILL)"
    kube.logs = {
        "demo-node-0": '2026-11-21T20:00:01Z {"event":"exited","name":"node-0","code":-9}\n',
        "demo-node-1": "2026-11-21T20:00:01Z one\n",
        "demo-lab": f"2026-11-21T20:00:02Z {told}\n2026-11-21T20:00:03Z Traceback\n2026-11-21T20:00:04Z x\n",
    }
    ended = p2pnet("logs", "demo", "--on", "cluster", "--node", "node-0", "-o", "ndjson")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert {(line["node"], line["level"]) for line in lines} == {("node-0", "WARNING")}
    assert len(lines) == 4


def test_objects_in_the_logs_of_pods_are_shown_as_lines_of_text(kube: FakeKube, p2pnet) -> None:
    kube.add("demo", nodes=2)
    said = {
        "time": "2026-11-21T20:00:01.000Z",
        "level": "WARNING",
        "logger": "p2pnet.supervisor",
        "message": "exited node-0",
    }
    failed = {**said, "level": "ERROR", "logger": "asyncio", "message": "a task failed", "exception": "Traceback\n  x"}
    kube.logs = {
        "demo-node-0": f"2026-11-21T20:00:01Z {json.dumps({**said, 'event': 'exited', 'name': 'node-0'})}\n",
        "demo-node-1": f"2026-11-21T20:00:02Z {json.dumps(failed)}\n",
        "demo-lab": "2026-11-21T20:00:03Z {}\n",
    }
    ended = p2pnet("logs", "demo", "--on", "cluster", "-o", "ndjson")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["node"], line["level"], line["line"]) for line in lines] == [
        ("node-0", "WARNING", "2026-11-21T20:00:01.000Z WARNING p2pnet.supervisor: exited node-0"),
        ("node-1", "ERROR", "2026-11-21T20:00:01.000Z ERROR asyncio: a task failed"),
        ("node-1", "ERROR", "Traceback"), ("node-1", "ERROR", "  x"), ("lab", "INFO", "{}"),
    ]  # fmt: skip


def test_down_waits_until_the_pods_are_gone_and_is_fine_when_they_are(kube: FakeKube, p2pnet) -> None:
    kube.add("demo")
    kube.linger = 3
    ended = p2pnet("down", "demo", "-y", "--on", "cluster", "-o", "json")
    assert (ended.code, json.loads(ended.out)["removed"]) == (0, ["demo"])
    assert kube.pods == {}
    assert kube.linger < 0
    again = p2pnet("down", "demo", "-y", "--on", "cluster", "-o", "json")
    assert (again.code, json.loads(again.out)["absent"]) == (0, ["demo"])


def test_down_all_is_every_subnet_of_one_namespace(kube: FakeKube, p2pnet) -> None:
    kube.add("one", nodes=1)
    kube.add("two", nodes=1)
    ended = p2pnet("down", "--all", "-y", "--on", "cluster", "-o", "json")
    assert json.loads(ended.out)["removed"] == ["one", "two"]


def test_install_applies_the_definition_first_and_waits_for_it(kube: FakeKube, p2pnet) -> None:
    kube.installed = False
    ended = p2pnet("install", "--node-image", "mine/node:1", "-o", "json")

    assert ended.code == 0, ended.err
    kinds = [one["kind"] for one in kube.applied]
    assert kinds[:2] == ["Namespace", "CustomResourceDefinition"]
    assert kube.established_after < 0
    asked = [path for method, path in kube.asked if method == "PATCH"]
    assert "/apis/apps/v1/namespaces/p2pnet-system/deployments/p2pnet" in asked
    operator = next(one for one in kube.applied if one["kind"] == "Deployment")
    environment = {
        one["name"]: one.get("value") for one in operator["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert environment["P2PNET_NODE_IMAGE"] == "mine/node:1"
    assert json.loads(ended.out)["applied"][1] == "CustomResourceDefinition subnets.p2pnet.io"


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_the_operator_is_installed_into_its_own_namespace_and_no_other(kube: FakeKube, p2pnet, verb: str) -> None:
    kube.installed = verb == "uninstall"
    ended = p2pnet(verb, "-n", "team")

    assert ended.code == 2
    assert "namespace p2pnet-system" in ended.err
    assert kube.applied == []
    assert p2pnet(verb, "-n", "p2pnet-system").code == 0


def test_uninstall_refuses_while_there_are_subnets_and_orphan_leaves_their_definition(kube: FakeKube, p2pnet) -> None:
    kube.add("demo")
    refused = p2pnet("uninstall")
    assert refused.code == 2
    assert "default/demo" in refused.err
    assert not [path for method, path in kube.asked if method == "DELETE"]
    assert p2pnet("uninstall", "--orphan").code == 0
    deleted = [path for method, path in kube.asked if method == "DELETE"]
    assert "/apis/apps/v1/namespaces/p2pnet-system/deployments/p2pnet" in deleted
    assert not any("customresourcedefinitions" in path for path in deleted)


def test_uninstall_refuses_while_there_are_injections_whose_results_would_go_too(kube: FakeKube, p2pnet) -> None:
    kube.injections = ["smoke", "nightly"]
    refused = p2pnet("uninstall")
    assert refused.code == 2
    assert "there are Injections, which would go with it: default/nightly, default/smoke" in refused.err
    assert "kubectl delete injections" in refused.err
    assert not kube.deleted
    assert p2pnet("uninstall", "--orphan").code == 0
    assert not [path for path in kube.deleted if "customresourcedefinitions" in path]
    kube.injections = []
    assert p2pnet("uninstall").code == 0
    gone = sorted(path.rpartition("/")[2] for path in kube.deleted if "customresourcedefinitions" in path)
    assert gone == ["injections.p2pnet.io", "subnets.p2pnet.io"]


def test_uninstall_waits_until_install_can_begin_again(kube: FakeKube, p2pnet) -> None:
    assert p2pnet("uninstall").code == 0
    assert kube.deleted["/api/v1/namespaces/p2pnet-system"] < 0
    assert any("customresourcedefinitions" in path for path in kube.deleted)
    kube.deleted["/api/v1/namespaces/p2pnet-system"] = 3  # somebody else's is still going on
    assert p2pnet("install").code == 0


def test_render_prints_what_the_operator_would_make_without_any_key(p2pnet, tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(json.dumps(to_document(default_subnet("demo", 2))))
    ended = p2pnet("render", "-f", str(file), "-n", "team", "-o", "json")
    items = json.loads(ended.out)["items"]
    names = {(one["kind"], one["metadata"]["name"]) for one in items}
    assert {("Subnet", "demo"), ("Pod", "demo-node-1"), ("Pod", "demo-lab"), ("Service", "demo-nodes")} <= names
    assert {one["metadata"]["namespace"] for one in items} == {"team"}
    assert not any(value for one in items if one["kind"] == "Secret" for value in one["data"].values())
    assert p2pnet("render", "-f", str(file)).out.count("\n---\n") == len(items) - 1


def test_render_of_a_document_with_ignored_fields_tells_the_lab(p2pnet, tmp_path: Path) -> None:
    file, document = tmp_path / "demo.yaml", to_document(default_subnet("demo", 2))
    document["spec"]["groups"] = [{"name": "next", "nodes": 0, "behaviour": "stale-certificate"}]
    file.write_text(json.dumps(document))
    items = json.loads(p2pnet("render", "-f", str(file), "--ignore-unsupported", "-o", "json").out)["items"]
    [told] = [one["data"]["subnet.json"] for one in items if "subnet.json" in one.get("data", {})]
    for one in (items[0], json.loads(told)):
        assert one["metadata"]["annotations"]["p2pnet.io/ignored"].startswith("spec.groups[0].behaviour: ")
        assert "stale-certificate" not in json.dumps(one["spec"])


def test_doctor_looks_at_server_definition_rights_operator_and_tokens(kube: FakeKube, p2pnet) -> None:
    kube.add("demo")
    checks = json.loads(p2pnet("doctor", "--on", "cluster", "-o", "json").out)["checks"]
    assert [(one["name"], one["result"]) for one in checks] == [
        ("API server", "ok"), ("Subnet definition", "ok"), ("rights", "ok"), ("operator", "ok"), ("labs' tokens", "ok"),
    ]  # fmt: skip
    kube.kinds = ["Subnet"]
    older = json.loads(p2pnet("doctor", "--on", "cluster", "-o", "json").out)["checks"][1]
    assert (older["result"], older["todo"]) == ("warning", "p2pnet install --context fake")
    assert older["found"] == "the cluster knows no Injections: what is installed is of an older version"
    kube.installed = False
    kube.forbidden = {"/deployments"}
    ended = p2pnet("doctor", "--on", "cluster", "-o", "json")
    results = {one["name"]: one["result"] for one in json.loads(ended.out)["checks"]}
    assert ended.code == 3
    assert results == {"API server": "ok", "Subnet definition": "failed", "rights": "ok", "operator": "warning"}


@pytest.mark.parametrize(
    ("labels", "selector"),
    [
        ({}, "app.kubernetes.io/name=p2pnet,app.kubernetes.io/component=operator"),
        ({"p2pnet.io/component": "operator"}, "p2pnet.io/component=operator"),
        ({"p2pnet.io/component": "operator", "app.kubernetes.io/name": "mine"}, "p2pnet.io/component=operator"),
    ],
    ids=["older", "now", "by another name"],
)
def test_doctor_finds_an_operator_of_any_version_and_name(
    kube: FakeKube, p2pnet, labels: dict[str, str], selector: str
) -> None:
    kube.operator = deployment("p2pnet-operator:1", **labels)
    found = json.loads(p2pnet("doctor", "--on", "cluster", "-o", "json").out)["checks"][3]
    assert (found["name"], found["result"]) == ("operator", "ok")
    kube.operator["status"]["readyReplicas"] = 0
    found = json.loads(p2pnet("doctor", "--on", "cluster", "-o", "json").out)["checks"][3]
    assert (found["result"], found["todo"]) == ("failed", f"kubectl get pods -A -l {selector}")


def test_an_api_server_that_is_away_is_exit_3_but_no_news_for_who_asked_for_none(
    kube: FakeKube, p2pnet, tmp_path, monkeypatch
):
    dead = FakeKube()
    dead.port = 9  # discard: nobody listens
    monkeypatch.setenv("KUBECONFIG", str(dead.kubeconfig(tmp_path / "dead")))
    ended = p2pnet("status", "demo", "--on", "cluster")
    assert ended.code == 3
    assert "the API server of context fake at http://127.0.0.1:9 does not answer" in ended.err
    ended = p2pnet("status", "demo")
    assert ended.code == 3
    assert "there is no subnet demo" in ended.err


def test_a_server_is_trusted_by_its_authority_and_a_plugin_gives_the_token(
    make_status: Callable[..., Status], report: Report, p2pnet, state: State, tmp_path: Path, monkeypatch
) -> None:
    now = datetime.now(UTC)
    authority = Authority.create("kube", now=now, ttl=timedelta(days=1))
    leaf = authority.issue("spiffe://kube/server", now=now, ttl=timedelta(hours=1), ip_addresses=["127.0.0.1"])
    (tmp_path / "server.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "server.pem")
    fake = FakeKube()
    fake.start(tls)
    try:
        credential = {
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": BEARER},
        }  # fmt: skip
        plugin = {"apiVersion": credential["apiVersion"], "command": "echo", "args": [json.dumps(credential)]}
        pem = base64.b64encode(authority.certificate_pem).decode()
        server = {"server": f"https://127.0.0.1:{fake.port}", "certificate-authority-data": pem}
        fake.kubeconfig(tmp_path / "kube", server=server, user={"exec": {**plugin, "interactiveMode": "Never"}})
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kube"))
        fake.lab = FakeLab(make_status(), report)
        fake.add("demo")
        ended = p2pnet("inject", "demo", "--on", "cluster")
        assert ended.code == 0, ended.err

        fake.kubeconfig(tmp_path / "kube", server={"server": server["server"]})
        ended = p2pnet("status", "demo", "--on", "cluster")
        assert ended.code == 3
        assert "certificate verify failed" in ended.err
    finally:
        fake.stop()


def test_kubectl_p2pnet_means_the_cluster(
    kube: FakeKube, lab: FakeLab, p2pnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-p2pnet"])
    started = p2pnet("up", "demo", "--nodes", "3")
    assert started.code == 0
    assert kube.applied
    assert "Next: kubectl p2pnet inject demo" in started.err
