"""What commands import: the time of a short command is the time of its imports, and these are the heavy ones."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from p2pnet.measure.pace import parse as parse_pace
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import ArtifactEvents, FaultList, RunFile, RunRequest, RunState
from p2pnet.model.registry import Member, Membership, Registry
from p2pnet.model.report import FaultStatus, Report, Status
from p2pnet.store import State, archive, processes
from p2pnet.store.state import LabRecord

HEAVY = ("aiohttp", "kubernetes", "urllib3", "pydantic", "yaml", "aioquic", "cryptography", "scipy", "http.client")
DRAWING = ("rich.live", "rich.progress", "rich.markdown", "rich.syntax", "pygments", "rich.traceback", "rich.prompt")
FOR_HELP = (*HEAVY, *DRAWING, "rich", "h11", "asyncio", "ssl")
PROGRAM = """
import json, sys
from p2pnet.cli.app import main
code = main(sys.argv[1:])
print("\\n" + json.dumps([int(code), sorted(sys.modules)]))
"""
ARTIFACT = "3f" * 32


async def imported(*words: str, **environment: str) -> tuple[int, set[str], str]:
    """Exit code, imported modules and output of a command in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *words,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | environment,
    )  # fmt: skip
    out, err = await process.communicate()
    *shown, last = out.decode().rstrip().split("\n")
    code, modules = json.loads(last)
    return code, set(modules), "\n".join(shown) + err.decode()


def run_file() -> RunFile:
    return RunFile(
        run="r-20261121-201530-3f", subnet="demo", target="local", seed=1, request=RunRequest(payloads=[]),
        created_at=1.0, nodes=["node-0", "node-1"], version="0", state="finished", artifacts=[ARTIFACT], names=["a"],
    )  # fmt: skip


def events() -> list[Collected]:
    published = Collected("node-0", "i", 0, 10, EventKind.PUBLISHED, artifact=ARTIFACT, bytes=9)
    return [published, Collected("node-1", "i", 0, 20, EventKind.VALIDATED, artifact=ARTIFACT, peer="node-0", hop=1)]


@pytest.fixture
def kept(state: State, report: Report) -> RunFile:
    """A finished run in the archive."""
    file = run_file()
    folder = state.run(file.run)
    folder.mkdir(parents=True)
    (folder / archive.RUN_FILE).write_bytes(msgspec.json.encode(file))
    (folder / archive.SUMMARY_FILE).write_bytes(msgspec.json.encode(msgspec.structs.replace(report, run=file.run)))
    (folder / "events.ndjson").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in events()))
    return file


@pytest.fixture
async def lab(
    state: State, kept: RunFile, report: Report, make_status: Callable[..., Status], tmp_path_factory: Any
) -> AsyncIterator[None]:
    """A lab of `demo` that this very process plays."""
    begun = RunState(kept.run, "running", kept.request, 1.0)
    told: dict[tuple[str, str], Any] = {
        ("GET", "/v1/summary"): make_status(2),
        ("GET", "/v1/spec"): {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "spec": {"nodes": 2}},
        ("GET", "/v1/members"): Membership(Registry(1, [Member("node-0", "a"), Member("node-1", "b")])),
        ("GET", f"/v1/artifacts/{ARTIFACT[:8]}/events"): ArtifactEvents(ARTIFACT, kept, events()),
        ("GET", "/v1/faults"): FaultList([FaultStatus("wet", "loss 5% from * to *", "lease", "active", ["node-0"])]),
        ("POST", "/v1/faults"): FaultStatus("wet-2", "kill node-1", "lease", "ended", ["node-1"]),
        ("DELETE", "/v1/faults/wet"): FaultList([]),
        ("POST", "/v1/runs"): begun,
        ("GET", f"/v1/runs/{kept.run}"): msgspec.structs.replace(begun, state="finished", report=report, cursor=2),
    }

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(told[request.method, request.path]))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    socket = tmp_path_factory.mktemp("s") / "s.sock"
    await web.UnixSite(runner, str(socket)).start()
    paths = state.subnet("demo").make()
    paths.document.write_text('{"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet"}')
    record = LabRecord(os.getpid(), processes.start_time(os.getpid()) or "", str(socket), "0", 1.0)
    paths.record.write_bytes(msgspec.json.encode(record))
    yield
    await runner.cleanup()


@pytest.mark.parametrize(
    "words",
    [
        ("status", "demo"),
        ("status", "demo", "-o", "json"),
        ("trace", "demo", ARTIFACT[:8]),
        ("report", "demo"),
        ("inject", "demo", "--size", "1KiB"),
        ("fault", "demo", "list"),
        ("fault", "demo", "add", "kill", "--node", "node-1"),
        ("fault", "demo", "clear", "wet"),
    ],
)
async def test_a_command_to_a_lab_of_this_machine_imports_no_heavy_client(lab: None, words: tuple[str, ...]) -> None:
    code, modules, shown = await imported(*words)

    assert code == 0, shown
    assert not modules & {*HEAVY, *DRAWING}, shown


@pytest.mark.parametrize("words", [("report", "demo"), ("trace", "demo", ARTIFACT[:8])])
async def test_what_the_archive_can_tell_is_told_without_any_client(kept: RunFile, words: tuple[str, ...]) -> None:
    code, modules, shown = await imported(*words)

    assert code == 0, shown
    assert not modules & {*HEAVY, *DRAWING, "h11"}


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("inject", "--help"), ("fault", "--help")])
async def test_help_and_version_import_next_to_nothing(state: State, words: tuple[str, ...]) -> None:
    code, modules, shown = await imported(*words)

    assert code == 0, shown
    assert not modules & set(FOR_HELP)


def test_a_wrong_word_is_still_refused_in_typers_own_words(p2pnet: Callable[..., Any]) -> None:
    for words, said in (
        (("inject", "demo", "--count", "0"), "greater than or equal to 1"),
        (("inject", "demo", "--count", "many"), "valid integer"),
        (("status", "-o", "xml"), "'xml' is not one of"),
        (("inject", "demo", "--size", "0B"), "at least one byte"),
        (("status", "Demo"), "lower-case letter"),
        (("get", "demo"), "ARTIFACT"),
    ):
        ended = p2pnet(*words)
        assert ended.code == 2
        assert said in ended.err


def test_right_words_of_every_kind_become_their_values(
    p2pnet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from p2pnet.cli.verbs import inject

    chosen: list[Any] = []

    async def keep(options: Any, session: Any) -> Any:
        chosen.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(inject, "run", keep)
    file = tmp_path / "photo.jpg"
    p2pnet("inject", "demo", str(file), "gone", "--count", "3", "--rate", "2/s", "--expect", "a", "--expect", "b", "-q")

    [options] = chosen
    assert options == inject.InjectOptions(
        "demo",
        files=[file, Path("gone")],
        count=3,
        rate=parse_pace("2/s"),
        expect=["a", "b"],
        client=None,
        seed=None,
        quiet=True,
    )


@pytest.mark.parametrize(
    "words",
    [("--help",), ("inject", "--help"), ("--version",), ("completion", "bash"), ("schema", "report")],
    ids=" ".join,
)
async def test_what_has_no_room_on_stdout_is_three_lines_and_exit_2(words: tuple[str, ...], tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "p2pnet.cli", *words, stdout=full, stderr=subprocess.PIPE,
            env=os.environ | {"P2PNET_STATE": str(tmp_path)},
        )  # fmt: skip
        err = (await process.communicate())[1].decode()

    assert process.returncode == 2, err
    assert [line[:6] for line in err.splitlines()] == ["error:", "where:", " next:"]
    assert "where: stdout" in err
