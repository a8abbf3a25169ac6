"""`logs`: of an artifact, a run, several nodes; also of a subnet that is gone."""

import io
from typing import Any

import msgspec
import pytest

from p2pnet.cli.documents import LogLines
from p2pnet.cli.outcome import CommandError
from p2pnet.cli.session import Session
from p2pnet.cli.verbs import logs
from p2pnet.cli.verbs.logs import LogsOptions
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import LogLine, RunFile, RunRequest
from p2pnet.model.log_lines import stamp
from p2pnet.store import archive

T = 1_795_292_000.0
OLD, NEW, OTHER = "aa" * 32, "aabb" + "c" * 60, "dd" * 32
FIRST, SECOND, OPEN = (f"r-20261121-20153{second}-3f" for second in range(3))


def keep(target: Any, run: str, artifacts: list[str], **more: Any) -> None:
    """A run of demo that published these, each of them a second after the one before, beginning at T."""
    file = RunFile(
        run=run, subnet="demo", target="local", seed=1, request=RunRequest([]),
        nodes=["node-0", "node-1"], version="0", artifacts=artifacts, names=["photo.jpg"] * len(artifacts),
        **{"state": "finished", "unix_offset_s": T, "created_at": T, "started_at": T, **more},
    )  # fmt: skip
    folder = target.state.run(run)
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(archive.pretty(file))
    with (folder / archive.EVENTS_FILE).open("wb") as out:
        for second, artifact in enumerate(artifacts):
            for seq, (node, kind) in enumerate((("node-0", EventKind.PUBLISHED), ("node-1", EventKind.VALIDATED))):
                event = Collected(node, "i", seq, second * 10**9 + seq, kind, "blob", artifact, "node-0" if seq else "")
                out.write(msgspec.json.encode(event) + b"\n")
    if file.state == "finished":
        line = LogLine(T + 0.5, "node-1", f"{stamp(T + 0.5)} INFO p2pnet.node: held {artifacts[0][:12]}")
        (folder / archive.LOGS_FILE).write_bytes(msgspec.json.encode(line) + b"\n")


def gone_with(target: Any, name: str, text: str) -> None:
    """Demo was taken down, and this log was kept of it."""
    folder = target.state.root / "logs" / "demo"
    folder.mkdir(parents=True)
    (folder / name).write_text(text)


@pytest.fixture
def kept(target: Any) -> Any:
    keep(target, FIRST, [OLD])
    keep(target, SECOND, [NEW, OTHER])
    return target


async def told(session: Session, **options: Any) -> list[str]:
    """Node and first words of each line."""
    outcome = await logs.run(LogsOptions("demo", **options), session)
    if outcome.document is None:
        return []
    assert isinstance(outcome.document, LogLines)
    return [f"{line.node} {' '.join(line.line.split()[:3])}" for line in outcome.document.lines]


BOTH = [f"node-0 event published artifact={OLD[:12]}", f"node-1 event validated artifact={OLD[:12]}"]
SAID = f"node-1 {stamp(T + 0.5)} INFO p2pnet.node:"


@pytest.mark.parametrize("word", [OLD, "latest", "photo.jpg", OLD[:8]])
async def test_a_run_shows_the_events_of_its_artifact_among_its_lines(kept: Any, session: Session, word: str) -> None:
    assert await told(session, run=FIRST, artifact=word) == [*BOTH, SAID]
    assert kept.fake.asked == []


async def test_words_for_artifacts_of_a_run_mean_its_own(kept: Any, session: Session) -> None:
    for word in ("-2", "aabb" + "c" * 6):
        assert [line.split()[-1] for line in await told(session, run=SECOND, artifact=word)][:2] == [
            f"artifact={NEW[:12]}"
        ] * 2
    for word, said in (("-3", "published 2 artifacts, and no artifact -3"), ("photo.jpg", "2 artifacts named")):
        with pytest.raises(CommandError, match=said):
            await told(session, run=SECOND, artifact=word)


@pytest.mark.parametrize("run", [FIRST, None])
async def test_an_artifact_that_nothing_kept_tells_of_is_refused(kept: Any, session: Session, run: str | None) -> None:
    kept.seen = "absent"
    gone_with(kept, "lab.log", f"{stamp(T)} INFO p2pnet.lab: at work\n")
    with pytest.raises(CommandError, match=r"no artifact of .* begins with ffffff") as caught:
        await told(session, run=run, artifact="ffffff")
    assert caught.value.exit_code == 2


async def test_events_are_filtered_like_lines(kept: Any, session: Session) -> None:
    assert await told(session, run=FIRST, artifact=OLD, node=["node-0"]) == BOTH[:1]
    assert await told(session, run=FIRST, artifact=OLD, node=["node-0", "node-1"]) == [*BOTH, SAID]
    assert await told(session, run=FIRST, artifact=OLD, grep="^[^ ]+Z INFO node-[0-9] event valid") == BOTH[1:]
    assert await told(session, run=FIRST, artifact=OLD, grep="INFO node-1 p2pnet.node: held") == [SAID]


@pytest.mark.parametrize("presence", ["absent", "dead"])
async def test_what_is_kept_of_a_subnet_that_is_gone_has_the_events_of_an_artifact(
    kept: Any, session: Session, presence: Any
) -> None:
    kept.seen = presence
    assert await told(session, artifact=OLD[:8]) == BOTH  # its processes' own files are gone
    with pytest.raises(TargetError, match="no demo"):
        await told(session)
    gone_with(kept, "node-0.log", f"{stamp(T + 7)} INFO p2pnet.node: withdrew {OLD[:12]}\n")
    assert await told(session, artifact=OLD) == [*BOTH, f"node-0 {stamp(T + 7)} INFO p2pnet.node:"]
    assert isinstance(session.stderr, io.StringIO)
    assert "this is what was logged until then" in session.stderr.getvalue()


async def test_a_beginning_that_several_artifacts_have_is_refused_with_them(kept: Any, session: Session) -> None:
    kept.seen = "absent"
    keep(kept, "r-20261121-201539-3f", ["aaaaaaff" + "0" * 56])
    with pytest.raises(SpecError, match="aaaaaa is ambiguous: 2 artifacts"):
        await told(session, artifact="aaaaaa")


async def test_of_a_run_that_goes_on_a_lab_is_asked_for_what_came_since_it_began(kept: Any, session: Session) -> None:
    keep(kept, OPEN, [OTHER], state="running", started_at=T + 60, created_at=T + 50)
    await told(session, run="latest", artifact="latest", node=["node-0", "lab"])
    asked = {"node": "node-0,lab", "artifact": OTHER, "grep": None, "follow": False, "since": T + 60}
    assert kept.fake.asked == [("logs", asked)]


async def test_of_a_run_whose_lab_died_meanwhile_nothing_from_before_it_is_shown(kept: Any, session: Session) -> None:
    keep(kept, OPEN, [OTHER], state="running", started_at=T + 60, created_at=T + 50, unix_offset_s=T + 60)
    said = [f"{stamp(T + second)} INFO p2pnet.lab: said at {second}\n" for second in (7, 61)]
    gone_with(kept, "lab.log", "".join(said))
    kept.seen = "absent"
    assert await told(session, run="latest") == [f"lab {stamp(T + 61)} INFO p2pnet.lab:"]
