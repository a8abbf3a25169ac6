"""`replay`: what was recorded happens again in the simulator, and what does not is said."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from p2pnet.cli.verbs.schema import schema_of
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import FaultTime, Payload, RunFile, RunRequest
from p2pnet.model.report import FaultStatus
from p2pnet.store import State, archive
from p2pnet.store.bundle_format import BundledContent, write_bundle
from p2pnet.store.bundles import open_bundle

Call = Callable[..., Any]
NETWORK = {"default": {"latency": "40ms", "jitter": "10ms", "loss": "1%"}}
CUT = {"name": "cut", "partition": {"minority": "30%"}, "after": "200ms", "for": "20s"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, kind: str, **spec: Any) -> str:
    document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": kind, "metadata": {"name": "demo"}, "spec": spec}
    Path(name).write_text(yaml.safe_dump(document))
    return name


def subnet(**more: Any) -> str:
    return write("subnet.yaml", "Subnet", **{"nodes": 6, "seed": 3, "network": NETWORK, **more})


def replayed(p2pnet: Call, *words: str, code: int = 0) -> Any:
    ended = p2pnet("replay", *words, "-o", "json")
    assert ended.code == code, ended.err
    found = json.loads(ended.out)
    jsonschema.validate(found, schema_of("replay"))
    return found


def collected(p2pnet: Call, *words: str) -> str:
    ended = p2pnet("collect", *words, "-O", "b.tar.gz")
    assert ended.code == 0, ended.err
    assert "Next: p2pnet replay b.tar.gz" in ended.err
    return "b.tar.gz"


# --- what the simulator recorded ---


@pytest.mark.parametrize(
    ("spec", "words", "verdict"),
    [
        ({}, ["--count", "5", "--rate", "5/s"], "pass"),
        ({}, ["--count", "5", "--rate", "5/s", "--seed", "9", "--from", "all", "--expect", "p95 <= 1ms"], "fail"),
        ({"faults": [CUT]}, ["photo.jpg", "--count", "6", "--rate", "5/s", "--within", "3s"], "fail"),
        ({"faults": [CUT]}, ["--count", "9", "--rate", "5/s", "--within", "3s", "--stop-early"], "fail"),
        ({"clients": [{"name": "blob"}, {"name": "beacon"}]}, ["--client", "blob", "--until", "300ms", "--count", "9"], "fail"),
    ],
    ids=["passes", "fails", "cut", "early", "until"],
)  # fmt: skip
def test_a_simulated_run_is_replayed_to_the_same_digest(
    p2pnet: Call, spec: Any, words: list[str], verdict: str
) -> None:
    Path("photo.jpg").write_bytes(b"a photo" * 999)
    recorded = json.loads(p2pnet("sim", "-f", subnet(**spec), *words, "-o", "json").out)
    found = replayed(p2pnet, collected(p2pnet))

    assert found["digest"] == {"recorded": recorded["digest"], "replayed": recorded["digest"], "same": True}
    assert (found["verdict"], found["recorded_verdict"]) == ("reproduced", verdict)
    [run] = found["runs"]
    missed = recorded["reach"]["expected"] - recorded["reach"]["delivered"] - recorded["unknown"]
    misses = run["misses"]
    assert (misses["recorded"], misses["replayed"], misses["both"]) == (missed, missed, missed)
    assert all(one["gap"] in (0, None) for one in run["figures"])
    assert json.loads(p2pnet("report", "demo", run["replay"], "-o", "json").out)["digest"] == recorded["digest"]


def test_a_scenario_is_replayed_whole_to_the_same_digest(p2pnet: Call) -> None:
    Path("photo.jpg").write_bytes(b"a photo" * 99)
    story = write(
        "story.yaml", "Scenario", subnet={"nodes": 6, "network": NETWORK},
        steps=[
            {"name": "before", "inject": {"files": ["photo.jpg"], "count": 3, "rate": "10/s"}},
            {"name": "cut", "fault": {"partition": {"minority": "30%"}}},
            {"name": "dark", "inject": {"size": "16KiB", "count": 4, "rate": "2/s", "within": "3s"}},
            {"heal": "cut"},
            {"wait": {"holds": "dark", "within": "60s"}},
            {"expect": ["before.reach == 100%"]},
        ],
    )  # fmt: skip
    recorded = json.loads(p2pnet("run", story, "--on", "sim", "--seed", "5", "-o", "json").out)
    Path("photo.jpg").unlink()
    found = replayed(p2pnet, collected(p2pnet, "demo/dark"))

    assert (found["scenario"], found["verdict"], found["recorded_verdict"]) == ("demo", "reproduced", "fail")
    assert found["digest"]["recorded"] == recorded["digest"] == found["digest"]["replayed"]
    assert [run["step"] for run in found["runs"]] == ["before", "dark"]
    assert all(run["digest"]["same"] for run in found["runs"])
    assert [one["expr"] for one in found["expectations"]] == [one["expr"] for one in recorded["expectations"]]


FILES_STORY: list[dict[str, Any]] = [
    {"name": "a", "inject": {"files": ["photo.jpg"], "count": 2}},
    {"fault": {"from": "node-1", "loss": "20%"}},
    {"name": "b", "inject": {"size": "2KiB"}},
]


def test_the_replay_of_a_scenario_is_carried_away_and_replayed_as_that_scenario(p2pnet: Call) -> None:
    Path("photo.jpg").write_bytes(b"a photo" * 99)
    p2pnet("run", write("story.yaml", "Scenario", subnet={"nodes": 4}, steps=FILES_STORY), "--on", "sim")
    first = replayed(p2pnet, collected(p2pnet))
    second = replayed(p2pnet, collected(p2pnet, first["runs"][-1]["replay"]))
    assert (second["scenario"], [run["step"] for run in second["runs"]]) == ("demo", ["a", "b"])
    assert [run["run"] for run in second["runs"]] == [run["replay"] for run in first["runs"]]
    assert second["digest"] == first["digest"]

    third = replayed(p2pnet, collected(p2pnet, second["runs"][-1]["replay"], "--no-payloads"))
    assert not third["digest"]["same"]
    assert any("file photo.jpg: its bytes are not in the bundle" in one for one in third["not_reproduced"])


def test_a_bundle_out_of_which_secrets_were_taken_is_replayed_to_the_same_digest(p2pnet: Call) -> None:
    groups = [
        {
            "name": "a",
            "nodes": 2,
            "labels": {"password": "sw0rdfish", "region": "eu"},
            "env": {"API_TOKEN": "sw0rdfish"},
        },
        {"name": "b", "nodes": 2, "labels": {"password": "sw1rdfish"}},
    ]
    network = {"rules": [{"from": "password=sw0rdfish", "to": "*", "latency": "70ms"}]}
    steps = [
        {"fault": {"from": "password=sw1rdfish", "loss": "20%"}},
        {"name": "a", "inject": {"count": 2}},
        {"expect": "a.p95 <= 1s"},
    ]
    story = write("story.yaml", "Scenario", subnet={"nodes": 2, "groups": groups, "network": network}, steps=steps)
    recorded = json.loads(p2pnet("run", story, "--on", "sim", "--ignore-unsupported", "-o", "json").out)
    bundle = collected(p2pnet)
    found = replayed(p2pnet, bundle)
    assert found["digest"] == {"recorded": recorded["digest"], "replayed": recorded["digest"], "same": True}
    opened = open_bundle(Path(bundle))
    kept = b"".join(path.read_bytes() for path in opened.state.root.rglob("*.json"))
    opened.close()
    assert b"rdfish" not in kept


def test_files_of_a_step_whose_run_is_gone_are_named_as_other_bytes(p2pnet: Call, state: State) -> None:
    Path("photo.jpg").write_bytes(b"a photo" * 99)
    story = write("story.yaml", "Scenario", subnet={"nodes": 4}, steps=FILES_STORY)
    recorded = json.loads(p2pnet("run", story, "--on", "sim", "-o", "json").out)
    shutil.rmtree(state.run(recorded["steps"][0]["run"]))
    found = replayed(p2pnet, collected(p2pnet))
    assert ([run["step"] for run in found["runs"]], found["digest"]["same"]) == (["b"], False)
    assert "file photo.jpg: its bytes are not in the bundle, others of 64 KiB stand for them" in found["not_reproduced"]


@pytest.mark.parametrize("older", [False, True], ids=["record", "older-record"])
def test_a_scenario_that_ended_early_is_replayed_to_the_same_early_end(p2pnet: Call, *, older: bool) -> None:
    story = write(
        "story.yaml", "Scenario", subnet={"nodes": 5, "network": NETWORK},
        steps=[
            {"name": "a", "inject": {"count": 20, "rate": "10/s", "expect": "p95 <= 1ms"}},
            {"name": "b", "inject": {"count": 2}},
            {"expect": ["b.p95 <= 2s", "a.reach >= 1%"]},
        ],
    )  # fmt: skip
    ended = p2pnet("run", story, "--on", "sim", "--seed", "5", "--stop-early", "-o", "json")
    recorded, bundle = json.loads(ended.out), collected(p2pnet)
    if older:
        opened = open_bundle(Path(bundle))
        record = json.loads(opened.document("scenario.json") or b"")
        opened.close()
        assert record.pop("stop_early") is True
        bundle = repacked(bundle, "scenario.json", json.dumps(record).encode())
    found = replayed(p2pnet, bundle)

    assert (ended.code, recorded["steps"][1]["state"]) == (1, "not run")
    assert (found["verdict"], found["digest"]["same"]) == ("reproduced", True)
    assert found["digest"]["recorded"] == recorded["digest"]


def test_without_the_published_files_the_history_is_another_and_that_is_said(p2pnet: Call) -> None:
    Path("photo.jpg").write_bytes(b"a photo" * 999)
    p2pnet("sim", "-f", subnet(), "photo.jpg")
    found = replayed(p2pnet, collected(p2pnet, "--no-payloads"))
    assert (found["verdict"], found["digest"]["same"]) == ("reproduced", False)
    assert any("photo.jpg" in one for one in found["not_reproduced"])
    assert any("the digests differ" in one for one in found["not_reproduced"])


def test_a_verdict_that_does_not_come_again_is_exit_1_and_says_so_plainly(p2pnet: Call, state: State) -> None:
    run = json.loads(p2pnet("sim", "-f", subnet(), "--expect", "p95 <= 9s", "-o", "json").out)["run"]
    report = archive.read_run(state, run)[1]
    assert report is not None
    missed = [msgspec.structs.replace(one, ok=one.expr.startswith("reach")) for one in report.expectations]
    other = msgspec.structs.replace(report, verdict="fail", expectations=missed, digest="00" * 32)
    (state.run(run) / archive.SUMMARY_FILE).write_bytes(archive.pretty(other))

    ended = p2pnet("replay", collected(p2pnet))
    assert ended.code == 1
    assert "does not reproduce: the record is a fail, the replay a pass" in ended.out
    assert "p95 <= 9s did not hold in the record, and held in the replay" in " ".join(ended.out.split())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"summary.json": None}, "has no report"),
        ({"verdict": "invalid", "invalid": ["the lab died"], "digest": "00" * 32}, "was invalid: the lab died"),
        ({"verdict": "invalid", "invalid": ["the lab died"]}, "was invalid: the lab died"),
    ],
    ids=["open", "invalid", "invalid-same-history"],
)
def test_a_record_without_a_verdict_leaves_nothing_to_compare(
    p2pnet: Call, state: State, change: dict[str, Any], why: str
) -> None:
    run = json.loads(p2pnet("sim", "-f", subnet(), "-o", "json").out)["run"]
    summary = state.run(run) / archive.SUMMARY_FILE
    if "summary.json" in change:
        summary.unlink()
    else:
        report = msgspec.structs.replace(archive.read_run(state, run)[1], **change)  # type: ignore[type-var]
        summary.write_bytes(archive.pretty(report))
    found = replayed(p2pnet, collected(p2pnet), code=5)
    assert found["verdict"] == "nothing to compare"
    assert why in found["why"][0]


def test_an_invalid_scenario_has_nothing_to_compare_though_its_history_comes_again(p2pnet: Call) -> None:
    story = write(
        "story.yaml", "Scenario", subnet={"nodes": 4},
        steps=[
            {"fault": {"from": "node-1", "kill": True, "for": "60s"}},
            {"name": "a", "inject": {"from": "node-1", "count": 2, "within": "2s"}},
            {"expect": ["a.p95 <= 1s"]},
        ],
    )  # fmt: skip
    assert p2pnet("run", story, "--on", "sim").code == 5
    bundle = collected(p2pnet)
    found = replayed(p2pnet, bundle, code=5)
    assert (found["verdict"], found["recorded_verdict"], found["digest"]["same"]) == (
        "nothing to compare",
        "invalid",
        True,
    )
    assert found["why"]
    assert {(one["recorded_judged"], one["replayed_judged"]) for one in found["expectations"]} == {(False, False)}
    shown = p2pnet("replay", bundle)
    assert (shown.code, "NOTHING" in shown.out, "MISS" in shown.out) == (5, True, False)
    assert "recorded not judged" in " ".join(shown.out.split())


def test_an_equal_history_with_another_verdict_is_not_reproduced(p2pnet: Call, state: State) -> None:
    run = json.loads(p2pnet("sim", "-f", subnet(), "-o", "json").out)["run"]
    report = archive.read_run(state, run)[1]
    assert report is not None
    other = msgspec.structs.replace(report, verdict="fail")
    (state.run(run) / archive.SUMMARY_FILE).write_bytes(archive.pretty(other))
    found = replayed(p2pnet, collected(p2pnet), code=1)
    assert (found["verdict"], found["digest"]["same"]) == ("not reproduced", True)
    assert found["why"] == ["the record is a fail, the replay a pass"]


# --- what live nodes recorded ---


def live_run(state: State, *, faults: list[FaultTime] | None, missed: set[str], **more: Any) -> str:
    """A run of live nodes that published at 0.5, 1.5 and 2.5 s, and whose third artifact missed some nodes."""
    run, nodes = "r-20261121-201320-7f", [f"node-{index}" for index in range(6)]
    folder = state.run(run)
    folder.mkdir(parents=True)
    artifacts = [f"{number:02x}" * 32 for number in range(3)]
    events = []
    for number, artifact in enumerate(artifacts):
        at = 10_000_000_000 + 500_000_000 + number * 1_000_000_000
        events.append(Collected("node-2", "a", number, at, EventKind.PUBLISHED, "blob", artifact, bytes=9_000))
        for node in nodes:
            if node != "node-2" and not (number == 2 and node in missed):
                event = Collected(
                    node, "a", number, at + 40_000_000, EventKind.VALIDATED, "blob", artifact, "node-2", 1, 9_000
                )
                events.append(event)
    with gzip.open(folder / archive.COMPRESSED_FILE, "wb") as file:
        file.write(b"".join(msgspec.json.encode(one) + b"\n" for one in events))
    spec = yaml.safe_load(Path(subnet(network={"default": {"latency": "40ms"}})).read_text())
    file_of = RunFile(
        run=run, subnet="demo", target="local", seed=3, request=RunRequest([Payload("photo.jpg", upload="u1")], 3, within_s=4.0),
        created_at=1_000.0, started_at=1_010.0, finished_at=1_020.0, unix_offset_s=1_000.0, nodes=nodes, version="0.0.1",
        spec=spec, state="finished", artifacts=artifacts, names=["photo.jpg"] * 3, fault_times=faults, **more,
    )  # fmt: skip
    (folder / archive.RUN_FILE).write_bytes(archive.pretty(file_of))
    report = archive._measured(file_of, folder, "x")[1]
    judged = msgspec.structs.replace(
        archive_judged(state, run, report), duration_s=3.0, artifact_ids=artifacts, artifacts=3
    )
    (folder / archive.SUMMARY_FILE).write_bytes(archive.pretty(judged))
    return run


def archive_judged(state: State, run: str, report: Any) -> Any:
    """The report of a run's events, valid."""
    folder = state.run(run)
    (folder / archive.SUMMARY_FILE).write_bytes(archive.pretty(msgspec.structs.replace(report, invalid=[])))
    return archive.judged_again(state, run, [])


def test_a_live_run_is_replayed_with_its_publications_and_faults_at_their_times(p2pnet: Call, state: State) -> None:
    fault = {"name": "out", "from": "node-4", "to": "*", "block": True, "bothWays": True}
    live_run(state, faults=[FaultTime(fault, 2.0, None)], missed={"node-4"})
    found = replayed(p2pnet, collected(p2pnet))

    assert (found["verdict"], found["recorded_verdict"], found["digest"]) == ("reproduced", "fail", None)
    [run] = found["runs"]
    assert (run["artifacts"], run["republished"]) == (3, 3)
    misses = run["misses"]
    assert (misses["recorded"], misses["replayed"], misses["both"]) == (1, 1, 1)
    kept = archive.list_heads(state, "demo")[-1]
    published = [
        (event.node, event.bytes) for event in archive.iter_events(state.run(kept.run), kind=EventKind.PUBLISHED)
    ]
    assert published == [("node-2", 9_000)] * 3
    limits = " ".join(found["not_reproduced"])
    for words in ("the time that nodes and kernel took", "QUIC itself", "p2pnet 0.0.1", "photo.jpg"):
        assert words in limits


def test_a_live_run_whose_fault_had_ended_or_is_not_known_does_not_reproduce(p2pnet: Call, state: State) -> None:
    fault = {"name": "out", "from": "node-4", "to": "*", "block": True, "bothWays": True}
    strange = FaultTime({"name": "far", "from": "node-9", "block": True}, 0.0, None)
    shuffled = FaultTime({"name": "twice", "duplication": "20%", "loss": "0%"}, 0.0, None)
    live_run(state, faults=[FaultTime(fault, -90.0, 1.0), strange, shuffled], missed={"node-4"})
    found = replayed(p2pnet, collected(p2pnet), code=1)

    misses = found["runs"][0]["misses"]
    assert (misses["recorded"], misses["replayed"]) == (1, 0)
    assert [one["node"] for one in misses["only_recorded"]] == ["node-4"]
    limits = " ".join(found["not_reproduced"])
    assert "fault far: " in limits
    assert "fault twice: duplication of packets" in limits


def test_a_fault_of_an_older_p2pnet_is_named_and_not_guessed(p2pnet: Call, state: State) -> None:
    known = FaultStatus(name="cut", what="partition 30% from the rest", origin="lease", state="ended")
    live_run(state, faults=None, missed={"node-4"})
    path = state.run("r-20261121-201320-7f") / archive.RUN_FILE
    run = msgspec.json.decode(path.read_bytes(), type=RunFile)
    path.write_bytes(archive.pretty(msgspec.structs.replace(run, faults=[known])))
    found = replayed(p2pnet, collected(p2pnet), code=1)
    assert any(
        one.startswith("fault cut (partition 30% from the rest): it was recorded") for one in found["not_reproduced"]
    )


# --- what is no bundle, or not to be trusted ---


def test_what_is_no_bundle_is_exit_2_in_three_lines(p2pnet: Call, tmp_path: Path) -> None:
    p2pnet("sim", "-f", subnet())
    whole = Path(collected(p2pnet)).read_bytes()
    Path("cut.tar.gz").write_bytes(whole[:-900])
    Path("text.tar.gz").write_text("hello")
    Path("foreign.tar.gz").write_bytes(gzip.compress(b"hello" * 200))
    for name in ("cut.tar.gz", "text.tar.gz", "foreign.tar.gz", "none.tar.gz", "."):
        ended = p2pnet("replay", name)
        assert (ended.code, ended.err.count("\n"), ended.out) == (2, 3, ""), (name, ended.err)


def test_a_client_of_its_own_is_imported_only_when_the_bundle_is_trusted(
    p2pnet: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ours_here.py").write_text(
        "from p2pnet.broadcast.blob import BlobClient\n\nclass Chat(BlobClient):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    p2pnet("sim", "-f", subnet(clients=[{"name": "chat", "class": "ours_here:Chat"}]))
    bundle = collected(p2pnet)
    refused = p2pnet("replay", bundle)
    assert (refused.code, "--trust-clients" in refused.err) == (2, True)
    found = replayed(p2pnet, bundle, "--trust-clients")
    assert found["digest"]["same"]


STRANGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    7,
    10**30,
    -(10**30),
    1e300,
    -0.5,
    "",
    "x",
    "\x1b[2J",
    "node-99",
    "1e9s",
    [],
    {},
    [[]],
    [{}],
    {"x": 1},
    ["node-1"],
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(one for key, inner in items for one in leaves(inner, (*path, key)))]


def repacked(bundle: str, name: str, data: bytes) -> str:
    """The same bundle with another file in the place of one, whole by its manifest; its name."""
    opened = open_bundle(Path(bundle))
    (opened.state.root / name).write_bytes(data)
    files = {one.name: (opened.state.root / one.name).read_bytes() for one in opened.manifest.files}
    entries = [
        msgspec.structs.replace(one, size=len(files[one.name]), sha256=hashlib.sha256(files[one.name]).hexdigest())
        for one in opened.manifest.files
    ]
    with Path("changed.tar.gz").open("wb") as out:
        contents = [BundledContent(one, partial(io.BytesIO, files[one.name])) for one in entries]
        write_bundle(out, msgspec.structs.replace(opened.manifest, files=entries), contents)
    opened.close()
    return "changed.tar.gz"


@pytest.fixture
def bundles(p2pnet: Call, state: State) -> dict[str, list[str]]:
    """A bundle of each kind, and its documents."""
    live_run(
        state, faults=[FaultTime({"name": "k", "from": "node-4", "kill": True, "for": "1s"}, 0.2, 1.2)], missed=set()
    )
    p2pnet("collect", "-O", "live.tar.gz")
    simulated = json.loads(p2pnet("sim", "-f", subnet(faults=[CUT]), "--size", "1KiB", "-o", "json").out)["run"]
    p2pnet("collect", simulated, "-O", "sim.tar.gz")
    steps = [{"name": "a", "inject": {"size": "1KiB"}}, {"expect": ["a.p95 <= 1s"]}]
    p2pnet("run", write("story.yaml", "Scenario", subnet={"nodes": 3}, steps=steps), "--on", "sim")
    p2pnet("collect", "demo/a", "-O", "story.tar.gz")
    found = {}
    for name in ("live", "sim", "story"):
        opened = open_bundle(Path(f"{name}.tar.gz"))
        documents = [
            one.name
            for one in opened.manifest.files
            if one.name.endswith(("run.json", "summary.json", "scenario.json"))
        ]
        found[f"{name}.tar.gz"] = documents
        opened.close()
    return found


def test_whatever_stands_in_a_bundle_it_is_read_or_refused(p2pnet: Call, bundles: dict[str, list[str]]) -> None:
    """Changes of one value each, in documents that are whole otherwise."""
    chance = random.Random(int(os.environ.get("P2PNET_FUZZ_SEED", "7")))
    for number in range(200):
        bundle = chance.choice(list(bundles))
        name = chance.choice(bundles[bundle])
        opened = open_bundle(Path(bundle))
        value = json.loads(opened.document(name) or b"")
        opened.close()
        *way, last = chance.choice([path for path in leaves(value) if path])
        node = value
        for key in way:
            node = node[key]
        node[last] = strange = chance.choice(STRANGE)
        repacked(bundle, name, json.dumps(value).encode())
        verb = chance.choice(("replay", "replay", "report", "trace"))
        ended = p2pnet(verb, "changed.tar.gz", "-o", chance.choice(("json", "table")))
        assert ended.code in (0, 1, 2, 5), (number, verb, bundle, name, way, last, strange, ended.err)
        assert "\x1b" not in ended.err


@pytest.mark.parametrize(
    "change",
    [{"bytes": 10**15}, {"bytes": -1}, {"node": "nobody"}, {"t_ns": 10**30}, {"t_ns": -(10**18)}, {"artifact": "zz"},
     {"hop": -5}],
    ids=str,
)  # fmt: skip
def test_whatever_stands_in_its_events_it_is_replayed_or_refused(
    p2pnet: Call, bundles: dict[str, list[str]], change: dict[str, Any]
) -> None:
    opened = open_bundle(Path("live.tar.gz"))
    [name] = [one.name for one in opened.manifest.files if one.name.endswith("events.ndjson.gz")]
    lines = [json.loads(line) | change for line in gzip.decompress(opened.document(name) or b"").splitlines()]
    opened.close()
    repacked("live.tar.gz", name, gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in lines)))
    ended = p2pnet("replay", "changed.tar.gz")
    assert ended.code in (0, 1, 2, 5), ended.err
