"""`up`: one subnet started, or edited where it stands, and waited for."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from p2pnet.cli import capacity
from p2pnet.cli.capacity import this_machine
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.spec_file import check_name, read_spec, supported, with_nodes
from p2pnet.cli.targets import Target
from p2pnet.cli.targets.readiness import awaited, blockers, is_ready
from p2pnet.cli.trying import check_clients
from p2pnet.lab_client import ProblemError
from p2pnet.model.errors import SpecError
from p2pnet.model.report import Status
from p2pnet.subnet import edits
from p2pnet.subnet.document import default_subnet, load_subnet, to_document
from p2pnet.subnet.members import edge_count, process_count
from p2pnet.subnet.spec import Subnet

DEFAULT_NAME = "demo"
DEFAULT_NODES = 10
LAB_START_S = 30.0  # imports on a loaded machine; a lab that fails says so at once
LIVE_EDITS = "; live edits are those of nodes, groups' nodes, network, faults, ready, ttl and identity durations"
POLL_S = 0.1
CLUSTER_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line; None is "not given"."""

    name: str | None = None
    file: Path | None = None
    nodes: int | None = None
    timeout_s: float | None = None
    wait: bool = True
    ignore_unsupported: bool = False


async def run(options: Options, session: Session) -> Outcome:
    """Start or edit, then wait until it is connected."""
    target = session.target()
    started = time.monotonic()
    subnet = _wanted(options, target, session)
    target.place(subnet)
    subnet, notes = supported(subnet, target.kind, ignore=options.ignore_unsupported)
    for note in notes:
        session.note(note)
    within_s = options.timeout_s or subnet.spec.ready.within.seconds
    session.interrupted_note = f"interrupted: {subnet.name} is not up yet"
    session.resume = (f"p2pnet up {subnet.name}", f"p2pnet down {subnet.name}")
    async with target.hold(subnet.name, session.listener):
        did = await _apply(subnet, target, session, within_s)
    try:
        status = await _await(options, subnet, target, session, started + within_s)
    except CommandError as error:
        raise target.last_words(subnet.name) or error from error
    if options.wait and not _ready(status, subnet):
        return _late(status, subnet, within_s)
    session.listener.milestone(f"{status.nodes.connected} nodes, {status.links.up}/{status.links.expected} links")
    _say(session, subnet.name, did, time.monotonic() - started if options.wait else None)
    if not options.wait:
        return Outcome(status, next=(f"p2pnet status {subnet.name} --watch",))
    return Outcome(status, next=(f"p2pnet inject {subnet.name} --size 64KiB --count 20 --rate 10/s",))


async def _await(options: Options, subnet: Subnet, target: Target, session: Session, deadline: float) -> Status:
    """The status once it is ready, or at the deadline; at once when nobody wants to wait."""
    name = subnet.name
    async with target.desk(name) as desk:
        status = await desk.summary()
        while options.wait and not _ready(status, subnet) and time.monotonic() < deadline:
            waiting = awaited(status, subnet.node_count)
            session.interrupted_note = f"interrupted: {name} goes on without you, still awaited: {waiting}"
            session.resume = (f"p2pnet status {name} --watch", f"p2pnet down {name}")
            session.listener.waiting(f"waiting for {waiting}")
            await asyncio.sleep(POLL_S if target.kind == "local" else CLUSTER_POLL_S)
            status = await desk.summary()
        return status


def _wanted(options: Options, target: Target, session: Session) -> Subnet:
    """The file; else what is stored under the name, with `--nodes` laid over it; else the default document."""
    if options.file is not None:
        subnet = read_spec(options.file, name=options.name, note=session.note)
        check_name(options.name, subnet, options.file)
    else:
        name = options.name or DEFAULT_NAME
        sight = target.look(name)
        if sight not in ("up", "dead", "starting"):
            if sight == "damaged":
                target.subnet(name)  # says how, exit 2
            return default_subnet(name, DEFAULT_NODES if options.nodes is None else options.nodes)
        try:
            subnet = target.subnet(name)
        except CommandError:
            if sight != "starting":
                raise
            return default_subnet(name, DEFAULT_NODES if options.nodes is None else options.nodes)
    return subnet if options.nodes is None else with_nodes(subnet, options.nodes)


async def _apply(subnet: Subnet, target: Target, session: Session, within_s: float) -> str:
    """Bring the target to the document; what was done, in words."""
    sight = target.look(subnet.name)
    if sight == "damaged":
        target.subnet(subnet.name)
    current, refused = await _current(subnet.name, target) if sight == "up" else (None, False)
    if current is None:
        _refuse_hopeless(subnet, target, max(within_s, subnet.spec.ready.within.seconds))
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
    _refuse_hopeless(subnet, target, max(within_s, subnet.spec.ready.within.seconds))
    edit = ", ".join(paths) or "a document that was refused"
    session.listener.waiting(f"the edit of {edit}")
    async with target.desk(subnet.name) as desk:
        await desk.patch_spec(to_document(subnet))
    return f"took the edit of {edit}"


async def _current(name: str, target: Target) -> tuple[Subnet | None, bool]:
    """The document of a subnet that is up, and whether that is only the last good one, for what was written since is wrong.

    None when its lab ends: one that an interrupted command told to, say.
    """
    try:
        async with target.desk(name) as desk:
            try:
                return load_subnet(await desk.written()), False
            except SpecError:
                return load_subnet(await desk.spec()), True
    except ProblemError as error:
        if target.kind != "local" or error.exit_code != ExitCode.NOT_FOUND:
            raise
        return None, False
    except CommandError:
        if target.look(name) != "dead":
            raise
        return None, False


def _refuse_hopeless(subnet: Subnet, target: Target, within_s: float) -> None:
    if target.kind != "local":
        return  # what a cluster's machines can hold, its scheduler knows
    processes = process_count(subnet)
    why = capacity.too_much(subnet.node_count, edge_count(subnet), within_s, this_machine(), processes=processes)
    if why:
        raise CommandError(
            why,
            where=f"Subnet {subnet.name}",
            next_step="fewer nodes, a sparser spec.topology, more nodes to a process (spec.nodesPerPod),"
            " or a longer spec.ready.within or --timeout",
        )


def _ready(status: Status, subnet: Subnet) -> bool:
    return is_ready(status, nodes=subnet.node_count, share=subnet.spec.ready.connected.ratio)


def _late(status: Status, subnet: Subnet, within_s: float) -> Outcome:
    failure = CommandError(
        f"{subnet.name} is not connected after {within_s:g} s: {awaited(status, subnet.node_count)}",
        where=blockers(status),
        next_step=f"p2pnet logs {subnet.name}; it goes on trying: p2pnet status {subnet.name} --watch",
        exit_code=ExitCode.NOT_READY,
    )
    return Outcome(status, exit_code=failure.exit_code, failure=failure)


def _say(session: Session, name: str, did: str, seconds: float | None) -> None:
    session.remark(f"{name} {did}" + ("" if seconds is None else f" ({seconds:.1f} s)"))
