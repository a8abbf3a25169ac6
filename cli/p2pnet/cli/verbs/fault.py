"""`fault`: the network or the nodes of a running subnet broken, what is broken listed, and healed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from p2pnet.cli import shell_completion
from p2pnet.cli.documents import FaultLine, Faults
from p2pnet.cli.fault_request import KINDS, READERS, Fault, fault_of, stem_of
from p2pnet.cli.options import Name, SubnetOptions, file_option
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.model.errors import SpecError
from p2pnet.model.report import FaultStatus

if TYPE_CHECKING:  # with asyncio, which help does without
    from p2pnet.cli.targets.target import Target

EXAMPLE = "p2pnet fault demo add loss 20% --node node-3 --for 30s"
WHERE = "p2pnet fault"


class FaultAction(StrEnum):
    """What is done."""

    ADD = "add"
    LIST = "list"
    CLEAR = "clear"


def _option(name: str, text: str, *, metavar: str = "", complete: Any = None) -> Any:
    """An option of `add` whose text `fault_request` reads."""
    return typer.Option(
        name, metavar=metavar or None, help=text, show_default=False, parser=_reader(name), autocompletion=complete
    )


def _reader(name: str) -> Callable[[str], Any] | None:
    read = READERS.get(name)
    if read is None:
        return None

    def checked(text: str) -> Any:
        try:
            return read(text)
        except SpecError as error:
            raise typer.BadParameter(str(error)) from None

    return checked


@dataclass(frozen=True)
class FaultOptions(SubnetOptions):
    """Break the network or nodes of a subnet.

    add KIND [VALUE] puts a fault in force while this command runs, for a time, or until it is cleared; list shows faults;
    clear [FAULT...] ends some.
    """

    name: Name
    action: Annotated[FaultAction, typer.Argument(metavar="ACTION", help="What to do.", show_default=False)]
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KIND|FAULT",
            help=f"Behind add: KIND [VALUE], what is wrong and its main figure, like loss 20%; one of {', '.join(KINDS)}."
            " Behind clear: faults to end.",
            show_default=False,
            autocompletion=shell_completion.fault_words,
        ),
    ] = None
    nodes: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            metavar="NODE",
            help="Nodes that are hit, or all of whose links are, both ways; names joined by commas, or a share like 20%."
            " Repeatable.",
            show_default=False,
            autocompletion=shell_completion.nodes,
        ),
    ] = None
    source: Annotated[
        str | None, _option("--from", "Nodes that send: *, a node, key=value of a group, a share.", metavar="SELECTOR")
    ] = None
    to: Annotated[str | None, _option("--to", "Nodes that receive.  [default: *]", metavar="SELECTOR")] = None
    both_ways: Annotated[bool, typer.Option("--both-ways", help="From --to to --from, too.")] = False
    latency: Annotated[str | None, _option("--latency", "One-way delay, like 90ms.", metavar="DURATION")] = None
    jitter: Annotated[str | None, _option("--jitter", "How far it varies, like 5ms.", metavar="DURATION")] = None
    distribution: Annotated[
        Literal["normal", "uniform"] | None, typer.Option("--distribution", help="Of the jitter.", show_default=False)
    ] = None
    no_keep_order: Annotated[
        bool, typer.Option("--no-keep-order", help="With jitter: packets may overtake each other.")
    ] = False
    loss: Annotated[str | None, _option("--loss", "Share of packets lost, like 0.2%.", metavar="SHARE")] = None
    loss_burst: Annotated[
        float | None, _option("--loss-burst", "Packets lost in a row on average, like 5.", metavar="N")
    ] = None
    duplication: Annotated[str | None, _option("--duplication", "Share that arrives twice.", metavar="SHARE")] = None
    reorder: Annotated[str | None, _option("--reorder", "Share that is overtaken.", metavar="SHARE")] = None
    bandwidth: Annotated[
        str | None, _option("--bandwidth", "Of each path, like 5Mbit (per second).", metavar="BANDWIDTH")
    ] = None
    queue: Annotated[str | None, _option("--queue", "What may wait for a bandwidth, like 256KiB.", metavar="SIZE")] = (
        None
    )
    discipline: Annotated[
        Literal["droptail", "codel"] | None,
        typer.Option("--discipline", help="What a full queue drops.", show_default=False),
    ] = None
    mtu: Annotated[int | None, _option("--mtu", "Largest IP packet that passes, from 1280.", metavar="BYTES")] = None
    up: Annotated[str | None, _option("--up", "Of an access link, out of the node.", metavar="BANDWIDTH")] = None
    down: Annotated[str | None, _option("--down", "Of an access link, into the node.", metavar="BANDWIDTH")] = None
    minority: Annotated[
        str | None, _option("--minority", "Of a partition: share of nodes cut off.", metavar="SHARE")
    ] = None
    parts: Annotated[
        list[str] | None,
        typer.Option("--part", metavar="SELECTOR", help="Of a partition: one part. Repeatable.", show_default=False),
    ] = None
    rate: Annotated[str | None, _option("--rate", "Of churn: deaths per time, like 6/m.", metavar="R/m")] = None
    down_for: Annotated[
        str | None, _option("--down-for", "Of churn: how long each stays away.  [default: 5s]", metavar="DURATION")
    ] = None
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, metavar="S", help="Of churn: for its schedule.  [default: spec.seed]"),
    ] = None
    fault_name: Annotated[
        str | None, _option("--name", "Name of the fault.  [default: made from its kind, like loss-1]", metavar="NAME")
    ] = None
    after: Annotated[str | None, _option("--after", "Begin so much later.", metavar="DURATION")] = None
    lasting: Annotated[
        str | None,
        _option("--for", "End it by itself after so long, and do not wait for that here.", metavar="DURATION"),
    ] = None
    keep: Annotated[
        bool, typer.Option("--keep", help="Write it into spec.faults of the document: it stays until it is cleared.")
    ] = False
    file: Annotated[Path | None, file_option("Of add: one fault or a list of them as in spec.faults")] = None
    every: Annotated[bool, typer.Option("--all", help="Of clear: all faults.")] = False


_OPTIONS = {
    "--node": "nodes", "--from": "source", "--part": "parts", "--name": "fault_name", "--for": "lasting",
    **{
        f"--{name.replace('_', '-')}": name
        for name in (
            "to", "both_ways", "latency", "jitter", "distribution", "no_keep_order", "loss", "loss_burst", "duplication",
            "reorder", "bandwidth", "queue", "discipline", "mtu", "up", "down", "minority", "rate", "down_for", "seed", "after",
        )
    },
}  # fmt: skip
"""Option of `add` as it is typed -> its field."""
_BESIDE_FILE = ("--after", "--for")


async def run(options: FaultOptions, session: Session) -> Outcome:
    """What the action says."""
    given = {
        option: value for option, field in _OPTIONS.items() if (value := getattr(options, field)) not in (None, False)
    }
    _check(options, given)
    match options.action:
        case FaultAction.ADD:
            return await _add(options, _asked(options, given), session)
        case FaultAction.LIST:
            return await _list(options, session)
        case FaultAction.CLEAR:
            return await _clear(options, session)


def _check(options: FaultOptions, given: Mapping[str, Any]) -> None:
    """CommandError for options and words that another action takes."""
    action, words = options.action, options.words or []
    foreign = [*given, *(["--keep"] if options.keep else []), *(["--file"] if options.file else [])]
    if action is FaultAction.ADD:
        foreign = [option for option in given if option not in _BESIDE_FILE] if options.file else []
        foreign += words if options.file else []
        if foreign:
            raise CommandError(
                f"both a file and {foreign[0]}", where=f"{WHERE} NAME add", next_step="say all of it in one of the two"
            )
    elif foreign:
        raise CommandError(f"{action} takes no {foreign[0]}", where=f"{WHERE} NAME {action}", next_step="leave it out")
    if options.every and (action is not FaultAction.CLEAR or words):
        what = f"both {words[0]} and --all" if action is FaultAction.CLEAR else f"{action} takes no --all"
        raise CommandError(what, where=f"{WHERE} NAME {action}", next_step="leave one of the two out")
    if action is FaultAction.LIST and words:
        raise CommandError(
            f"list takes no {words[0]!r}", where=f"{WHERE} NAME list", next_step="leave it out: all are listed"
        )


# --- add ---


def _asked(options: FaultOptions, given: Mapping[str, Any]) -> list[Fault]:
    """The faults that the command line or its file means."""
    if options.file is None:
        return [fault_of(options.words or [], given)]
    from p2pnet.cli.fault_file import read_faults

    more = {option.removeprefix("--"): given[option] for option in _BESIDE_FILE if option in given}
    return [{**fault, **more} for fault in read_faults(options.file)]


async def _add(options: FaultOptions, faults: list[Fault], session: Session) -> Outcome:
    """Order them; then hold those that nothing else ends."""
    from p2pnet.cli import holding, ordering

    target = session.target()
    session.next_step = f"p2pnet status {options.name} lists the nodes, p2pnet fault --help what can be wrong"
    if options.keep:
        return await _keep(options, faults, target, session)
    session.interrupted_note = (
        f"interrupted while ordering it: what nothing holds is healed within {ordering.LEASE_S:.0f} s"
    )
    session.resume = (f"p2pnet fault {options.name} list",)
    async with target.lab(options.name) as client:
        session.listener.waiting("the fault to be in force")
        added = await ordering.order(client, faults)
        document = _document(options.name, added)
        held = [status.name for status, fault in zip(added, faults, strict=True) if not ordering.ends_itself(fault)]
        for status in added:
            if status.name not in held:
                session.remark(_said(status))
        if not held:
            return Outcome(document, next=(f"p2pnet status {options.name}",))
        session.listener.close()
        session.show(document)
        return await holding.hold(client, lambda: target.presence(options.name) == "up", options.name, held, session)


def _said(fault: FaultStatus) -> str:
    """How it stands, in words."""
    beside = f" ({fault.detail})" if fault.detail else ""
    if fault.state == "ended":
        return f"{fault.name} is done"
    if fault.state == "waiting":
        return f"{fault.name} waits{beside}" + (f", ends at {fault.until}" if fault.until else "")
    return f"{fault.name} is in force" + (f" until {fault.until}" if fault.until else "") + beside


async def _keep(options: FaultOptions, faults: list[Fault], target: "Target", session: Session) -> Outcome:
    """Write them into the document, under names that are free; returns when the lab has taken them."""
    from p2pnet.cli import ordering

    session.interrupted_note = "interrupted: p2pnet fault NAME list shows whether it was written"
    async with target.lab(options.name) as client:
        leased = [fault.name for fault in (await client.faults()).faults]
        written: list[Fault] = []

        def change(document: Mapping[str, Any]) -> dict[str, Any]:
            there = list((document.get("spec") or {}).get("faults") or [])
            taken = {str(one.get("name")) for one in there} | set(leased)
            written[:] = _named(faults, taken, options.name)
            return {"spec": {"faults": [*there, *written]}}

        await target.edit(options.name, change, session.listener)
        names = [str(fault["name"]) for fault in written]
        session.listener.waiting("the lab to take the edit")
        prompt = [str(fault["name"]) for fault in written if "after" not in fault]
        kept = await ordering.until_taken(client, names, prompt)
    missing = [name for name in names if name not in {fault.name for fault in kept}]
    if missing:
        session.note(f"written, but not yet taken by the lab: {', '.join(missing)}")
    for fault in kept:
        session.remark(_said(fault))
    return Outcome(_document(options.name, kept), next=(f"p2pnet fault {options.name} clear {names[0]}",))


def _named(faults: Sequence[Fault], taken: set[str], subnet: str) -> list[Fault]:
    """The faults, each with a name. CommandError (exit 2) for one that is taken."""
    named: list[Fault] = []
    for fault in faults:
        name = fault.get("name")
        if name in taken:
            raise CommandError(
                f"{subnet} has a fault {name} already",
                where=f"--name {name}",
                next_step=f"choose another name, or p2pnet fault {subnet} clear {name}",
            )
        if name is None:
            name = next(
                made for number in range(1, len(taken) + 2) if (made := f"{stem_of(fault)}-{number}") not in taken
            )
        taken.add(str(name))
        named.append({"name": name, **fault})
    return named


# --- list and clear ---


async def _list(options: FaultOptions, session: Session) -> Outcome:
    async with session.target().lab(options.name) as client:
        faults = (await client.faults()).faults
    hint = "clear --all" if any(fault.state != "ended" for fault in faults) else "add loss 20% --for 30s"
    return Outcome(_document(options.name, faults), next=(f"p2pnet fault {options.name} {hint}",))


async def _clear(options: FaultOptions, session: Session) -> Outcome:
    """End leased ones by the lab, the document's by an edit of it."""
    from p2pnet.cli import ordering

    target = session.target()
    session.interrupted_note = f"interrupted: p2pnet fault {options.name} list shows what is left"
    async with target.lab(options.name) as client:
        faults = (await client.faults()).faults
        doomed = _meant(options, faults)
        over = [word for word in options.words or [] if word not in {fault.name for fault in doomed}]
        if over:
            session.note(f"over already: {', '.join(over)}")
        for fault in doomed:
            if fault.origin == "lease":
                session.listener.waiting(f"{fault.name} to be healed")
                await ordering.clear(client, fault.name)
        written = [fault.name for fault in doomed if fault.origin == "spec"]
        if written:
            await _erase(options.name, written, target, session)
            session.listener.waiting("the lab to take the edit")
            left = await ordering.until_gone(client, written)
        else:
            left = (await client.faults()).faults
    slow = [fault.name for fault in left if fault.name in written]
    if slow:
        session.note(f"no longer in the document, but still in force in the lab: {', '.join(slow)}")
    names = [fault.name for fault in doomed]
    rest = [FaultLine.of(fault) for fault in _standing(left)]
    document = Faults(subnet=options.name, faults=rest, cleared=names)
    return Outcome(document, next=(f"p2pnet status {options.name}",))


def _meant(options: FaultOptions, faults: list[FaultStatus]) -> list[FaultStatus]:
    """The faults to end: those named, all of them, or the only one there is."""
    words, standing = options.words or [], _standing(faults)
    unknown = [word for word in words if word not in {fault.name for fault in faults}]
    if unknown:
        there = ", ".join(fault.name for fault in standing)
        raise CommandError(
            f"{options.name} has no fault {', '.join(unknown)}",
            where=f"{WHERE} {options.name} clear",
            next_step=f"one of {there}" if there else f"there is none: p2pnet fault {options.name} list",
        )
    if not words and not options.every and len(standing) > 1:
        raise CommandError(
            f"which fault? There are {', '.join(fault.name for fault in standing)}",
            where=f"{WHERE} {options.name} clear",
            next_step="name some, or use --all",
        )
    return [fault for fault in standing if not words or fault.name in words]


def _standing(faults: Sequence[FaultStatus]) -> list[FaultStatus]:
    """Those that can be ended: leased ones that are over are told of, and nothing more."""
    return [fault for fault in faults if fault.origin == "spec" or fault.state != "ended"]


async def _erase(name: str, faults: list[str], target: "Target", session: Session) -> None:
    """Take faults out of the document."""

    def change(document: Mapping[str, Any]) -> dict[str, Any]:
        there = (document.get("spec") or {}).get("faults") or []
        return {"spec": {"faults": [one for one in there if one.get("name") not in faults]}}

    await target.edit(name, change, session.listener)


def _document(name: str, faults: Sequence[FaultStatus]) -> Faults:
    return Faults(subnet=name, faults=[FaultLine.of(fault) for fault in faults])
