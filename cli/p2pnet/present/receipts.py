"""Receipts as CSV, a row for each artifact and node: for spreadsheets and data frames."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from p2pnet.measure.receipts import ReceiptRow
from p2pnet.model.ids import member_order

COLUMNS = (
    "artifact", "name", "publisher", "node", "group", "published_at", "latency_ms", "hop", "sender", "bytes",
    "duplicates", "state",
)  # fmt: skip
ROWS_PER_PIECE = 1_000  # some 150 KB of text at a time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def csv_head() -> str:
    """The header row."""
    return _text([COLUMNS])


def csv_rows(rows: Iterable[ReceiptRow], names: Mapping[str, str], unix_offset_s: float | None) -> Iterator[str]:
    """CSV text of some rows at a time. `names`: by artifact id; `unix_offset_s`: added to run time gives Unix time, if known."""
    some: list[tuple[object, ...]] = []
    for row in rows:
        some.append(_cells(row, names.get(row.artifact, ""), unix_offset_s))
        if len(some) >= ROWS_PER_PIECE:
            yield _text(some)
            some = []
    if some:
        yield _text(some)


def _cells(row: ReceiptRow, name: str, unix_offset_s: float | None) -> tuple[object, ...]:
    published = ""
    if row.published_ns is not None and unix_offset_s is not None:
        moment = _EPOCH + timedelta(microseconds=round(row.published_ns / 1e3 + unix_offset_s * 1e6))
        published = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return (
        row.artifact, name, row.publisher, row.node, member_order(row.node)[0], published,
        "" if row.latency_ms is None else f"{row.latency_ms:.3f}", "" if row.hop is None else row.hop, row.sender,
        "" if row.bytes is None else row.bytes, row.duplicates, row.state,
    )  # fmt: skip


def _text(rows: Iterable[Iterable[object]]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue()
