"""Runs read from disk, without a lab."""

import msgspec
import pytest
from tests.packing import ROUNDS, TEXT, packing

from p2pnet.model.errors import SpecError
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import Payload, RunFile, RunRequest
from p2pnet.store import archive
from p2pnet.store.state import State


@pytest.fixture
def state(tmp_path):
    return State(tmp_path)


def put(
    state: State, run: str, *, subnet: str = "demo", artifacts: tuple[str, ...] = (), how: str = "finished", at=1.0
):
    folder = state.run(run)
    folder.mkdir(parents=True)
    file = RunFile(
        run=run, subnet=subnet, target="local", seed=1, request=RunRequest([Payload("x", size=1)]), created_at=at,
        nodes=["node-0", "node-1"], version="1", state=how, artifacts=list(artifacts),
    )  # fmt: skip
    (folder / "run.json").write_bytes(archive.pretty(file))
    return folder


def event(seq: int, t: int, artifact: str) -> Collected:
    return Collected("node-1", "i", seq, t, EventKind.VALIDATED, "blob", artifact)


def test_runs_are_listed_by_time_and_subnet(state):
    put(state, "r-2", at=2.0)
    put(state, "r-1", at=1.0)
    put(state, "r-3", subnet="other", at=3.0)
    (state.runs / "r-4").mkdir()
    (state.runs / "r-5").mkdir()
    (state.runs / "r-5" / "run.json").write_text("{half")
    assert [run.run for run in archive.list_heads(state)] == ["r-1", "r-2", "r-3"]
    assert [run.run for run in archive.list_heads(state.root, "demo")] == ["r-1", "r-2"]
    assert archive.list_heads(State(state.root / "none")) == []


def test_events_are_read_in_time_order_and_a_cut_line_is_passed_over(state):
    folder = put(state, "r-1", artifacts=("aa" * 32, "bb" * 32))
    lines = [msgspec.json.encode(one) for one in (event(1, 20, "aa" * 32), event(0, 10, "bb" * 32))]
    (folder / "events.ndjson").write_bytes(b"\n".join([*lines, lines[0][:20]]))
    assert [one.t_ns for one in archive.read_events(state, "r-1")] == [10, 20]
    assert [one.t_ns for one in archive.read_events(state, "r-1", "aa" * 32)] == [20]


def test_a_run_without_a_report_has_none_and_a_missing_one_is_refused(state):
    put(state, "r-1", how="running")
    assert archive.read_run(state, "r-1")[1] is None
    assert archive.read_events(state, "r-1") == []
    for name in ("r-9", "../etc", "", "r-1/.."):
        with pytest.raises(SpecError):
            archive.read_run(state, name)


def test_a_prefix_finds_the_one_artifact_it_means(state):
    put(state, "r-1", artifacts=("abcdef" + "0" * 58, "abcdef" + "1" * 58))
    put(state, "r-2", subnet="other", artifacts=("abcd00" + "2" * 58,))
    assert archive.find_artifact(state, "demo", "ABCDEF0")[0].startswith("abcdef0")
    assert archive.find_artifact(state, None, "abcd00")[1].run == "r-2"
    for prefix in ("abcdef", "a", "", "abcd00", "xyzxyz", "1" * 65):
        with pytest.raises(SpecError):
            archive.find_artifact(state, "demo", prefix)


def test_open_runs_of_a_dead_lab_are_closed_as_invalid_with_what_was_measured(state):
    put(state, "r-1", how="finished")
    put(state, "r-2", how="queued")
    folder = put(state, "r-3", how="running", artifacts=("aa" * 32,))
    put(state, "r-4", how="running", subnet="other")
    published = msgspec.structs.replace(event(0, 5, "aa" * 32), node="node-0", kind=EventKind.PUBLISHED, bytes=1)
    (folder / "events.ndjson").write_bytes(
        b"\n".join(map(msgspec.json.encode, (published, event(0, 1_000_005, "aa" * 32))))
    )
    assert archive.invalidate_open_runs(state, "demo", "the lab died") == ["r-2", "r-3"]
    for name in ("r-2", "r-3"):
        file, report = archive.read_run(state, name)
        assert (file.state, report.verdict, report.invalid[0]) == ("finished", "invalid", "the lab died")
    assert archive.read_run(state, "r-3")[1].reach.delivered == 1
    assert archive.read_run(state, "r-4")[0].state == "running"


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
def test_the_events_of_one_artifact_are_found_wherever_a_block_ends(state, monkeypatch, block):
    monkeypatch.setattr(archive, "READ_BYTES", block)
    folder = put(state, "r-1")
    artifacts = ["aa" * 32, "bb" * 32, "ab" * 32]
    lines = [event(seq, seq, artifacts[seq % 3]) for seq in range(30)]
    for tail in (b"", b"\n"):
        (folder / "events.ndjson").write_bytes(b"\n".join(map(msgspec.json.encode, lines)) + tail)
        for artifact in artifacts:
            expected = [one for one in lines if one.artifact == artifact]
            assert archive.read_events(state, "r-1", artifact) == expected
    assert archive.read_events(state, "r-1", "cc" * 32) == []


def test_events_are_there_at_every_moment_of_their_being_packed(state):
    folder = put(state, "r-1")
    for turn in range(ROUNDS):
        with packing(folder, turn):
            while archive.events_file(folder).suffix != ".gz":
                assert archive.has_events(folder)
                with archive.open_events(folder) as file:
                    assert file.read() == TEXT
        assert archive.has_events(folder)
