"""The floors of coverage by room."""

import json
from pathlib import Path

import pytest
from tests import room_coverage
from tests.room_coverage import FLOOR, below, main, shares

ROOT = Path(__file__).parents[1]


def report(**rooms: tuple[int, int]) -> dict:
    """Covered and all lines of one file per room."""
    return {
        "files": {
            f"node/p2pnet/{room}/deep/file.py": {"summary": {"covered_lines": covered, "num_statements": lines}}
            for room, (covered, lines) in rooms.items()
        }
    }


def test_a_room_is_covered_by_the_lines_of_all_its_files() -> None:
    files = report(quic=(3, 4))["files"] | {
        "x/p2pnet/quic/a.py": {"summary": {"covered_lines": 1, "num_statements": 4}}
    }
    assert shares({"files": files}) == {"quic": 50.0}


def test_a_room_without_a_floor_of_its_own_has_the_common_one_and_a_floor_without_a_room_is_wrong() -> None:
    assert below({"quic": FLOOR - 1.0, "node": FLOOR - 1.0}, {"node": FLOOR - 2}) == [
        f"quic is covered to {FLOOR - 1.0:.1f} %, below {FLOOR} %"
    ]
    assert below({"quic": 100.0}, {"gone": 50}) == ["there is no room gone"]


def test_it_fails_below_a_floor_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(room_coverage, "FLOORS", {})
    for covered, code in ((100, 0), (1, 1)):
        (tmp_path / "coverage.json").write_text(json.dumps(report(quic=(covered, 100))))
        assert main(str(tmp_path / "coverage.json")) == code
    assert "quic is covered to 1.0 %" in capsys.readouterr().err


def test_every_floor_is_of_a_room_that_exists() -> None:
    assert set(room_coverage.FLOORS) <= {path.parent.name for path in ROOT.glob("*/p2pnet/*/__init__.py")}
