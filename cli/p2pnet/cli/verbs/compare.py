"""`compare`: two versions measured beside each other, and a verdict that says how sure it is."""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from p2pnet.cli import load, shell_completion
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.load import LoadOptions, OfferOptions
from p2pnet.cli.options import (
    IgnoreUnsupported,
    VerbOptions,
    context_option,
    file_option,
    jobs_option,
    namespace_option,
    on_option,
)
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.target_choice import Place, is_bundle, open_bundled
from p2pnet.cli.targets.target import TargetName
from p2pnet.measure import gates as gate_grammar
from p2pnet.measure import statistics
from p2pnet.model.comparison import Comparison, Side
from p2pnet.model.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from p2pnet.cli.comparing import Paired
    from p2pnet.measure.gates import ChangeGate
    from p2pnet.model.jobs import RunFile
    from p2pnet.model.report import Report
    from p2pnet.subnet.spec import Subnet

EXAMPLE = "p2pnet compare before.yaml after.yaml --size 64KiB --count 20 --rate 10/s --gate 'p99:+10%'"
TRIALS = 20
TRIALS_MAX = 10_000
LIVE_TRIALS_MAX = 1_000  # of each: some hours
IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._/-]*(:[0-9]+/[a-zA-Z0-9._/-]+)?(:[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})")
"""A reference with a tag or a digest, as images are named."""
Kind = Literal["run", "document", "checkout", "image"]
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
    jobs: Annotated[int | None, jobs_option("Simulated trials at the same time.  [default: as many as cores]")] = None
    file: Annotated[Path | None, file_option("The Subnet document that two checkouts, or two images, run")] = None
    on: Annotated[
        TargetName | None,
        on_option("Where the trials run: sim is virtual time, else two subnets are started for them.  [default: sim]"),
    ] = None
    namespace: Annotated[
        str | None,
        namespace_option("Namespace to run them in, in a cluster.  [default: the document's, else the context's]"),
    ] = None
    context: Annotated[str | None, context_option("Cluster to run them in")] = None
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

    Two Subnet documents, or with `-f FILE` two checkouts of p2pnet or two images, are measured in turn with equal seeds until
    the gates are decided: in virtual time, or `--on` live nodes. Of two runs that are kept, their artifacts are compared. Exit
    code 0: pass, 6: regression, 7: inconclusive.
    """

    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE", help="A Subnet document, a checkout, an image, or a run: id, label or bundle.", show_default=False,
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
        """Where live trials run; without it, where runs are kept."""
        clusters = self.namespace is not None or self.context is not None
        return Place(self.on or ("cluster" if clusters else "local"), self.namespace, self.context)

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
    kinds = [_kind(word, options) for word in (options.base, options.head)]
    if kinds[0] != kinds[1]:
        raise CommandError(
            f"{options.base} is {_a(kinds[0])} and {options.head} {_a(kinds[1])}: two of one kind can be compared",
            where=f"p2pnet compare {options.base} {options.head}",
            next_step="name two documents, two checkouts, two images, or two runs",
        )  # fmt: skip
    target = _target_of(options, kinds[0])
    if kinds[0] == "run":
        found = _compare_runs(options, session)
        again = f"p2pnet report {found.head.subnet} {options.head}" + (" --on sim" if found.target == "sim" else "")
        if is_bundle(options.head):
            again, session.place = f"p2pnet report {shlex.quote(options.head)}", Place()
        outcome = Outcome(found, exit_code=VERDICT_CODES[found.verdict], next=(again,))
    else:
        outcome = await _compare_trials(options, kinds[0], target, session)
        assert isinstance(outcome.document, Comparison)  # noqa: S101 - made there
        found = outcome.document

    def pieces(_option: str) -> "Iterator[str]":
        from p2pnet.present.comparison import comparison_markdown

        yield comparison_markdown(found)

    return await report_files.write_each(options, pieces, outcome, session)


# --- what is compared, and where ---


def _kind(word: str, options: CompareOptions) -> Kind:
    path = Path(word)
    if path.is_dir():
        return "checkout"
    if is_bundle(word) and path.suffix in (".gz", ".tgz"):
        return "run"
    if path.exists() or path.suffix in (".yaml", ".yml", ".json"):
        return "document"
    if IMAGE.fullmatch(word) and (options.file is not None or not _is_label(word)):
        return "image"
    return "document" if os.sep in word else "run"


def _is_label(word: str) -> bool:
    """Whether a run that is kept on this machine has this label."""
    from p2pnet.store import State, archive

    return any(head.label == word for head in archive.list_heads(State.default()))


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind == "image" else f"a {kind}"


def _target_of(options: CompareOptions, kind: Kind) -> TargetName:
    """Where the trials run. CommandError (exit 2) for what that target cannot do, or options that contradict each other."""
    asked = options.on or ("cluster" if options.place.on == "cluster" else None)
    what, hint = "", ""
    if kind == "run":
        given = ["--on", asked] if asked else _trial_words(options)
        what = f"two runs are compared as they are kept: {shlex.join(given)} is for trials" if given else ""
        hint = f"leave {given[0]} out, or name two documents" if given else ""
    elif kind == "image" and asked in ("sim", "local"):
        where = "the simulator runs" if asked == "sim" else "nodes on this machine run"
        what = f"{where} no images: {options.base} and {options.head} need a cluster"
        hint = "--on cluster or --on kind; or compare two checkouts of the code"
    elif kind == "image" and asked is None:
        what, hint = (
            f"{options.base} and {options.head} are images: where are they to run?",
            "--on cluster or --on kind",
        )
    elif kind == "checkout" and asked in ("cluster", "kind"):
        what, hint = (
            "pods run images, not checkouts",
            "compare two images, or the checkouts with --on local or --on sim",
        )
    elif kind in ("checkout", "image") and options.file is None:
        what, hint = f"two {kind}s, and no document for them to run", "add -f FILE"
    elif kind == "document" and options.file is not None:
        what, hint = "two documents, and a third one with -f", "leave -f out"
    elif asked not in (None, "sim") and options.jobs is not None:
        what, hint = "--jobs is for simulated trials: live ones follow each other", "leave it out"
    elif asked not in (None, "sim") and options.trials > LIVE_TRIALS_MAX:
        what, hint = f"--trials {options.trials}: at most {LIVE_TRIALS_MAX} of live nodes", "simulate more: --on sim"
    if what:
        raise CommandError(what, where=f"p2pnet compare {options.base} {options.head}", next_step=hint)
    return asked or "sim"


def _gates(options: CompareOptions, default: tuple[str, ...]) -> list[gate_grammar.ChangeGate]:
    try:
        return gate_grammar.all_of(options.gate or default)
    except SpecError as error:
        raise CommandError(
            str(error), where="--gate", next_step="write it like --gate 'p99:+10%' or --gate 'reach:-0.1%'"
        ) from None


# --- trials ---


@dataclass(slots=True)
class _Question:
    """What trials are to answer."""

    options: CompareOptions
    kind: Kind
    target: TargetName
    gates: "Sequence[ChangeGate]"
    subnets: "list[Subnet]"
    """BASE and HEAD, as the target honours them."""

    @property
    def words(self) -> tuple[str, str]:
        """BASE and HEAD as they were typed."""
        return self.options.base, self.options.head

    @property
    def seed(self) -> int:
        """The first pair's."""
        return self.options.seed if self.options.seed is not None else self.subnets[0].spec.seed


async def _compare_trials(options: CompareOptions, kind: Kind, target: TargetName, session: Session) -> Outcome:
    from dataclasses import replace

    gates = _gates(options, gate_grammar.DEFAULT_GATES)
    load.check(options.load(), "compare")
    subnets = [_document(word, options, kind, target, session) for word in (options.base, options.head)]
    asked = _Question(options, kind, target, gates, subnets)
    session.interrupted_note = "interrupted: nothing was measured"
    try:
        done = await (_simulated if target == "sim" else _measured)(asked, session)
    except SpecError as error:
        raise CommandError(str(error), where=", ".join(asked.words), next_step="correct it and try again") from None
    found = _comparison(asked, done)
    decided = ", which decided" if found.stopped_early else ""
    did = "interrupted after" if done.interrupted else "simulated" if target == "sim" else "measured"
    session.remark(f"{did} {len(done.pairs)} of {options.trials} pairs{decided}")
    outcome = Outcome(
        found, exit_code=VERDICT_CODES[found.verdict], next=(found.rerun or _look_at(options, found, session),)
    )
    session.place = Place()  # the commands say themselves where
    return replace(outcome, exit_code=ExitCode.INTERRUPTED) if done.interrupted else outcome


def _look_at(options: CompareOptions, found: Comparison, session: Session) -> str:
    """What to look at when it is decided."""
    if found.target == "sim":  # no run of simulated trials is kept anywhere
        return shlex.join(["p2pnet", "sim", "-f", str(options.file or options.head), *_load_words(options)])
    return f"p2pnet runs {found.head.subnet}{session.place.typed()}"


def _document(word: str, options: CompareOptions, kind: Kind, target: TargetName, session: Session) -> "Subnet":
    """What one side runs, as far as the target honours it. CommandError (exit 2)."""
    from p2pnet.cli.spec_file import read_spec, supported, with_image
    from p2pnet.subnet.document import nodes_max_of

    file = options.file if kind != "document" and options.file is not None else Path(word)
    subnet = read_spec(file, name=None, note=session.note, nodes_max=nodes_max_of(target))
    if kind == "image":
        subnet = with_image(subnet, word)
    subnet, notes = supported(subnet, target, ignore=options.ignore_unsupported)
    for note in notes:
        session.note(note)
    return subnet


def _client(options: CompareOptions, subnet: "Subnet") -> tuple[str, int]:
    """The client that publishes, and how many nodes are honest. CommandError (exit 2) for a load that does not fit."""
    from p2pnet.subnet.document import to_document
    from p2pnet.subnet.members import members

    injected = load.injected_subnet(subnet.name, to_document(subnet), [name for name, _ in members(subnet)])
    load.check_against(options.load(), injected, ())
    return load.check_client(options.load(), injected), injected.honest


async def _simulated(asked: _Question, session: Session) -> "Paired":
    from p2pnet.cli.capacity import at_a_time, check_simulated
    from p2pnet.cli.comparing import Contender, checkout_path, paired_trials
    from p2pnet.cli.trials import job_of

    options, sides = asked.options, []
    jobs = at_a_time(options.trials, options.jobs)
    for word, subnet in zip(asked.words, asked.subnets, strict=True):
        client, honest = _client(options, subnet)
        check_simulated(subnet, jobs=jobs, payload_bytes=load.bytes_at_once(options.load(), subnet, client, honest))
        job = job_of(options.load(), subnet, client, {}, honest=honest)
        sides.append(Contender(job, checkout_path(Path(word), "sim") if asked.kind == "checkout" else ()))
    return await paired_trials(
        sides[0], sides[1], asked.gates, seed=asked.seed, most=options.trials, jobs=jobs, session=session
    )


async def _measured(asked: _Question, session: Session) -> "Paired":
    """Two live subnets of its own, which are gone when this returns."""
    from p2pnet.cli.comparing import checkout_path
    from p2pnet.cli.live_comparing import LiveContender, LiveTrials, check_room, own_names, under_name
    from p2pnet.cli.targets.local import LocalTarget

    target, options, subnets = session.target(), asked.options, asked.subnets
    if len({subnet.metadata.namespace for subnet in subnets} - {None}) > 1:
        raise CommandError(
            "the two documents name two namespaces", where=", ".join(asked.words), next_step="make them the same"
        )  # fmt: skip
    for subnet in subnets:
        target.use_namespace(subnet)
    if target.kind == "local":
        from p2pnet.cli.client_check import check_clients

        check_room(subnets)
        for subnet in subnets if asked.kind == "document" else ():
            await check_clients(subnet, session.listener)
    names = own_names([subnet.name for subnet in subnets])
    sides = []
    for number, word in enumerate(asked.words):
        subnets[number] = under_name(subnets[number], names[number], target.kind)
        client, honest = _client(options, subnets[number])
        its_own = (
            LocalTarget(target.state, python_path=checkout_path(Path(word), "local"))
            if asked.kind == "checkout"
            else target
        )
        sides.append(LiveContender(subnets[number], its_own, load.ask_of(options.load(), client, honest=honest)))
    session.note(f"starts {names[0]} and {names[1]}, and takes both down at the end")
    session.interrupted_note = f"interrupted: {names[0]} and {names[1]} may be left"
    session.resume = tuple(f"p2pnet down {name} --yes" for name in names)
    done = await LiveTrials(sides[0], sides[1], asked.gates, session).run(seed=asked.seed, most=options.trials)
    session.resume = ()
    return done


def _comparison(asked: _Question, done: "Paired") -> Comparison:
    from msgspec import structs

    from p2pnet.measure import comparison

    invalid = [
        f"a trial of {one.side.upper()} with seed {one.seed} has no valid report: {one.why}" for one in done.lost[:8]
    ]
    if done.interrupted and not done.pairs:
        invalid.append("no pair of trials was measured")
    verdict = comparison.verdict_of(done.gates, invalid)
    needed = comparison.trials_needed(done.gates)
    reports = [(pair.base, pair.head) for pair in done.pairs]
    most = TRIALS_MAX if asked.target == "sim" else LIVE_TRIALS_MAX
    rerun = _rerun(asked.options, needed) if verdict == "inconclusive" and needed and needed <= most else ""
    first = done.pairs[0].base.load if done.pairs else None

    def side(index: int, given: str) -> Side:
        return Side(
            given=given, kind=asked.kind, subnet=asked.subnets[index].name,
            nodes=asked.subnets[index].node_count, artifacts=sum(pair[index].artifacts for pair in reports),
        )  # fmt: skip

    return Comparison(
        base=side(0, asked.words[0]), head=side(1, asked.words[1]), target=asked.target, verdict=verdict,
        confidence=comparison.CONFIDENCE, gates=done.gates, trials=len(done.pairs), asked=asked.options.trials,
        stopped_early=not done.interrupted and not done.lost and len(done.pairs) < asked.options.trials,
        load=None if first is None else structs.replace(first, published_per_s=None),
        pairs=[comparison.figures(pair, asked.gates) for pair in done.pairs], lost=done.lost, invalid=invalid,
        warnings=_warnings(done), machine=done.machine, rerun=rerun,
    )  # fmt: skip


def _warnings(done: "Paired") -> list[str]:
    from p2pnet.cli.busy import busy_warnings

    equal = done.pairs and all(pair.equal for pair in done.pairs)
    said = "both did the same to the last message: what differs between them does not take part in these trials"
    return [*([said] if equal else []), *done.warnings, *(busy_warnings(done.machine) if done.machine else [])]


def _rerun(options: CompareOptions, trials: int) -> str:
    """The command with so many trials."""
    words = ["p2pnet", "compare", options.base, options.head, "--trials", str(trials), *_given({"-f": options.file})]
    words += _load_words(options)
    words += _given({"--on": options.on, "-n": options.namespace, "--context": options.context})
    words += [word for gate in options.gate or () for word in ("--gate", gate)]
    return shlex.join([*words, *(["--ignore-unsupported"] if options.ignore_unsupported else [])])


def _load_words(options: CompareOptions) -> list[str]:
    """The options that say what is published, as they were given."""
    return _given({
        "--size": options.size and f"{options.size}B", "--count": options.count,
        "--rate": options.rate and options.rate.text,
        "--from": options.publisher if options.publisher != "random" else None, "--client": options.client,
        "--within": options.within_s and f"{options.within_s:g}s", "--seed": options.seed,
    })  # fmt: skip


def _trial_words(options: CompareOptions) -> list[str]:
    """The options that say what trials do, as they were given."""
    trials = {"--trials": options.trials if options.trials != TRIALS else None, "--jobs": options.jobs}
    return [*_load_words(options), *_given(trials), *(["--ignore-unsupported"] if options.ignore_unsupported else [])]


def _given(valued: "Mapping[str, object]") -> list[str]:
    """Options and their values, of those that have one."""
    return [word for option, value in valued.items() if value is not None for word in (option, str(value))]


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
