"""`runs`: what is kept, listed, labelled, cancelled and removed."""

import json
import os
from collections.abc import Callable
from typing import Any

import jsonschema
import msgspec
import pytest

from p2pnet.cli import interaction
from p2pnet.cli.documents import KeptRuns
from p2pnet.cli.outcome import CommandError
from p2pnet.cli.render import Output, render
from p2pnet.cli.session import Session
from p2pnet.cli.verbs import runs
from p2pnet.cli.verbs.runs import RunsOptions
from p2pnet.cli.verbs.schema import schema_of
from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.jobs import Payload, RunFile, RunRequest
from p2pnet.model.report import Report
from p2pnet.store import archive, retention

NOW = 1_795_292_000.0
FAILED, LABELLED, OPEN, OTHER, LATEST = (f"r-20261121-20153{second}-3f" for second in range(5))


@pytest.fixture
def kept(target: Any, report: Report) -> Any:
    """Five runs: a failed one, one with a label, an open one, one of another subnet, the latest."""
    told = (
        (FAILED, "fail", ""),
        (LABELLED, "pass", "baseline"),
        (OPEN, "", ""),
        (OTHER, "pass", ""),
        (LATEST, "pass", ""),
    )
    for place, (run, verdict, label) in enumerate(told):
        file = RunFile(
            run=run, subnet="other" if run == OTHER else "demo", target="local", seed=1, request=RunRequest([]),
            created_at=NOW - 1000 + place * 100, nodes=["node-0", "node-1"], version="0", label=label,
            state="finished" if verdict else "running", artifacts=["aa" * 32],
        )  # fmt: skip
        folder = target.state.run(run)
        folder.mkdir(parents=True)
        (folder / "run.json").write_bytes(archive.pretty(file))
        if verdict:
            done = msgspec.structs.replace(report, run=run, verdict=verdict)
            (folder / "summary.json").write_bytes(archive.pretty(done))
    target.owns = lambda run: True
    return target


async def listed(session: Session, **options: Any) -> list[str]:
    outcome = await runs.run(RunsOptions(**options), session)
    assert isinstance(outcome.document, KeptRuns)
    return [one.run for one in outcome.document.runs]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [LATEST, OTHER, OPEN, LABELLED, FAILED]),
        ({"name": "demo"}, [LATEST, OPEN, LABELLED, FAILED]),
        ({"verdicts": ("fail", "invalid")}, [FAILED]),
        ({"states": ("running",)}, [OPEN]),
        ({"label": "base*"}, [LABELLED]),
        ({"label": "*"}, [LABELLED]),
        ({"since_s": 750.0}, [LATEST, OTHER]),
        ({"limit": 2}, [LATEST, OTHER]),
        ({"name": "demo", "verdicts": ("pass",), "limit": 1}, [LATEST]),
    ],
)
async def test_runs_are_listed_newest_first_and_filtered(
    kept: Any, session: Session, options: Any, expected: list[str]
) -> None:
    assert await listed(session, **options) == expected


async def test_an_open_run_counts_what_it_is_to_publish_as_a_status_does(kept: Any, session: Session) -> None:
    folder = kept.state.run(OPEN)
    asked = RunRequest([Payload("a", size=1), Payload("b", size=1)], count=3, publisher="all")
    liars = [AdversaryGroup("liars", "withholding", ["node-1"])]
    file = msgspec.structs.replace(archive.read_run_file(kept.state, OPEN), request=asked, adversaries=liars)
    (folder / "run.json").write_bytes(archive.pretty(file))
    document = (await runs.run(RunsOptions(states=[runs.StateChoice.RUNNING]), session)).document
    assert isinstance(document, KeptRuns)
    assert [one.artifacts for one in document.runs] == [6]


async def test_a_list_is_valid_against_its_schema_and_its_lines_carry_their_own(kept: Any, session: Session) -> None:
    document = (await runs.run(RunsOptions(limit=2), session)).document
    value = json.loads(render(document, Output.JSON))
    jsonschema.validate(value, schema_of("runs"))
    assert (value["matched"], value["kept"], value["kept_bytes"] > 0) == (5, 5, True)
    lines = render(document, Output.NDJSON).splitlines()
    for line in lines:
        jsonschema.validate(json.loads(line), schema_of("kept-run"))
    assert [json.loads(line)["schema"] for line in lines] == ["p2pnet.io/kept-run/v1"] * 2


async def test_the_table_names_labels_sizes_what_is_left_out_and_what_limits_removed(
    kept: Any, session: Session
) -> None:
    retention.apply(kept.state, retention.Limits(runs=1), NOW - 60)
    document = (await runs.run(RunsOptions(limit=2), session)).document
    drawn = render(document, Output.TABLE, width=200, now=NOW)
    assert "SIZE" in drawn
    assert "KiB" in drawn
    assert "and 1 older ones" in drawn
    assert "limits the newest 500 ended ones and 5 GiB; labelled ones stay" in drawn
    assert "removed by them 2 runs" in drawn
    assert "last 60 s ago" in drawn


async def test_exactly_the_runs_that_are_named_are_removed_and_the_bytes_are_counted(
    kept: Any, session: Session
) -> None:
    octets = sum(path.stat().st_size for path in kept.state.run(FAILED).iterdir())
    for head in archive.list_heads(kept.state):
        octets += (kept.state.run(FAILED) / "head.json").stat().st_size if head.run == FAILED else 0
    outcome = await runs.run(RunsOptions(name="demo", remove=(FAILED, "-1", "latest"), yes=True), session)
    assert outcome.document.removed == [FAILED, LATEST]
    assert outcome.document.freed_bytes > octets
    assert await listed(session) == [OTHER, OPEN, LABELLED]


async def test_an_open_run_is_never_removed_and_nothing_is_when_one_is_among_them(kept: Any, session: Session) -> None:
    with pytest.raises(CommandError, match=f"open, so not removed: {OPEN}") as caught:
        await runs.run(RunsOptions(name="demo", remove=(FAILED, OPEN), yes=True), session)
    assert caught.value.exit_code == 2
    assert caught.value.next_step == f"p2pnet runs demo --cancel {OPEN} first, or leave it out"
    assert len(await listed(session)) == 5


async def test_what_nobody_could_be_asked_about_stays_and_that_is_said_of_one_run_too(
    kept: Any, session: Session
) -> None:
    for remove, said in (((FAILED,), r"run .* stays$"), ((FAILED, LATEST), r"2 runs .* stay$")):
        with pytest.raises(CommandError, match=said):
            await runs.run(RunsOptions(name="demo", remove=remove), session)


async def test_keep_spares_the_newest_labelled_and_open_ones_and_minds_the_filters(kept: Any, session: Session) -> None:
    outcome = await runs.run(RunsOptions(name="demo", keep=1, yes=True), session)
    assert outcome.document.removed == [FAILED]
    outcome = await runs.run(RunsOptions(keep=0, verdicts=("pass",), yes=True), session)
    assert outcome.document.removed == [OTHER, LATEST]
    assert await listed(session) == [OPEN, LABELLED]


async def test_off_a_terminal_removal_wants_yes_and_on_one_it_asks(
    kept: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CommandError, match="nobody can be asked") as caught:
        await runs.run(RunsOptions(remove=(LATEST,)), session)
    assert caught.value.exit_code == 2
    monkeypatch.setattr(Session, "interactive", True)
    for answer, left in (("n\n", 5), ("\n", 5), ("y\n", 4)):

        async def read(answer: str = answer) -> str:
            return answer

        monkeypatch.setattr(interaction, "_read_line", read)
        if left == 5:
            with pytest.raises(CommandError, match="nothing was removed"):
                await runs.run(RunsOptions(remove=(LATEST,)), session)
        else:
            await runs.run(RunsOptions(remove=(LATEST,)), session)
        assert len(await listed(session)) == left
    assert f"Remove run {LATEST} (" in session.stderr.getvalue()  # type: ignore[attr-defined]


async def test_a_run_that_cannot_be_removed_is_named_beside_those_that_were(
    kept: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = retention.remove

    def refuse(state: Any, run: str) -> bool:
        if run == OTHER:
            raise OSError(1, "Operation not permitted")
        return remove(state, run)

    monkeypatch.setattr(retention, "remove", refuse)
    outcome = await runs.run(RunsOptions(remove=(FAILED, OTHER, LATEST), yes=True), session)
    assert (outcome.exit_code, outcome.document.removed) == (2, [FAILED])
    assert OTHER in str(outcome.failure)
    assert len(await listed(session)) == 4


async def test_an_open_run_is_cancelled_by_its_lab_and_an_ended_one_is_left_as_it_is(
    kept: Any, session: Session
) -> None:
    outcome = await runs.run(RunsOptions(name="demo", cancel=(OPEN, LATEST)), session)
    assert kept.fake.asked == [("cancel", OPEN)]
    assert outcome.document.cancelled == [OPEN]
    assert f"ended already: {LATEST}" in session.stderr.getvalue()  # type: ignore[attr-defined]


async def test_a_label_is_given_and_taken_away(kept: Any, session: Session) -> None:
    outcome = await runs.run(RunsOptions(name="demo", set_label=("latest=after = now", f"{LABELLED}=")), session)
    assert outcome.document.labelled == [LATEST, LABELLED]
    assert {head.run: head.label for head in archive.list_heads(kept.state, "demo") if head.label} == {
        LATEST: "after = now"
    }
    for bad, said in (
        ("latest", "gives no label"),
        ("=x", "names no run"),
        ("latest=-1", "means a run"),
        ("r-2=x", "several runs"),
    ):
        with pytest.raises(CommandError, match=said):
            await runs.run(RunsOptions(name="demo", set_label=(bad,)), session)


async def test_an_open_run_of_a_dead_lab_ends_before_it_is_listed(kept: Any, session: Session) -> None:
    kept.seen = "dead"
    document = (await runs.run(RunsOptions(name="demo"), session)).document
    assert {one.run: one.state for one in document.runs}[OPEN] == "finished"
    assert {one.run: one.verdict for one in document.runs}[OPEN] == "invalid"


async def test_one_thing_is_done_at_a_time_and_a_setting_that_cannot_be_read_is_refused(
    kept: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CommandError, match="one thing at a time: --rm and --keep"):
        await runs.run(RunsOptions(remove=("latest",), keep=3), session)
    monkeypatch.setenv("P2PNET_KEEP_RUNS", "few")
    with pytest.raises(CommandError, match="P2PNET_KEEP_RUNS='few'"):
        await runs.run(RunsOptions(), session)


def test_without_any_run_the_list_is_empty_and_a_subnet_without_one_is_named(p2pnet: Callable[..., Any]) -> None:
    ended = p2pnet("runs")
    assert (ended.code, ended.out.splitlines()[0]) == (0, "no run is kept here")
    assert p2pnet("runs", "-o", "ndjson").out == ""
    ended = p2pnet("runs", "demo")
    assert (ended.code, ended.err.splitlines()[0]) == (3, "error: there is no subnet demo")
    assert p2pnet("runs", "--verdict", "bad").code == 2


def test_a_label_of_an_injection_is_in_the_request(p2pnet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from p2pnet.cli.verbs import inject

    seen: list[Any] = []

    async def keep(options: Any, session: Any) -> Any:
        seen.append(options)
        raise CommandError("enough", where="here", next_step="no more")

    monkeypatch.setattr(inject, "run", keep)
    p2pnet("inject", "demo", "--label", " before the fix ")
    assert seen[0].label == "before the fix"
    assert "at most 80" in p2pnet("inject", "demo", "--label", "x" * 81).err


# --- damaged runs ---


@pytest.fixture
def damaged(kept: Any) -> Any:
    """The same, the first of which can be read no more, and one of which no file says whose it was."""
    archive.list_heads(kept.state)
    (kept.state.run(FAILED) / "run.json").write_text("{half")
    folder = kept.state.run(UNKNOWN)
    folder.mkdir()
    (folder / "events.ndjson").write_text("{}")
    os.utime(folder, (NOW - 5000, NOW - 5000))
    return kept


UNKNOWN = "r-20261120-080000-11"


async def test_a_damaged_run_is_told_with_what_is_known_of_it(damaged: Any, session: Session) -> None:
    document = (await runs.run(RunsOptions(name="demo"), session)).document
    value = json.loads(render(document, Output.JSON))
    jsonschema.validate(value, schema_of("runs"))
    assert [(one["run"], one["subnet"], one["bytes"] > 0) for one in value["damaged"]] == [
        (UNKNOWN, "", True), (FAILED, "demo", True),
    ]  # fmt: skip
    drawn = render(document, Output.TABLE, width=200, now=NOW)
    assert f"{FAILED} is damaged: its run.json is none: " in drawn
    assert f"{UNKNOWN} is damaged: it has no run.json (2 B)" in drawn
    other = (await runs.run(RunsOptions(name="other"), session)).document
    assert [one.run for one in other.damaged] == [UNKNOWN]
    assert f"p2pnet runs --rm {UNKNOWN}" in (await runs.run(RunsOptions(), session)).next
    session.output = Output.NDJSON
    await runs.run(RunsOptions(), session)
    assert f"damaged, and no line here: {UNKNOWN}, {FAILED}" in session.stderr.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "word"), [(None, FAILED), ("demo", FAILED), ("demo", UNKNOWN), (None, UNKNOWN[:13])])
async def test_a_damaged_run_is_removed_by_its_id(damaged: Any, session: Session, name: str | None, word: str) -> None:
    outcome = await runs.run(RunsOptions(name=name, remove=(word,), yes=True), session)
    [gone] = outcome.document.removed
    assert gone.startswith(word)
    assert not damaged.state.run(gone).exists()
    assert outcome.document.freed_bytes > 0


async def test_damaged_runs_go_with_those_beyond_the_number_that_is_kept(damaged: Any, session: Session) -> None:
    outcome = await runs.run(RunsOptions(name="demo", keep=1, yes=True), session)
    assert outcome.document.removed == [FAILED]
    outcome = await runs.run(RunsOptions(keep=0, verdicts=("pass",), yes=True), session)
    assert outcome.document.removed == [OTHER, LATEST]
    outcome = await runs.run(RunsOptions(keep=0, yes=True), session)
    assert outcome.document.removed == [UNKNOWN]


# --- nothing to show ---


async def test_a_subnet_that_is_there_and_has_no_run_has_an_empty_list(target: Any, session: Session) -> None:
    outcome = await runs.run(RunsOptions(name="demo"), session)
    assert (outcome.document.runs, outcome.exit_code, outcome.next) == ([], 0, ("p2pnet inject demo",))
    assert (await runs.run(RunsOptions(name="demo", keep=3, yes=True), session)).exit_code == 0
    with pytest.raises(CommandError, match="there is no subnet nowhere") as caught:
        await runs.run(RunsOptions(name="nowhere"), session)
    assert caught.value.exit_code == 3


async def test_where_only_labelled_runs_are_left_nothing_had_to_be_removed(kept: Any, session: Session) -> None:
    await runs.run(RunsOptions(keep=0, yes=True), session)
    outcome = await runs.run(RunsOptions(keep=1, yes=True), session)
    drawn = render(outcome.document, Output.TABLE, width=200, now=NOW)
    assert "nothing had to be removed: open and labelled runs stay" in drawn
    assert "no run fits" not in drawn
    nothing = await runs.run(RunsOptions(keep=1, label="nope*", yes=True), session)
    assert "no run fits" in render(nothing.document, Output.TABLE, width=200, now=NOW)


@pytest.mark.parametrize(
    ("options", "following"),
    [
        ({"label": "nope*"}, "p2pnet runs"),
        ({"name": "demo", "label": "nope*"}, "p2pnet runs demo"),
        ({"set_label": (f"{FAILED}=first",)}, f"p2pnet report demo {FAILED}"),
    ],
)
async def test_the_next_command_is_named_also_after_a_list_of_none_and_a_label(
    kept: Any, session: Session, options: Any, following: str
) -> None:
    assert (await runs.run(RunsOptions(**options), session)).next == (following,)


async def test_without_any_run_the_next_command_makes_one(target: Any, session: Session) -> None:
    assert (await runs.run(RunsOptions(), session)).next == ("p2pnet inject demo",)
    target.seen = "dead"
    assert (await runs.run(RunsOptions(), session)).next == ("p2pnet up demo",)
    target.seen = "absent"
    assert (await runs.run(RunsOptions(), session)).next == ("p2pnet up demo --nodes 10",)


def test_without_any_run_of_the_simulator_the_next_command_makes_one(p2pnet: Callable[..., Any]) -> None:
    assert p2pnet("runs", "--on", "sim").err.endswith("Next: p2pnet sim -f FILE\n")
