"""The commands against a target without processes: what they ask, what they hand back, how they end."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest

from p2pnet.cli.documents import Fetched, LogLines, Removal, RunTicket, SubnetList, Trace, WithdrawnArtifact
from p2pnet.cli.exit_handling import run_command
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.render import Output, render
from p2pnet.cli.session import Session
from p2pnet.cli.targets.lab_process import FREE_BYTES_MIN
from p2pnet.cli.verbs import doctor, down, get, inject, logs, report, status, trace, up, withdraw
from p2pnet.lab_client import ProblemError
from p2pnet.lab_client.kube import Kube
from p2pnet.measure.pace import pace_of
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import LogLine, Problem, Progress, RunFile, RunRequest, RunState
from p2pnet.model.report import Report, RunSummary, Status
from p2pnet.store import State, archive
from p2pnet.subnet.document import default_subnet, load_subnet

ARTIFACT = "3f" * 32
HELD_UP = """
import signal, time
from p2pnet.cli.exit_handling import INTERRUPTS, run_command
from p2pnet.cli.session import Session

async def work(session):
    print("at work", flush=True)
    while all(signal.getsignal(one) is not signal.SIG_DFL for one in INTERRUPTS):
        time.sleep(0.01)
    print("told", flush=True)
    time.sleep(600)

run_command(Session(target=lambda: None), work)
"""


def run_file(run: str = "r-1", *, state: str = "finished", subnet: str = "demo") -> RunFile:
    return RunFile(
        run=run, subnet=subnet, target="local", seed=1, request=RunRequest(payloads=[]), created_at=1.0,
        nodes=["node-0", "node-1", "node-2"], version="0", state=state,
        artifacts=[ARTIFACT], names=["photo.jpg"],
    )  # fmt: skip


def archived(target: Any, file: RunFile, done: Report | None = None) -> None:
    folder = target.state.run(file.run)
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(msgspec.json.encode(file))
    if done is not None:
        (folder / "summary.json").write_bytes(msgspec.json.encode(done))


def events() -> list[Collected]:
    def event(seq: int, node: str, kind: EventKind, ms: int, peer: str = "", hop: int = 0) -> Collected:
        return Collected(
            node=node,
            incarnation="i",
            seq=seq,
            t_ns=ms * 10**6,
            kind=kind,
            artifact=ARTIFACT,
            peer=peer,
            hop=hop,
            bytes=9,
        )

    return [
        event(0, "node-0", EventKind.PUBLISHED, 100),
        event(1, "node-1", EventKind.VALIDATED, 120, "node-0", 1),
        event(2, "node-2", EventKind.DUPLICATE, 150, "node-0"),
        event(3, "node-2", EventKind.VALIDATED, 145, "node-1", 2),
    ]


def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> Any:
        raise KeyError

    for name in ("HOME", "P2PNET_STATE", "XDG_STATE_HOME", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


class TestUp:
    async def test_without_anything_it_starts_ten_nodes_named_demo(
        self, target: Any, session: Session, make_status: Callable[..., Status]
    ) -> None:
        target.seen = "absent"
        target.fake.statuses = [make_status(10, connected=3), make_status(10, connected=9), make_status(10)]

        outcome = await up.run(up.UpOptions(), session)

        assert target.started == [default_subnet("demo", 10)]
        assert outcome.exit_code == 0
        assert isinstance(outcome.document, Status)
        assert outcome.document.nodes.connected == 10
        assert outcome.next == ("p2pnet inject demo --size 64KiB --count 20 --rate 10/s",)

    async def test_the_same_again_changes_nothing_and_says_so(self, target: Any, session: Session) -> None:
        outcome = await up.run(up.UpOptions(name="demo", nodes=3), session)

        assert outcome.exit_code == 0
        assert target.started == []
        assert target.fake.asked == []
        assert "demo is up already, nothing to change" in session.stderr.getvalue()  # type: ignore[attr-defined]

    async def test_a_live_edit_is_sent_to_the_lab(
        self, target: Any, session: Session, make_status: Callable[..., Status]
    ) -> None:
        target.fake.statuses = [make_status(3), make_status(5, connected=4), make_status(5)]

        outcome = await up.run(up.UpOptions(name="demo", nodes=5), session)

        assert outcome.exit_code == 0
        assert [(word, document["spec"]["nodes"]) for word, document in target.fake.asked] == [("patch", 5)]
        assert "took the edit of spec.nodes" in session.stderr.getvalue()  # type: ignore[attr-defined]

    async def test_an_edit_that_is_not_live_is_named_and_refused(
        self, target: Any, session: Session, tmp_path: Path
    ) -> None:
        path = tmp_path / "subnet.yaml"
        path.write_text(
            "{apiVersion: p2pnet.io/v1alpha1, kind: Subnet, metadata: {name: demo}, spec: {nodes: 3, seed: 7}}"
        )

        with pytest.raises(CommandError, match=r"spec\.seed") as caught:
            await up.run(up.UpOptions(file=path), session)

        assert caught.value.exit_code == 2
        assert target.fake.asked == []

    async def test_a_dead_subnet_is_started_from_its_own_document(self, target: Any, session: Session) -> None:
        target.seen = "dead"

        await up.run(up.UpOptions(name="demo"), session)

        assert target.started == [default_subnet("demo", 3)]

    async def test_not_connected_in_time_is_4_and_names_what_is_missing_and_who(
        self, target: Any, session: Session, make_status: Callable[..., Status]
    ) -> None:
        target.fake.statuses = [make_status(3, connected=1)]

        outcome = await up.run(up.UpOptions(name="demo", timeout_s=0.01), session)

        assert outcome.exit_code == 4
        assert outcome.failure is not None
        what, where, next_step = outcome.failure.lines()
        assert what.endswith("nodes ready 1/3, links 0/3")
        assert "node-1 starting (0/2 links, 2 restarts, exit code 1)" in where
        assert "p2pnet logs demo" in next_step

    async def test_the_time_to_connect_begins_once_the_target_is_ready_for_it(
        self, target: Any, session: Session, make_status: Callable[..., Status], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [0.0]

        async def prepare(*_: Any) -> None:  # a cluster is made, images are built
            now[0] += 1000

        monkeypatch.setattr(target, "prepare", prepare)
        monkeypatch.setattr(up, "time", SimpleNamespace(monotonic=lambda: now[0]))
        target.fake.statuses = [make_status(3, connected=1), make_status(3)]

        outcome = await up.run(up.UpOptions(name="demo", timeout_s=5), session)

        assert outcome.exit_code == 0

    async def test_no_wait_does_not(self, target: Any, session: Session, make_status: Callable[..., Status]) -> None:
        target.fake.statuses = [make_status(3, connected=0)]

        outcome = await up.run(up.UpOptions(name="demo", no_wait=True), session)

        assert outcome.exit_code == 0
        assert outcome.next == ("p2pnet status demo --watch",)

    async def test_an_unsupported_field_is_a_note_when_it_is_to_be_ignored(
        self, target: Any, session: Session, tmp_path: Path
    ) -> None:
        path = tmp_path / "subnet.yaml"
        path.write_text("{apiVersion: p2pnet.io/v1alpha1, kind: Subnet, metadata: {name: demo}, spec: {image: x}}")

        with pytest.raises(CommandError, match=r"spec\.image"):
            await up.run(up.UpOptions(file=path), session)
        target.seen = "absent"
        await up.run(up.UpOptions(file=path, ignore_unsupported=True), session)

        assert "note: ignored: spec.image" in session.stderr.getvalue()  # type: ignore[attr-defined]

    async def test_what_is_ignored_is_not_in_the_document_that_is_started_and_goes_with_it(
        self, target: Any, session: Session, tmp_path: Path
    ) -> None:
        path = tmp_path / "subnet.yaml"
        path.write_text(
            "{apiVersion: p2pnet.io/v1alpha1, kind: Subnet, metadata: {name: demo},"
            " spec: {groups: [{name: next, nodes: 3, env: {A: b}}]}}"
        )
        target.seen = "absent"
        await up.run(up.UpOptions(file=path, ignore_unsupported=True), session)

        [started] = target.started
        assert started.spec.groups[0].env == {}
        assert started.metadata.annotations == {
            "p2pnet.io/ignored": "spec.groups[0].env: is not implemented yet (target local)"
        }
        await up.run(up.UpOptions(file=path, ignore_unsupported=True), session)
        assert target.fake.asked == []  # the same again is no edit

        path.write_text(path.read_text().replace("env: {A: b}", "env: {}"))
        await up.run(up.UpOptions(file=path), session)
        [(_, document)] = target.fake.asked
        assert "annotations" not in document["metadata"]

    async def test_a_field_that_cannot_be_ignored_is_refused_with_what_would_be_wrong(
        self, target: Any, session: Session, tmp_path: Path
    ) -> None:
        path = tmp_path / "subnet.yaml"
        path.write_text(
            "{apiVersion: p2pnet.io/v1alpha1, kind: Subnet, metadata: {name: demo},"
            " spec: {topology: {kind: edges, edgesFrom: {configMap: x}}}}"
        )
        with pytest.raises(CommandError, match=r"without spec\.topology\.edgesFrom.*in pieces"):
            await up.run(up.UpOptions(file=path, ignore_unsupported=True), session)

    async def test_edges_in_a_file_are_put_into_the_document(self, tmp_path: Path) -> None:
        from p2pnet.cli.spec_file import read_spec

        (tmp_path / "edges.txt").write_text("# who knows whom\nnode-0 node-1\n\nnode-1 node-2  # back\n")
        path = tmp_path / "subnet.yaml"
        path.write_text(
            "{apiVersion: p2pnet.io/v1alpha1, kind: Subnet, metadata: {name: demo},"
            " spec: {nodes: 3, topology: {kind: edges, edgesFrom: {file: edges.txt}}}}"
        )

        topology = read_spec(path).spec.topology

        assert topology is not None
        assert topology.edges == [["node-0", "node-1"], ["node-1", "node-2"]]


class TestInject:
    async def test_a_run_is_followed_and_its_report_handed_back(
        self, target: Any, session: Session, report: Report
    ) -> None:
        outcome = await inject.run(
            inject.InjectOptions(name="demo", size=1024, count=2, rate=pace_of(2.0), expect=("p95 <= 1s",)), session
        )

        assert outcome.document == report
        assert outcome.exit_code == 0
        [(_, request)] = target.fake.asked
        assert (request.count, request.rate, request.expect) == (2, 2.0, ["p95 <= 1s"])
        assert [payload.size for payload in request.payloads] == [1024]

    @pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("invalid", 5)])
    async def test_the_verdict_is_the_exit_code(
        self, target: Any, session: Session, report: Report, verdict: Any, code: int
    ) -> None:
        judged = msgspec.structs.replace(report, verdict=verdict)
        target.fake.states[-1] = msgspec.structs.replace(target.fake.states[-1], report=judged)

        assert (await inject.run(inject.InjectOptions(name="demo"), session)).exit_code == code

    async def test_the_next_command_traces_the_artifact_that_missed_and_not_the_first(
        self, target: Any, session: Session, report: Report
    ) -> None:
        missed = msgspec.structs.replace(report, verdict="fail", slowest=report.artifact_ids[7])
        target.fake.states[-1] = msgspec.structs.replace(target.fake.states[-1], report=missed)

        outcome = await inject.run(inject.InjectOptions(name="demo"), session)

        assert outcome.next == (f"p2pnet trace demo {report.artifact_ids[7][:12]}",)

    async def test_papers_are_written_when_the_run_has_ended(
        self, target: Any, session: Session, tmp_path: Path
    ) -> None:

        outcome = await inject.run(
            inject.InjectOptions(name="demo", md=tmp_path / "r.md", junit=tmp_path / "r.xml"), session
        )

        assert isinstance(outcome.document, Report)
        assert (tmp_path / "r.md").read_text().startswith("## ✅ Pass")
        assert (tmp_path / "r.xml").exists()

    async def test_papers_and_no_wait_contradict_each_other(self, target: Any, session: Session) -> None:
        with pytest.raises(CommandError, match="before there is a report: --md") as caught:
            await inject.run(inject.InjectOptions(name="demo", no_wait=True, md=Path("r.md")), session)
        assert caught.value.exit_code == 2
        assert target.fake.asked == []

    async def test_files_are_sent_under_their_own_names(self, target: Any, session: Session, tmp_path: Path) -> None:
        for name in ("a.bin", "b.bin"):
            (tmp_path / name).write_bytes(b"x" * 10)

        await inject.run(inject.InjectOptions(name="demo", files=(tmp_path / "a.bin", tmp_path / "b.bin")), session)

        *uploads, (_, request) = target.fake.asked
        assert uploads == [("upload", "a.bin"), ("upload", "b.bin")]
        assert [payload.upload for payload in request.payloads] == ["upload-a.bin", "upload-b.bin"]

    async def test_what_is_above_the_limit_is_refused_with_the_limit_and_its_field(
        self, target: Any, session: Session, tmp_path: Path
    ) -> None:
        target.fake.subnet = load_subnet(
            {
                "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"},
                "spec": {"broadcast": {"artifactBytesMax": "1KiB"}},
            }
        )  # fmt: skip
        (tmp_path / "big.bin").write_bytes(bytes(1025))

        for options in (
            inject.InjectOptions(name="demo", files=(tmp_path / "big.bin",)),
            inject.InjectOptions(name="demo", size=1025),
        ):
            with pytest.raises(CommandError, match="1024 bytes") as caught:
                await inject.run(options, session)
            assert "spec.broadcast.artifactBytesMax" in caught.value.what
            assert caught.value.exit_code == 2
        assert target.fake.asked == []

    async def test_an_empty_file_is_refused(self, session: Session, tmp_path: Path) -> None:
        (tmp_path / "empty").write_bytes(b"")

        with pytest.raises(CommandError, match="is empty") as caught:
            await inject.run(inject.InjectOptions(name="demo", files=(tmp_path / "empty",)), session)
        assert caught.value.exit_code == 2

    async def test_a_publisher_that_is_no_node_is_refused_with_the_nodes_there_are(self, session: Session) -> None:
        with pytest.raises(CommandError, match="no node 'node-9'") as caught:
            await inject.run(inject.InjectOptions(name="demo", publisher="node-9"), session)
        assert "node-0, node-1, node-2" in caught.value.next_step

    async def test_a_client_that_is_not_there_is_refused_with_those_that_are(self, session: Session) -> None:
        with pytest.raises(CommandError, match="no client 'chat'") as caught:
            await inject.run(inject.InjectOptions(name="demo", client="chat"), session)
        assert (caught.value.where, caught.value.exit_code) == ("--client chat", 2)
        assert caught.value.next_step.startswith("one of blob")

    @pytest.mark.parametrize(
        ("clients", "asked", "client"),
        [(["a", "blob"], None, "blob"), (["a", "b"], None, "a"), (["a", "b"], "b", "b"), (["a", "blob"], "a", "a")],
    )
    async def test_the_client_is_the_one_asked_for_or_blob_or_the_first(
        self, target: Any, session: Session, clients: list[str], asked: str | None, client: str
    ) -> None:
        document = await target.fake.spec()
        document["spec"]["clients"] = [{"name": name, "class": "a:B"} for name in clients]
        target.fake.subnet = load_subnet(document)
        await inject.run(inject.InjectOptions(name="demo", client=asked), session)
        [(_, request)] = target.fake.asked
        assert request.client == client

    async def test_more_artifacts_than_a_run_takes_are_refused(self, session: Session) -> None:
        with pytest.raises(CommandError, match="120000 artifacts"):
            await inject.run(inject.InjectOptions(name="demo", count=40_000, publisher="all"), session)

    async def test_no_wait_prints_the_run_and_how_to_come_back(self, session: Session, report: Report) -> None:
        outcome = await inject.run(inject.InjectOptions(name="demo", count=4, no_wait=True), session)

        assert isinstance(outcome.document, RunTicket)
        assert (outcome.document.run, outcome.document.artifacts) == (report.run, 4)
        assert outcome.next == (f"p2pnet report demo {report.run}",)

    @pytest.mark.parametrize("cancel", [False, True])
    async def test_ctrl_c_detaches_and_says_how_to_come_back(
        self, target: Any, session: Session, report: Report, cancel: bool
    ) -> None:
        following = asyncio.Event()

        async def endless(run_id: str, cursor: int = 0) -> Any:
            following.set()
            yield target.fake.states[0]
            await asyncio.Event().wait()

        target.fake.follow = endless
        task = asyncio.create_task(inject.run(inject.InjectOptions(name="demo", cancel_on_interrupt=cancel), session))
        await following.wait()
        await asyncio.sleep(0)
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        assert session.resume == (f"p2pnet report demo {report.run}",)
        assert (("cancel", report.run) in target.fake.asked) is cancel
        assert ("cancelled" in session.interrupted_note) is cancel

    async def test_a_lab_that_dies_under_a_run_makes_it_invalid(
        self, target: Any, session: Session, report: Report
    ) -> None:
        async def dying(run_id: str, cursor: int = 0) -> Any:
            yield target.fake.states[0]
            target.seen = "dead"
            archived(target, run_file(report.run, state="running"))
            archive.invalidate_open_runs(target.state, "demo", "the lab died")
            raise CommandError("the lab of demo is dead", where="lab.log", next_step="up", exit_code=3)

        target.fake.follow = dying

        outcome = await inject.run(inject.InjectOptions(name="demo"), session)

        assert outcome.exit_code == 5
        assert isinstance(outcome.document, Report)
        assert outcome.document.verdict == "invalid"
        assert outcome.failure is not None
        assert "the lab of demo is dead" in outcome.failure.what


class TestReport:
    async def test_the_latest_run_is_shown_also_when_the_subnet_is_gone(
        self, target: Any, session: Session, report: Report
    ) -> None:
        target.seen = "absent"
        archived(target, run_file("r-1"), msgspec.structs.replace(report, run="r-1"))
        archived(target, run_file("r-2"), msgspec.structs.replace(report, run="r-2", verdict="fail"))

        latest = await report_of(session)
        named = await report_of(session, "r-1")

        assert isinstance(latest.document, Report)
        assert isinstance(named.document, Report)
        assert (latest.document.run, latest.exit_code) == ("r-2", 1)
        assert (named.document.run, named.exit_code) == ("r-1", 0)

    async def test_a_run_that_goes_on_is_followed(self, target: Any, session: Session, report: Report) -> None:
        archived(target, run_file(report.run, state="running"))

        assert (await report_of(session)).document == report

    async def test_a_run_there_is_not_names_those_there_are(
        self, target: Any, session: Session, report: Report
    ) -> None:
        archived(target, run_file("r-1"), report)

        with pytest.raises(CommandError, match="has no run r-9") as caught:
            await report_of(session, "r-9")
        assert caught.value.exit_code == 2
        assert "r-1" in caught.value.next_step


async def report_of(session: Session, run: str | None = None) -> Any:
    return await report.run(report.ReportOptions(name="demo", run=run), session)


class TestTrace:
    async def test_the_tree_has_the_critical_path_and_the_latencies(self, target: Any, session: Session) -> None:
        target.fake.events = (ARTIFACT, run_file(), events())

        outcome = await trace.run(trace.TraceOptions(name="demo", artifact=ARTIFACT[:8]), session)

        traced = outcome.document
        assert isinstance(traced, Trace)
        assert traced.critical_path == ["node-0", "node-1", "node-2"]
        assert [(one.node, one.sender, one.hop, one.latency_ms, one.edge_ms) for one in traced.receipts] == [
            ("node-1", "node-0", 1, 20.0, 20.0),
            ("node-2", "node-1", 2, 45.0, 25.0),
        ]
        assert (traced.name, traced.reached, traced.unreached, traced.duplicates) == ("photo.jpg", 2, [], 1)

    async def test_after_down_it_comes_from_the_archive(self, target: Any, session: Session) -> None:
        target.seen = "absent"
        archived(target, run_file())
        lines = b"\n".join(msgspec.json.encode(event) for event in events()[:2])
        (target.state.run("r-1") / "events.ndjson").write_bytes(lines + b"\n")

        outcome = await trace.run(trace.TraceOptions(name="demo", artifact=ARTIFACT[:8]), session)

        assert isinstance(outcome.document, Trace)
        assert outcome.document.unreached == ["node-2"]
        assert "demo is gone: this is from the archive of run r-1" in session.stderr.getvalue()  # type: ignore[attr-defined]


class TestGet:
    async def test_a_file_is_written_whole_and_from_one_holder(
        self, target: Any, session: Session, tmp_path: Path
    ) -> None:
        target.fake.held = {"node-1": b"0123456789"}
        path = tmp_path / "out.bin"

        outcome = await get.run(get.GetOptions(name="demo", artifact=ARTIFACT, file=str(path)), session)

        assert path.read_bytes() == b"0123456789"
        assert isinstance(outcome.document, Fetched)
        assert (outcome.document.node, outcome.document.size) == ("node-1", 10)
        assert target.fake.asked == [("get", None, 0), ("get", "node-1", 4), ("get", "node-1", 8)]
        assert list(tmp_path.glob(".out*")) == []

    async def test_bytes_that_node_does_not_hold_are_1_and_leave_no_file(
        self, target: Any, session: Session, tmp_path: Path
    ) -> None:
        target.fake.held = {"node-1": b"0123456789"}
        path = tmp_path / "out.bin"
        path.write_text("what stood here")

        with pytest.raises(CommandError, match="node-2 does not hold") as caught:
            await get.run(get.GetOptions(name="demo", artifact=ARTIFACT, file=str(path), node="node-2"), session)

        assert caught.value.exit_code == 1
        assert path.read_text() == "what stood here"

    async def test_a_holder_that_lets_go_halfway_leaves_the_old_file(
        self, target: Any, session: Session, tmp_path: Path
    ) -> None:
        target.fake.held = {"node-1": b"0123456789"}
        plain = target.fake.get

        async def vanishing(artifact: str, **asked: Any) -> Any:
            if asked["offset"] > 0:
                target.fake.held = {}
            return await plain(artifact, **asked)

        target.fake.get = vanishing
        with pytest.raises(CommandError) as caught:
            await get.run(get.GetOptions(name="demo", artifact=ARTIFACT, file=str(tmp_path / "out.bin")), session)

        assert caught.value.exit_code == 1
        assert [path for path in tmp_path.iterdir() if "out" in path.name] == []

    async def test_off_a_terminal_the_bytes_go_to_stdout(
        self, target: Any, session: Session, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        target.fake.held = {"node-1": b"\x00\xff0123"}

        outcome = await get.run(get.GetOptions(name="demo", artifact=ARTIFACT), session)

        assert outcome.document is None
        assert capfdbinary.readouterr().out == b"\x00\xff0123"

    async def test_a_document_on_stdout_leaves_the_bytes_a_file_of_their_own_name(
        self, target: Any, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        target.fake.held = {"node-1": b"0123456789"}
        session.output = Output.JSON

        outcome = await get.run(get.GetOptions(name="demo", artifact=ARTIFACT), session)

        assert isinstance(outcome.document, Fetched)
        assert Path(outcome.document.file).read_bytes() == b"0123456789"

    async def test_a_file_that_has_no_room_is_named_and_not_the_state_directory(
        self, target: Any, session: Session
    ) -> None:
        target.fake.held = {"node-1": b"0123456789"}
        with pytest.raises(CommandError, match="cannot write /dev/full: No space left") as caught:
            await get.run(get.GetOptions(name="demo", artifact=ARTIFACT, file="/dev/full"), session)

        assert "P2PNET_STATE" not in caught.value.next_step

    async def test_a_reader_that_leaves_before_the_end_makes_it_an_error(
        self, target: Any, session: Session, tmp_path: Path
    ) -> None:
        target.fake.held = {"node-1": b"x" * (1 << 20)}
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        reader = asyncio.create_task(asyncio.to_thread(lambda: pipe.open("rb").close()))
        with pytest.raises(CommandError, match="left before all bytes were written") as caught:
            await get.run(get.GetOptions(name="demo", artifact=ARTIFACT, file=str(pipe)), session)
        await reader
        assert (caught.value.exit_code, caught.value.where) == (2, str(pipe))

    async def test_bytes_and_a_document_do_not_share_stdout(self, target: Any, session: Session) -> None:
        session.output = Output.JSON
        with pytest.raises(CommandError, match="both the bytes and json on standard output"):
            await get.run(get.GetOptions(name="demo", artifact=ARTIFACT, file="-"), session)

    async def test_a_node_there_is_not_is_2(self, session: Session) -> None:
        with pytest.raises(CommandError, match="no node 'node-7'") as caught:
            await get.run(get.GetOptions(name="demo", artifact=ARTIFACT, node="node-7"), session)
        assert caught.value.exit_code == 2


class TestTheRest:
    async def test_withdraw_says_how_many_held_it(self, target: Any, session: Session) -> None:
        target.fake.held = {"node-1": b"", "node-2": b""}

        outcome = await withdraw.run(withdraw.WithdrawOptions(name="demo", artifact=ARTIFACT[:8]), session)

        assert isinstance(outcome.document, WithdrawnArtifact)
        assert outcome.document.held == 2

    async def test_status_of_the_only_subnet_needs_no_name(self, session: Session) -> None:
        assert isinstance((await status.run(status.StatusOptions(), session)).document, Status)

    async def test_status_of_several_is_a_list(self, target: Any, session: Session) -> None:
        target.names = lambda: ["demo", "other"]

        outcome = await status.run(status.StatusOptions(), session)

        assert isinstance(outcome.document, SubnetList)
        assert [(line.name, line.state, line.connected) for line in outcome.document.subnets] == [
            ("demo", "up", 3),
            ("other", "dead", None),
        ]

    @pytest.mark.parametrize("output", [Output.JSON, Output.YAML, Output.NDJSON])
    @pytest.mark.parametrize("names", [[], ["demo"], ["demo", "other"]])
    async def test_status_without_a_name_has_one_shape_for_machines(
        self, target: Any, session: Session, names: list[str], output: Output
    ) -> None:
        target.names = lambda: names
        session.output = output

        outcome = await status.run(status.StatusOptions(), session)

        assert isinstance(outcome.document, SubnetList)
        assert [line.name for line in outcome.document.subnets] == names
        assert outcome.exit_code == (0 if names else 3)
        lines = [json.loads(line) for line in render(outcome.document, Output.NDJSON).splitlines()]
        assert [line["schema"] for line in lines] == ["p2pnet.io/subnet-line/v1"] * len(names)

    async def test_a_watch_without_a_name_shows_the_list_as_it_changes(
        self, target: Any, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(status, "WATCH_S", 0.0)
        names: list[str] = []
        target.names = lambda: list(names)
        session.output = Output.NDJSON
        task = asyncio.create_task(status.run(status.StatusOptions(watch=True), session))
        await asyncio.sleep(0)
        names += ["demo", "other"]
        while len(session.stdout.getvalue().splitlines()) < 2:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        task.cancel()

        shown = [json.loads(line)["name"] for line in session.stdout.getvalue().splitlines()]  # type: ignore[attr-defined]
        assert shown[:2] == ["demo", "other"]

    async def test_a_watch_off_a_terminal_prints_what_changes(
        self, target: Any, session: Session, make_status: Callable[..., Status], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(status, "WATCH_S", 0.0)
        session.output = Output.NDJSON
        one, two = make_status(3, connected=1), make_status(3)

        def heard(state: Status, when: str, silent: str) -> Status:
            members = [
                msgspec.structs.replace(member, last_heard=when, detail=silent) for member in state.members
            ]  # fmt: skip
            return msgspec.structs.replace(state, members=members)

        target.fake.statuses = [
            heard(one, "2026-11-29T00:00:01Z", "silent for 7 s"), heard(one, "2026-11-29T00:00:02Z", "silent for 8 s"), two, two,
        ]  # fmt: skip
        task = asyncio.create_task(status.run(status.StatusOptions(name="demo", watch=True), session))
        while len(session.stdout.getvalue().splitlines()) < 2:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        lines = [json.loads(line) for line in session.stdout.getvalue().splitlines()]  # type: ignore[attr-defined]
        assert [line["nodes"]["connected"] for line in lines] == [1, 3]

    async def test_a_watch_on_a_terminal_shows_how_the_run_goes_on(
        self, target: Any, session: Session, make_status: Callable[..., Status], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(status, "WATCH_S", 0.0)
        monkeypatch.setattr(session.stdout, "isatty", lambda: True)
        going_on = msgspec.structs.replace(make_status(3), runs=[RunSummary("r-7", "running", artifacts=20)])
        target.fake.statuses = [going_on] * 3
        states = [RunState("r-7", "running", RunRequest([]), 1.0, Progress(1, 20, done, 40)) for done in (0, 10, 20)]
        target.fake.run = AsyncMock(side_effect=[*states, *[ProblemError(Problem("gone"), status=404)] * 99])
        task = asyncio.create_task(status.run(status.StatusOptions(name="demo", watch=True), session))
        while target.fake.run.await_count < 4:  # whose run is gone: the status is shown without it
            await asyncio.sleep(0)
        task.cancel()

        shown = session.stdout.getvalue()  # type: ignore[attr-defined]
        assert "delivered 20/40" in shown
        target.fake.run.assert_awaited_with("r-7")

    async def test_down_twice_ends_well(self, target: Any, session: Session) -> None:
        first = await down.run(down.DownOptions(name="demo", yes=True), session)
        second = await down.run(down.DownOptions(name="demo"), session)

        assert first.document == Removal(removed=["demo"])
        assert second.document == Removal(removed=[], absent=["demo"])
        assert first.exit_code == second.exit_code == 0

    async def test_down_where_nobody_can_be_asked_wants_a_yes(self, target: Any, session: Session) -> None:
        target.fake.states = []
        with pytest.raises(CommandError, match="this removes demo, and nobody can be asked") as caught:
            await down.run(down.DownOptions(name="demo"), session)

        assert caught.value.exit_code == 2
        assert caught.value.next_step == "say yes: p2pnet down demo --yes"
        assert target.removed == []

    async def test_an_open_run_is_named_before_its_subnet_is_removed(self, target: Any, session: Session) -> None:
        running = RunState("r-7", "running", RunRequest([]), 1.0)
        target.fake.states = [running, RunState("r-6", "finished", RunRequest([]), 0.0)]
        with pytest.raises(CommandError, match=f"this removes demo with its open run {running.run},"):
            await down.run(down.DownOptions(name="demo"), session)

        await down.run(down.DownOptions(name="demo", yes=True), session)

        assert f"demo is taken down under its open run {running.run}: invalid" in session.stderr.getvalue()  # type: ignore[attr-defined]

    async def test_down_without_a_name_refuses_to_choose(self, target: Any, session: Session) -> None:
        for names in (["one", "two"], ["demo", "other"]):
            target.names = lambda names=names: names

            with pytest.raises(CommandError, match=", ".join(names)) as caught:
                await down.run(down.DownOptions(yes=True), session)
            assert caught.value.exit_code == 2
        assert target.removed == []

    async def test_down_without_a_name_takes_the_only_one(self, target: Any, session: Session) -> None:
        outcome = await down.run(down.DownOptions(yes=True), session)
        assert outcome.document == Removal(removed=["demo"])

    async def test_logs_are_passed_on_line_by_line(self, target: Any, session: Session) -> None:
        target.fake.log = [LogLine(1_795_292_000.25, "node-1", "ready"), LogLine(0.0, "lab", "hello")]

        outcome = await logs.run(logs.LogsOptions(name="demo", grep="e", node=["node-1"]), session)

        assert isinstance(outcome.document, LogLines)
        assert [(line.time, line.node) for line in outcome.document.lines] == [
            ("2026-11-21T20:13:20.250Z", "node-1"),
            ("", "lab"),
        ]
        assert target.fake.asked == [
            ("logs", {"node": "node-1", "artifact": None, "grep": "e", "follow": False, "since": None})
        ]


class TestTheBoundary:
    def end(self, session: Session, error: BaseException, **how: Any) -> tuple[int, str]:
        async def work(_: Session) -> Any:
            raise error

        code = run_command(session, work, **how)
        assert isinstance(session.stderr, io.StringIO)
        return int(code), session.stderr.getvalue()

    def test_a_bug_is_70_with_the_traceback_in_a_file(self, session: Session, target: Any) -> None:
        code, said = self.end(session, KeyError("nodes"))

        assert code == 70
        assert "a bug in p2pnet: KeyError: 'nodes'" in said
        assert "Traceback" not in said
        [kept] = (target.state.root / "crashes").iterdir()
        assert str(kept) in said
        assert "KeyError: 'nodes'" in kept.read_text()

    def test_a_machine_without_memory_is_no_bug(self, session: Session, target: Any) -> None:
        code, said = self.end(session, MemoryError())

        assert code == 2
        assert said.startswith("error: there is no memory left\nwhere: p2pnet")
        assert not (target.state.root / "crashes").exists()

    def test_the_file_of_a_bug_follows_no_link_that_stands_at_its_name(
        self, session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "crashes-are-not-kept-below").write_text("a file")
        monkeypatch.setenv("P2PNET_STATE", str(tmp_path / "crashes-are-not-kept-below"))
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
        monkeypatch.setattr("time.strftime", lambda _: "now")
        (tmp_path / f"p2pnet-now-{os.getpid()}.txt").symlink_to(tmp_path / "mine")

        code, said = self.end(session, KeyError("nodes"))

        assert code == 70
        assert "KeyError: 'nodes'" in said
        assert not (tmp_path / "mine").exists()

    def test_a_bug_with_v_shows_the_traceback(self, session: Session, capsys: pytest.CaptureFixture[str]) -> None:
        self.end(session, KeyError("nodes"), verbose=True)

        assert "Traceback" in capsys.readouterr().err

    def test_a_full_disk_is_2_and_names_the_place(self, session: Session) -> None:
        code, said = self.end(session, OSError(28, "No space left on device", "/state/x"))

        assert code == 2
        assert said.splitlines()[1] == "where: /state/x"

    def test_an_interrupt_is_130_and_shows_the_way_back(self, session: Session) -> None:
        session.resume = ("p2pnet report demo r-1",)

        code, said = self.end(session, KeyboardInterrupt())

        assert code == 130
        assert said == "interrupted\nNext: p2pnet report demo r-1\n"

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_other_orders_to_end_are_interrupts_too_and_cancel_the_work(
        self, session: Session, number: signal.Signals
    ) -> None:
        cleaned: list[bool] = []

        async def work(_: Session) -> Any:
            try:
                os.kill(os.getpid(), number)
                await asyncio.Event().wait()
            finally:
                cleaned.append(signal.getsignal(number) is signal.SIG_DFL)  # the next one ends the process at once

        assert run_command(session, work) == 130
        assert cleaned == [True]

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_second_order_ends_a_command_whose_loop_is_held_up(self, number: signal.Signals) -> None:
        with subprocess.Popen([sys.executable, "-c", HELD_UP], stdout=subprocess.PIPE) as command:
            assert command.stdout is not None
            try:
                for line in (b"at work\n", b"told\n"):
                    assert command.stdout.readline() == line
                    command.send_signal(number)
                assert command.wait(30) == -number
            finally:
                command.kill()

    def test_a_hang_up_that_was_to_be_ignored_stays_ignored(self, session: Session) -> None:
        async def work(_: Session) -> Outcome:
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0)
            return Outcome()

        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            assert run_command(session, work) == 0
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_a_user_without_a_home_is_told_what_to_set(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        homeless(monkeypatch)

        async def work(_: Session) -> Any:
            return State.default().names()

        code = run_command(session, work)

        assert code == 2
        assert "no home directory is known for user" in session.stderr.getvalue()  # type: ignore[attr-defined]
        assert "set P2PNET_STATE" in session.stderr.getvalue()  # type: ignore[attr-defined]
        assert not Kube.configured()

    def test_a_bug_is_said_though_nothing_can_be_written_and_nobody_has_a_home(
        self, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        homeless(monkeypatch)
        monkeypatch.setattr("tempfile.gettempdir", lambda: 1 / 0)

        code, said = self.end(session, KeyError("nodes"))

        assert code == 70
        assert said.startswith("error: a bug in p2pnet: KeyError: 'nodes'\nwhere: p2pnet")

    def test_a_closed_stderr_changes_no_exit_code(self, session: Session) -> None:
        class Closed(io.StringIO):
            def write(self, _: str) -> int:
                raise BrokenPipeError

        session.stderr = Closed()

        async def work(_: Session) -> Any:
            raise CommandError("a", where="b", next_step="c", exit_code=5)

        async def failed(_: Session) -> Outcome:
            return Outcome(exit_code=1, failure=CommandError("a", where="b", next_step="c"), next=("p2pnet up",))

        assert run_command(session, work) == 5
        assert run_command(session, failed) == 1

    def test_quiet_leaves_out_hints_but_not_errors(self, session: Session) -> None:
        session.quiet = True

        code, said = self.end(session, CommandError("a", where="b", next_step="c"))

        assert (code, said) == (2, "error: a\nwhere: b\n next: c\n")


def test_doctor_fails_a_disk_on_which_nothing_could_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, result in ((FREE_BYTES_MIN - 1, "failed"), (FREE_BYTES_MIN, "warning"), (1 << 40, "ok")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert doctor._state_directory(tmp_path).result == result
