"""What is said while one waits: a live line with rate and time left on a terminal, lines on a dumb one, else nothing."""

import errno
import io

import pytest

from p2pnet.cli.progress import NoProgress, Pace, PlainProgress, TerminalProgress, counted, listener_for

ESCAPE = "\x1b"


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class Closed(Tty):
    """A terminal after its window was closed."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


class Clock:
    """Stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def paced(*steps: tuple[float, int], piece: str = "delivered") -> tuple[Pace, float]:
    """A piece of work of which so much was done after so many seconds; and the last of these."""
    pace = Pace()
    for at, done in steps:
        pace.see(piece, done, at)
    return pace, steps[-1][0]


def test_progress_is_silent_off_a_terminal_and_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(listener_for(io.StringIO(), quiet=False, colour=True), NoProgress)
    assert isinstance(listener_for(Tty(), quiet=True, colour=True), NoProgress)
    assert isinstance(listener_for(Tty(), quiet=False, colour=True), TerminalProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(listener_for(Tty(), quiet=False, colour=True), PlainProgress)
    assert isinstance(listener_for(io.StringIO(), quiet=False, colour=True), NoProgress)


def test_a_rate_and_the_time_left_are_said_after_some_seconds() -> None:
    pace, now = paced((0.0, 0), (5.0, 1200))
    assert counted("delivered", 1200, 5000, pace.words(5000, now, octets=False)) == (
        "delivered 1200/5000, 240/s, 16 s left"
    )
    early, now = paced((0.0, 0), (2.9, 700))
    assert counted("delivered", 700, 5000, early.words(5000, now, octets=False)) == "delivered 700/5000"


def test_bytes_are_said_as_sizes() -> None:
    pace, now = paced((0.0, 0), (4.0, 8 << 20))
    words = pace.words(128 << 20, now, octets=True)
    assert counted("photo.jpg sent", 8 << 20, 128 << 20, words, octets=True) == (
        "photo.jpg sent 8 MiB/128 MiB, 2 MiB/s, 60 s left"
    )


def test_the_rate_is_that_of_the_last_seconds() -> None:
    slow_then_fast = [(float(second), second) for second in range(31)]
    slow_then_fast += [(30.0 + second, 30 + 100 * second) for second in range(1, 12)]
    pace, now = paced(*slow_then_fast)
    assert pace.per_s(now) == pytest.approx(100.0)


def test_work_that_stands_still_has_a_rate_of_0_and_no_time_left() -> None:
    pace, now = paced(*[(float(second), 50) for second in range(20)])
    assert pace.words(100, now, octets=False) == ["0/s"]


def test_work_that_slows_down_takes_longer() -> None:
    pace, now = paced((0.0, 0), (4.0, 40))
    assert pace.words(80, now, octets=False) == ["10/s", "4 s left"]
    pace.see("delivered", 40, 8.0)
    assert pace.words(80, 8.0, octets=False) == ["5/s", "8 s left"]


def test_the_pace_of_the_last_seconds_is_a_sparkline() -> None:
    steady = paced(*((float(second), 10 * second) for second in range(13)))
    assert steady[0].trend(steady[1], ascii_only=False) == "█" * 10
    slower = paced(*((float(second), min(40, 10 * second)) for second in range(9)))
    assert slower[0].trend(slower[1], ascii_only=False) == "████▁▁▁▁"
    assert slower[0].trend(slower[1], ascii_only=True) == "@@@@____"


def test_there_is_no_sparkline_before_a_rate_means_anything() -> None:
    pace, now = paced((0.0, 0), (1.0, 10))
    assert not pace.trend(now, ascii_only=False)
    assert not Pace().trend(5.0, ascii_only=False)


def test_another_piece_of_work_or_less_than_before_begins_anew() -> None:
    pace, now = paced((0.0, 0), (5.0, 500))
    pace.see("another", 5, now)
    assert pace.words(10, now, octets=False) == []
    pace, now = paced((0.0, 0), (5.0, 500), (5.1, 1))
    assert pace.words(1000, now, octets=False) == []


def test_what_is_done_has_no_time_left_and_an_age_is_no_number() -> None:
    pace, now = paced((0.0, 0), (5.0, 500))
    assert pace.words(500, now, octets=False) == []
    assert pace.words(10**9, now, octets=False)[-1] == "more than a day left"
    assert Pace().words(10, 0.0, octets=False) == []


def test_however_often_it_is_told_it_keeps_few_samples() -> None:
    pace = Pace()
    for step in range(100_000):
        pace.see("delivered", step, step / 1000)
    assert len(pace._samples) < 100
    assert pace.per_s(99.999) == pytest.approx(1000.0, rel=0.01)


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_progress_is_one_line_that_fits_and_disappears(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    screen, clock = Tty(), Clock()
    terminal = TerminalProgress(screen, colour=False, clock=clock)

    terminal.waiting("links 3/10")
    terminal.progress("delivered", 0, 5000)
    clock.now += 5
    terminal.progress("delivered", 1200, 5000, beside="published 5/20")
    clock.now += 1
    terminal.progress("文件" * 40 + "\x1b[2J sent", 10, 10)
    terminal.milestone("10 links")
    terminal.close()

    drawn = screen.getvalue()
    assert "links 3/10" in drawn
    if columns >= 60:
        assert "delivered 1200/5000, 240/s, 16 s left" in drawn
    assert "10 links" in drawn.splitlines()[-1]
    assert "\x1b[2J" not in drawn
    from rich.cells import cell_len

    assert all(cell_len(part) < columns for part in drawn.replace("\x1b[2K", "").replace("\n", "\r").split("\r"))


def test_a_dumb_terminal_gets_a_line_now_and_then_and_no_control_sequence() -> None:
    screen, clock = Tty(), Clock()
    plain = PlainProgress(screen, clock=clock)

    for _ in range(80):
        plain.progress("delivered", int(clock.now - 1000) * 10, 500)
        clock.now += 0.125
    plain.milestone("10 links")
    plain.waiting("soon")
    plain.close()

    assert screen.getvalue().splitlines() == ["delivered 50/500, 10/s, 45 s left  5 s", "10 links  10 s"]
    assert ESCAPE not in screen.getvalue()


@pytest.mark.parametrize("kind", [TerminalProgress, PlainProgress])
def test_a_terminal_that_has_been_closed_stops_nobody(kind: type[TerminalProgress | PlainProgress]) -> None:
    screen, clock = Closed(), Clock()
    listener = (
        TerminalProgress(screen, colour=False, clock=clock)
        if kind is TerminalProgress
        else PlainProgress(screen, clock=clock)
    )

    clock.now += 10
    listener.waiting("links 3/10")
    clock.now += 10
    listener.progress("delivered", 10, 10)
    listener.milestone("10 links")
    listener.close()
