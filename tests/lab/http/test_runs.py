"""Uploads and downloads over the socket, against fake nodes."""

import asyncio
import errno
import gzip
import os

import msgspec
import pytest
from tests.packing import ROUNDS, TEXT, packing

from p2pnet.lab.runs import queue
from p2pnet.lab_client import ProblemError, client
from p2pnet.model import limits
from p2pnet.model.jobs import Payload, RunRequest, Upload, UploadRequest
from p2pnet.model.report import InjectionRef
from p2pnet.store import archive


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(os.urandom(2_500_000))
    return path


async def published(lab_client, path, **more):
    upload = await lab_client.upload(path, path.name)
    started = await lab_client.start_run(
        RunRequest([Payload(path.name, upload=upload)], publisher="node-0", **more), key=upload
    )
    state = [one async for one in lab_client.follow(started.run)][-1]
    return state.report.artifact_ids[0]


async def test_a_file_goes_up_in_parts_and_comes_back_in_ranges(lab_client, photo):
    seen = []
    upload = await lab_client.upload(photo, "photo.jpg", lambda done, size: seen.append((done, size)))
    assert seen == [(1 << 20, 2_500_000), (2 << 20, 2_500_000), (2_500_000, 2_500_000)]
    run = await lab_client.start_run(RunRequest([Payload("photo.jpg", upload=upload)], publisher="node-0"), key="k")
    states = [state async for state in lab_client.follow(run.run)]
    artifact = states[-1].report.artifact_ids[0]
    first = await lab_client.get(artifact, offset=0, length=1 << 20)
    assert (first.name, first.size, first.node) == ("photo.jpg", 2_500_000, "node-1")
    data, offset = first.data, len(first.data)
    while offset < first.size:
        part = await lab_client.get(artifact, node=first.node, offset=offset, length=1 << 20)
        data, offset = data + part.data, offset + len(part.data)
    assert data == photo.read_bytes()
    assert (await lab_client.get(artifact, length=10_000_000)).data == photo.read_bytes()
    assert (await lab_client.get(artifact, offset=2_500_000)).data == b""


async def test_an_interrupted_upload_goes_on_from_where_it_was(lab_client, photo):
    wire = lab_client.wire
    state = await wire.ask("POST", "/v1/uploads", Upload, json=UploadRequest("photo.jpg", 2_500_000))
    first = photo.read_bytes()[: 1 << 20]
    await wire.ask("PUT", f"/v1/uploads/{state.upload}", Upload, data=first, query={"offset": "0"})
    with pytest.raises(ProblemError) as caught:
        await wire.ask("PUT", f"/v1/uploads/{state.upload}", Upload, data=first, query={"offset": "0"})
    assert caught.value.status == 409
    now = await wire.ask("GET", f"/v1/uploads/{state.upload}", Upload)
    assert now.offset == 1 << 20
    with pytest.raises(ProblemError, match="not whole"):
        await lab_client.start_run(RunRequest([Payload("photo.jpg", upload=state.upload)]), key="k")


async def test_a_file_of_a_run_is_read_from_where_it_was_read_to(lab_client, lab, monkeypatch):
    monkeypatch.setattr(client, "FILE_PART_BYTES", 8)
    started = await lab_client.start_run(RunRequest([Payload("x", size=1)]), key="k")
    assert [one async for one in lab_client.follow(started.run)][-1].state == "finished"
    path = lab.paths.state.run(started.run) / "logs.ndjson"
    path.write_bytes(b"0123456789")
    assert await lab_client.run_file_from(started.run, "logs.ndjson", 0) == b"01234567"
    assert await lab_client.run_file_from(started.run, "logs.ndjson", 8) == b"89"
    assert await lab_client.run_file_from(started.run, "logs.ndjson", 10) == b""
    for asked in ("bytes=10-20", "bytes=x-y"):
        with pytest.raises(ProblemError, match="has 10 bytes") as caught:
            async with lab_client.wire.open(
                "GET", f"/v1/runs/{started.run}/files/logs.ndjson", headers={"Range": asked}
            ):
                pass
        assert caught.value.status == 416
    events = path.with_name("events.ndjson.gz")
    while not events.is_file():  # packed once the run has ended
        await asyncio.sleep(0.02)
    whole = gzip.decompress(events.read_bytes())
    assert await lab_client.run_file_from(started.run, "events.ndjson", 5) == whole[5:13]
    assert await lab_client.run_file_from(started.run, "events.ndjson", len(whole)) == b""
    path.unlink()
    assert await lab_client.run_file_from(started.run, "logs.ndjson", 0) == b""


async def test_a_file_of_a_run_is_answered_whole_while_it_is_being_packed(lab_client, lab):
    started = await lab_client.start_run(RunRequest([Payload("x", size=1)]), key="k")
    assert [one async for one in lab_client.follow(started.run)][-1].state == "finished"
    await lab.runs.compacted()
    folder = lab.paths.state.run(started.run)
    for turn in range(ROUNDS):
        with packing(folder, turn):
            while archive.events_file(folder).suffix != ".gz":
                whole = b"".join([part async for part in lab_client.run_file(started.run, "events.ndjson")])
                assert whole == TEXT
                assert await lab_client.run_file_from(started.run, "events.ndjson", 7) == TEXT[7:]


@pytest.mark.parametrize(
    ("code", "next_step"), [(errno.ENOSPC, "free some space"), (errno.EIO, "the lab's log has the details")]
)
async def test_a_disk_that_refuses_is_told_with_what_helps(lab_client, lab, monkeypatch, code, next_step):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lab.runs, "all", refuse)
    with pytest.raises(ProblemError, match=os.strerror(code)) as caught:
        await lab_client.runs()
    assert (caught.value.status, caught.value.problem.hint) == (507, next_step)


async def test_an_empty_file_is_an_artifact_too(lab_client, tmp_path):
    empty = tmp_path / "empty"
    empty.touch()
    artifact = await published(lab_client, empty)
    got = await lab_client.get(artifact)
    assert (got.size, got.data) == (0, b"")


async def test_a_file_over_the_bound_is_refused_before_a_byte_is_sent(lab, lab_client):
    with pytest.raises(ProblemError, match="at most"):
        await lab_client.wire.ask(
            "POST", "/v1/uploads", Upload, json=UploadRequest("large", limits.ARTIFACT_BYTES_MAX + 1)
        )


async def test_the_named_node_answers_and_one_that_holds_nothing_is_exit_1(lab_client, photo, nodes):
    artifact = await published(lab_client, photo)
    assert (await lab_client.get(artifact[:6], node="node-0", length=5)).node == "node-0"
    nodes.nodes["node-2"].held.clear()
    with pytest.raises(ProblemError, match="node-2 does not hold") as caught:
        await lab_client.get(artifact, node="node-2")
    assert (caught.value.status, caught.value.exit_code) == (404, 1)
    with pytest.raises(ProblemError, match="no node 'node-7'") as caught:
        await lab_client.get(artifact, node="node-7")
    assert caught.value.exit_code == 2


async def test_without_a_name_the_publisher_serves_only_when_nobody_else_can(lab_client, photo, nodes):
    artifact = await published(lab_client, photo)
    for name in ("node-1", "node-2"):
        nodes.nodes[name].held.clear()
    assert (await lab_client.get(artifact, length=1)).node == "node-0"
    nodes.nodes["node-0"].held.clear()
    with pytest.raises(ProblemError, match="no node holds") as caught:
        await lab_client.get(artifact)
    assert caught.value.exit_code == 1


async def test_withdrawing_takes_it_from_every_node(lab_client, photo, nodes):
    artifact = await published(lab_client, photo)
    nodes.nodes["node-2"].silent = True
    taken = await lab_client.withdrawal(artifact[:8])
    assert (taken.artifact, taken.held, taken.silent) == (artifact, ["node-0", "node-1"], ["node-2"])


async def test_a_prefix_must_mean_one_artifact(lab_client, lab, photo):
    artifact = await published(lab_client, photo)
    with pytest.raises(ProblemError, match="no artifact id"):
        await lab_client.get("xyz")
    assert (await lab_client.artifact_events(artifact[0]))[0] == artifact
    with pytest.raises(ProblemError, match="no run published"):
        await lab_client.get("000000" if not artifact.startswith("000000") else "111111")
    run = lab.runs.all()[0]
    run.file.artifacts.append(artifact[:40] + "0" * 24)
    with pytest.raises(ProblemError, match="ambiguous") as caught:
        await lab_client.get(artifact[:10])
    assert caught.value.exit_code == 2


async def test_a_short_beginning_must_be_unique_among_all_runs_that_are_kept(lab_client, lab, photo, state):
    artifact = await published(lab_client, photo)
    file = lab.runs.all()[0].file
    former = msgspec.structs.replace(file, run="r-20261121-201530-3f", artifacts=[artifact[:6] + "0" * 58], names=["x"])
    folder = state.run(former.run)
    folder.mkdir()
    (folder / "run.json").write_bytes(archive.pretty(former))
    with pytest.raises(ProblemError, match="ambiguous: 2 artifacts"):
        await lab_client.get(artifact[:5])


async def test_an_artifact_whose_run_the_lab_has_forgotten_is_found_in_the_archive(lab_client, photo, monkeypatch):
    artifact = await published(lab_client, photo)
    monkeypatch.setattr(queue, "KEPT_MAX", 0)
    await published(lab_client, photo)
    whole, file, events = await lab_client.artifact_events(artifact[:12])
    assert (whole, file.names) == (artifact, ["photo.jpg"])
    assert events == sorted(events, key=lambda event: event.t_ns)


async def test_a_run_is_found_by_its_key_and_tells_which_injection_asked_for_it(lab, lab_client):
    injection = InjectionRef("smoke", "uid-1")
    assert await lab_client.run_of_key("uid-1") is None
    upload = await lab_client.upload_bytes(b"bytes of a ConfigMap", "a.txt")
    request = RunRequest([Payload("a.txt", upload=upload)], publisher="node-0", injection=injection)
    started = await lab_client.start_run(request, key="uid-1", lab=await lab_client.lab())
    found = await lab_client.run_of_key("uid-1")
    assert (found.run, found.request.injection) == (started.run, injection)
    [summary] = [one for one in (await lab_client.summary()).runs if one.run == started.run]
    assert summary.injection == injection
    assert (await lab_client.start_run(request, key="uid-1")).run == started.run
    with pytest.raises(ProblemError, match="another request") as caught:
        await lab_client.start_run(msgspec.structs.replace(request, count=2), key="uid-1")
    assert caught.value.status == 409


async def test_a_run_that_is_meant_for_a_lab_before_a_restart_is_not_begun(lab, lab_client):
    with pytest.raises(ProblemError, match="restarted") as caught:
        await lab_client.start_run(RunRequest([Payload("x", size=1)]), key="uid-1", lab="another")
    assert caught.value.status == 412
    assert await lab_client.runs() == []


async def test_a_full_queue_says_to_come_again(lab, lab_client, monkeypatch):
    monkeypatch.setattr(queue, "QUEUE_MAX", 0)
    with pytest.raises(ProblemError, match="waiting already") as caught:
        await lab_client.start_run(RunRequest([Payload("x", size=1)]), key="k")
    assert (caught.value.status, caught.value.exit_code) == (429, 2)


async def test_a_run_that_leaves_its_count_to_the_stages_of_its_rate_has_as_many_as_they_hold(lab, lab_client):
    request = RunRequest(
        [Payload("x", size=1)], count=0, rate="10/s for 300ms, then 20/s for 100ms", publisher="node-0"
    )
    started = await lab_client.start_run(request, key="k")
    assert (started.request.count, started.progress.artifacts) == (5, 5)
    assert (await lab_client.start_run(request, key="k")).run == started.run
    with pytest.raises(ProblemError, match="count of 0"):  # a plain rate holds no number
        await lab_client.start_run(RunRequest([Payload("x", size=1)], count=0, rate=2.0), key="other")
