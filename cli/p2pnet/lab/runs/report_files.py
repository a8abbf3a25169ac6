"""A run's report on paper, beside its summary: report.html for people, junit.xml for CI."""

import logging
from pathlib import Path

from p2pnet.measure import hop_tree
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import Report
from p2pnet.present import to_html, to_junit
from p2pnet.store.archive import has_events, iter_events

HTML_FILE = "report.html"
JUNIT_FILE = "junit.xml"

log = logging.getLogger(__name__)


def draw(folder: Path, run: RunFile, report: Report) -> dict[str, bytes]:
    """The papers by file name; none when they cannot be drawn, for a run's result does not hang on its looks.

    Reads the run's events: not for the event loop's thread.
    """
    try:
        tree = None
        if report.slowest and has_events(folder):
            tree = hop_tree(report.slowest, iter_events(folder, report.slowest), run.nodes)
        papers = {HTML_FILE: to_html(report, run, tree), JUNIT_FILE: to_junit(report)}
    except Exception:
        log.exception("run %s: its report could not be drawn", run.run)
        return {}
    return {name: text.encode() for name, text in papers.items()}
