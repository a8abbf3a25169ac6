"""What the page's buttons do: each stands for a command line, is checked as that would be, and says it."""

import shlex
import uuid
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from p2pnet.cli import load, ordering
from p2pnet.cli.fault_request import KINDS, READERS, fault_of
from p2pnet.cli.load import LoadOptions
from p2pnet.cli.outcome import CommandError
from p2pnet.cli.progress import NoProgress
from p2pnet.cli.targets.target import Target
from p2pnet.lab_client import LabClient
from p2pnet.measure.pace import parse as parse_pace
from p2pnet.model import units
from p2pnet.model.errors import SpecError
from p2pnet.model.text import some

TEXT_MAX = 200  # characters of one field
BREAKS = tuple(KINDS)
"""Kinds of faults that the page offers."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One press of a button; of the fields those of its verb count. All are text as it would be typed."""

    verb: Literal["inject", "break", "heal"]
    size: str = ""
    count: str = ""
    rate: str = ""
    kind: str = ""
    value: str = ""
    node: str = ""
    lasting: str = ""
    fault: str = ""


def read_order(data: bytes) -> Order:
    """From JSON. Raises SpecError."""
    try:
        order = msgspec.json.decode(data, type=Order)
    except (msgspec.DecodeError, ValueError) as error:
        raise SpecError(f"no order of this page: {error}") from None
    if any(len(text) > TEXT_MAX for text in msgspec.structs.astuple(order)):
        raise SpecError(f"a field has more than {TEXT_MAX} characters")
    return order


def command_of(order: Order, name: str) -> str:
    """The command line that does the same."""
    match order.verb:
        case "inject":
            options = {"--size": order.size, "--count": order.count, "--rate": order.rate}
            words = ["inject", name, *_options(options), "--no-wait"]
        case "break":
            value = [order.value] if order.value else []
            words = [
                "fault",
                name,
                "add",
                order.kind,
                *value,
                *_options({"--node": order.node, "--for": order.lasting}),
            ]
        case "heal":
            words = ["fault", name, "clear", order.fault]
    return f"p2pnet {shlex.join(words)}"


async def carry_out(order: Order, name: str, client: LabClient, target: Target) -> str:
    """Do it; what came of it, in words. Raises P2pnetErrors and CommandErrors as the verbs do."""
    match order.verb:
        case "inject":
            return await _inject(order, name, client)
        case "break":
            return await _break(order, client)
        case "heal":
            return await _heal(order.fault, name, client, target)


async def _inject(order: Order, name: str, client: LabClient) -> str:
    options = LoadOptions(
        size=_size(order.size) if order.size else None,
        count=_count(order.count) if order.count else None,
        rate=parse_pace(order.rate) if order.rate else None,
    )
    members = (await client.members()).registry.members
    subnet = load.injected_subnet(name, await client.spec(), [member.name for member in members])
    load.check_against(options, subnet, ())
    request = load.request_of(
        options, [load.generated_payload(options)], load.check_client(options, subnet), honest=subnet.honest
    )
    return f"run {(await client.start_run(request, key=uuid.uuid4().hex)).run} has begun"


async def _break(order: Order, client: LabClient) -> str:
    given: dict[str, Any] = {}
    if order.node:
        given["--node"] = [order.node]
    if order.lasting:
        given["--for"] = READERS["--for"](order.lasting)
    fault = fault_of([order.kind, *([order.value] if order.value else [])], given)
    if not ordering.ends_itself(fault):
        raise SpecError("nobody would hold this fault: say how long it is to last, like 30s")
    added = await ordering.order(client, [fault])
    return ", ".join(f"{one.name} is {'done' if one.state == 'ended' else 'in force'}" for one in added)


async def _heal(fault: str, name: str, client: LabClient, target: Target) -> str:
    faults = {one.name: one for one in (await client.faults()).faults}
    if fault not in faults:
        raise SpecError(f"there is no fault {fault!r}" + (f": one of {some(list(faults))}" if faults else ""))
    if faults[fault].origin == "lease":
        await ordering.clear(client, fault)
        return f"{fault} is healed"

    def without(document: Mapping[str, Any]) -> dict[str, Any]:
        there = (document.get("spec") or {}).get("faults") or []
        return {"spec": {"faults": [one for one in there if one.get("name") != fault]}}

    await target.edit(name, without, NoProgress())
    await ordering.until_gone(client, [fault])
    return f"{fault} is taken out of the document"


def _options(options: Mapping[str, str]) -> list[str]:
    return [word for option, text in options.items() if text for word in (option, text)]


def _size(text: str) -> int:
    size = units.parse_size(text)
    if size <= 0:
        raise SpecError("an artifact holds at least one byte: write 1B or more")
    return size


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0 and len(text) <= 9):
        raise SpecError(f"{text!r} is no number of artifacts: write 1 or more")
    return int(text)


def explained(error: Exception) -> str:
    """An error of an order, in a sentence or two."""
    return f"{error}; {error.next_step}" if isinstance(error, CommandError) and error.next_step else str(error)
