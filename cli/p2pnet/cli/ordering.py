"""Faults ordered from a lab, and cleared. What has no end is leased: a command that is killed leaves none behind for long."""

import asyncio
import time
from collections.abc import Callable, Sequence

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.fault_request import Fault, once
from p2pnet.cli.outcome import CommandError
from p2pnet.lab_client import LabClient, ProblemError
from p2pnet.model.errors import P2pnetError
from p2pnet.model.jobs import FaultRequest
from p2pnet.model.report import FaultStatus

LEASE_S = 60.0  # so long faults outlive a command that was killed
CLEAR_S = 10.0  # for the lab to heal a fault
TAKEN_S = 30.0  # for an order, or an edit of the document, to come into force: an operator takes some seconds
POLL_S = 0.2
NOT_FOUND = 404


def ends_itself(fault: Fault) -> bool:
    """Whether nobody has to hold it: it has a time, or is done once."""
    return once(fault) or "for" in fault


async def order(client: LabClient, faults: Sequence[Fault]) -> list[FaultStatus]:
    """Put faults in force, all or none; how they stand once they are, or wait for their time.

    Raises as `LabClient.add_fault` does; CommandError (exit 5) for one that does not come into force.
    """
    added: list[FaultStatus] = []
    try:
        for fault in faults:
            lease_s = None if ends_itself(fault) else LEASE_S
            added.append(await client.add_fault(FaultRequest(fault, lease_s)))
        prompt = [status.name for status, fault in zip(added, faults, strict=True) if "after" not in fault]
        if any(status.state == "waiting" and status.name in prompt for status in added):
            stand = {status.name: status for status in await until_taken(client, prompt, prompt)}
            added = [stand.get(status.name, status) for status in added]
        check(added, prompt)
    except P2pnetError:
        await heal(client, [status.name for status in added])
        raise
    return added


def check(faults: Sequence[FaultStatus], prompt: Sequence[str]) -> None:
    """CommandError (exit 5) for a fault that failed, or one of `prompt` that still waits."""
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


async def clear(client: LabClient, name: str) -> None:
    """End a leased fault; one that ended by itself meanwhile is as well."""
    try:
        await client.clear_fault(name)
    except ProblemError as error:
        if error.status != NOT_FOUND:
            raise


async def heal(client: LabClient, names: Sequence[str]) -> list[str]:
    """Clear faults as far as the lab can be reached; those that may still be in force."""
    left = []
    for name in names:
        try:
            async with asyncio.timeout(CLEAR_S):
                await clear(client, name)
        except (P2pnetError, TimeoutError):
            left.append(name)
    return left
