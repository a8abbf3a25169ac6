"""`report --html --junit --md --csv`: the report_files a person asked for, whole or not at all; `-` is stdout."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pnet.cli import report_files, run_receipts
from p2pnet.cli.options import ReportFiles
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.output_file import OutputFile
from p2pnet.cli.session import Session
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import RunFile, RunRequest
from p2pnet.model.report import Report
from p2pnet.store import State, archive

ARTIFACT = "01" * 32


@pytest.fixture
def archived(state: State, report: Report) -> Report:
    """A run on disk whose slowest artifact went from node-1 to node-11."""
    done = msgspec.structs.replace(report, slowest=ARTIFACT)
    run = RunFile(
        run=report.run, subnet="demo", target="local", seed=7, request=RunRequest([]), created_at=1.0,
        nodes=["node-1", "node-11"], version="9.8.7", state="finished", artifacts=[ARTIFACT], names=["photo.jpg"],
        unix_offset_s=100.0,
    )  # fmt: skip
    events = [
        Collected("node-1", "i", 0, 0, EventKind.PUBLISHED, "blob", ARTIFACT),
        Collected("node-11", "i", 0, 455_000_000, EventKind.VALIDATED, "blob", ARTIFACT, "node-1", 1),
    ]
    folder = state.run(report.run)
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(msgspec.json.encode(run))
    (folder / "summary.json").write_bytes(msgspec.json.encode(done))
    (folder / "events.ndjson").write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))
    return done


def test_a_report_is_written_to_every_file_asked_for(
    p2pnet: Callable[..., Any], archived: Report, tmp_path: Path
) -> None:
    html, junit, md = tmp_path / "r.html", tmp_path / "r.xml", tmp_path / "r.md"
    md.write_text("what stood there")

    ended = p2pnet("report", "demo", "--html", str(html), "--junit", str(junit), "--md", str(md), "-o", "json")

    assert ended.code == 0, ended.err
    assert msgspec.json.decode(ended.out, type=Report) == archived  # stdout is as without
    assert "node-1 → node-11" in html.read_text()
    assert "9.8.7" in html.read_text()
    assert 'name="p95 &lt;= 800ms"' in junit.read_text()
    assert md.read_text().startswith("## ✅ Pass")
    assert f"note: wrote {html}\n" in ended.err
    assert {path.name for path in tmp_path.iterdir()} == {"r.html", "r.xml", "r.md", "state"}


@pytest.mark.parametrize(
    ("option", "begins"),
    [("--html", "<!doctype html>"), ("--junit", "<?xml"), ("--md", "## ✅ Pass"), ("--csv", "artifact,")],
)
def test_a_dash_is_stdout_and_the_document_does_not_go_there_too(
    p2pnet: Callable[..., Any],
    archived: Report,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    begins: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    ended = p2pnet("report", "demo", option, "-", "-o", "json")

    assert ended.code == 0, ended.err
    assert ended.out.startswith(begins)
    assert "p2pnet.io/report/v1" not in ended.out.splitlines()[0]
    assert "wrote" not in ended.err
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


def test_stdout_takes_one_paper_and_files_the_others(
    p2pnet: Callable[..., Any], archived: Report, tmp_path: Path
) -> None:
    refused = p2pnet("report", "demo", "--csv", "-", "--md", "-")

    assert (refused.code, refused.out) == (2, "")
    assert "error: cannot write -: --md names it too" in refused.err
    ended = p2pnet("report", "demo", "--csv", "-", "--md", str(tmp_path / "r.md"))
    assert ended.out.startswith("artifact,")
    assert (tmp_path / "r.md").read_text().startswith("## ")


def test_receipts_as_csv_are_read_from_the_archive(
    p2pnet: Callable[..., Any], archived: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = p2pnet("report", "demo", "--csv", "-")

    assert ended.out.splitlines() == [
        "artifact,name,publisher,node,group,published_at,latency_ms,hop,sender,bytes,duplicates,state",
        f"{ARTIFACT},photo.jpg,node-1,node-11,node,1970-01-01T00:01:40.000000Z,455.000,1,node-1,0,0,received",
    ]
    monkeypatch.setattr(run_receipts, "CELLS_MAX", 1)  # one artifact at a time
    assert p2pnet("report", "demo", "--csv", "-").out == ended.out


@pytest.fixture(params=["gone", "cut off"])
def without_events(archived: Report, state: State, request: pytest.FixtureRequest) -> str:
    """The same run, whose events are gone or end before their end; what is said of it."""
    folder = state.run(archived.run)
    if request.param == "gone":
        (folder / "events.ndjson").unlink()
        return f"no events of run {archived.run} are kept"
    archive.compact(folder)
    packed = folder / "events.ndjson.gz"
    packed.write_bytes(packed.read_bytes()[:-12])
    return f"the events of run {archived.run} are damaged: "


@pytest.mark.parametrize("asked", [("--csv", "-"), ("--otel", "-"), ("--links",), ("--expect", "hops <= 1")])
def test_what_only_lost_events_could_tell_is_refused(
    p2pnet: Callable[..., Any], without_events: str, asked: tuple[str, ...]
) -> None:
    ended = p2pnet("report", "demo", *asked)

    assert (ended.code, without_events in ended.err) == (2, True), ended.err
    assert "next: name another run, or leave --" in ended.err
    assert not ended.out.startswith(("artifact,", "{"))


@pytest.mark.parametrize("full", [(), ("--full",)])
def test_a_page_without_events_says_what_it_lacks(
    p2pnet: Callable[..., Any], without_events: str, tmp_path: Path, full: tuple[str, ...]
) -> None:
    page = tmp_path / "r.html"
    ended = p2pnet("report", "demo", "--html", str(page), *full)

    assert f"note: {without_events}" in ended.err
    assert "the page has no receipts, and no way of an artifact" in page.read_text()
    assert "unknown publisher" not in page.read_text()


def test_the_way_of_an_artifact_whose_events_are_lost_is_not_told(
    p2pnet: Callable[..., Any], archived: Report, state: State
) -> None:
    archive.events_file(state.run(archived.run)).unlink()
    ended = p2pnet("trace", "demo", ARTIFACT[:12])

    assert (ended.code, ended.out) == (2, "")
    assert f"no event of run {archived.run} about {ARTIFACT[:16]} is kept: who got it cannot be told" in ended.err
    assert f"next: p2pnet report demo {archived.run}" in ended.err


def test_a_tree_is_told_to_lack_what_damaged_events_had(
    p2pnet: Callable[..., Any], archived: Report, state: State
) -> None:
    folder = state.run(archived.run)
    events = archive.events_file(folder)
    events.write_bytes(events.read_bytes().splitlines(keepends=True)[1] + b"x" * 3_000_000)
    archive.compact(folder)
    packed = folder / "events.ndjson.gz"
    packed.write_bytes(packed.read_bytes()[:-12])
    ended = p2pnet("trace", "demo", ARTIFACT[:12])

    assert ended.code == 0, ended.err
    assert "1/2 nodes" in ended.out
    assert f"note: the events of run {archived.run} are damaged: " in ended.err


async def test_a_reader_that_has_seen_enough_is_no_failure(
    archived: Report, session: Session, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(report_files, "drop_stdout", lambda: None)
    monkeypatch.setattr(session.stdout, "write", closed)

    outcome = await report_files.write(ReportFiles(csv=Path("-")), Outcome(archived), state, session)

    assert (outcome.exit_code, outcome.failure, outcome.document) == (0, None, None)


async def test_a_run_that_is_not_in_the_archive_has_no_receipts_and_that_is_said(
    report: Report, session: Session, state: State
) -> None:
    outcome = await report_files.write(ReportFiles(csv=Path("-")), Outcome(report), state, session)

    assert outcome.exit_code == 2
    assert outcome.failure is not None
    assert outcome.failure.what.startswith("cannot write -: there is no run")


def test_the_exit_code_is_the_verdicts(
    p2pnet: Callable[..., Any], archived: Report, state: State, tmp_path: Path
) -> None:
    failed = msgspec.structs.replace(archived, verdict="fail")
    (state.run(archived.run) / "summary.json").write_bytes(msgspec.json.encode(failed))

    assert p2pnet("report", "demo", "--md", str(tmp_path / "r.md")).code == 1
    assert (tmp_path / "r.md").exists()


@pytest.mark.parametrize(
    ("path", "why"), [("none/r.html", "there is no directory"), (".", "it is a directory"), ("state/x.html", "")]
)
def test_a_path_that_cannot_be_written_is_three_lines_and_exit_2(
    p2pnet: Callable[..., Any], archived: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, why: str
) -> None:
    if not why:

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("tempfile.mkstemp", refuse)
        why = "Permission denied"
    ended = p2pnet("report", "demo", "--html", str(tmp_path / path), "-q")

    assert ended.code == 2
    what, where, next_step = ended.err.splitlines()
    assert what.startswith("error: cannot write")
    assert why in what
    assert where.startswith("where:")
    assert next_step.endswith("that can be written")
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


def test_one_file_for_two_papers_is_a_mistake(p2pnet: Callable[..., Any], archived: Report, tmp_path: Path) -> None:
    ended = p2pnet("report", "demo", "--html", str(tmp_path / "r"), "--md", str(tmp_path / "x" / ".." / "r"))

    assert ended.code == 2
    assert "--html names it too" in ended.err


async def test_a_disk_that_fills_up_leaves_the_old_file_and_the_report_on_stdout(
    archived: Report, session: Session, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "r.html"
    path.write_text("old")
    monkeypatch.setattr(OutputFile, "write", full)

    outcome = await report_files.write(ReportFiles(html=path), Outcome(archived), state, session)

    assert (outcome.exit_code, outcome.document) == (2, archived)
    assert outcome.failure is not None
    assert outcome.failure.what == f"cannot write {path}: No space left on device"
    assert path.read_text() == "old"
    assert {one.name for one in tmp_path.iterdir()} == {"r.html", "state"}


async def test_a_pipe_is_written_to_and_not_replaced(
    report: Report, session: Session, state: State, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        report_files.check(ReportFiles(md=pipe))
        await report_files.write(ReportFiles(md=pipe), Outcome(report), state, session)

        assert os.read(reader, 100).startswith(b"## ")
        assert pipe.is_fifo()
    finally:
        os.close(reader)


async def test_a_reader_that_has_gone_costs_no_other_paper(
    report: Report, session: Session, state: State, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    wanted = ReportFiles(html=tmp_path / "r.html", junit=tmp_path / "r.xml", md=Path(f"/dev/fd/{writer}"))
    try:
        outcome = await report_files.write(wanted, Outcome(report), state, session)
    finally:
        os.close(writer)

    assert outcome.exit_code == 0
    assert (tmp_path / "r.html").exists()
    assert (tmp_path / "r.xml").exists()


async def test_a_link_stays_a_link(report: Report, session: Session, state: State, tmp_path: Path) -> None:
    (tmp_path / "real.md").write_text("old")
    (tmp_path / "link.md").symlink_to("real.md")

    await report_files.write(ReportFiles(md=tmp_path / "link.md"), Outcome(report), state, session)

    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "real.md").read_text().startswith("## ")


async def test_without_a_report_there_is_nothing_to_write_and_that_is_said(
    session: Session, state: State, tmp_path: Path
) -> None:
    outcome = Outcome(exit_code=5, failure=CommandError("lost", where="demo", next_step="again", exit_code=5))

    assert await report_files.write(ReportFiles(md=tmp_path / "r.md"), outcome, state, session) == outcome
    assert isinstance(session.stderr, io.StringIO)
    assert "there is no report: --md not written" in session.stderr.getvalue()
    assert not (tmp_path / "r.md").exists()
