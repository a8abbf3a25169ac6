"""The ten-minute tour, line by line as a reader pastes it."""

import re
import shlex
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOUR = (ROOT / "docs" / "tour.md").read_text()


def test_every_command_of_the_tour_works_and_leaves_nothing_up(person: Any) -> None:
    for name in ("README.md", "examples"):
        (person.folder / name).symlink_to(ROOT / name)
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", TOUR, re.MULTILINE | re.DOTALL)).splitlines()
    assert lines[:2] == ["make install", 'export PATH="$PWD/.venv/bin:$PATH"']
    for program, *words in map(shlex.split, lines[2:]):
        assert program == "p2pnet"
        person.run(*words)
    assert (person.folder / "report.html").stat().st_size > 10_000
    assert person.document("ls") == person.document("ls") | {"subnets": []}
