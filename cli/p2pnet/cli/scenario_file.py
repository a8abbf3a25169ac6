"""From a scenario's FILE to a plan: the document, its subnet, the files it publishes, all checked before anything starts."""

import sys
from dataclasses import dataclass
from pathlib import Path

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.session import Session
from p2pnet.cli.spec_file import read_spec, supported, unreadable
from p2pnet.model.errors import SpecError
from p2pnet.model.units import format_size
from p2pnet.scenario.document import WrittenScenario, checked_plan, inline_subnet, read_scenario, renamed
from p2pnet.scenario.plan import ScenarioPlan
from p2pnet.scenario.targets import unsupported_steps
from p2pnet.subnet.document import nodes_max_of
from p2pnet.subnet.reading import named
from p2pnet.subnet.spec import Subnet

STDIN = Path("-")
HINT = "correct it; p2pnet schema scenario shows what is known"


@dataclass(frozen=True, slots=True)
class CheckedScenario:
    """What will be run, and where its files lie."""

    plan: ScenarioPlan
    folder: Path
    skipped: dict[str, str]
    """Steps that the target lacks, by path, which are to be left out: `path: why`."""
    ignored: list[str]
    """All that is left out: fields of the subnet, and steps."""


def read_checked(path: Path, target: str, session: Session, *, ignore: bool) -> CheckedScenario:
    """Read and check. CommandError (exit 2) for whatever is wrong, or what the target lacks without `ignore`."""
    label = "stdin" if path == STDIN else str(path)
    folder = Path.cwd() if path == STDIN else path.resolve().parent
    try:
        text = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    if not text.strip():
        raise CommandError(
            "the Scenario document is empty", where=label, next_step="p2pnet schema scenario shows what belongs in it"
        )
    try:
        written = read_scenario(text)
        if written.others:
            session.note(f"also in {label}, and left alone: {named(written.others)}")
        subnet = _subnet(written, folder, target)
        plan = checked_plan(written.scenario, subnet, nodes_max=nodes_max_of(target))
    except SpecError as error:
        raise CommandError(str(error).removesuffix("; give a NAME"), where=label, next_step=HINT) from None
    _check_files(plan, folder, label)
    kept, notes = supported(subnet, target, ignore=ignore)
    lacking = unsupported_steps(plan, target)
    if lacking and not ignore:
        raise CommandError(
            "; ".join(lacking.values()), where=label,
            next_step="run it where that can be, take it out, or skip such steps with --ignore-unsupported",
        )  # fmt: skip
    for note in [*notes, *(f"skipped: {why}" for why in lacking.values())]:
        session.note(note)
    if kept is not subnet:
        plan = checked_plan(written.scenario, kept, nodes_max=nodes_max_of(target))
    ignored = [note.removeprefix("ignored: ") for note in notes] + list(lacking.values())
    return CheckedScenario(plan, folder, lacking, ignored)


def _subnet(written: WrittenScenario, folder: Path, target: str) -> Subnet:
    """Inline, or of a file, under the scenario's name."""
    nodes_max = nodes_max_of(target)
    if written.inline is not None:
        return inline_subnet(written, nodes_max=nodes_max)
    named_file = written.scenario.spec.subnet_from or ""
    found = read_spec(folder / named_file, nodes_max=nodes_max)
    return renamed(found, written.scenario.name, nodes_max=nodes_max)


def _check_files(plan: ScenarioPlan, folder: Path, label: str) -> None:
    """CommandError (exit 2) for files that cannot be published."""
    bound = plan.subnet.spec.broadcast.artifact_bytes_max
    for step in plan.all():
        for index, name in enumerate(step.run.files if step.run is not None else ()):
            path, where = folder / name, f"{label}, {step.path}.inject.files[{index}]"
            try:
                size = path.stat().st_size if path.is_file() else None
            except OSError as error:
                raise unreadable(path, error) from None
            if size is None:
                why = "it is no file" if path.exists() else "there is no such file"
                raise CommandError(
                    f"cannot read {path}: {why}", where=where, next_step="name a file, from the scenario's folder on"
                )
            if not 1 <= size <= bound.bytes:
                raise CommandError(
                    f"{path} holds {format_size(size)}: from 1 B to {bound} (broadcast.artifactBytesMax)", where=where,
                    next_step="publish another file",
                )  # fmt: skip
