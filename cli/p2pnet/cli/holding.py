"""Faults in force while a command runs: their leases are renewed until Ctrl-C, then they are healed."""

import asyncio
import time
from collections.abc import Callable

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.ordering import LEASE_S, check, heal
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.lab_client import LabClient, ProblemError
from p2pnet.model.errors import TargetError

RENEW_S = 15.0  # three renewals may fail before a lease lapses
RETRY_S = 2.0  # until a renewal that failed is tried again
REDRAW_S = 1.0


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
        await heal(client, names)
        raise
    session.listener.waiting(f"{listed} to be healed")
    left = await heal(client, names)
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
                check([await client.renew_fault(name, LEASE_S)], [])
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
