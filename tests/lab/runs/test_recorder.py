"""The report_files a run leaves beside its summary."""

import logging
from pathlib import Path

import pytest

from p2pnet.lab.runs import recorder as report_files
from p2pnet.lab.runs.recorder import Recorder
from p2pnet.measure import unmeasured
from p2pnet.model.jobs import RunFile, RunRequest

RUN = RunFile(
    run="r-1", subnet="demo", target="local", seed=1, request=RunRequest([]), created_at=1.0, nodes=["node-0"], version="0"
)  # fmt: skip


def test_a_run_without_events_has_papers_too(tmp_path: Path) -> None:
    drawn = report_files.render_report_files(tmp_path, RUN, unmeasured(RUN, ["nothing was measured"]))

    assert set(drawn) == {"report.html", "junit.xml"}
    assert b"nothing was measured" in drawn["junit.xml"]


def test_a_report_that_cannot_be_drawn_costs_the_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("p2pnet.present.to_html", fails)
    with caplog.at_level(logging.ERROR):
        assert report_files.render_report_files(tmp_path, RUN, unmeasured(RUN, [])) == {}

    assert "run r-1: its report files could not be rendered" in caplog.text


def test_papers_the_disk_refuses_leave_the_summary_as_it_is(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.report_files = {"report.html": b"page", "junit.xml": b"cases"}
    (tmp_path / "report.html").mkdir()  # a rename onto it fails

    recorder.end(RUN, unmeasured(RUN, ["x"]))

    assert recorder.failed == ""
    assert {path.name for path in tmp_path.iterdir()} == {"junit.xml", "report.html", "run.json", "summary.json"}
