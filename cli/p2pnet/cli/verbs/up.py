"""`up`: start a subnet, or edit the one that is up, and wait until it is connected."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.options import (
    IgnoreUnsupported,
    SubnetOptions,
    context_option,
    file_option,
    name_argument,
    namespace_option,
    on_option,
    wait_option,
)
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.targets.readiness import awaited, blockers, is_ready, why_unattended
from p2pnet.cli.targets.target import LiveTarget, Target
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.report import Status

if TYPE_CHECKING:
    from p2pnet.subnet.spec import Subnet  # with pydantic, which help does without

EXAMPLE = "p2pnet up demo --nodes 10"
DEFAULT_NAME = "demo"
DEFAULT_NODES = 10
LAB_START_S = 30.0  # imports on a loaded machine; a lab that fails says so at once
LIVE_EDITS = "; live edits are those of nodes, groups' nodes, network, faults, ready, ttl and identity durations"
POLL_S = 0.1
CLUSTER_POLL_S = 0.5
UNATTENDED_S = 5.0  # for somebody to install an operator at the same time


@dataclass(frozen=True)
class UpOptions(SubnetOptions):
    """Start a subnet, or edit one.

    Waits until it is connected. On a subnet that is up, the edits that are live are applied.
    """

    name: Annotated[str | None, name_argument("the document's, else demo")] = None
    file: Annotated[Path | None, file_option("A Subnet document")] = None
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", min=1, metavar="N", help="Size of group `node`.  [default: the file's, 10 without]"),
    ] = None
    timeout_s: Annotated[
        float | None,
        wait_option("How long to wait for it to be connected.  [default: spec.ready.within, 120s]"),
    ] = None
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is connected.")] = False
    ignore_unsupported: IgnoreUnsupported = False
    on: Annotated[LiveTarget | None, on_option("Where to start it.  [default: local]")] = field(
        default=None, kw_only=True
    )
    namespace: Annotated[
        str | None,
        namespace_option("Namespace to start it in, in a cluster.  [default: the document's, else the context's]"),
    ] = field(default=None, kw_only=True)
    context: Annotated[str | None, context_option("Cluster to start it in")] = field(default=None, kw_only=True)


async def run(options: UpOptions, session: Session) -> Outcome:
    """Start or edit, then wait until it is connected."""
    from p2pnet.cli.spec_file import supported

    target = session.target()
    started = time.monotonic()
    subnet = _wanted(options, target, session)
    target.use_namespace(subnet)
    session.place = session.place.inside(subnet.metadata.namespace, target)
    subnet, notes = supported(subnet, target.kind, ignore=options.ignore_unsupported)
    for note in notes:
        session.note(note)
    within_s = options.timeout_s or subnet.spec.ready.within.seconds
    session.interrupted_note = f"interrupted: {subnet.name} is not up yet"
    session.resume = (f"p2pnet up {subnet.name}", f"p2pnet down {subnet.name}")
    async with target.lock(subnet.name, session.listener):
        await target.prepare(subnet, session.listener)
        prepared = time.monotonic()
        did = await _apply(subnet, target, session, within_s)
    try:
        status = await _await(options, subnet, target, session, prepared + within_s)
    except TargetError as error:
        raise target.why_it_ended(subnet.name) or error from error
    if not options.no_wait and not _ready(status, subnet):
        return _late(status, subnet, within_s)
    session.listener.milestone(f"{status.nodes.connected} nodes, {status.links.up}/{status.links.expected} links")
    _say(session, subnet, did, time.monotonic() - started if not options.no_wait else None)
    if options.no_wait:
        return Outcome(status, next=(f"p2pnet status {subnet.name} --watch",))
    return Outcome(status, next=(f"p2pnet inject {subnet.name} --size 64KiB --count 20 --rate 10/s",))


async def _await(options: UpOptions, subnet: "Subnet", target: Target, session: Session, deadline: float) -> Status:
    """The status once it is ready, or at the deadline; at once with `--no-wait`."""
    import asyncio

    name = subnet.name
    async with target.lab(name) as client:
        status, asked, unattended_s = await client.summary(), time.monotonic(), 0.0
        while not options.no_wait and not _ready(status, subnet) and time.monotonic() < deadline:
            waiting = awaited(status, subnet.node_count)
            session.interrupted_note = f"interrupted: {name} goes on without you, still awaited: {waiting}"
            session.resume = (f"p2pnet status {name} --watch", f"p2pnet down {name}")
            session.listener.waiting(f"waiting for {waiting}")
            if nobody := why_unattended(status):
                unattended_s += time.monotonic() - asked
                if unattended_s >= UNATTENDED_S:
                    raise _unattended(name, nobody)
            asked = time.monotonic()
            await asyncio.sleep(POLL_S if target.kind == "local" else CLUSTER_POLL_S)
            status = await client.summary()
        if options.no_wait and (nobody := why_unattended(status)):
            session.note(f"{nobody}: p2pnet install")
        return status


def _unattended(name: str, why: str) -> CommandError:
    return CommandError(
        f"{name} is applied, but {why}", where=f"Subnet {name}", next_step="p2pnet install",
        exit_code=ExitCode.NOT_FOUND,
    )  # fmt: skip


def _wanted(options: UpOptions, target: Target, session: Session) -> "Subnet":
    """The file; else what is stored under the name, with the size of `--nodes`; else the default document."""
    from p2pnet.cli.spec_file import check_name, read_spec, with_nodes
    from p2pnet.subnet.document import default_subnet

    if options.file is not None:
        subnet = read_spec(options.file, name=options.name, note=session.note)
        check_name(options.name, subnet, options.file)
    else:
        name = options.name or DEFAULT_NAME
        presence = target.presence(name)
        if presence not in ("up", "dead", "starting"):
            if presence == "damaged":
                target.subnet(name)  # says how, exit 2
            return default_subnet(name, DEFAULT_NODES if options.nodes is None else options.nodes)
        try:
            subnet = target.subnet(name)
        except TargetError:
            if presence != "starting":
                raise
            return default_subnet(name, DEFAULT_NODES if options.nodes is None else options.nodes)
    return subnet if options.nodes is None else with_nodes(subnet, options.nodes)


async def _apply(subnet: "Subnet", target: Target, session: Session, within_s: float) -> str:
    """Bring the target to the document; what was done, in words."""
    from p2pnet.cli.client_check import check_clients
    from p2pnet.subnet import edits
    from p2pnet.subnet.document import to_document

    presence = target.presence(subnet.name)
    if presence == "damaged":
        target.subnet(subnet.name)
    current, refused = await current_document(subnet.name, target) if presence == "up" else (None, False)
    if current is None:
        _check_capacity(subnet, target, max(within_s, subnet.spec.ready.within.seconds))
        if target.kind == "local":  # a pod has a Python of its own
            await check_clients(subnet, session.listener)
        await target.start(subnet, session.listener, timeout_s=LAB_START_S)
        session.listener.milestone("lab" if target.kind == "local" else "applied")
        return "is up"
    paths = edits.changed(current, subnet)
    frozen = edits.refused(paths, target.kind)
    if frozen:
        raise CommandError(
            f"{subnet.name} is up and cannot take this edit while it is: {', '.join(frozen)}",
            where=f"Subnet {subnet.name}",
            next_step=f"p2pnet down {subnet.name}, then up again{LIVE_EDITS if target.kind == 'local' else ''}",
        )
    if not paths and not refused:
        return "is up already, nothing to change"
    _check_capacity(subnet, target, max(within_s, subnet.spec.ready.within.seconds))
    edit = ", ".join(paths) or "a document that was refused"
    session.listener.waiting(f"the edit of {edit}")
    async with target.lab(subnet.name) as client:
        await client.patch_spec(to_document(subnet))
    return f"took the edit of {edit}"


async def current_document(name: str, target: Target) -> "tuple[Subnet | None, bool]":
    """The document of a subnet that is up, and whether that is only the last good one, for what was written since is wrong.

    None when its lab ends meanwhile: because an interrupted command told it to, say.
    """
    from p2pnet.lab_client import ProblemError
    from p2pnet.subnet.document import load_subnet

    try:
        async with target.lab(name) as client:
            try:
                return load_subnet(await client.written()), False
            except SpecError:
                return load_subnet(await client.spec()), True
    except ProblemError as error:
        if target.kind != "local" or error.exit_code != ExitCode.NOT_FOUND:
            raise
        return None, False
    except TargetError:
        if target.presence(name) == "up":  # else it is dead; called "starting", for the lock is ours
            raise
        return None, False


def _check_capacity(subnet: "Subnet", target: Target, within_s: float) -> None:
    """CommandError (exit 2) for more nodes and links than this machine can connect in that time."""
    from p2pnet.cli.capacity import this_machine, too_much
    from p2pnet.subnet.members import edge_count, process_count

    if target.kind != "local":
        return  # what a cluster's machines can hold, its scheduler knows
    processes = process_count(subnet)
    why = too_much(subnet.node_count, edge_count(subnet), within_s, this_machine(), processes=processes)
    if why:
        raise CommandError(
            why,
            where=f"Subnet {subnet.name}",
            next_step="fewer nodes, a sparser spec.topology, more nodes to a process (spec.nodesPerPod),"
            " or a longer spec.ready.within or --timeout",
        )


def _ready(status: Status, subnet: "Subnet") -> bool:
    return is_ready(status, nodes=subnet.node_count, share=subnet.spec.ready.connected.ratio)


def _late(status: Status, subnet: "Subnet", within_s: float) -> Outcome:
    failure = CommandError(
        f"{subnet.name} is not connected after {within_s:g} s: {awaited(status, subnet.node_count)}",
        where=blockers(status),
        next_step=f"p2pnet logs {subnet.name}; it goes on trying: p2pnet status {subnet.name} --watch",
        exit_code=ExitCode.NOT_READY,
    )
    return Outcome(status, exit_code=failure.exit_code, failure=failure)


def _say(session: Session, subnet: "Subnet", did: str, seconds: float | None) -> None:
    from p2pnet.cli.shaping import written
    from p2pnet.subnet.document import to_document

    session.remark(f"{subnet.name} {did}" + ("" if seconds is None else f" ({seconds:.1f} s)"))
    if shaped := written(to_document(subnet).get("spec") or {}):
        session.remark(f"its document shapes the network: {shaped}")
