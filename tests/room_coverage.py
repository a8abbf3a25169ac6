"""Whether the unit tests cover each room as far as it was: `make coverage`, or `python -m tests.room_coverage coverage.json`.

Lines that ran in the process of the tests; what only runs in processes that they start is not seen. A room that is not in FLOORS
has FLOOR. Raise a floor when a room has grown well above it; lower one only with the reason beside it.
"""

import json
import sys
from collections import Counter
from pathlib import Path

FLOOR = 90
"""Percent of the lines of a room."""
FLOORS: dict[str, int] = {
    "broadcast": 98,
    "lab": 80,  # a lab in a pod, and of `up`, is a process of its own
    "measure": 97,
    "model": 98,
    "netem": 97,
    "node": 87,  # nodes are processes of their own
    "operator": 92,
    "peering": 95,
    "present": 96,
    "quic": 96,
    "sim": 96,
    "store": 95,
    "subnet": 97,
    "supervisor": 57,  # forks, packs and the agent run in processes that tests start
    "topology": 95,
    "trust": 96,
}


def shares(report: dict[str, dict[str, dict[str, dict[str, int]]]]) -> dict[str, float]:
    """Percent covered by room, of coverage.py's JSON report."""
    lines: Counter[str] = Counter()
    covered: Counter[str] = Counter()
    for name, file in report["files"].items():
        parts = Path(name).parts
        room = parts[parts.index("p2pnet") + 1]
        lines[room] += file["summary"]["num_statements"]
        covered[room] += file["summary"]["covered_lines"]
    return {room: 100 * covered[room] / count for room, count in sorted(lines.items()) if count}


def below(found: dict[str, float], floors: dict[str, int]) -> list[str]:
    """What is wrong: rooms under their floor, and floors of rooms that are no more."""
    low = [f"{room} is covered to {found[room]:.1f} %, below {floors.get(room, FLOOR)} %" for room in found
           if found[room] < floors.get(room, FLOOR)]  # fmt: skip
    return low + [f"there is no room {room}" for room in floors if room not in found]


def main(path: str) -> int:
    """Print the shares; 0 when all floors hold."""
    found = shares(json.loads(Path(path).read_text()))
    for room, share in found.items():
        print(f"{room:<12} {share:5.1f} %   floor {FLOORS.get(room, FLOOR)} %")
    for line in (wrong := below(found, FLOORS)):
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
