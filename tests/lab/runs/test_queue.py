"""Runs as jobs, against fake nodes: the whole way from POST to the files on disk."""

import asyncio
import gzip
import json
import time
from collections.abc import Callable

import msgspec
import pytest
from tests.patience import PATIENCE_S

from p2pnet.lab_client import LabClient, ProblemError
from p2pnet.measure import load_of, unmeasured
from p2pnet.model.control import ControlRefusal, Sample
from p2pnet.model.jobs import Payload, RunFile, RunRequest, RunState
from p2pnet.model.time_series import NodeSample
from p2pnet.store import archive, retention
from p2pnet.subnet.document import load_subnet, to_document


def generated(size: int = 100, count: int = 1, **more) -> RunRequest:
    return RunRequest([Payload("bytes", size=size)], count=count, **more)


async def finished(lab_client: LabClient, request: RunRequest, key: str = "k") -> RunState:
    started = await lab_client.start_run(request, key=key)
    return [state async for state in lab_client.follow(started.run)][-1]


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_run_delivers_reports_and_leaves_seven_files(lab_client, lab, state):
    ended = await finished(lab_client, generated(count=5, seed=7))
    await lab.runs.compacted()
    assert ended.state == "finished"
    report = ended.report
    assert (report.verdict, report.invalid) == ("pass", [])
    assert (report.reach.expected, report.reach.delivered) == (10, 10)
    assert report.bytes.sent == 5 * 100 * 2
    assert report.bytes.payload == 1000
    assert report.clock_bound_ms >= 0
    assert {path.name for path in state.run(ended.run).iterdir()} == {
        "events.ndjson.gz", "head.json", "junit.xml", "logs.ndjson", "report.html", "run.json", "summary.json"
    }  # fmt: skip
    assert (
        f'<h2>The slowest artifact</h2><p>bytes <span class="mono">{report.slowest}'
        in (state.run(ended.run) / "report.html").read_text()
    )
    file, again = archive.read_run(state, ended.run)
    assert again == report
    assert (file.state, file.subnet, file.seed, len(file.artifacts)) == ("finished", "demo", 7, 5)
    assert "'nodes': 3" in repr(file.spec["spec"])
    assert {event.artifact for event in archive.read_events(state, ended.run)} == set(file.artifacts)


async def test_the_time_series_of_a_run_is_kept_and_what_stands_out_is_in_its_report(lab_client, lab, nodes, state):
    now_ns = time.monotonic_ns()
    nodes.nodes["node-1"].samples = [Sample(now_ns + second * 10**9, 1.0, 0.5, 0.1) for second in range(1, 4)]
    ended = await finished(lab_client, generated())
    assert [(one.node, one.kind) for one in ended.report.findings] == [("node-1", "starved")]
    await lab.runs.compacted()
    with archive.open_plain(state.run(ended.run), archive.SAMPLES_FILE) as file:
        kept = [msgspec.json.decode(line, type=NodeSample) for line in file]
    assert [one.sample.lag_s for one in kept] == [0.5] * 3
    for name in ("samples.ndjson", "samples.ndjson.gz"):
        assert b"".join([piece async for piece in lab_client.run_file(ended.run, name)])


async def test_a_run_ends_early_when_all_receipts_are_in(lab_client):
    ended = await asyncio.wait_for(finished(lab_client, generated(within_s=10 * PATIENCE_S)), PATIENCE_S)
    assert ended.report.verdict == "pass"


async def test_a_run_says_what_it_was_asked_to_publish_and_with_which_seed(lab_client, state):
    paced = await finished(lab_client, generated(count=4, rate=200.0, publisher="all", within_s=5.0), "paced")
    load = paced.report.load
    assert (load.rate_per_s, load.publisher, load.within_s, load.client, load.count) == (200.0, "all", 5.0, "blob", 12)
    assert load.seed == 42  # nobody chose one: it is the document's
    assert load.published_per_s > 0
    burst = await finished(lab_client, generated(count=4, seed=7), "burst")
    assert (burst.report.load.rate_per_s, burst.report.load.published_per_s) == (None, None)
    assert (burst.report.load.seed, burst.report.load.count) == (7, 4)
    assert archive.read_run(state, burst.run)[0].unix_offset_s is not None


async def test_a_run_whose_own_expectation_held_fails_when_somebody_got_nothing(lab_client, nodes):
    nodes.nodes["node-1"].deaf = True
    ended = await finished(lab_client, generated(publisher="node-0", within_s=0.2, expect=["duplicates <= 1"]))
    assert ended.report.verdict == "fail"
    assert [one.expr for one in ended.report.expectations if not one.ok] == ["reach == 100%"]


async def test_a_field_that_is_ignored_is_in_status_and_report_and_not_in_the_spec_of_the_run(lab_client, lab, state):
    document = to_document(lab.backend.subnet)
    document["spec"]["groups"] = [{"name": "next", "nodes": 0, "env": {"SLOW": "1"}}]  # as another p2pnet kept it
    document["metadata"]["annotations"] = {"p2pnet.io/ignored": "spec.image: has no meaning here"}
    lab.backend.subnet = load_subnet(document)
    fields = ["spec.image: has no meaning here", "spec.groups[0].env: is not implemented yet (target local)"]
    assert (await lab_client.summary()).ignored == fields
    ended = await finished(lab_client, generated())
    file, report = archive.read_run(state, ended.run)
    assert report.ignored == file.ignored == fields
    assert "SLOW" not in repr(file.spec)


async def test_a_run_cut_short_by_its_labs_death_still_says_its_load_and_what_was_ignored(lab_client, state):
    ended = await finished(lab_client, generated(count=3, rate=100.0))
    file, _ = archive.read_run(state, ended.run)
    cut = archive.close_invalid(state, msgspec.structs.replace(file, ignored=["spec.ttl: why"]), "the lab died")
    assert (cut.load.rate_per_s, cut.load.count, cut.ignored) == (100.0, 3, ["spec.ttl: why"])
    nothing = unmeasured(file, ["the disk was full"])
    assert nothing.load == load_of(file)


async def test_the_same_key_is_the_same_run_and_another_request_with_it_is_refused(lab_client):
    first = await lab_client.start_run(generated(), key="once")
    second = await lab_client.start_run(generated(), key="once")
    assert first.run == second.run
    with pytest.raises(ProblemError, match="another request") as caught:
        await lab_client.start_run(generated(size=1), key="once")
    assert (caught.value.status, caught.value.exit_code) == (409, 2)
    assert len(await lab_client.runs()) == 1


async def test_one_measured_run_at_a_time_and_the_others_wait_visibly(lab_client, nodes):
    nodes.gate.clear()
    first = await lab_client.start_run(generated(), key="a")
    second = await lab_client.start_run(generated(), key="b")
    third = await lab_client.start_run(generated(), key="c")
    beside = await lab_client.start_run(generated(shared=True), key="d")
    await until(lambda: len(nodes.injected) == 2)
    states = [await lab_client.run(one.run) for one in (first, second, third, beside)]
    assert [one.state for one in states] == ["running", "queued", "queued", "running"]
    assert [one.progress.queue_position for one in states] == [0, 1, 2, 0]
    assert first.run in states[1].progress.waiting_for
    nodes.gate.set()
    ends = [[one async for one in lab_client.follow(run.run)][-1] for run in (first, second, third, beside)]
    assert [end.report.verdict for end in ends] == ["pass"] * 4
    assert ends[3].report.shared
    assert any(beside.run in note for note in ends[0].report.notes)


async def test_the_status_counts_the_artifacts_of_a_cancelled_run_as_the_list_of_runs_does(lab_client, nodes, state):
    first = await lab_client.start_run(generated(count=600, rate=50.0), key="a")
    waiting = await lab_client.start_run(generated(count=7), key="b")
    await until(lambda: nodes.injected)
    for run in (waiting, first):
        await lab_client.cancel(run.run)

    told = {run.run: run.artifacts for run in (await lab_client.summary()).runs}
    assert told == {head.run: head.artifacts for head in archive.list_heads(state)}
    assert told[waiting.run] == 0
    assert 0 < told[first.run] < 600


async def test_the_list_of_runs_counts_open_runs_as_the_status_does_and_knows_what_they_published(
    lab_client, nodes, state
):
    first = await lab_client.start_run(generated(count=600, rate=50.0), key="a")
    waiting = await lab_client.start_run(generated(count=7, publisher="all"), key="b")

    def kept() -> RunFile:
        return archive.read_run_file(state, first.run)

    await until(lambda: kept().artifacts)  # it goes on for 12 seconds, and those after the first come in later saves
    once = kept()
    await until(lambda: len(kept().artifacts) > len(once.artifacts))
    assert once.state == "running"
    assert kept().artifacts[: len(once.artifacts)] == once.artifacts
    heads = {head.run: head for head in archive.list_heads(state)}
    told = {run.run: run.artifacts for run in (await lab_client.summary()).runs}
    assert told == {run: head.asked for run, head in heads.items()} == {first.run: 600, waiting.run: 21}
    assert 0 < heads[first.run].artifacts < 600
    assert heads[waiting.run].artifacts == 0
    await lab_client.cancel(first.run)
    assert archive.list_heads(state)[0].asked == 0


async def test_a_copy_of_an_open_runs_file_has_what_was_published_until_it_was_asked_for(
    lab_client, lab, nodes, state, monkeypatch
):
    monkeypatch.setattr("p2pnet.lab.runs.recorder.SAVE_S", 10 * PATIENCE_S)  # it would come too late by itself
    asked = await lab_client.start_run(generated(count=600, rate=50.0), key="a")
    run = lab.runs.get(asked.run)
    await until(lambda: run.file.artifacts)
    assert archive.read_run_file(state, asked.run).artifacts == []
    copied = b"".join([piece async for piece in lab_client.run_file(asked.run, archive.RUN_FILE)])
    assert msgspec.json.decode(copied, type=RunFile).artifacts
    await lab_client.cancel(asked.run)


async def test_a_cancelled_run_says_so_and_the_next_one_starts(lab_client, nodes):
    nodes.gate.clear()
    first = await lab_client.start_run(generated(), key="a")
    second = await lab_client.start_run(generated(), key="b")
    third = await lab_client.start_run(generated(), key="c")
    await until(lambda: nodes.injected)
    waiting = await lab_client.cancel(second.run)
    assert (waiting.state, waiting.report.verdict, waiting.report.notes) == ("cancelled", "invalid", [])
    ended = await lab_client.cancel(first.run)
    assert not [note for note in ended.report.notes if second.run in note]
    assert (ended.state, ended.report.verdict, ended.report.state) == ("cancelled", "invalid", "cancelled")
    assert "cancelled" in ended.report.invalid
    assert (await lab_client.cancel(first.run)) == ended
    nodes.gate.set()
    last = [one async for one in lab_client.follow(third.run)][-1]
    assert last.report.verdict == "pass"


async def test_followers_see_a_cursor_that_only_grows_and_an_end(lab_client):
    started = await lab_client.start_run(generated(count=3, rate=20), key="k")
    cursors = [state.cursor async for state in lab_client.follow(started.run)]
    assert cursors == sorted(set(cursors))
    assert [state.state async for state in lab_client.follow(started.run, cursors[-1])] == ["finished"]


async def test_a_run_can_be_followed_as_a_stream(lab_client):
    started = await lab_client.start_run(generated(count=3, rate=20), key="k")
    lines = [line async for line in lab_client.wire.lines(f"/v1/runs/{started.run}", RunState, {"stream": "1"})]
    assert lines[-1].state == "finished"
    assert lines[-1].report.verdict == "pass"


async def test_a_refused_artifact_makes_the_run_invalid_and_names_why(lab_client, nodes):
    for node in nodes.nodes.values():
        node.refuses = ControlRefusal("no-slot", "all 10000 slots are taken")
    ended = await finished(lab_client, generated(within_s=60))
    assert ended.report.verdict == "invalid"
    assert any("no-slot" in reason for reason in ended.report.invalid)


async def test_an_artifact_over_the_bound_is_refused_before_it_is_sent(lab, lab_client, nodes, document):
    document["spec"]["broadcast"] = {"artifactBytesMax": "1KiB"}
    lab.backend.subnet = load_subnet(document)
    ended = await finished(lab_client, generated(size=1025))
    assert any("too-large" in reason for reason in ended.report.invalid)
    assert nodes.injected == []


async def test_a_deaf_node_costs_reach_and_the_run_ends_in_time(lab_client, nodes):
    nodes.nodes["node-1"].deaf = True
    ended = await finished(lab_client, generated(publisher="node-0", within_s=2.0))
    assert ended.report.verdict == "fail"
    assert ended.report.reach.delivered == 1
    assert ended.report.latency_ms.max is None


async def test_a_burst_goes_out_in_few_requests(lab_client, nodes):
    ended = await finished(lab_client, generated(size=200, count=2000))
    assert ended.report.verdict == "pass"
    assert sum(count for _, count in nodes.injected) == 2000
    assert len(nodes.injected) == 3


async def test_every_node_publishes_its_own_with_all(lab_client, nodes):
    ended = await finished(lab_client, generated(count=2, publisher="all"))
    assert ended.report.publishers == ["node-0", "node-1", "node-2"]
    assert ended.report.reach.expected == 3 * 2 * 2


async def test_a_rate_is_kept(lab_client):
    ended = await finished(lab_client, generated(count=6, rate=30))
    assert ended.progress.elapsed_s >= 5 / 30


async def test_events_that_left_the_ring_make_the_run_invalid(lab_client, nodes):
    nodes.gate.clear()
    started = await lab_client.start_run(generated(publisher="node-0", within_s=0.5), key="k")
    await until(lambda: nodes.injected)
    one = nodes.nodes["node-1"]
    one.first += 5  # five events were made and lost before anybody read them
    nodes.gate.set()
    ended = [state async for state in lab_client.follow(started.run)][-1]
    assert ended.report.verdict == "invalid"
    assert any("node-1" in reason and "5 events lost" in reason for reason in ended.report.invalid)


async def test_a_restart_before_all_receipts_are_in_makes_the_run_invalid(lab_client, nodes):
    nodes.gate.clear()
    started = await lab_client.start_run(generated(publisher="node-0", within_s=0.5), key="k")
    await until(lambda: nodes.injected)
    nodes.nodes["node-1"].restart()
    nodes.gate.set()
    ended = [state async for state in lab_client.follow(started.run)][-1]
    assert ended.report.verdict == "invalid"
    assert any("node-1" in reason for reason in ended.report.invalid)


async def test_a_restart_that_the_run_ordered_leaves_unknown_receipts_only(lab_client, nodes):
    nodes.gate.clear()
    started = await lab_client.start_run(generated(publisher="node-0", within_s=2.0), key="k")
    await until(lambda: nodes.injected)
    await lab_client.node_action("node-1", "kill", run=started.run)
    nodes.nodes["node-1"].deaf = True
    nodes.gate.set()
    ended = [state async for state in lab_client.follow(started.run)][-1]
    assert ended.report.invalid == []
    assert ended.report.unknown == 1
    assert ended.report.verdict == "pass"


async def test_a_node_silent_at_the_end_makes_the_run_invalid(lab_client, nodes):
    nodes.gate.clear()
    started = await lab_client.start_run(generated(publisher="node-0", within_s=0.2), key="k")
    await until(lambda: nodes.injected)
    nodes.nodes["node-2"].silent = True
    ended = [state async for state in lab_client.follow(started.run)][-1]
    assert any("node-2" in reason for reason in ended.report.invalid)


async def test_a_full_disk_makes_the_run_invalid_and_the_lab_goes_on(lab_client, nodes, state):
    nodes.gate.clear()
    started = await lab_client.start_run(generated(), key="k")
    queued = await lab_client.start_run(generated(), key="next")
    (state.run(queued.run) / "events.ndjson").symlink_to("/dev/full")
    nodes.gate.set()
    assert [one async for one in lab_client.follow(started.run)][-1].report.verdict == "pass"
    ended = [one async for one in lab_client.follow(queued.run)][-1]
    assert ended.report.verdict == "invalid"
    assert any("No space left" in reason for reason in ended.report.invalid)
    assert (await finished(lab_client, generated(), "third")).report.verdict == "pass"


async def test_a_state_directory_that_takes_nothing_is_refused_before_the_start(lab_client, state):
    state.runs.rmdir()
    state.runs.write_text("a file in the way")
    with pytest.raises(ProblemError) as caught:
        await lab_client.start_run(generated(), key="k")
    assert caught.value.exit_code == 2
    assert await lab_client.runs() == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (generated(expect=["p95 <<= 3"]), "p95"),
        (generated(count=0), "count"),
        (generated(count=200_000), "at most 100000"),
        (generated(rate=0.0), "rate"),
        (generated(publisher="node-9"), "node-9"),
        (RunRequest([]), "no payloads"),
        (RunRequest([Payload("f", upload="u-none")]), "no upload"),
    ],
)
async def test_a_request_that_makes_no_sense_is_exit_2_with_the_reason(lab_client, request_, words):
    with pytest.raises(ProblemError, match=words) as caught:
        await lab_client.start_run(request_, key="k")
    assert caught.value.exit_code == 2


async def test_an_unknown_run_is_404(lab_client):
    with pytest.raises(ProblemError) as caught:
        await lab_client.run("r-0")
    assert (caught.value.status, caught.value.exit_code) == (404, 2)


async def test_a_lab_that_stops_ends_its_runs_as_invalid(lab, lab_client, nodes, state):
    nodes.gate.clear()
    first = await lab_client.start_run(generated(), key="a")
    second = await lab_client.start_run(generated(), key="b")
    await until(lambda: nodes.injected)
    lab.stop("it got SIGTERM")
    await lab.close()
    for run in (first, second):
        file, report = archive.read_run(state, run.run)
        assert (file.state, report.verdict) == ("finished", "invalid")
        assert any("SIGTERM" in reason for reason in report.invalid)


async def test_generated_bytes_are_the_same_for_the_same_seed(lab_client, nodes):
    async def bytes_of(seed: int, key: str) -> list[bytes]:
        for node in nodes.nodes.values():
            node.held.clear()
        await finished(lab_client, generated(size=50, count=2, seed=seed, publisher="node-0"), key)
        return sorted(data for _, data in nodes.nodes["node-0"].held.values())

    first, again, other = await bytes_of(1, "a"), await bytes_of(1, "b"), await bytes_of(2, "c")
    assert first == again != other


async def test_run_json_names_what_is_needed_to_read_it(lab_client, state):
    ended = await finished(lab_client, generated())
    data = json.loads((state.run(ended.run) / "run.json").read_text())
    assert {"run", "subnet", "target", "seed", "request", "nodes", "version", "spec", "artifacts"} <= data.keys()


async def test_a_label_is_in_run_and_report_and_can_be_changed_while_the_run_is_on_and_after(lab_client, state):
    ended = await finished(lab_client, generated(label=" baseline "))
    assert (ended.request.label, ended.report.label) == ("baseline", "baseline")
    assert archive.list_heads(state)[0].label == "baseline"
    await lab_client.label(ended.run, "after all")
    assert archive.read_run(state, ended.run)[1].label == "after all"
    for bad in ("x" * 81, "latest"):
        with pytest.raises(ProblemError) as caught:
            await lab_client.label(ended.run, bad)
        assert caught.value.exit_code == 2


async def test_a_run_that_was_removed_from_the_disk_is_forgotten(lab_client, lab, state):
    first, second = await finished(lab_client, generated(), "a"), await finished(lab_client, generated(), "b")
    await lab.runs.compacted()
    retention.remove(state, first.run)
    assert [run.run for run in await lab_client.runs()] == [second.run]
    with pytest.raises(ProblemError, match="there is no run"):
        await lab_client.run(first.run)


async def test_limits_are_kept_when_a_run_ends(lab_client, lab, state, monkeypatch, caplog):
    monkeypatch.setenv("P2PNET_KEEP_RUNS", "1")
    caplog.set_level("INFO")
    ended = [await finished(lab_client, generated(label=label), str(n)) for n, label in enumerate(("spared", "", ""))]
    await lab.runs.compacted()
    assert {head.run for head in archive.list_heads(state)} == {ended[0].run, ended[2].run}
    assert f"removed {ended[1].run}" in caplog.text
    monkeypatch.setenv("P2PNET_KEEP_RUNS", "one")
    await finished(lab_client, generated(), "3")
    await lab.runs.compacted()
    assert "no run is removed to make room: P2PNET_KEEP_RUNS='one'" in caplog.text
    assert len(archive.list_heads(state)) == 3


async def test_compressed_events_are_served_as_they_were_written(lab_client, lab, state):
    ended = await finished(lab_client, generated(count=3))
    await lab.runs.compacted()
    folder = state.run(ended.run)
    plain = b"".join([piece async for piece in lab_client.run_file(ended.run, "events.ndjson")])
    packed = b"".join([piece async for piece in lab_client.run_file(ended.run, "events.ndjson.gz")])
    assert packed == (folder / "events.ndjson.gz").read_bytes()
    assert gzip.decompress(packed) == plain
