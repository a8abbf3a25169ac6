"""The clocks of a process, and what names them."""

from pathlib import Path

import pytest

from p2pnet.peering import clock


def test_a_boot_id_is_the_boot_and_the_time_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boot, namespace = tmp_path / "boot_id", tmp_path / "time"
    monkeypatch.setattr(clock, "BOOT_ID", boot)
    monkeypatch.setattr(clock, "TIME_NAMESPACE", namespace)
    assert clock.boot_id() == ""
    boot.write_text("0f3a\n")
    assert clock.boot_id() == "0f3a"
    namespace.symlink_to("time:[4026531834]")
    assert clock.boot_id() == "0f3a/time:[4026531834]"


def test_a_delay_is_rounded_up_to_milliseconds_and_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "mono_ns", lambda: 5_000_000)
    assert [clock.delay_s(due) for due in (0, 5_000_000, 5_000_001, 6_000_000, 6_000_001)] == [
        0,
        0,
        0.001,
        0.001,
        0.002,
    ]


def test_both_clocks_are_read_at_one_time() -> None:
    before, reading, after = clock.wall_ns(), clock.read_clock("boot"), clock.wall_ns()
    assert before <= reading.wall_ns <= after
    assert reading.mono_ns <= clock.mono_ns()
    assert reading.boot_id == "boot"
