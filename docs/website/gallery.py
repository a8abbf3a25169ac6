"""The gallery: reports of what is in examples/, made in the simulator from the documents' own seeds."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from docs.website.markup import block, page, table

ROOT = Path(__file__).parents[2]
REPORTS = {
    "subnet": "Ten nodes; charts and the network in motion",
    "network": "Three regions and home connections",
    "adversaries": "Some nodes misbehave",
}
"""Subnet of examples/ -> what there is to see; the first page is the rich one."""
LOAD = ("--size", "64KiB", "--count", "20", "--rate", "10/s", "--seed", "7")
STORIES = ("slow-link", "partition-and-heal", "late-joiner", "lossy-subnet")
"""Scenarios of examples/scenarios whose summaries are shown."""
SIMULATION_S = 120
"""How long one of them may take."""


def make_gallery(source: Path, extra: Path) -> None:
    """Write pages into `source` and reports into `extra`. CalledProcessError when a simulation does not pass."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="p2pnet-gallery-") as state:
        for index, (name, seen) in enumerate(REPORTS.items()):
            made = extra / "reports" / f"{name}.html"
            made.parent.mkdir(parents=True, exist_ok=True)
            command = ["sim", "-f", f"examples/{name}.yaml", *LOAD]
            full = ["--full"] if index == 0 else []
            _simulate([*command, *full, "--html", str(made)], state)
            typed = " ".join(["p2pnet", *command, *full, "--html", "report.html"])
            rows.append((f'<a href="reports/{name}.html">{seen}</a>', f"`{typed}`"))
        for name in STORIES:
            document = f"examples/scenarios/{name}.yaml"
            summary = source / "gallery" / f"{name}.md"
            summary.parent.mkdir(parents=True, exist_ok=True)
            made = Path(state, "summary.md")
            _simulate(["run", document, "--on", "sim", "--md", str(made)], state)
            story = block((ROOT / document).read_text(encoding="utf-8"), "yaml")
            text = page(f"# {name}", story, made.read_text(encoding="utf-8"))
            summary.write_text(text, encoding="utf-8")
    intro = (
        "Reports of the examples, made in virtual time when this site was built; the same seeds give the same figures."
    )
    toc = "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(f"gallery/{name}" for name in STORIES) + "\n```"
    text = page("# Gallery", intro, "## Reports", table(("report", "command"), rows), "## Scenarios", toc)
    (source / "gallery.md").write_text(text, encoding="utf-8")


def _simulate(words: list[str], state: str) -> None:
    command = [sys.executable, "-m", "p2pnet.cli", *words, "--quiet"]
    environment = os.environ | {"P2PNET_STATE": state}
    done = subprocess.run(  # noqa: S603 our own program
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SIMULATION_S, check=False
    )
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()
