import os
import selectors
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.supervisor.lines import BACKLOG_BYTES_MAX, LINE_BYTES_MAX, LinePipes, Request, read_lines, read_request


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "truncated"),
        (b"[]", "object"),
        (b'{"op":"dance","name":"node-0"}', "dance"),
        (b'{"op":"stop"}', "needs a name"),
        (b'{"op":"start","name":"node-0"}', "needs a config"),
        (b'{"op":"bind","name":"node-0","port":70000}', "no port"),
        (b'{"op":"bind","name":"node-0","port":"x"}', "port"),
    ],
)
def test_a_bad_request_is_answered_with_what_is_wrong_with_it(line: bytes, words: str) -> None:
    wrong = read_request(line)
    assert isinstance(wrong, str)
    assert words in wrong


def test_fields_that_the_supervisor_does_not_know_are_ignored() -> None:
    assert read_request(b'{"op":"kill","name":"a-0","revive":false,"colour":1}') == Request("kill", "a-0", revive=False)


@given(st.binary(max_size=80))
def test_any_line_gives_a_request_or_a_sentence_about_it(line: bytes) -> None:
    assert isinstance(read_request(line), Request | str)


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), st.integers(1, 7))
def test_lines_are_the_same_however_they_are_cut_into_reads(lines: list[bytes], size: int) -> None:
    data, unread = b"".join(line + b"\n" for line in lines), bytearray()
    found: list[bytes] = []
    for start in range(0, len(data), size):
        unread += data[start : start + size]
        found += read_lines(unread)
    assert found == lines
    assert not unread


class Bench:
    """Pipes with both far ends at hand, and the loop's turn by hand."""

    def __init__(self) -> None:
        self.selector = selectors.PollSelector()
        self.lines: list[bytes] = []
        near_in, self.far_out = os.pipe()
        self.far_in, near_out = os.pipe()
        os.set_blocking(self.far_in, False)
        self.pipes = LinePipes(self.selector, near_in, near_out, self.lines.append)

    def turn(self) -> None:
        """One turn of the loop."""
        for key, _ in self.selector.select(0):
            key.data()

    def sent(self) -> bytes:
        """What has arrived at the far end."""
        try:
            return os.read(self.far_in, 1 << 22)
        except BlockingIOError:
            return b""


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.pipes.close()
    os.close(made.far_in)
    os.close(made.far_out)
    made.selector.close()


def test_lines_come_in_and_events_go_out_as_json(bench: Bench) -> None:
    os.write(bench.far_out, b"one\n\ntwo\nthr")
    bench.turn()
    assert bench.lines == [b"one", b"two"]
    bench.pipes.send("ready", name="node-0")
    assert bench.sent() == b'{"event":"ready","name":"node-0"}\n'
    assert not bench.pipes.busy


def test_a_line_without_end_is_refused_and_dropped(bench: Bench) -> None:
    for _ in range(LINE_BYTES_MAX // (1 << 16) + 1):
        os.write(bench.far_out, b"x" * (1 << 16))
        bench.turn()
    assert b'"event":"refused"' in bench.sent()
    os.write(bench.far_out, b"\nnext\n")
    bench.turn()
    assert bench.lines == [b"next"]


def test_while_events_pile_up_unread_no_request_is_read(bench: Bench) -> None:
    while not bench.pipes.busy:
        bench.pipes.send("noise", text="x" * 1000)
    bench.pipes.send("noise", text="x" * BACKLOG_BYTES_MAX)
    os.write(bench.far_out, b"later\n")
    bench.turn()
    assert bench.lines == []
    while bench.pipes.busy:
        assert bench.sent()
        bench.turn()
    bench.turn()
    assert bench.lines == [b"later"]


def test_a_closed_far_end_is_noticed_when_reading() -> None:
    bench = Bench()
    os.close(bench.far_out)
    bench.turn()
    assert bench.pipes.closed
    bench.pipes.close()
    os.close(bench.far_in)
    bench.selector.close()
