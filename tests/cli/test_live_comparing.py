"""Two live subnets for a comparison: started once each, measured in turns, taken down whatever happens."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.scenario.documents import report as report_of

from p2pnet.cli import live_comparing
from p2pnet.cli.busy import BusyWatch, busy_warnings
from p2pnet.cli.live_comparing import own_names
from p2pnet.cli.verbs.schema import schema_of
from p2pnet.model.comparison import MachineLoad
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.ids import check_subnet_name
from p2pnet.model.report import Report
from p2pnet.scenario.stage import NotReadyError, ProgressSink, RunAsk
from p2pnet.subnet.spec import Subnet

DOCUMENT = "apiVersion: p2pnet.io/v1alpha1\nkind: Subnet\nmetadata: {{name: demo}}\nspec: {{nodes: {nodes}}}\n"
LOAD = ("--size", "1KiB", "--count", "6", "--gate", "p50:+10%")


class FakeWorld:
    """Both subnets: what was done with them, in order; latencies by side, and what goes wrong where."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.asks: list[RunAsk] = []
        self.p50 = {"base": 20.0, "head": 20.0}
        self.raises: dict[str, BaseException] = {}
        """By what would be done."""
        self.now = 0.0
        self.main: asyncio.Task[Any] | None = None
        self.impatient = False
        """Whether another order to end comes while they are taken down."""

    def do(self, what: str) -> None:
        self.did.append(what)
        if (error := self.raises.pop(what, None)) is not None:
            raise error


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    found = FakeWorld()

    class Stage:
        def __init__(self, subnet: Subnet, target: Any, *, folder: Path) -> None:
            self.side = re.fullmatch(r"demo-(base|head)-[0-9a-f]{4}", subnet.name)[1]  # type: ignore[index]

        async def up(self, progress: ProgressSink) -> str:
            progress("links", 1, 2)
            found.main = asyncio.current_task()
            found.do(f"up {self.side}")
            return ""

        async def inject(self, ask: RunAsk, progress: ProgressSink) -> Report:
            await asyncio.sleep(0)
            what = f"{self.side} {ask.seed}" if ask.count > 1 else f"{self.side} warm"
            found.do(what)
            found.asks.append(ask)
            found.now += 1.0
            p50 = found.p50[self.side] * (1 + 0.01 * ((ask.seed or 0) % 3))
            return report_of((), p50=p50, target="local", seed=ask.seed, run=what, started_at=found.now, duration_s=0.5)

        async def down(self) -> None:
            found.do(f"down {self.side}")
            if found.impatient and found.main is not None:
                found.impatient = False
                found.main.cancel()
                await asyncio.sleep(0.01)

    monkeypatch.setattr(live_comparing, "LiveStage", Stage)
    return found


@pytest.fixture
def compare(p2pnet: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    for name, nodes in (("base", 3), ("head", 4)):
        (tmp_path / f"{name}.yaml").write_text(DOCUMENT.format(nodes=nodes))

    def run(*words: str) -> Any:
        files = [str(tmp_path / "base.yaml"), str(tmp_path / "head.yaml")]
        return p2pnet("compare", *files, "--on", "local", *LOAD, "-o", "json", *words)

    return run


def test_trials_are_paired_and_who_is_first_takes_turns(compare: Any, world: FakeWorld) -> None:
    ended = compare("--trials", "4", "--gate", "max:+1000%", "--seed", "7")
    assert ended.code == 0, ended.err
    assert world.did == [
        "up base", "up head", "base warm", "head warm", "base 7", "head 7", "head 8", "base 8", "base 9", "head 9",
        "down base", "down head",
    ]  # fmt: skip
    found = json.loads(ended.out)
    jsonschema.validate(found, schema_of("comparison"))
    assert (found["verdict"], found["target"], found["trials"], found["stopped_early"]) == ("pass", "local", 3, True)
    assert found["machine"]["cores"] > 0
    assert re.fullmatch(r"demo-base-[0-9a-f]{4}", found["base"]["subnet"])
    assert (found["base"]["nodes"], found["head"]["nodes"]) == (3, 4)
    assert {(ask.size, ask.count, ask.shared) for ask in world.asks[2:]} == {(1024, 6, False)}


def test_a_slower_head_is_a_regression_and_it_stops_there(compare: Any, world: FakeWorld) -> None:
    world.p50["head"] = 30.0
    ended = compare("--trials", "40")
    assert ended.code == 6
    assert json.loads(ended.out)["trials"] == 10


def test_a_subnet_that_does_not_start_is_named_and_the_other_one_is_taken_down(compare: Any, world: FakeWorld) -> None:
    world.raises["up head"] = NotReadyError("not connected after 120 s: nodes ready 3/4")
    ended = compare()
    assert ended.code == 4
    assert "HEAD did not start: not connected after 120 s" in ended.err
    assert world.did == ["up base", "up head", "down base", "down head"]


def test_a_trial_that_is_lost_makes_it_invalid_and_ends_it(compare: Any, world: FakeWorld) -> None:
    world.raises["head 43"] = TargetError("the lab of demo is dead")
    ended = compare("--trials", "20")
    assert ended.code == 5
    found = json.loads(ended.out)
    assert found["lost"] == [{"side": "head", "seed": 43, "why": "the lab of demo is dead"}]
    assert world.did[-3:] == ["head 43", "down base", "down head"]


def test_an_interrupt_ends_it_with_what_there_is_and_leaves_nothing(compare: Any, world: FakeWorld) -> None:
    world.raises["base 46"] = asyncio.CancelledError()
    ended = compare("--trials", "20")
    assert ended.code == 130
    assert json.loads(ended.out)["trials"] == 4
    assert world.did[-3:] == ["base 46", "down base", "down head"]


def test_a_second_order_to_end_does_not_keep_them_from_being_taken_down(compare: Any, world: FakeWorld) -> None:
    world.raises["base 46"], world.impatient = asyncio.CancelledError(), True
    ended = compare("--trials", "20")
    assert ended.code == 130
    assert world.did[-3:] == ["base 46", "down base", "down head"]


def test_what_cannot_be_taken_down_is_named_and_the_other_one_is(compare: Any, world: FakeWorld) -> None:
    world.raises["down base"] = TargetError("its lab does not stop")
    ended = compare("--trials", "3", "--gate", "p50:+100%")
    assert ended.code == 2, "two gates of one metric are no question"
    ended = compare("--trials", "3")
    assert ended.code == 0
    assert re.search(r"demo-base-[0-9a-f]{4} may be left: its lab does not stop", ended.err)
    assert world.did[-2:] == ["down base", "down head"]


def test_names_are_unique_and_tell_side_and_document() -> None:
    long = "a" * 40
    base, head = own_names([long, "demo"])
    assert check_subnet_name(base) == base
    assert base.startswith("aaaa")
    assert re.fullmatch(r"demo-head-[0-9a-f]{4}", head)
    assert base[-4:] == head[-4:]
    assert len({own_names(["demo", "demo"])[0] for _ in range(20)}) > 10


def test_documents_are_checked_for_the_target_before_anything_starts(
    compare: Any, p2pnet: Any, world: FakeWorld, tmp_path: Path
) -> None:
    (tmp_path / "head.yaml").write_text(DOCUMENT.format(nodes="3, image: node"))
    ended = compare()
    assert (ended.code, world.did) == (2, [])
    assert "spec.image" in ended.err
    (tmp_path / "head.yaml").write_text(DOCUMENT.format(nodes="200, topology: {kind: full}, ready: {within: 60s}"))
    (tmp_path / "base.yaml").write_text(DOCUMENT.format(nodes="200, topology: {kind: full}, ready: {within: 60s}"))
    ended = compare()
    assert (ended.code, world.did) == (2, [])
    assert "both together" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("node:1.4", "node:1.5", "-f", "{document}", "--on", "sim"), "the simulator runs no images"),
        (("node:1.4", "ghcr.io/x/node:1.5", "-f", "{document}", "--on", "local"), "nodes on this machine run no images"),
        (("node:1.4", "node:1.5", "-f", "{document}"), "where are they to run"),
        (("node:1.4", "node:1.5", "--on", "cluster"), "two images, and no document for them to run"),
        (("node:1.4", "{document}", "--on", "cluster"), "is an image and"),
        (("{root}", "{root}", "-f", "{document}", "--on", "cluster"), "pods run images, not checkouts"),
        (("{document}", "{document}", "--on", "local", "--jobs", "2"), "live ones follow each other"),
        (("{document}", "{document}", "--on", "local", "--trials", "2000"), "at most 1000 of live nodes"),
        (("one", "two", "--on", "local"), "as they are kept"),
        (("{folder}", "{folder}", "-f", "{document}", "--on", "local"), "is no checkout of this program that can run trials"),
    ],
)  # fmt: skip
def test_what_a_target_cannot_do_is_said(
    p2pnet: Any, world: FakeWorld, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    document = tmp_path / "demo.yaml"
    document.write_text(DOCUMENT.format(nodes=3))
    root = Path(__file__).parents[2]
    ended = p2pnet("compare", *(word.format(document=document, root=root, folder=tmp_path) for word in words))
    assert ended.code == 2, ended.err
    assert said in ended.err
    assert world.did == []


def test_an_image_goes_into_the_document_unless_a_group_has_its_own() -> None:
    from p2pnet.cli.outcome import CommandError
    from p2pnet.cli.spec_file import with_image
    from p2pnet.subnet.document import load_subnet

    def subnet(**spec: Any) -> Subnet:
        return load_subnet({
            "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": {"nodes": 3, **spec},
        })  # fmt: skip

    assert with_image(subnet(image="node:1.3"), "node:1.4").spec.image == "node:1.4"
    with pytest.raises(CommandError, match="group next has an image of its own"):
        with_image(subnet(groups=[{"name": "next", "nodes": 1, "image": "node:1.2"}]), "node:1.4")
    with pytest.raises((CommandError, SpecError)):
        with_image(subnet(), "x" * 400)


def test_how_busy_the_machine_was_is_measured_and_too_much_is_said(tmp_path: Path) -> None:
    pressure, now = tmp_path / "cpu", [0.0]
    watch = BusyWatch(pressure, clock=lambda: now[0])
    for before_us, after_us, seconds in ((0, 1_000_000, 10.0), (5_000_000, 14_000_000, 10.0)):
        pressure.write_text(f"some avg10=0.00 avg60=0.00 avg300=0.00 total={before_us}\nfull avg10=0.00 total=7\n")
        with watch.trial():
            pressure.write_text(f"some avg10=0.00 avg60=0.00 avg300=0.00 total={after_us}\nfull avg10=0.00 total=7\n")
            now[0] += seconds
    seen = watch.seen()
    assert (seen.waited, seen.waited_most) == (0.5, 0.9)
    pressure.unlink()
    assert BusyWatch(pressure).seen().waited is None
    calm = MachineLoad(cores=2, load_before=0.9, waited=0.5, waited_most=0.9)
    assert busy_warnings(calm) == []
    assert len(busy_warnings(MachineLoad(cores=2, load_before=1.1, waited=0.6))) == 2
