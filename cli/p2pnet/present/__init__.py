"""Floor 2, renderings of a report: HTML, Markdown, JUnit, receipts as CSV. Takes a report, returns text.

Pure: no clock, no file. Called by lab (the files of a run) and cli (`report --html --md --junit --csv`).
"""

from p2pnet.present.full_page import to_full_html
from p2pnet.present.junit import to_junit
from p2pnet.present.markdown import to_markdown
from p2pnet.present.page import to_html
from p2pnet.present.receipts import csv_head, csv_rows
from p2pnet.present.slow import longest_waits
from p2pnet.present.view import DrawnRun, Surroundings

__all__ = [
    "DrawnRun",
    "Surroundings",
    "csv_head",
    "csv_rows",
    "longest_waits",
    "to_full_html",
    "to_html",
    "to_junit",
    "to_markdown",
]
