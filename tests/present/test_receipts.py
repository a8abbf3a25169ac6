"""Receipts as CSV that a spreadsheet reads back."""

import csv
import io

from p2pnet.measure import ReceiptRow
from p2pnet.present import csv_head, csv_rows
from p2pnet.present.receipts import COLUMNS, ROWS_PER_PIECE

A = "aa" * 32
CAME = ReceiptRow(A, "node-0", "eu-west-3", 1_500_000_000, 15.0004, 2, "node-2", 9, 1, "received")
MISSED = ReceiptRow(A, "node-0", "node-2", 1_500_000_000, None, None, "", None, 0, "missed")


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_has_every_column_and_what_is_not_known_is_empty() -> None:
    text = csv_head() + "".join(csv_rows([CAME, MISSED], {A: 'a "photo",\nof me'}, 1_795_292_000.25))
    came, missed = read(text)
    assert tuple(came) == COLUMNS
    assert came == {
        "artifact": A, "name": 'a "photo",\nof me', "publisher": "node-0", "node": "eu-west-3", "group": "eu-west",
        "published_at": "2026-11-21T20:13:21.750000Z", "latency_ms": "15.000", "hop": "2", "sender": "node-2",
        "bytes": "9", "duplicates": "1", "state": "received",
    }  # fmt: skip
    assert [missed[key] for key in ("latency_ms", "hop", "sender", "bytes", "duplicates", "state")] == [
        "", "", "", "", "0", "missed"
    ]  # fmt: skip


def test_a_run_that_did_not_keep_its_clock_has_no_time_of_day() -> None:
    [row] = read(csv_head() + "".join(csv_rows([CAME], {}, None)))
    assert (row["published_at"], row["name"], row["latency_ms"]) == ("", "", "15.000")


def test_rows_come_in_pieces() -> None:
    pieces = list(csv_rows(iter([CAME] * (ROWS_PER_PIECE + 1)), {}, None))
    assert [piece.count("\n") for piece in pieces] == [ROWS_PER_PIECE, 1]
