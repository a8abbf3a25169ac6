"""`--html F --full`: the rich page from what is kept of a run, with other runs' latencies beside it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pnet.store import State, archive

DOCUMENT = """
apiVersion: p2pnet.io/v1alpha1
kind: Subnet
metadata: {name: demo}
spec:
  groups:
    - {name: eu, nodes: 3, labels: {region: eu}}
    - {name: us, nodes: 3, labels: {region: us}}
  topology: {kind: ring, degree: 2}
  network: {default: {latency: 20ms}}
"""


def data_of(page: Path) -> Any:
    [text] = re.findall(r'id="view-data">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(text)


@pytest.fixture
def page(p2pnet: Callable[..., Any], tmp_path: Path) -> Path:
    """Of the second of two runs."""
    (tmp_path / "subnet.yaml").write_text(DOCUMENT)
    first = p2pnet("sim", "-f", str(tmp_path / "subnet.yaml"), "--label", "before")
    assert first.code == 0, first.err
    path = tmp_path / "page.html"
    words = ("--count", "3", "--rate", "4/s", "--html", str(path), "--full")
    ended = p2pnet("sim", "-f", str(tmp_path / "subnet.yaml"), *words)
    assert ended.code == 0, ended.err
    assert f"note: wrote {path}" in ended.err
    return path


def test_a_run_is_drawn_whole(page: Path) -> None:
    data = data_of(page)
    assert data["nodes"]["name"] == ["eu-0", "eu-1", "eu-2", "us-0", "us-1", "us-2"]
    assert data["nodes"]["groups"] == ["eu", "us"]
    assert data["links"] == {"pairs": data["links"]["pairs"], "total": 6, "known": True}
    assert data["layouts"]["places"] == ["eu", "us"]
    assert [len(batch["node"]) for batch in data["events"]] == [5, 5, 5]
    assert all(after > 0 for batch in data["events"] for after in batch["after_us"])
    assert sum(one["count"] for one in data["hops"]) == 15
    assert data["reach"]["received"][-1] == data["reach"]["due"][-1] == 15
    assert data["series"] is None


def test_other_runs_are_drawn_beside_it(p2pnet: Callable[..., Any], page: Path) -> None:
    ended = p2pnet("report", "demo", "--on", "sim", "latest", "before", "-2", "--html", str(page), "--full")

    assert ended.code == 0, ended.err
    curves = data_of(page)["latency"]["curves"]
    assert [one["label"] for one in curves] == ["", "before", "before"]
    assert [len(one["points_ms"]) for one in curves] == [15, 5, 5]


def test_the_page_without_scripts_stays_the_default(p2pnet: Callable[..., Any], page: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.html"
    assert p2pnet("report", "demo", "--on", "sim", "--html", str(plain)).code == 0
    assert "<script" not in plain.read_text()
    assert plain.stat().st_size < 200_000 < page.stat().st_size


def test_it_goes_to_stdout_too(p2pnet: Callable[..., Any], page: Path) -> None:
    ended = p2pnet("report", "demo", "--on", "sim", "--html", "-", "--full")
    assert ended.out == page.read_text()


def test_a_run_whose_events_are_gone_has_a_page_of_its_report(
    p2pnet: Callable[..., Any], page: Path, state: State
) -> None:
    for events in state.runs.glob(f"*/{archive.COMPRESSED_FILE}"):
        events.unlink()
    ended = p2pnet("report", "demo", "--on", "sim", "--html", str(page), "--full")

    assert ended.code == 0, ended.err
    data = data_of(page)
    assert "events" not in data
    assert len(data["latency"]["curves"][0]["points_ms"]) == 21


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--full",), "error: --full is of the HTML page, and none is written"),
        (("latest", "before"), "error: several runs are drawn beside each other in the page of --full only"),
        (("latest", "before", "--html", "page.html"), "error: several runs are drawn beside each other"),
        (("latest", "nowhere", "--html", "page.html", "--full"), "error: demo has no run nowhere"),
    ],
)
def test_what_cannot_be_drawn_is_2(p2pnet: Callable[..., Any], page: Path, words: tuple[str, ...], said: str) -> None:
    ended = p2pnet("report", "demo", "--on", "sim", *words)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_full_without_a_page_is_2_before_anything_is_simulated(p2pnet: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "subnet.yaml").write_text(DOCUMENT)
    ended = p2pnet("sim", "-f", str(tmp_path / "subnet.yaml"), "--full")
    assert ended.code == 2
    assert "add --html FILE" in ended.err


def test_the_links_of_a_run_are_told_with_their_waits_and_the_verdict_stays(
    p2pnet: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "subnet.yaml").write_text(DOCUMENT)
    p2pnet("sim", "-f", str(tmp_path / "subnet.yaml"), "--count", "3", "--from", "eu-0", "--expect", "p95 <= 1ms")
    ended = p2pnet("report", "demo", "--on", "sim", "--links", "-o", "json")
    assert ended.code == 1
    found = json.loads(ended.out)
    assert (found["schema"], found["verdict"], found["ways"]) == ("p2pnet.io/links/v1", "fail", len(found["links"]))
    assert sum(one["receipts"] for one in found["links"]) == 15
    waits = [one["wait_ms_max"] for one in found["links"] if one["wait_ms_max"] is not None]
    assert waits == sorted(waits, reverse=True)
    assert all(one["why"] for one in found["links"] if one["wait_ms_max"] is not None)
    drawn = p2pnet("report", "demo", "--on", "sim", "--links").out
    assert drawn.index("slowest") < drawn.index("busiest")


def test_the_links_of_a_run_whose_events_are_gone_are_not_made_up(
    p2pnet: Callable[..., Any], page: Path, tmp_path: Path
) -> None:
    state = State.default()
    run = archive.list_heads(state, "demo")[0].run
    for file in state.run(run).glob("events*"):
        file.unlink()
    ended = p2pnet("report", "demo", run, "--on", "sim", "--links")
    assert (ended.code, "events" in ended.err) == (2, True)
