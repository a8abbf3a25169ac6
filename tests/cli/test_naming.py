"""Which run, and which artifact, a word means: the same for every verb."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pnet.cli.coercion import counted_back
from p2pnet.cli.exit_handling import explain
from p2pnet.cli.outcome import CommandError
from p2pnet.cli.resolve import choose_artifact, choose_run, run_meant, telling_artifact
from p2pnet.cli.session import Session
from p2pnet.cli.verbs import report, trace
from p2pnet.lab_client import ProblemError
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import Problem, RunFile, RunRequest
from p2pnet.model.report import Report
from p2pnet.store import State, archive

FIRST, SECOND, THIRD = "aa" * 32, "aabbcc" + "1" * 58, "aabbcc" + "2" * 58
RUNS: tuple[tuple[str, str, list[str], list[str]], ...] = (
    ("r-20261121-201530-3f", "", [FIRST], ["photo.jpg"]),
    ("r-20261121-201531-4a", "before", [], []),
    ("r-20261122-080000-22", "", [SECOND, THIRD], ["generated-9", "generated-9"]),
)


@pytest.fixture
def kept(target: Any, report: Report) -> Any:
    """Three runs of demo and one of another subnet."""
    for created, (run, label, artifacts, names) in enumerate((*RUNS, ("r-20261122-090000-10", "", ["ff" * 32], ["x"]))):
        file = RunFile(
            run=run, subnet="other" if "0900" in run else "demo", target="local", seed=1, request=RunRequest([]),
            created_at=float(created), nodes=["node-0", "node-1"], version="0", state="finished", label=label,
            artifacts=artifacts, names=names,
        )  # fmt: skip
        folder = target.state.run(run)
        folder.mkdir(parents=True)
        (folder / "run.json").write_bytes(archive.pretty(file))
        done = msgspec.structs.replace(
            report, run=run, artifact_ids=artifacts, slowest=artifacts[0] if artifacts else ""
        )
        (folder / "summary.json").write_bytes(archive.pretty(done))
    return target


@pytest.mark.parametrize(
    ("word", "place"),
    [
        (None, 2), ("latest", 2), ("-1", 2), ("latest~0", 2), ("-2", 1), ("latest~1", 1), ("-3", 0), ("before", 1),
        ("r-20261121-201530-3f", 0), ("r-20261122", 2), ("20261122", 2), ("20261121-201531", 1),
    ],
)  # fmt: skip
def test_a_run_is_meant_by(kept: Any, word: str | None, place: int) -> None:
    assert choose_run(word, kept, "demo").run == RUNS[place][0]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("r-20261121", "several runs are meant by r-20261121"),
        ("-4", "demo has no run -4; it has 3"),
        ("r-20261122-090000-10", "demo has no run r-20261122-090000-10: it is of other"),
        ("nothing", "demo has no run nothing"),
        ("..", r"demo has no run \.\."),
        ("-0", "demo has no run -0"),
    ],
)
def test_a_word_that_means_no_run_or_several_is_refused_with_the_candidates(kept: Any, word: str, said: str) -> None:
    with pytest.raises(CommandError, match=said) as caught:
        choose_run(word, kept, "demo")
    assert caught.value.exit_code == 2
    assert RUNS[0][0] in caught.value.next_step


def test_a_label_that_two_runs_have_is_ambiguous(kept: Any) -> None:
    archive.set_label(kept.state, RUNS[0][0], "before")
    with pytest.raises(CommandError, match="several runs") as caught:
        choose_run("before", kept, "demo")
    assert RUNS[0][0] in caught.value.next_step
    assert RUNS[1][0] in caught.value.next_step


@pytest.mark.parametrize(
    ("word", "artifact"),
    [
        ("latest", THIRD), ("-1", THIRD), ("-2", SECOND), ("-3", FIRST), ("photo.jpg", FIRST), ("aabbcc1", "aabbcc1"),
        ("AABBCC1", "aabbcc1"), ("123456", "123456"), ("aabbc", "aabbc"), ("1", "1"),
    ],
)  # fmt: skip
async def test_an_artifact_is_meant_by(kept: Any, word: str, artifact: str) -> None:
    assert await choose_artifact(word, kept, "demo") == artifact


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("-4", "published only 3 artifacts"),
        ("aabbcx", "is no artifact id"),
        ("nope.jpg", "no artifact of demo has that name"),
        ("generated-9", "2 artifacts of demo are named generated-9"),
        ("photo", "is no artifact id"),
    ],
)
async def test_a_word_that_means_no_artifact_or_several_is_refused(kept: Any, word: str, said: str) -> None:
    with pytest.raises(CommandError, match=said) as caught:
        await choose_artifact(word, kept, "demo")
    assert caught.value.exit_code == 2


async def test_a_file_named_like_an_id_is_found_unless_an_id_begins_so(kept: Any) -> None:
    folder = kept.state.run(RUNS[1][0])
    file = archive.read_run_file(kept.state, RUNS[1][0])
    for name, artifact in (("deadbeef", "cc" * 32), ("aaaaaa", "dd" * 32), ("aaa", "cc" * 32)):
        named = msgspec.structs.replace(file, artifacts=[artifact], names=[name])
        (folder / "run.json").write_bytes(archive.pretty(named))
        meant = await choose_artifact(name, kept, "demo")
        assert meant == ("aaaaaa" if name == "aaaaaa" else "cc" * 32)
        kept.kind, kept.seen = "cluster", "absent"
        assert await choose_artifact(name, kept, "demo") == ("cc" * 32 if name == "aaa" else name)
        kept.kind, kept.seen = "local", "up"


@pytest.mark.parametrize("word", [RUNS[1][0], RUNS[1][0][:-2], "r-20261121-201531", "r-20261121-2015314"])
async def test_a_report_takes_a_run_or_the_unique_beginning_of_one_for_itself(
    kept: Any, session: Session, word: str
) -> None:
    if word.endswith("4"):
        with pytest.raises(CommandError, match=f"there is no subnet {word}"):
            await report.run(report.ReportOptions(word), session)
        return
    assert (await report.run(report.ReportOptions(word), session)).document.run == RUNS[1][0]


async def test_a_beginning_of_several_runs_names_them_and_one_that_is_a_subnets_name_is_no_run(
    kept: Any, session: Session
) -> None:
    with pytest.raises(CommandError, match="several runs are meant by r-2026112") as caught:
        await report.run(report.ReportOptions("r-2026112"), session)
    assert (caught.value.exit_code, RUNS[0][0] in caught.value.next_step) == (2, True)
    for word in ("r", "r-", "202"):
        with pytest.raises(CommandError, match=f"there is no subnet {word}") as caught:
            await report.run(report.ReportOptions(word), session)
        assert caught.value.exit_code == 3
    file = msgspec.structs.replace(archive.read_run_file(kept.state, RUNS[0][0]), subnet="r-20261122", run="r-1")
    kept.state.run("r-1").mkdir()
    (kept.state.run("r-1") / "run.json").write_bytes(archive.pretty(file))
    kept.owns = lambda run: True
    assert run_meant("r-20261122", kept) is None
    assert run_meant("r-20261122-08", kept) is not None


async def test_trace_without_an_artifact_takes_the_telling_one_of_the_latest_run(kept: Any, session: Session) -> None:
    kept.seen = "absent"
    assert await telling_artifact(kept, "demo") == SECOND
    event = Collected("node-0", "i", 0, 0, EventKind.PUBLISHED, "blob", SECOND)
    (kept.state.run(RUNS[2][0]) / "events.ndjson").write_bytes(msgspec.json.encode(event) + b"\n")
    outcome = await trace.run(trace.TraceOptions("demo"), session)
    assert outcome.document.artifact == SECOND
    with pytest.raises(CommandError, match="there is no subnet nobody"):
        await telling_artifact(kept, "nobody")


async def test_a_run_that_goes_on_counts_as_the_latest_for_its_artifacts_too(kept: Any, report: Report) -> None:
    file = archive.read_run_file(kept.state, RUNS[2][0])
    going = msgspec.structs.replace(
        file, run="r-20261123-080000-77", created_at=9.0, state="running", artifacts=["dd" * 32, "ee" * 32],
        names=["a", "b"],
    )  # fmt: skip
    folder = kept.state.run(going.run)
    folder.mkdir()
    (folder / "run.json").write_bytes(archive.pretty(going))
    queued = msgspec.structs.replace(going, run="r-20261123-080001-78", created_at=10.0, artifacts=[], state="queued")
    folder = kept.state.run(queued.run)
    folder.mkdir()
    (folder / "run.json").write_bytes(archive.pretty(queued))
    told = [await choose_artifact(word, kept, "demo") for word in ("latest", "-2", "-3", "b")]
    assert told == ["ee" * 32, "dd" * 32, THIRD, "ee" * 32]
    assert await telling_artifact(kept, "demo") == "dd" * 32


def test_minus_one_is_a_run_on_the_command_line_and_still_a_value_after_an_option(
    kept: Any, p2pnet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []

    async def keep(options: Any, session: Any) -> Any:
        seen.append(options)
        raise CommandError("enough", where="here", next_step="no more")

    monkeypatch.setattr(report, "run", keep)
    p2pnet("report", "demo", "-2", "--html", "-1", "-q")
    p2pnet("report", "demo", "--", "-3")
    assert [(options.run, options.html) for options in seen] == [("-2", Path("-1")), ("-3", None)]
    assert "No such option: -1" in p2pnet("status", "demo", "-1").err
    assert "No such option: -x" in p2pnet("report", "demo", "-x").err


def test_words_count_back_from_the_latest() -> None:
    assert [counted_back(word) for word in ("latest", "-1", "latest~0", "-2", "latest~1", "latest~12")] == [
        0, 0, 0, 1, 1, 12,
    ]  # fmt: skip
    assert [counted_back(word) for word in ("-0", "--1", "-", "lates", "latest~", "1", "-1a")] == [None] * 7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report", "demo", "-9"), "error: demo has no run -9; it has 3\n"),
        (("report", "demo", "latest", "-2"), "where: -2\n"),
        (("report", "-1"), "subnet name '-1'"),
        (("trace", "demo", "-1", "-2"), "extra argument(s) (-2)\n"),
        (("compare", "-9", "-1"), "has no run -9"),
    ],
)
def test_an_error_quotes_what_was_typed(
    p2pnet: Callable[..., Any], kept: Any, words: tuple[str, ...], said: str
) -> None:
    ended = p2pnet(*words)
    assert (ended.code, "~" in ended.err) == (2, False)
    assert said in ended.err


def test_two_runs_counted_back_are_compared(p2pnet: Callable[..., Any], state: State) -> None:
    assert "No such option" not in p2pnet("compare", "-2", "-1").err


def test_a_run_in_the_place_of_a_subnet_is_told_with_the_trace_that_is_meant(
    p2pnet: Callable[..., Any], kept: Any
) -> None:
    ended = p2pnet("trace", RUNS[2][0])
    assert (ended.code, f"{RUNS[2][0]} is a run of demo, and no subnet" in ended.err) == (2, True)
    assert f"p2pnet trace demo {SECOND[:12]}" in ended.err


def test_errors_about_a_bundle_name_the_bundle(
    p2pnet: Callable[..., Any], kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "a run.tar.gz"
    assert p2pnet("collect", RUNS[0][0], "-O", str(bundle)).code == 0
    for words in (("trace", "zzz"), ("trace", "-9"), ("report", "zzz"), ("report", "-9")):
        ended = p2pnet(words[0], str(bundle), words[1])
        assert (ended.code, str(bundle) in ended.err.splitlines()[1]) == (2, True), ended.err
        assert "p2pnet-bundle-" not in ended.err
        assert "report demo" not in ended.err
    assert f"next: p2pnet report '{bundle}' -o json lists" in p2pnet("trace", str(bundle), "zzz").err


def test_a_node_that_does_not_answer_is_looked_for_in_the_status() -> None:
    silent = ProblemError(Problem("node-1 does not answer: nothing came", exit_code=3), status=503)
    failure = explain(silent, "p2pnet report demo -o json lists the artifact ids of its latest run", "demo")
    assert failure is not None
    assert (failure.exit_code, failure.next_step) == (3, "p2pnet status demo shows how its nodes are")


@pytest.mark.parametrize("words", [("report", "demo", RUNS[0][0]), ("report", RUNS[0][0]), ("runs", RUNS[0][0])])
def test_who_names_a_damaged_run_is_told_how_to_remove_it(
    p2pnet: Callable[..., Any], kept: Any, words: tuple[str, ...]
) -> None:
    (kept.state.run(RUNS[0][0]) / "run.json").write_text("{half")
    ended = p2pnet(*words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error: run {RUNS[0][0]} is damaged: ")
    assert f"p2pnet runs --rm {RUNS[0][0]} removes it" in ended.err


def test_a_run_of_another_subnet_is_told_to_be_of_that(p2pnet: Callable[..., Any], kept: Any) -> None:
    other = "r-20261122-090000-10"
    ended = p2pnet("report", "demo", other)
    assert (ended.code, f"demo has no run {other}: it is of other, on local" in ended.err) == (2, True)
    assert f"next: p2pnet report {other} shows it" in ended.err
    assert "removes it" not in ended.err
