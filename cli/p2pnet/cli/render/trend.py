"""The last minute of a status that is watched, as sparklines beside its figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from p2pnet.cli.render import text
from p2pnet.cli.trends import RunTrend, Trends, sparkline
from p2pnet.model.report import Status
from p2pnet.model.units import format_rate, format_size

CELLS = 30  # of a minute's seconds, the newest
CELLS_NARROW = 10
WIDE = 100
STYLE = "cyan"


@dataclass(frozen=True, slots=True)
class Shown:
    """Trends, and whether they may be drawn in ASCII alone."""

    trends: Trends
    ascii_only: bool

    def nodes(self, status: Status, width: int) -> list[Text]:
        """How many were connected, of all that there should be."""
        return self._level(self.trends.connected, status.nodes.desired, width)

    def links(self, status: Status, width: int) -> list[Text]:
        """How many were up, of those expected."""
        return self._level(self.trends.links_up, status.links.expected, width)

    def run(self, width: int) -> list[Text]:
        """Lines about the run that goes on; none where none does."""
        run = self.trends.run
        if run is None:
            return []
        done = run.progress
        parts: list[Text | str] = [
            Text(run.run, style="cyan"),
            f"published {done.published}/{done.artifacts}" if done.artifacts else "",
            done.waiting_for,
        ]
        lines = text.flow("run", parts, width)
        lines += text.flow("", [f"delivered {done.delivered}/{done.expected}", *self._delivered(run, width)], width)
        return lines + text.flow("", self._bytes(run, width), width)

    def _delivered(self, run: RunTrend, width: int) -> list[Text | str]:
        rates = run.delivered_per_s
        return [self._drawn(rates, max(rates), width), format_rate(rates[-1])] if rates else []

    def _bytes(self, run: RunTrend, width: int) -> list[Text | str]:
        rates = run.bytes_per_s
        if not rates:
            return []
        total = f"sent {format_size(run.progress.sent_bytes)}"
        return [total, self._drawn(rates, max(rates), width), f"{format_size(rates[-1])}/s"]

    def _level(self, values: Sequence[int], most: int, width: int) -> list[Text]:
        return [self._drawn(values, float(most), width)] if len(values) > 1 else []

    def _drawn(self, values: Sequence[float], most: float, width: int) -> Text:
        cells = CELLS if width >= WIDE else CELLS_NARROW
        return Text(sparkline(values[-cells:], most, ascii_only=self.ascii_only), style=STYLE)
