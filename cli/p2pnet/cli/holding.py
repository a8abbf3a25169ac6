"""Faults in force while a command runs: ordered under a lease, which is renewed until Ctrl-C, then healed.

A command that is killed renews no more: its faults heal when their leases lapse.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.fault_request import Fault, once
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.lab_client import LabClient, ProblemError
from p2pnet.model.errors import P2pnetError, TargetError
from p2pnet.model.jobs import FaultRequest
from p2pnet.model.report import FaultStatus

LEASE_S = 60.0  # so long faults outlive a command that was killed
RENEW_S = 15.0  # three renewals may fail before a lease lapses
RETRY_S = 2.0  # until a renewal that failed is tried again
CLEAR_S = 10.0  # for the lab to heal a fault
TAKEN_S = 30.0  # for an order, or an edit of the document, to come into force: an operator takes some seconds
POLL_S = 0.2
NOT_FOUND = 404
REDRAW_S = 1.0


async def order(client: LabClient, faults: Sequence[Fault], session: Session) -> list[FaultStatus]:
    """Put faults in force, all or none; how they stand once they are, or wait for their time.

    Raises as `LabClient.add_fault` does; CommandError (exit 5) for one that does not come into force.
    """
    added: list[FaultStatus] = []
    try:
        for fault in faults:
            session.listener.waiting("the fault to be in force")
            lease_s = None if once(fault) or "for" in fault else LEASE_S
            added.append(await client.add_fault(FaultRequest(fault, lease_s)))
        prompt = [status.name for status, fault in zip(added, faults, strict=True) if "after" not in fault]
        if any(status.state == "waiting" and status.name in prompt for status in added):
            stand = {status.name: status for status in await until_taken(client, prompt, prompt)}
            added = [stand.get(status.name, status) for status in added]
        _check(added, prompt)
    except P2pnetError:
        await _heal(client, [status.name for status in added])
        raise
    return added


def _check(faults: Sequence[FaultStatus], prompt: Sequence[str]) -> None:
    for fault in faults:
        if fault.state == "failed" or (fault.state == "waiting" and fault.name in prompt):
            raise CommandError(
                f"{fault.name} is not in force: {fault.detail or f'nothing of it after {TAKEN_S:.0f} s'}",
                where=fault.what,
                next_step="nothing of this command is in force any more; see p2pnet status NAME and p2pnet logs NAME",
                exit_code=ExitCode.INVALID,
            )


async def until_taken(client: LabClient, names: Sequence[str], prompt: Sequence[str]) -> list[FaultStatus]:
    """The faults of these names once the lab knows them all and the `prompt` ones do not wait any more, or after TAKEN_S."""

    def enough(faults: list[FaultStatus]) -> bool:
        states = {fault.name: fault.state for fault in faults}
        return all(name in states for name in names) and all(states.get(name) != "waiting" for name in prompt)

    return [fault for fault in await _until(client, enough) if fault.name in names]


async def until_gone(client: LabClient, names: Sequence[str]) -> list[FaultStatus]:
    """The faults there are as soon as none has one of these names, or after TAKEN_S."""
    return await _until(client, lambda found: not any(fault.name in names for fault in found))


async def _until(client: LabClient, enough: Callable[[list[FaultStatus]], bool]) -> list[FaultStatus]:
    deadline = time.monotonic() + TAKEN_S
    while True:
        found = (await client.faults()).faults
        if enough(found) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(POLL_S)


# --- the foreground ---


async def hold(
    client: LabClient, lab_lives: Callable[[], bool], subnet: str, names: list[str], session: Session
) -> Outcome:
    """Renew leases until Ctrl-C or SIGTERM, then heal: that is how this ends well (exit 0).

    CommandError when a fault ends before (exit 5), or the lab cannot be reached any more (exit 3).
    """
    listed = ", ".join(names)
    verb = "is" if len(names) == 1 else "are"
    session.remark(f"{listed} {verb} held by this command: Ctrl-C heals; killed, within {LEASE_S:.0f} s")
    session.interrupted_note = f"interrupted: {listed} heals by itself within {LEASE_S:.0f} s"
    session.resume = (f"p2pnet fault {subnet} clear {' '.join(names)}",)
    try:
        await _renew(client, lab_lives, subnet, names, session)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()  # this is the end that was wanted
    except CommandError:
        await _heal(client, names)
        raise
    session.listener.waiting(f"{listed} to be healed")
    left = await _heal(client, names)
    if left:
        raise CommandError(
            f"could not be healed: {', '.join(left)}",
            where=f"the lab of {subnet}",
            next_step=f"it heals by itself within {LEASE_S:.0f} s; or p2pnet fault {subnet} clear {' '.join(left)}",
            exit_code=ExitCode.NOT_FOUND,
        )
    session.remark(f"{listed} {verb} healed")
    return Outcome(next=(f"p2pnet status {subnet}",))


async def _renew(
    client: LabClient, lab_lives: Callable[[], bool], subnet: str, names: list[str], session: Session
) -> None:
    """Never returns: raises CommandError when a fault is not in force any more."""
    renewed = time.monotonic()
    due = renewed + RENEW_S
    while True:
        session.listener.waiting(f"{', '.join(names)} in force until Ctrl-C")
        await asyncio.sleep(min(REDRAW_S, max(0.0, due - time.monotonic())))
        if time.monotonic() < due:
            continue
        try:
            for name in names:
                _check([await client.renew_fault(name, LEASE_S)], [])
            renewed, due = time.monotonic(), time.monotonic() + RENEW_S
        except ProblemError as error:
            raise _ended(subnet, names, str(error)) from error
        except TargetError as error:
            if time.monotonic() > renewed + LEASE_S or not lab_lives():
                raise
            session.listener.waiting(f"the lab to answer: {error}")
            due = time.monotonic() + RETRY_S


def _ended(subnet: str, names: list[str], why: str) -> CommandError:
    return CommandError(
        f"{', '.join(names)} ended before this command did: {why}",
        where=f"the lab of {subnet}",
        next_step=f"somebody cleared it, or the lab began anew: p2pnet fault {subnet} list",
        exit_code=ExitCode.INVALID,
    )


async def clear(client: LabClient, name: str) -> None:
    """End a leased fault; one that ended by itself meanwhile is as well."""
    try:
        await client.clear_fault(name)
    except ProblemError as error:
        if error.status != NOT_FOUND:
            raise


async def _heal(client: LabClient, names: Sequence[str]) -> list[str]:
    """Clear faults as far as the lab can be reached; those that may still be in force."""
    left = []
    for name in names:
        try:
            async with asyncio.timeout(CLEAR_S):
                await clear(client, name)
        except (P2pnetError, TimeoutError):
            left.append(name)
    return left
