"""Floor 2, renderings of a report: HTML, Markdown, JUnit, receipts as CSV. Takes a report, returns text.

Pure: no clock, no file. Called by lab (the files of a run) and cli (`report --html --md --junit --csv`).
"""

from p2pnet.present.full_page import to_full_html
from p2pnet.present.junit import to_junit
from p2pnet.present.live_page import LiveSubnet, live_policy, to_live_html
from p2pnet.present.live_view import LiveSums, live_parts, live_view
from p2pnet.present.markdown import to_markdown
from p2pnet.present.page import to_html
from p2pnet.present.receipts import csv_head, csv_rows
from p2pnet.present.slow import longest_waits
from p2pnet.present.view import DrawnRun, Surroundings

__all__ = [
    "DrawnRun",
    "LiveSubnet",
    "LiveSums",
    "Surroundings",
    "csv_head",
    "csv_rows",
    "live_parts",
    "live_policy",
    "live_view",
    "longest_waits",
    "to_full_html",
    "to_html",
    "to_junit",
    "to_live_html",
    "to_markdown",
]
