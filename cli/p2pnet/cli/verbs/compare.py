"""`compare`: two versions measured beside each other, and a verdict that says how sure it is."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pnet.cli import load, shell_completion
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.load import LoadOptions, OfferOptions
from p2pnet.cli.options import IgnoreUnsupported, VerbOptions, file_option, jobs_option
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.target_choice import Place, is_bundle, open_bundled
from p2pnet.measure import gates as gate_grammar
from p2pnet.measure import statistics
from p2pnet.model.comparison import Comparison, Side
from p2pnet.model.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from p2pnet.cli.comparing import Contender, Paired
    from p2pnet.model.jobs import RunFile
    from p2pnet.model.report import Report
    from p2pnet.subnet.spec import Subnet

EXAMPLE = "p2pnet compare before.yaml after.yaml --size 64KiB --count 20 --rate 10/s --gate 'p99:+10%'"
TRIALS = 20
TRIALS_MAX = 10_000
MORE_MAX = 3.0  # times the trials asked for: beyond, only the number is told
STDOUT = Path("-")
VERDICT_CODES = {
    "pass": ExitCode.OK, "regression": ExitCode.REGRESSION, "inconclusive": ExitCode.INCONCLUSIVE,
    "invalid": ExitCode.INVALID,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """What is judged, and how long."""

    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            metavar="GATE",
            help="How much worse HEAD may be, like 'p99:+10%', 'p50:+5ms' or 'reach:-0.1%'; repeatable."
            "  [default: p50:+10% p99:+10% reach:-0.1% bytes:+10%]",
            show_default=False,
        ),
    ] = None
    trials: Annotated[
        int,
        typer.Option(
            "--trials",
            min=3,
            max=TRIALS_MAX,
            metavar="N",
            help="At most so many trials of each; fewer where they decide.",
        ),
    ] = TRIALS
    jobs: Annotated[int | None, jobs_option("Trials at the same time.  [default: as many as cores]")] = None
    file: Annotated[Path | None, file_option("The Subnet document that two checkouts simulate")] = None
    md: Annotated[
        Path | None,
        typer.Option(
            "--md", metavar="FILE", help="Write the result in Markdown, for a pull request, too; - is stdout.",
            show_default=False,
        ),
    ] = None  # fmt: skip
    ignore_unsupported: IgnoreUnsupported = False


@dataclass(frozen=True)
class CompareOptions(VerbOptions, OfferOptions, _Judged):
    """Compare two versions, and judge by gates.

    Two Subnet documents, or two checkouts of p2pnet with `-f FILE`, are simulated in turn with equal seeds until the gates
    are decided; of two kept runs, their artifacts are compared. Exit code 0: pass, 6: regression, 7: inconclusive.
    """

    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE", help="A Subnet document, a checkout, or a run: its id, label or bundle.", show_default=False,
            autocompletion=shell_completion.runs,
        ),
    ]  # fmt: skip
    head: Annotated[
        str,
        typer.Argument(
            metavar="HEAD", help="What is compared with it, of the same kind.", show_default=False,
            autocompletion=shell_completion.runs,
        ),
    ]  # fmt: skip

    @property
    def place(self) -> Place:
        """Where runs are kept."""
        return Place("local")

    def wanted(self) -> dict[str, Path]:
        """`--md`, if it was given."""
        return {} if self.md is None else {"--md": self.md}

    def load(self) -> LoadOptions:
        """As the verbs take it that publish."""
        return LoadOptions(
            size=self.size, count=self.count, rate=self.rate, publisher=self.publisher, client=self.client,
            seed=self.seed, within_s=self.within_s,
        )  # fmt: skip


async def run(options: CompareOptions, session: Session) -> Outcome:
    """Everything that can be wrong is said before anything is measured."""
    from p2pnet.cli import report_files

    if not statistics.is_installed():
        raise CommandError(
            "comparing needs scipy, which is not installed", where="p2pnet compare",
            next_step="pip install 'p2pnet[compare]'",
        )  # fmt: skip
    report_files.check(options)
    kinds = [_kind(word) for word in (options.base, options.head)]
    if kinds[0] != kinds[1]:
        raise CommandError(
            f"{options.base} is a {kinds[0]} and {options.head} a {kinds[1]}: two of one kind can be compared",
            where=f"p2pnet compare {options.base} {options.head}", next_step="name two documents, two checkouts, or two runs",
        )  # fmt: skip
    if kinds[0] == "run":
        found = _compare_runs(options, session)
        again = f"p2pnet report {found.head.subnet} {options.head}" + (" --on sim" if found.target == "sim" else "")
        if is_bundle(options.head):
            again, session.place = f"p2pnet report {shlex.quote(options.head)}", Place()
        outcome = Outcome(found, exit_code=VERDICT_CODES[found.verdict], next=(again,))
    else:
        outcome = await _compare_trials(options, kinds[0] == "checkout", session)
        assert isinstance(outcome.document, Comparison)  # noqa: S101 - made there
        found = outcome.document

    def pieces(_option: str) -> "Iterator[str]":
        from p2pnet.present.comparison import comparison_markdown

        yield comparison_markdown(found)

    return await report_files.write_each(options, pieces, outcome, session)


def _kind(word: str) -> str:
    path = Path(word)
    if path.is_dir():
        return "checkout"
    if is_bundle(word) and path.suffix in (".gz", ".tgz"):
        return "run"
    if path.exists() or path.suffix in (".yaml", ".yml", ".json") or os.sep in word:
        return "document"
    return "run"


def _gates(options: CompareOptions, default: tuple[str, ...]) -> list[gate_grammar.ChangeGate]:
    try:
        return gate_grammar.all_of(options.gate or default)
    except SpecError as error:
        raise CommandError(
            str(error), where="--gate", next_step="write it like --gate 'p99:+10%' or --gate 'reach:-0.1%'"
        ) from None


# --- trials ---


async def _compare_trials(options: CompareOptions, checkouts: bool, session: Session) -> Outcome:
    from dataclasses import replace

    from p2pnet.cli.capacity import this_machine
    from p2pnet.cli.comparing import paired_trials

    gates = _gates(options, gate_grammar.DEFAULT_GATES)
    load.check(options.load(), "compare")
    (base, of_base), (head, of_head) = (
        _contender(word, options, checkouts, session) for word in (options.base, options.head)
    )
    seed = options.seed if options.seed is not None else of_base.spec.seed
    jobs = min(options.trials, options.jobs or max(1, int(this_machine().cores)))
    session.interrupted_note = "interrupted: nothing was measured"
    try:
        done = await paired_trials(base, head, gates, seed=seed, most=options.trials, jobs=jobs, session=session)
    except SpecError as error:
        raise CommandError(
            str(error), where=f"{options.base}, {options.head}", next_step="correct it and try again"
        ) from None
    found = _comparison(options, checkouts, done, (of_base, of_head))
    decided = ", which decided" if found.stopped_early else ""
    did = "interrupted after" if done.interrupted else "simulated"
    session.remark(f"{did} {len(done.pairs)} of {options.trials} pairs{decided}")
    session.place = Place()  # no run of them is kept anywhere
    hint = found.rerun or f"p2pnet sim -f {options.head if not checkouts else options.file}"
    outcome = Outcome(found, exit_code=VERDICT_CODES[found.verdict], next=(hint,))
    return replace(outcome, exit_code=ExitCode.INTERRUPTED) if done.interrupted else outcome


def _contender(word: str, options: CompareOptions, checkouts: bool, session: Session) -> "tuple[Contender, Subnet]":
    from p2pnet.cli.comparing import Contender, checkout_path
    from p2pnet.cli.spec_file import read_spec, supported
    from p2pnet.cli.trials import job_of
    from p2pnet.subnet.document import to_document
    from p2pnet.subnet.members import members
    from p2pnet.subnet.spec import SIMULATED_NODES_MAX

    if checkouts and options.file is None:
        raise CommandError(
            "two checkouts, and no document for them to simulate", where=f"p2pnet compare {options.base} {options.head}",
            next_step="add -f FILE",
        )  # fmt: skip
    if not checkouts and options.file is not None:
        raise CommandError(
            "two documents, and a third one with -f", where=f"-f {options.file}", next_step="leave -f out"
        )
    file = options.file if checkouts and options.file is not None else Path(word)
    subnet = read_spec(file, name=None, note=session.note, nodes_max=SIMULATED_NODES_MAX)
    subnet, notes = supported(subnet, "sim", ignore=options.ignore_unsupported)
    for note in notes:
        session.note(note)
    injected = load.injected_subnet(subnet.name, to_document(subnet), [name for name, _ in members(subnet)])
    offered = options.load()
    client = load.check_client(offered, injected)
    load.check_against(offered, injected, ())
    job = job_of(offered, subnet, client, {}, honest=injected.honest)
    return Contender(job, checkout_path(Path(word)) if checkouts else ()), subnet


def _comparison(
    options: CompareOptions, checkouts: bool, done: "Paired", subnets: "tuple[Subnet, Subnet]"
) -> Comparison:
    from msgspec import structs

    from p2pnet.measure import comparison

    gates = _gates(options, gate_grammar.DEFAULT_GATES)
    invalid = [
        f"a trial of {one.side.upper()} with seed {one.seed} has no valid report: {one.why}" for one in done.lost[:8]
    ]
    if done.interrupted and not done.pairs:
        invalid.append("no pair of trials was measured")
    verdict = comparison.verdict_of(done.gates, invalid)
    needed = comparison.trials_needed(done.gates)
    reports = [(pair.base, pair.head) for pair in done.pairs]
    first = done.pairs[0].base.load if done.pairs else None

    def side(index: int, given: str) -> Side:
        return Side(
            given=given, kind="checkout" if checkouts else "document", subnet=subnets[index].name,
            nodes=subnets[index].node_count, artifacts=sum(pair[index].artifacts for pair in reports),
        )  # fmt: skip

    return Comparison(
        base=side(0, options.base), head=side(1, options.head), target="sim", verdict=verdict,
        confidence=comparison.CONFIDENCE, gates=done.gates, trials=len(done.pairs), asked=options.trials,
        stopped_early=not done.interrupted and not done.lost and len(done.pairs) < options.trials,
        load=None if first is None else structs.replace(first, published_per_s=None),
        pairs=[comparison.figures(pair, gates) for pair in done.pairs], lost=done.lost, invalid=invalid,
        warnings=_warnings(done), rerun=_rerun(options, needed) if verdict == "inconclusive" and needed else "",
    )  # fmt: skip


def _warnings(done: "Paired") -> list[str]:
    if done.pairs and all(pair.equal for pair in done.pairs):
        return ["both did the same to the last message: what differs between them does not take part in these trials"]
    return []


def _rerun(options: CompareOptions, trials: int) -> str:
    """The command with so many trials."""
    words = ["p2pnet", "compare", options.base, options.head, "--trials", str(min(trials, TRIALS_MAX))]
    valued = {
        "-f": options.file, "--size": options.size and f"{options.size}B",
        "--count": options.count, "--rate": options.rate and options.rate.text,
        "--from": options.publisher if options.publisher != "random" else None, "--client": options.client,
        "--within": options.within_s and f"{options.within_s:g}s", "--seed": options.seed,
    }  # fmt: skip
    words += [word for option, value in valued.items() if value is not None for word in (option, str(value))]
    words += [word for gate in options.gate or () for word in ("--gate", gate)]
    return shlex.join([*words, *(["--ignore-unsupported"] if options.ignore_unsupported else [])])


# --- kept runs ---


def _compare_runs(options: CompareOptions, session: Session) -> Comparison:
    from p2pnet.cli.comparing import latencies_of, starved, windows_overlap
    from p2pnet.cli.resolve import pick_run
    from p2pnet.measure import comparison
    from p2pnet.store import archive

    gates = _gates(options, gate_grammar.RUN_GATES)
    for gate in gates:
        if gate.metric not in ("p50", "p90", "p95", "p99", "max", "reach"):
            raise CommandError(
                f"{gate.metric} of a single run has no spread, so no gate can judge it", where=f"--gate {gate.text}",
                next_step="leave it out, or compare two documents by trials",
            )  # fmt: skip
    target = session.target()
    sides = []
    for word in (options.base, options.head):
        there = open_bundled(Path(word)) if is_bundle(word) else target
        chosen = pick_run("latest" if is_bundle(word) else word, archive.list_heads(there.state), there, None)
        sides.append(latencies_of(chosen, there.state))
    (run_a, base, of_base), (run_b, head, of_head) = sides
    results = comparison.judge_runs(of_base, of_head, gates)
    reports = (base, head)
    invalid = [f"run {one.run} is invalid: {one.invalid[0]}" for one in reports if one.verdict == "invalid"]
    warnings = []
    if windows_overlap(base, head):
        warnings.append("the two runs went on at the same time: each took the machine from the other")
    for report in reports:
        warnings += [f"the machine was busy during {report.run}: {one}" for one in starved(report)[:2]]
    if differing := _differing((run_a, base), (run_b, head)):
        warnings.append(f"the runs differ in {', '.join(differing)}: the change is of that, too")
    words = (options.base, options.head)
    base_side, head_side = (
        Side(given=word, kind="run", subnet=report.subnet, nodes=report.nodes, artifacts=report.artifacts)
        for word, report in zip(words, (base, head), strict=True)
    )
    return Comparison(
        base=base_side, head=head_side, target=head.target, verdict=comparison.verdict_of(results, invalid),
        confidence=comparison.CONFIDENCE, gates=results, trials=0, load=head.load, invalid=invalid, warnings=warnings,
    )  # fmt: skip


def _differing(base: "tuple[RunFile, Report]", head: "tuple[RunFile, Report]") -> list[str]:
    """What of the two runs' loads is not the same."""

    def load_of(run: "RunFile", report: "Report") -> dict[str, object]:
        return {
            "nodes": report.nodes, "artifacts": report.artifacts, "rate": run.request.rate, "target": report.target,
            "bytes of an artifact": report.payload_bytes // max(1, report.artifacts),
        }  # fmt: skip

    before, after = load_of(*base), load_of(*head)
    return [name for name, value in before.items() if value != after[name]]
