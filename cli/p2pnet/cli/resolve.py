"""Which run, and which artifact, a word means. The one place that decides it, for every verb.

A run: `latest`, `-1` (the same), `-2` or `latest~1` (the one before), its id or a unique beginning of it, its label.
An artifact: `latest`, `-1` and so on by order of publication, the beginning of its id, or the name of its file.
"""

import contextlib
import re
import shlex
from dataclasses import replace

from p2pnet.cli.coercion import counted_back
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.targets.target import Target
from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.ids import ARTIFACT_TEXT_SURE
from p2pnet.model.jobs import RunFile
from p2pnet.model.text import some
from p2pnet.store import archive
from p2pnet.store.heads import RunHead, read_head

SHOWN = 5  # candidates in an error
PREFIX = re.compile(r"[0-9a-fA-F]{1,64}")
RUN_BEGINS = re.compile(r"r-\d[-0-9a-f]*")
"""The beginning of a run's id, where a subnet's name may stand as well: nothing shorter is taken for one."""
ID_SHOWN = 12  # characters of an artifact's id


# --- bundles ---


def subnet_meant(name: str, target: Target) -> str:
    """The subnet that NAME means: that of the runs in a bundle, where it is the path of one."""
    return str(getattr(target, "bundled", name))


def run_meant(name: str, target: Target) -> RunHead | None:
    """The kept run whose id, or the beginning of it, stands where a subnet's name is asked for; None where it is neither.

    None too where a subnet has that name. CommandError (exit 2) for the beginning of several.
    """
    whole = archive.RUN_ID.fullmatch(name) is not None and target.state.run(name).is_dir()
    if not (whole or RUN_BEGINS.fullmatch(name)) or target.presence(name) != "absent":
        return None
    heads = [head for head in archive.list_heads(target.state) if target.owns(head)]
    if not whole and any(head.subnet == name for head in heads):
        return None
    found = [head for head in heads if (head.run == name if whole else head.run.startswith(name))]
    if len(found) > 1:
        raise _several(name, found, target)
    return found[0] if found else None


def as_given(outcome: Outcome, subnet: str, given: str) -> Outcome:
    """The outcome with commands to type next that name what was given, a bundle say, in the place of the subnet."""
    if given == subnet:
        return outcome
    told = tuple(command.replace(f" {subnet} ", f" {shlex.quote(given)} ", 1) for command in outcome.next)
    return replace(outcome, next=told)


# --- runs ---


def runs_of(target: Target, name: str) -> list[RunHead]:
    """The runs of a subnet, oldest first. CommandError when there are none."""
    runs = [run for run in archive.list_heads(target.state, name) if target.owns(run)]
    if not runs:
        raise no_runs(target, name)
    return runs


def no_runs(target: Target, name: str) -> CommandError:
    """The error for a subnet without any run."""
    if target.kind == "sim":
        return CommandError(
            f"no run of {name} is kept that the simulator made",
            where=str(target.state.runs),
            next_step="p2pnet sim -f FILE makes one; p2pnet runs lists all that are kept",
            exit_code=ExitCode.NOT_FOUND,
        )
    if (meant := run_meant(name, target)) is not None:
        return CommandError(
            f"{name} is a run of {meant.subnet}, and no subnet",
            where=str(target.state.runs),
            next_step=f"name the subnet: p2pnet report {meant.subnet} {name}",
        )
    absent = target.presence(name) == "absent"
    if absent and _is_damaged(name, target):
        return _damaged(name, target, "p2pnet runs lists the others;")
    return CommandError(
        f"there is no {'subnet' if absent else 'run of'} {name}",
        where=str(target.state.runs),
        next_step=f"p2pnet {'up' if absent else 'inject'} {name}",
        exit_code=ExitCode.NOT_FOUND if absent else ExitCode.USAGE,
    )


def _is_damaged(word: str, target: Target) -> bool:
    """Whether a run has a directory, and cannot be read."""
    folder = target.state.run(word)
    return archive.RUN_ID.fullmatch(word) is not None and folder.is_dir() and read_head(folder) is None


def _damaged(run: str, target: Target, next_step: str) -> CommandError:
    return CommandError(
        f"run {run} is damaged: its {archive.RUN_FILE} is missing or cannot be read",
        where=str(target.state.run(run) / archive.RUN_FILE),
        next_step=f"{next_step} p2pnet runs --rm {run} removes it",
    )


def choose_run(word: str | None, target: Target, name: str) -> RunHead:
    """The run of a subnet that a word means; the latest without one. CommandError (exit 2) for none or several."""
    return pick_run(word or "latest", runs_of(target, name), target, name)


def pick_run(word: str, runs: list[RunHead], target: Target, name: str | None) -> RunHead:
    """The run among these, given oldest first, that a word means. CommandError (exit 2) for none or several."""
    found = match_runs(word, runs)
    if len(found) == 1:
        return found[0]
    recent = some([run.run for run in reversed(runs)], SHOWN)
    if found:
        raise _several(word, found, target)
    if archive.RUN_ID.fullmatch(word) and (other := read_head(target.state.run(word))) is not None:
        raise CommandError(
            f"{name or 'this place'} has no run {word}: it is of {other.subnet}, on {other.target}",
            where=str(target.state.runs),
            next_step=f"p2pnet report {word} shows it" + (f"; the latest here: {recent}" if recent else ""),
        )
    if _is_damaged(word, target):
        raise _damaged(word, target, f"name another run; the latest: {recent}; or")
    count = f"; it has {len(runs)}" if counted_back(word) is not None else ""
    raise CommandError(
        f"{name or 'this machine'} has no run {word}{count}",
        where=str(target.state.runs),
        next_step=f"one of the latest: {recent}" if recent else f"p2pnet inject {name or 'NAME'}",
    )


def match_runs(word: str, runs: list[RunHead]) -> list[RunHead]:
    """The runs (given oldest first) that a word may mean: one when it is clear."""
    back = counted_back(word)
    if back is not None:
        return [runs[-1 - back]] if back < len(runs) else []
    exact = [run for run in runs if run.run == word]
    if exact or not word:
        return exact
    labelled = [run for run in runs if run.label == word]
    return labelled or [run for run in runs if run.run.startswith((word, f"r-{word}"))]


def _several(word: str, runs: list[RunHead], target: Target) -> CommandError:
    """The error for a word that means several runs, given oldest first."""
    return CommandError(
        f"several runs are meant by {word}", where=str(target.state.runs), next_step=f"one of {_candidates(runs)}"
    )


def _candidates(runs: list[RunHead]) -> str:
    return some([run.run + (f" ({run.label})" if run.label else "") for run in reversed(runs)], SHOWN)


# --- artifacts ---


async def choose_artifact(word: str, target: Target, name: str, run: RunHead | None = None) -> str:
    """The whole id of the artifact that a word means, or the beginning of one that a lab may know better.

    `run`: among its artifacts alone. CommandError (exit 2) for a word that means none or several.
    """
    if run is not None:
        return _of_run(word, target, run)
    if PREFIX.fullmatch(word) and (target.kind in ("local", "sim") or target.presence(name) == "up"):
        prefix = word.lower()
        if len(word) < ARTIFACT_TEXT_SURE and (named := _by_name(word, target, name)) is not None:
            return named
        published = _runs_with(target, name, prefix)
        if any(artifact.startswith(prefix) for run in published for artifact in run.artifacts):
            return prefix  # clear or not: whoever looks it up says which there are
        return _by_name(word, target, name) or prefix
    with contextlib.suppress(P2pnetError):  # what is here already may be enough
        await target.collect(name)
    back = counted_back(word)
    if back is not None:
        return _by_order(back, target, name)
    sure = PREFIX.fullmatch(word) is not None and len(word) >= ARTIFACT_TEXT_SURE
    found = None if sure else _by_name(word, target, name)
    if found is None and PREFIX.fullmatch(word):
        return word.lower()
    if found is None:
        raise CommandError(
            f"{word!r} is no artifact id (hex digits, at most 64), and no artifact of {name} has that name",
            where=f"runs of {name} in {target.state.runs}",
            next_step=f"p2pnet report {name} -o json lists the artifact ids of its latest run; or say latest",
        )
    return found


def _of_run(word: str, target: Target, run: RunHead) -> str:
    """As `choose_artifact`, of one run; its copy is here. An id or the beginning of one is taken as it is."""
    file = archive.read_run_file(target.state, run.run)
    back = counted_back(word)
    if back is not None and back < len(file.artifacts):
        return file.artifacts[-1 - back]
    named = [artifact for artifact, title in zip(file.artifacts, file.names, strict=False) if title == word]
    if len(named) == 1:
        return named[0]
    if PREFIX.fullmatch(word):
        return word.lower()
    what = f"{len(named)} artifacts named {word}" if named else f"no artifact {word}"
    raise CommandError(
        f"run {run.run} published {len(file.artifacts)} artifacts, and {what}",
        where=str(target.state.run(run.run)),
        next_step=f"p2pnet report {run.subnet} {run.run} -o json lists their ids",
    )


def _by_order(back: int, target: Target, name: str) -> str:
    """The artifact that is so many before the one published last."""
    left = back
    for head in reversed(runs_of(target, name)):
        if not head.artifacts:
            continue
        artifacts = archive.read_run_file(target.state, head.run).artifacts
        if left < len(artifacts):
            return artifacts[-1 - left]
        left -= len(artifacts)
    raise CommandError(
        f"runs of {name} published only {back - left} artifacts",
        where=str(target.state.runs),
        next_step=f"p2pnet runs {name} lists them",
    )


def _by_name(word: str, target: Target, name: str) -> str | None:
    """The artifact made of a file of this name."""
    found: dict[str, str] = {}
    for run in _runs_with(target, name, word):
        found |= {artifact: run.run for artifact, file in zip(run.artifacts, run.names, strict=False) if file == word}
    if len(found) > 1:
        latest_first = [f"{artifact[:ID_SHOWN]} ({run})" for artifact, run in reversed(found.items())]
        raise CommandError(
            f"{len(found)} artifacts of {name} are named {word}",
            where=str(target.state.runs),
            next_step=f"one of {some(latest_first, SHOWN)}",
        )
    return next(iter(found), None)


def _runs_with(target: Target, name: str, text: str) -> list[RunFile]:
    return [run for run in archive.runs_with(target.state, name, text) if target.owns(run)]


def simulated_artifact(prefix: str, target: Target, name: str) -> tuple[str, RunFile] | None:
    """The whole id of the one artifact that this begins, and the newest run that published it, if the simulator made that.

    None for any other; whoever looks on says what is wrong with it.
    """
    try:
        artifact, run = archive.match_artifact(_runs_with(target, name, prefix), prefix)
    except SpecError:
        return None
    return (artifact, run) if run.target == "sim" else None


async def telling_artifact(target: Target, name: str) -> str:
    """The artifact that tells most about the latest run: one that missed a node, else the slowest.

    Of a run that goes on it is the first one: nodes that lack it have had the most time.
    """
    from p2pnet.measure import most_telling

    with contextlib.suppress(P2pnetError):
        await target.collect(name)
    for head in reversed(runs_of(target, name)):
        if not head.artifacts:
            continue
        try:
            run, report = archive.read_run(target.state, head.run)
        except SpecError:
            continue  # damaged: `report` says how
        artifact = most_telling(report) if report is not None else next(iter(run.artifacts), "")
        if artifact:
            return artifact
    raise CommandError(
        f"no run of {name} has published anything",
        where=str(target.state.runs),
        next_step=f"p2pnet inject {name}, or name an artifact",
    )
