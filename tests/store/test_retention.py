"""What is kept of runs: heads that lists are made of, events in a gzip file, limits."""

import gzip
import os
import shutil

import msgspec
import pytest
from tests.samples import sample_report

from p2pnet.model.errors import SpecError
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import Payload, RunFile, RunRequest
from p2pnet.store import archive, damaged, heads, retention, run_folders
from p2pnet.store.retention import Limits
from p2pnet.store.state import State


@pytest.fixture
def state(tmp_path):
    return State(tmp_path)


def put(state, number, *, how="finished", label="", subnet="demo", events=3, summary=True):
    """A run on disk, the `number`-th in time."""
    run = f"r-20261121-2015{number:02d}-3f"
    folder = state.run(run)
    folder.mkdir(parents=True)
    file = RunFile(
        run=run, subnet=subnet, target="local", seed=1, request=RunRequest([Payload("x", size=1)]), label=label,
        created_at=float(number), nodes=["node-0", "node-1"], version="1", state=how, artifacts=["aa" * 32] * 20,
        names=["x"] * 20,
    )  # fmt: skip
    (folder / "run.json").write_bytes(archive.pretty(file))
    if summary:
        (folder / "summary.json").write_bytes(archive.pretty(msgspec.structs.replace(sample_report(), run=run)))
    lines = [Collected("node-1", "i", seq, seq, EventKind.VALIDATED, "blob", "aa" * 32) for seq in range(events)]
    (folder / "events.ndjson").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in lines))
    return folder


def names(runs):
    return [head.run for head in runs]


# --- heads ---


def test_a_head_says_what_a_list_shows(state):
    folder = put(state, 1, label="before the fix")
    head = heads.read_head(folder)
    report = sample_report()
    assert (head.run, head.subnet, head.state, head.label, head.artifacts) == (
        folder.name, "demo", "finished", "before the fix", 20,
    )  # fmt: skip
    assert (head.verdict, head.reach, head.p95_ms) == (report.verdict, report.reach.ratio, report.latency_ms.p95)
    assert head.bytes == sum(path.stat().st_size for path in folder.iterdir() if path.name != "head.json")


@pytest.mark.parametrize("content", [b"", b"garbage", b"{}", b'{"run":"r-other"}', None])
def test_a_head_that_is_missing_or_damaged_is_made_anew(state, content):
    folder = put(state, 1)
    whole = heads.read_head(folder)
    assert whole is not None
    path = folder / "head.json"
    path.unlink() if content is None else path.write_bytes(content)
    again = heads.read_head(folder)
    assert again is not None
    assert msgspec.structs.replace(again, bytes=0) == msgspec.structs.replace(whole, bytes=0)
    assert path.read_bytes() == msgspec.json.encode(heads.read_head(folder))


def test_a_head_counts_only_for_the_run_file_it_was_made_of(state):
    folder = put(state, 1)
    heads.read_head(folder)
    file = msgspec.structs.replace(archive.read_run(state, folder.name)[0], label="changed by hand")
    (folder / "run.json").write_bytes(archive.pretty(file))
    assert heads.read_head(folder).label == "changed by hand"
    (folder / "run.json").write_text("{half")
    assert heads.read_head(folder) is None


def test_an_open_run_has_no_head_on_disk_and_reading_one_needs_no_room(state, monkeypatch):
    folder = put(state, 1, how="running", summary=False)
    assert heads.read_head(folder).state == "running"
    assert not (folder / "head.json").exists()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(heads, "write_atomic", full)
    assert heads.read_head(put(state, 2)).ended


def test_a_label_is_changed_and_taken_away_and_stands_in_run_head_and_report(state):
    run = put(state, 1).name
    archive.set_label(state, run, "  baseline ")
    assert [head.label for head in archive.list_heads(state)] == ["baseline"]
    file, report = archive.read_run(state, run)
    assert (file.label, report.label) == ("baseline", "baseline")
    archive.set_label(state, run, "")
    assert archive.read_run(state, run)[1].label == ""
    for bad in ("x" * 81, "two\nlines", "latest", "-1", "latest~2"):
        with pytest.raises(SpecError):
            archive.set_label(state, run, bad)


# --- events ---


def test_events_are_the_same_before_and_after_they_are_compressed(state):
    folder = put(state, 1, events=50)
    before = archive.read_events(state, folder.name)
    plain = (folder / "events.ndjson").read_bytes()
    assert archive.compress(folder)
    assert not (folder / "events.ndjson").exists()
    assert gzip.decompress((folder / "events.ndjson.gz").read_bytes()) == plain
    assert archive.read_events(state, folder.name) == before
    assert len(archive.read_events(state, folder.name, "aa" * 32)) == 50
    assert list(archive.iter_events(folder / "events.ndjson")) == list(archive.iter_events(folder)) == before
    assert not archive.compress(folder)


def test_samples_are_compressed_with_the_events_and_read_in_either_form(state):
    folder = put(state, 1)
    assert archive.open_plain(folder, archive.SAMPLES_FILE).read() == b""
    (folder / "samples.ndjson").write_bytes(b'{"node":"node-0"}\n')
    with archive.open_plain(folder, archive.SAMPLES_FILE) as file:
        assert file.read() == b'{"node":"node-0"}\n'
    (folder / ".samples.ndjson.gz.77.new").write_bytes(b"half")
    archive.compact(folder)
    assert {path.name for path in folder.iterdir()} >= {"events.ndjson.gz", "samples.ndjson.gz"}
    assert not list(folder.glob("*.ndjson")) + list(folder.glob(".samples*"))
    with archive.open_plain(folder, archive.SAMPLES_FILE) as file:
        assert file.read() == b'{"node":"node-0"}\n'


def test_a_run_of_which_the_samples_alone_were_left_is_compacted_later(state):
    folder = put(state, 1)
    archive.compact(folder)
    (folder / "samples.ndjson").write_bytes(b"{}\n")
    assert archive.compact_leftover(state, most=5) == [folder.name]
    assert not (folder / "samples.ndjson").exists()


def test_a_compressed_file_that_is_cut_short_gives_what_is_left_of_it(state):
    folder = put(state, 1, events=5_000)
    archive.compress(folder)
    packed = folder / "events.ndjson.gz"
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    assert 0 < len(archive.read_events(state, folder.name)) < 5_000
    packed.write_bytes(b"no gzip at all")
    assert archive.read_events(state, folder.name) == []


def test_events_stay_as_they_are_when_they_cannot_be_compressed(state, monkeypatch):
    folder = put(state, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            archive.compact(folder)
    assert {path.name for path in folder.iterdir()} == {"events.ndjson", "run.json", "summary.json", "head.json"}


def test_a_device_in_the_place_of_events_is_let_be(state):
    folder = put(state, 1)
    (folder / "events.ndjson").unlink()
    (folder / "events.ndjson").symlink_to("/dev/zero")
    assert not archive.compress(folder)


# --- limits ---


def test_the_oldest_runs_beyond_the_number_go_and_neither_labelled_nor_open_ones(state):
    put(state, 1)
    put(state, 2, label="baseline")
    put(state, 3, how="running", summary=False)
    put(state, 4)
    put(state, 5)
    put(state, 6, how="cancelled")
    gone = retention.surplus(archive.list_heads(state), Limits(runs=2, bytes=None))
    assert [name[15:17] for name in names(gone)] == ["01", "04"]
    assert retention.surplus(archive.list_heads(state), Limits(runs=None, bytes=None)) == []


def test_the_oldest_runs_beyond_the_bytes_go_and_never_the_newest(state):
    folders = [put(state, number, events=40) for number in range(1, 5)]
    every = archive.list_heads(state)
    assert [head.run for head in every] == [folder.name for folder in folders]
    total = sum(head.bytes for head in every)
    assert names(retention.surplus(every, Limits(None, total))) == []
    assert names(retention.surplus(every, Limits(None, total - 1))) == [folders[0].name]
    assert names(retention.surplus(every, Limits(None, 1))) == [folder.name for folder in folders[:3]]


def test_what_limits_removed_is_gone_from_the_disk_and_written_down(state):
    folders = [put(state, number) for number in range(1, 4)]
    gone = retention.apply(state, Limits(runs=1), 77.0)
    assert names(gone) == [folders[0].name, folders[1].name]
    assert [head.run for head in archive.list_heads(state)] == [folders[2].name]
    told = retention.read_removed(state)
    assert (told.runs, told.bytes, told.last_at, told.ids) == (2, sum(head.bytes for head in gone), 77.0, names(gone))
    assert retention.apply(state, Limits(runs=1), 78.0) == []
    assert retention.read_removed(state) == told


def test_a_removal_that_was_interrupted_shows_no_run_and_is_finished_later(state, monkeypatch):
    folder = put(state, 1)
    put(state, 2)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            retention.remove(state, folder.name)
    assert len(archive.list_heads(state)) == 1
    retention.apply(state, Limits(), 1.0)
    assert sorted(path.name for path in state.runs.iterdir()) == ["r-20261121-201502-3f"]
    assert not retention.remove(state, folder.name)


def test_a_run_that_came_back_after_an_interrupted_removal_is_removed_too(state):
    folder = put(state, 1)
    left = state.runs / f"{retention.REMOVING}{folder.name}"
    shutil.copytree(folder, left)
    assert retention.remove(state, folder.name)
    assert not folder.exists()
    assert not left.exists()


def test_limits_are_read_from_the_environment_and_what_cannot_be_read_is_refused():
    assert retention.limits_of({}) == Limits(500, 5 << 30)
    assert retention.limits_of({"P2PNET_KEEP_RUNS": "20", "P2PNET_KEEP_BYTES": "1GiB"}) == Limits(20, 1 << 30)
    assert retention.limits_of({"P2PNET_KEEP_RUNS": "all", "P2PNET_KEEP_BYTES": "all"}) == Limits(None, None)
    for bad in ({"P2PNET_KEEP_RUNS": "0"}, {"P2PNET_KEEP_RUNS": "many"}, {"P2PNET_KEEP_BYTES": "5"}):
        with pytest.raises(SpecError, match=next(iter(bad))):
            retention.limits_of(bad)


def test_runs_whose_lab_was_killed_before_it_had_compressed_them_are_compressed_later(state):
    folders = [put(state, number) for number in range(1, 5)]
    open_run = put(state, 5, how="running", summary=False)
    (folders[0] / ".events.ndjson.gz.77.new").write_bytes(b"half")
    archive.compact(folders[3])
    assert archive.compact_leftover(state, most=2) == [folder.name for folder in folders[:2]]
    assert archive.compact_leftover(state, most=2) == [folders[2].name]
    assert archive.compact_leftover(state, most=2) == []
    assert (open_run / "events.ndjson").exists()
    assert sorted(path.name for path in folders[0].iterdir()) == [
        "events.ndjson.gz", "head.json", "run.json", "summary.json",
    ]  # fmt: skip


def test_a_label_that_a_scenario_made_spares_no_run_unless_a_person_gives_another(state):
    for number, label in enumerate(("story/a", "story/a", "mine", "")):
        folder = put(state, number, label=label)
        run = msgspec.json.decode((folder / "run.json").read_bytes(), type=RunFile)
        request = msgspec.structs.replace(run.request, label="story/a", made_label=True)
        (folder / "run.json").write_bytes(archive.pretty(msgspec.structs.replace(run, request=request)))
    found = sorted(archive.list_heads(state), key=lambda head: head.created_at)
    assert [(head.label, head.spared) for head in found] == [
        ("story/a", False), ("story/a", False), ("mine", True), ("", False),
    ]  # fmt: skip
    assert [head.label for head in retention.surplus(found, retention.Limits(runs=1, bytes=None))] == ["story/a"] * 2


# --- damaged runs ---


def spoil(folder, content):
    path = folder / "run.json"
    path.unlink() if content is None else path.write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"{half", b"[" * 100_000, b"{}", None])
def test_a_run_that_cannot_be_read_is_told_with_what_its_head_knew(state, content):
    folder = put(state, 1, label="before the fix")
    whole = heads.read_head(folder)
    assert whole is not None
    spoil(folder, content)
    assert archive.list_heads(state) == []
    [found] = damaged.damaged_runs(state, 0.0)
    assert msgspec.structs.replace(found.head, bytes=0) == msgspec.structs.replace(whole, bytes=0)
    assert found.head.bytes == heads.bytes_of(folder)
    assert "run.json" in found.why


def test_without_a_head_its_report_says_whose_it_was_and_its_id_when(state):
    folder = put(state, 1)
    spoil(folder, b"{half")
    [found] = damaged.damaged_runs(state, 0.0)
    assert (found.head.subnet, found.head.target) == (sample_report().subnet, sample_report().target)
    assert found.head.created_at == 1_795_292_101.0  # 2026-11-21 20:15:01 UTC


def test_a_copied_directory_is_no_second_run_but_a_damaged_one(state):
    folder = put(state, 1)
    shutil.copytree(folder, state.run("r-20261121-201559-99"))
    assert names(archive.list_heads(state)) == [folder.name]
    [found] = damaged.damaged_runs(state, 0.0)
    assert found.why == f"its run.json is of run {folder.name}"


def test_a_run_that_begins_or_is_being_written_is_not_damaged(state):
    begins, simulated = state.run("r-20261121-201501-3f"), state.run("r-20261121-201502-3f")
    for folder in (begins, simulated):
        folder.mkdir(parents=True)
    run_folders.record_writer(simulated)
    now = max(folder.stat().st_mtime for folder in (begins, simulated))
    assert damaged.damaged_runs(state, now) == []
    later = damaged.damaged_runs(state, now + damaged.BEGINNING_S + 1.0)
    assert [one.head.run for one in later] == [begins.name]


def test_damaged_runs_are_removed_beyond_the_limits_and_are_not_the_newest(state):
    folders = [put(state, number) for number in range(4)]
    for number in (0, 3):
        spoil(folders[number], b"{half")
    gone = retention.apply(state, Limits(runs=None, bytes=1), 77.0)
    assert sorted(names(gone)) == [folders[number].name for number in (0, 1, 3)]
    assert names(archive.list_heads(state)) == [folders[2].name]
    assert not folders[3].exists()
