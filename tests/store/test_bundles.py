"""Bundles: whole and the same each time, and whatever else they are given is refused by name."""

import gzip
import hashlib
import io
import tarfile
from functools import partial

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pnet.model.bundle import BundledFile, BundleManifest
from p2pnet.model.jobs import Payload, RunFile, RunRequest
from p2pnet.store import archive, bundle_format, bundles
from p2pnet.store.bundle_format import BundledContent, BundleError, is_name, read_manifest, unpack, write_bundle
from p2pnet.store.bundles import Packing, open_bundle, pack_logs, pack_run
from p2pnet.store.redaction import TAKEN_OUT, Redactor, redacted_text
from p2pnet.store.state import State
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.selectors import Roster

RUN = "r-20261121-201320-7f"


def manifest_of(files: dict[str, bytes], **more) -> BundleManifest:
    entries = [
        BundledFile(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in files.items()
    ]
    return BundleManifest(version="1", subnet="demo", target="sim", runs=[RUN], files=entries, **more)


def bundle_of(files: dict[str, bytes], manifest: BundleManifest | None = None) -> bytes:
    manifest, out = manifest or manifest_of(files), io.BytesIO()
    contents = [BundledContent(one, partial(io.BytesIO, files[one.name])) for one in manifest_of(files).files]
    write_bundle(out, manifest, contents)
    return out.getvalue()


def put(path, data: bytes):
    path.write_bytes(data)
    return path


def run_file(**more) -> RunFile:
    return RunFile(
        run=RUN, subnet="demo", target="local", seed=1, request=RunRequest([Payload("x", size=1)]), created_at=1.0,
        nodes=["node-0", "node-1"], version="1", state="finished", **more,
    )  # fmt: skip


def whole(**more) -> dict[str, bytes]:
    return {f"runs/{RUN}/run.json": archive.pretty(run_file()), **more}


names = st.from_regex(bundle_format.NAME, fullmatch=True).filter(is_name).filter(lambda name: name != "manifest.json")


@given(
    files=st.dictionaries(
        names.map(lambda name: f"f/{name.replace('/', '-')}"[:70]), st.binary(max_size=2_000), max_size=8
    )
)
@settings(max_examples=60, deadline=None)
def test_what_is_packed_comes_out_again_and_any_tar_can_read_it(files, tmp_path_factory):
    files = {name.lower(): data for name, data in files.items()}
    folder = tmp_path_factory.mktemp("out")
    data = bundle_of(files)

    assert data == bundle_of(files)
    assert unpack(put(folder / "b", data), folder / "x") == manifest_of(files)
    assert {name: (folder / "x" / name).read_bytes() for name in files} == files
    with tarfile.open(fileobj=io.BytesIO(data)) as read:
        assert read.getnames() == ["manifest.json", *files]


@given(data=st.binary(max_size=4_000))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_a_bundle_or_a_typed_error(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    for content in (data, gzip.compress(data), gzip.compress(bytes(512) + data)):
        with pytest.raises(BundleError):
            unpack(put(folder / "b", content), folder / "x")


@given(at=st.integers(0, 1 << 20), flip=st.integers(1, 255), cut=st.integers(0, 1 << 20), inner=st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_bundle_with_a_byte_changed_or_cut_off_is_never_taken_for_another(at, flip, cut, inner, tmp_path_factory):
    files = {"a.json": b"[1]", "runs/b": b"x" * 700}
    folder = tmp_path_factory.mktemp("flip")
    packed = bundle_of(files)
    data = bytearray(gzip.decompress(packed) if inner else packed)
    data[at % len(data)] ^= flip
    data = data[: len(data) - cut % len(data)]
    try:
        manifest = unpack(put(folder / "b", gzip.compress(data) if inner else bytes(data)), folder / "x")
    except BundleError:
        return
    assert [entry.sha256 for entry in manifest.files] == [entry.sha256 for entry in manifest_of(files).files]


@given(
    data=st.binary(max_size=300)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(msgspec.json.encode)
)
@settings(max_examples=150, deadline=None)
def test_any_manifest_is_one_or_a_typed_error(data):
    with pytest.raises(BundleError):
        read_manifest(data)


@pytest.mark.parametrize(
    "name",
    ["../etc/passwd", "/etc/passwd", "a/../../b", "a/./b", ".hidden", "a//b", "a/", "", "manifest.json", "a\0b", "a\nb",
     "a/b/c/d", "é", "a" * 101, "-", "C:\\x"],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(name, tmp_path):
    manifest = manifest_of({}, file="")
    bad = msgspec.structs.replace(manifest, files=[BundledFile(name=name, size=0, sha256=hashlib.sha256().hexdigest())])
    with pytest.raises(BundleError, match="is no name of a file"):
        read_manifest(msgspec.json.encode(bad))
    with pytest.raises(BundleError):
        unpack(put(tmp_path / "b", bundle_of({}, bad)), tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_link_a_folder_or_a_device_is_refused(kind, tmp_path):
    out = io.BytesIO()
    data = msgspec.json.encode(manifest_of({"a": b""}))
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.USTAR_FORMAT) as tar:
        head = tarfile.TarInfo("manifest.json")
        head.size = len(data)
        tar.addfile(head, io.BytesIO(data))
        other = tarfile.TarInfo("a")
        other.type, other.linkname = kind, "/etc/passwd"
        tar.addfile(other)
    with pytest.raises(BundleError, match="no plain file"):
        unpack(put(tmp_path / "b", out.getvalue()), tmp_path / "x")


def test_what_is_too_large_is_refused_before_it_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_format, "BUNDLE_BYTES_MAX", 100_000)
    bomb = bundle_of({"zeros": bytes(1 << 20)})
    assert len(bomb) < 10_000
    with pytest.raises(BundleError, match="unpacked it is more than"):
        unpack(put(tmp_path / "b", bomb), tmp_path / "x")
    assert sum(path.stat().st_size for path in (tmp_path / "x").rglob("*")) <= 100_000
    with pytest.raises(BundleError, match="a bundle has at most"):
        unpack(put(tmp_path / "b", bytes(100_001)), tmp_path / "y")


def test_the_bounds_of_a_manifest_are_named(monkeypatch):
    monkeypatch.setattr(bundle_format, "FILES_MAX", 1)
    with pytest.raises(BundleError, match="2 files: a bundle has at most 1"):
        read_manifest(msgspec.json.encode(manifest_of({"a": b"", "b": b""})))
    monkeypatch.setattr(bundle_format, "DOCUMENT_BYTES_MAX", 1)
    with pytest.raises(BundleError, match="at most 1 B"):
        read_manifest(msgspec.json.encode(manifest_of({"a.json": b"[]"})))
    for twice in (("a", "A"), ("a", "a/b")):
        with pytest.raises(BundleError):
            read_manifest(msgspec.json.encode(manifest_of(dict.fromkeys([*twice, "c"], b""))))


def test_events_that_are_a_bomb_or_one_endless_line_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("p2pnet.store.bundles.PLAIN_RATIO_FROM", 10_000)
    monkeypatch.setattr("p2pnet.store.bundles.LINE_BYTES_MAX", 5_000)
    for plain, what in ((b"\n" * (1 << 20), "uncompressed"), (b"x" * 9_000, "has a line of more than")):
        files = whole(**{f"runs/{RUN}/events.ndjson.gz": gzip.compress(plain)})
        with pytest.raises(BundleError, match=what):
            open_bundle(put(tmp_path / "b", bundle_of(files)))
    files = whole(**{f"runs/{RUN}/events.ndjson.gz": gzip.compress(b"{}\n" * 9)[:-4]})
    with pytest.raises(BundleError, match=r"events.ndjson.gz is damaged"):
        open_bundle(put(tmp_path / "b", bundle_of(files)))


def test_a_bundle_of_a_newer_format_says_so_and_a_foreign_file_too(tmp_path):
    newer = bundle_of({}, manifest_of({}, schema="p2pnet.io/bundle/v2"))
    with pytest.raises(BundleError, match="of a newer format"):
        unpack(put(tmp_path / "b", newer), tmp_path / "x")
    foreign = bundle_of({}, manifest_of({}, schema="p2pnet.io/report/v1"))
    with pytest.raises(BundleError, match="it is no bundle of p2pnet: the schema"):
        unpack(put(tmp_path / "b", foreign), tmp_path / "x")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("readme.txt"), io.BytesIO())
    with pytest.raises(BundleError, match="no bundle of p2pnet"):
        unpack(put(tmp_path / "b", out.getvalue()), tmp_path / "x")


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({}, "has no runs/"),
        ({f"runs/{RUN}/run.json": b"{}"}, "is not that of a run"),
        ({f"runs/{RUN}/run.json": b"["}, "is no JSON"),
        ({f"runs/{RUN}/run.json": b"[" * 100_000}, "is no JSON"),
        ({f"runs/{RUN}/run.json": archive.pretty(msgspec.structs.replace(run_file(), run="r-1"))}, "of another run"),
        (whole(**{f"runs/{RUN}/summary.json": b"[]"}), "is not that of a run"),
        ({f"runs/{RUN}/run.json": archive.pretty(run_file(artifacts=["$(reboot)"]))}, "an artifact's id is none"),
        (
            {f"runs/{RUN}/run.json": archive.pretty(msgspec.structs.replace(run_file(), subnet="other"))},
            "of another run",
        ),
    ],
    ids=["none", "empty", "half", "deep", "another", "summary", "id", "subnet"],
)
def test_a_bundle_whose_run_cannot_be_read_is_refused(files, what, tmp_path):
    with pytest.raises(BundleError, match=what):
        open_bundle(put(tmp_path / "b", bundle_of(files)))


def test_a_subnet_that_has_no_name_is_refused_before_it_stands_in_a_command(tmp_path):
    files = {f"runs/{RUN}/run.json": archive.pretty(msgspec.structs.replace(run_file(), subnet="x; reboot"))}
    bad = msgspec.structs.replace(manifest_of(files), subnet="x; reboot")
    with pytest.raises(BundleError, match="its runs are of"):
        open_bundle(put(tmp_path / "b", bundle_of(files, bad)))


def test_an_opened_bundle_is_a_state_directory_and_leaves_nothing(tmp_path):
    opened = open_bundle(put(tmp_path / "b", bundle_of(whole())))
    assert [head.run for head in archive.list_heads(opened.state)] == [RUN]
    assert opened.scenario is None
    opened.close()
    assert not opened.state.root.exists()


# --- packing ---


def kept(tmp_path) -> State:
    state = State(tmp_path / "state")
    folder = state.run(RUN)
    folder.mkdir(parents=True)
    spec = {"groups": [{"name": "a", "env": {"API_TOKEN": "abcdef", "MODE": "fast"}}]}
    (folder / "run.json").write_bytes(archive.pretty(run_file(spec=spec)))
    (folder / "events.ndjson").write_bytes(b'{"a":1}\n' * 20)
    (folder / "logs.ndjson").write_bytes(b'{"t":1.0,"node":"lab","line":"password=hunter22 and on"}\n')
    return state


def test_a_run_is_packed_without_what_looks_like_a_secret_and_says_what_is_missing(tmp_path):
    state, packing = kept(tmp_path), Packing(tmp_path)
    pack_run(packing, state, run_file(), payloads=True)
    manifest = packing.manifest(run_file(), [RUN], scenario="", version="1")
    with (tmp_path / "b").open("wb") as out:
        write_bundle(out, manifest, packing.contents)
    opened = open_bundle(tmp_path / "b")

    assert {entry.name.rpartition("/")[2]: entry.redacted for entry in manifest.files} == {
        "run.json": 1, "events.ndjson.gz": 0, "logs.ndjson": 1,
    }  # fmt: skip
    groups = archive.read_run_file(opened.state, RUN).spec["groups"]
    assert groups == [{"name": "a", "env": {"API_TOKEN": TAKEN_OUT, "MODE": "fast"}}]
    assert b"hunter22" not in b"".join(path.read_bytes() for path in opened.state.run(RUN).iterdir())
    assert archive.open_events(opened.state.run(RUN)).read() == b'{"a":1}\n' * 20
    missing = {one.what.rpartition("/")[2]: one.why for one in manifest.left_out}
    assert missing["summary.json"] == "the run has not ended"
    assert "keys" in missing
    opened.close()


def test_a_file_that_is_too_large_is_left_out_and_a_long_log_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr("p2pnet.store.bundles.LOG_BYTES_MAX", 100)
    monkeypatch.setattr("p2pnet.store.bundles.LOGS_BYTES_MAX", 150)
    packing = Packing(tmp_path)
    logs = {node: put(tmp_path / f"{node}.log", b"x" * 90 + b"end of it\n" * 2) for node in ("a", "b", "c")}
    packing.add_file("big", logs["a"], most=10)
    pack_logs(packing, logs)
    sizes = {content.entry.name: (content.entry.size, bool(content.entry.cut)) for content in packing.contents}
    assert sizes == {"logs/a.log": (100, True), "logs/b.log": (50, True)}
    assert packing.contents[0].open().read().endswith(b"end of it\n")
    assert {one.what for one in packing.left_out} >= {"big", "logs/c.log"}


def test_a_file_that_changes_while_it_is_packed_is_an_error(tmp_path):
    packing, path = Packing(tmp_path), put(tmp_path / "f", b"before")
    packing.add_file("f", path)
    path.write_bytes(b"after!")
    with pytest.raises(BundleError, match="f changed while it was packed"):
        write_bundle(io.BytesIO(), packing.manifest(run_file(), [], scenario="", version="1"), packing.contents)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----\nnext", f"{TAKEN_OUT}\nnext"),
        ("GET https://me:pass@host/x", f"GET https://{TAKEN_OUT}@host/x"),
        ("Authorization: Bearer abcdefgh.ijk", f"Authorization: Bearer {TAKEN_OUT}"),
        ("DB_PASSWORD=hunter22 ok", f"DB_PASSWORD={TAKEN_OUT} ok"),
        ("ghp_" + "a1" * 12, TAKEN_OUT),
        ("sk-" + "3f" * 16, TAKEN_OUT),
        ("xoxb-12-ABcd-" + "q" * 12, TAKEN_OUT),
        ("xoxb-123456789012-abcdefghijkl", TAKEN_OUT),
        ("glpat-" + "x" * 20, TAKEN_OUT),
        ("sk-" + "a" * 20, TAKEN_OUT),
        (
            "eu-hf-relays-of-the-north-12 and sk-learn-cluster-test-1",
            "eu-hf-relays-of-the-north-12 and sk-learn-cluster-test-1",
        ),
        ("node-3: 20 slots, key a3f0", "node-3: 20 slots, key a3f0"),
        ("artifact " + "3f" * 32, "artifact " + "3f" * 32),
    ],
)
def test_secrets_in_a_log_are_taken_out_and_nothing_else(text, left):
    assert redacted_text(text)[0] == left


SECRET = "ghp_abcdefghijklmnopqrst"
SECRET_EVERYWHERE = {
    "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet",
    "metadata": {
        "name": "demo", "labels": {"token": "hunter22", "team": SECRET},
        "annotations": {"password": "hunter22", "about": f"https://me:hunter22@host and {SECRET}"},
    },
    "spec": {
        "nodes": 1,
        "clients": [{"name": "blob"}, {"name": "chat", "class": "ours:Chat", "settings": {"token": "hunter22", "all": [SECRET]}}],
        "groups": [
            {"name": "a", "nodes": 2, "labels": {"password": "hunter22", "team": "red"}, "env": {"API_TOKEN": "hunter22"}},
            {"name": "b", "nodes": 1, "labels": {"password": "hunter23", "region": SECRET}},
        ],
        "pod": {
            "labels": {"token": "hunter22"}, "annotations": {"token": "hunter22"}, "nodeSelector": {"token": "hunter22"},
        },
        "network": {
            "default": {"latency": "5ms"},
            "rules": [{"from": "password=hunter22", "to": "password = hunter23,group=b", "latency": "20ms"}],
        },
        "faults": [{"name": "cut", "from": f"region={SECRET}", "to": "*", "block": True}],
    },
}  # fmt: skip


def test_a_subnet_without_its_secrets_is_a_subnet_whose_selectors_mean_the_same_nodes():
    redactor = Redactor()
    data, count = redactor.redacted_json(msgspec.json.encode(SECRET_EVERYWHERE))
    assert (b"hunter2" in data, SECRET.encode() in data, count) == (False, False, 17)
    before, after = (load_subnet(one) for one in (SECRET_EVERYWHERE, msgspec.json.decode(data)))
    for one, other in (("a", "a"), ("b", "b")):
        assert Roster(before).select(f"group={one}") == Roster(after).select(f"group={other}")
    [rule], [fault] = after.spec.network.rules, after.spec.faults
    assert Roster(after).select(rule.from_) == frozenset({"a-0", "a-1"})
    assert Roster(after).select(rule.to) == Roster(after).select(fault.from_) == frozenset({"b-0"})
    # Another document of the same bundle says it in the same words.
    told, _ = redactor.redacted_json(b'["the links of password=hunter23 were cut", "password=hunter2"]')
    assert msgspec.json.decode(told) == [
        f"the links of {rule.to.split(',')[0].replace(' ', '')} were cut",
        "password=hunter2",
    ]


def test_a_document_without_secrets_stays_as_it_is_to_the_byte():
    data = b'{ "keys": [1], "authority": "x", "tokens": 3, "name": "token" }'
    assert Redactor().redacted_json(data) == (data, 0)
    variable = b'{"env":[{"name":"MY_SECRET","value":"x"},{"name":"A","value":"y"}]}'
    assert Redactor().redacted_json(variable)[1] == 1


def test_events_that_are_packed_at_the_last_moment_are_in_the_bundle(tmp_path, monkeypatch):
    state, bundle = kept(tmp_path), Packing(tmp_path)
    plain = (state.run(RUN) / "events.ndjson").read_bytes()
    add = bundles._add_compressed

    def packed_before(packing, name, path):
        archive.compress(path.parent)
        return add(packing, name, path)

    monkeypatch.setattr(bundles, "_add_compressed", packed_before)
    pack_run(bundle, state, run_file(), payloads=True)
    (events,) = [one for one in bundle.contents if one.entry.name.endswith("events.ndjson.gz")]
    with events.open() as file:
        assert gzip.decompress(file.read()) == plain
