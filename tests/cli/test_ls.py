"""`ls`: the subnets of every target; a cluster that is slow or away never keeps back what is here."""

import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from p2pnet.cli import listing
from p2pnet.cli.documents import Check, SubnetLine
from p2pnet.cli.listing import subnet_lines
from p2pnet.cli.outcome import CommandError
from p2pnet.cli.render import Output, render
from p2pnet.cli.session import Session
from p2pnet.cli.target_choice import Place
from p2pnet.cli.verbs import doctor, ls
from p2pnet.cli.verbs.schema import schema_of
from p2pnet.model.errors import TargetError
from p2pnet.store import State

HERE = [SubnetLine(name="demo", target="local", state="up", desired=3, connected=3)]
THERE = [SubnetLine(name="demo", target="cluster", state="up", context="staging", namespace="team")]


@pytest.fixture
def world(session: Session, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`ls` between fakes: `here` on this machine, `answer` in the cluster."""

    class World:
        here = HERE
        configured = True
        answer: Callable[[], list[SubnetLine]] = staticmethod(lambda: THERE)

    async def subnet_lines(target: Any) -> list[SubnetLine]:
        return World.here

    monkeypatch.setattr(listing, "subnet_lines", subnet_lines)
    monkeypatch.setattr(ls, "find_target", lambda *_, **__: None)
    monkeypatch.setattr(ls, "_is_configured", lambda: World.configured)
    monkeypatch.setattr(ls, "_of_cluster", lambda options, session: World.answer())
    monkeypatch.setattr(ls, "SOON_S", 5.0)
    return World


async def test_subnets_of_all_targets_stand_in_one_list(world: Any, session: Session) -> None:
    document = (await ls.run(ls.LsOptions(), session)).document
    assert document.subnets == HERE + THERE
    jsonschema.validate(json.loads(render(document, Output.JSON)), schema_of("subnets"))
    drawn = render(document, Output.TABLE, width=120, now=10.0)
    assert "staging/team" in drawn
    assert "CONTEXT" not in render((await here_alone(world, session)).document, Output.TABLE, width=120, now=10.0)


async def here_alone(world: Any, session: Session) -> Any:
    world.configured = False
    return await ls.run(ls.LsOptions(), session)


async def test_one_target_alone_is_asked_when_it_is_named(world: Any, session: Session) -> None:
    session.place = Place("local")
    assert (await ls.run(ls.LsOptions(), session)).document.subnets == HERE
    for place in (Place("cluster"), Place(context="staging"), Place(namespace="team")):
        session.place = place
        assert (await ls.run(ls.LsOptions(), session)).document.subnets == THERE


async def test_a_cluster_that_is_away_is_said_and_hides_nothing(world: Any, session: Session) -> None:
    def away() -> list[SubnetLine]:
        raise CommandError("the API server does not answer", where="there", next_step="wait", exit_code=3)

    world.answer = staticmethod(away)
    outcome = await ls.run(ls.LsOptions(), session)
    assert (outcome.exit_code, outcome.document.subnets) == (0, HERE)
    assert "not listed: the API server does not answer" in session.stderr.getvalue()  # type: ignore[attr-defined]
    session.place = Place("cluster")
    with pytest.raises(CommandError, match="does not answer") as caught:
        await ls.run(ls.LsOptions(), session)
    assert caught.value.exit_code == 3


@pytest.fixture
def silence(world: Any) -> Iterator[threading.Event]:
    """A cluster that does not answer before the test is over."""
    over = threading.Event()

    def never() -> list[SubnetLine]:
        over.wait(30)
        return []

    world.answer = staticmethod(never)
    yield over
    over.set()


@pytest.mark.parametrize("output", [Output.TABLE, Output.NDJSON])
async def test_what_is_here_is_shown_while_a_silent_cluster_is_waited_for(
    world: Any, session: Session, monkeypatch: pytest.MonkeyPatch, output: Output, silence: threading.Event
) -> None:
    monkeypatch.setattr(ls, "SOON_S", 0.0)
    monkeypatch.setattr(ls, "CLUSTER_S", 0.01)
    session.output = output
    outcome = await ls.run(ls.LsOptions(), session)
    assert outcome.document is None
    assert "demo" in session.stdout.getvalue()  # type: ignore[attr-defined]
    assert "has not answered within" in session.stderr.getvalue()  # type: ignore[attr-defined]


async def test_one_json_document_waits_for_a_silent_cluster_as_long_as_is_said(
    world: Any, session: Session, monkeypatch: pytest.MonkeyPatch, silence: threading.Event
) -> None:
    monkeypatch.setattr(ls, "CLUSTER_S", 0.01)
    session.output = Output.JSON
    assert (await ls.run(ls.LsOptions(), session)).document.subnets == HERE


async def test_a_subnet_whose_lab_runs_but_does_not_answer_is_silent_not_dead(target: Any) -> None:
    @contextlib.asynccontextmanager
    async def lab(name: str) -> AsyncIterator[Any]:
        raise CommandError(f"the lab of {name} does not answer", where="there", next_step="kill -CONT it", exit_code=3)
        yield

    target.lab = lab
    states = []
    for target.seen in ("up", "dead", "damaged", "starting"):
        states += [line.state for line in await subnet_lines(target)]

    assert states == ["silent", "dead", "damaged", "starting"]


def test_without_any_subnet_the_list_is_empty(p2pnet: Callable[..., Any], tmp_path: Path) -> None:
    ended = p2pnet("ls", "-o", "json")
    assert (ended.code, json.loads(ended.out)["subnets"]) == (0, [])
    assert p2pnet("ls").out == "there is no subnet\n"
    assert "up demo" in p2pnet("ls").err


# --- places, and what to type next ---


async def test_the_namespace_local_is_this_machine_alone(world: Any, session: Session) -> None:
    for place in (Place("local", "local"), Place(namespace="local")):
        session.place = place
        assert (await ls.run(ls.LsOptions(), session)).document.subnets == HERE
    session.place = Place("cluster", "local")
    assert (await ls.run(ls.LsOptions(), session)).document.subnets == THERE


@pytest.mark.parametrize("words", [("-n", "x"), ("--context", "x")])
def test_a_namespace_or_a_context_of_this_machine_is_refused_as_everywhere(
    p2pnet: Callable[..., Any], words: tuple[str, ...]
) -> None:
    for verb in ("ls", "status", "runs"):
        ended = p2pnet(verb, "--on", "local", *words)
        assert (ended.code, ended.out) == (2, "")
        assert "contexts and namespaces belong to clusters" in ended.err


@pytest.mark.parametrize(
    ("states", "commands"),
    [
        (("up",), ("p2pnet status NAME",)),
        (("dead",), ("p2pnet up net-0",)),
        (("damaged", "silent", "dead", "dead"), ("p2pnet status NAME", "p2pnet up net-2", "p2pnet down net-0")),
    ],
)
async def test_the_next_command_is_one_that_helps_the_subnets_that_are_listed(
    world: Any, session: Session, states: tuple[str, ...], commands: tuple[str, ...]
) -> None:
    world.configured = False
    world.here = [SubnetLine(name=f"net-{at}", target="local", state=state) for at, state in enumerate(states)]
    assert (await ls.run(ls.LsOptions(), session)).next == commands


@pytest.mark.parametrize(
    ("seen", "command"),
    [
        ("up", "p2pnet status demo"),
        ("dead", "p2pnet up demo"),
        ("damaged", "p2pnet down demo"),
        ("absent", "p2pnet up demo --nodes 10"),
    ],
)
async def test_doctor_goes_on_with_the_subnet_that_is_there(
    target: Any, session: Session, monkeypatch: pytest.MonkeyPatch, seen: Any, command: str
) -> None:
    for probe in ("_python", "_sockets", "_loopback", "_open_files", "_udp_buffers", "_memory"):
        monkeypatch.setattr(doctor, probe, lambda: Check(name="it", result="ok", found="well"))
    monkeypatch.setattr(doctor, "_state_directory", lambda _: Check(name="it", result="ok", found="well"))
    target.seen = seen
    assert (await doctor.run(doctor.DoctorOptions(), session)).next == (command,)


# --- a state directory that is of no use ---


@pytest.fixture(params=["a file", "below a file", "runs is a file", "nothing can be made there"])
def useless(state: State, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory that holds nothing, and never will; what is in the way."""
    root = state.root
    if request.param == "runs is a file":
        root.mkdir()
        (root / "runs").write_text("")
        return root / "runs"
    if request.param == "nothing can be made there":
        monkeypatch.setenv("P2PNET_STATE", "/proc/x")
        return Path("/proc/x")
    root.write_text("")
    if request.param == "a file":
        return root
    monkeypatch.setenv("P2PNET_STATE", str(root / "x"))
    return root / "x"


@pytest.mark.parametrize(
    "words", [("ls",), ("runs",), ("runs", "--on", "sim"), ("status",), ("report", "demo"), ("down", "--all", "-y")]
)
def test_a_state_directory_that_is_of_no_use_does_not_pass_for_an_empty_one(
    p2pnet: Callable[..., Any], useless: Path, words: tuple[str, ...]
) -> None:
    ended = p2pnet(*words)

    assert (ended.code, ended.out) == (2, ""), ended.err
    assert ended.err.startswith("error: the state directory is of no use: ")
    assert f"where: {useless}\n" in ended.err


async def test_subnets_of_a_cluster_are_listed_without_a_state_directory(
    world: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise TargetError("the state directory is of no use", exit_code=2)

    monkeypatch.setattr(ls, "find_target", none)
    assert (await ls.run(ls.LsOptions(), session)).document.subnets == THERE
    assert "subnets of this machine are not listed" in session.stderr.getvalue()  # type: ignore[attr-defined]
    world.configured = False
    with pytest.raises(TargetError):
        await ls.run(ls.LsOptions(), session)


def test_a_state_directory_that_is_not_there_yet_is_an_empty_one_and_stays_away(
    p2pnet: Callable[..., Any], state: State
) -> None:
    assert (p2pnet("ls").code, p2pnet("runs").code) == (0, 0)
    assert not state.root.exists()
