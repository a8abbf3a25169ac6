"""Wrong and right values for every field of a document, one at a time, and what the API server says to them."""

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.cluster.server import Server

from p2pnet.operator.kube.crd import ITEMS, VALUES

AT_A_TIME = 8
TEXTS = (
    "", "A b", "x", "a=b", "a,b", "5", "-1s", "1h", "0s", "99999999999d", "250%", "0.5%", "1.5B", "0Gi", "1.5KiB",
    "2/s", "0/s", "1Mbit", "1 h\n", "ü", "x" * 64, "x" * 300, "../x", "a..b", "100m", "1e3", "auto", "*",
    "1\vh", "5\xa0%", "..", "0.1m",
)  # fmt: skip
NUMBERS = (-1, 0, 1, 2, 7, 100, 501, 1 << 31, 1 << 40, 1.5, 1e300)
OTHERS: tuple[Any, ...] = (True, [], {}, {"a": 1})
NEIGHBOURS = {"network": ("groups", "nodes"), "faults": ("groups", "nodes"), "topology": ("groups", "nodes")}
"""Parts of a spec that others are checked against; all else is left out, for each rule takes the API server its time."""
KEYS = (
    "", "a b", "a=b", "1A", "-x", "X_1.y", "x" * 64, "x" * 300, "a.b/c", "a..b/c", "p2pnet.io/x", "k8s.io/x", "node", "cpu",
    "hugepages-2Mi", "hugepages-0Mi", "nvidia.com/gpu", "requests.x.io/gpu", "controller.kubernetes.io/x", "sub.p2pnet.io/x", ".",
    "..A", "ü",
)  # fmt: skip

Path = tuple[str, ...]


class Tried(NamedTuple):
    """A spec that differs from the whole one at one path."""

    path: Path
    spec: dict[str, Any]


class Cause(NamedTuple):
    """One thing the API server finds wrong: where, what kind of mistake, and its words."""

    field: str
    reason: str
    words: str


def leaves(schema: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every field of a structural schema and what it may be; parts that hold others, too."""
    if path:
        yield path, schema
    for key, part in schema.get("properties", {}).items():
        yield from leaves(part, (*path, key))
    for step, key in ((ITEMS, "items"), (VALUES, "additionalProperties")):
        if isinstance(schema.get(key), dict):
            yield from leaves(schema[key], (*path, step))


def variants(whole: dict[str, Any], schema: dict[str, Any], left_out: tuple[Path, ...]) -> Iterator[Tried]:
    """The whole spec, with each field once without its value, once with each of the values above."""
    for path, part in leaves(schema):
        if any(path[: len(one)] == one for one in left_out):
            continue
        kind = part.get("type", "")
        values: list[Any] = [*OTHERS]
        values += TEXTS if kind in ("string", "") and "enum" not in part else ("", "x")
        values += NUMBERS if kind in ("integer", "number", "") else (5,)
        values += part.get("enum", ())
        if kind == "array" and part["maxItems"] < 100:
            values += [[value] * (part["maxItems"] + 1) for value in _sample(whole, path)]
        if "additionalProperties" in part:
            values += [{key: value} for key in KEYS for value in _inner(part)]
        base = {key: whole[key] for key in (path[0], *NEIGHBOURS.get(path[0], ())) if key in whole}
        for value in values:
            yield Tried(path, _with(base, path, value))
        if path[-1] not in (ITEMS, VALUES):
            yield Tried(path, _with(base, path, None))


def _inner(part: dict[str, Any]) -> list[Any]:
    return [{}] if part["additionalProperties"].get("type") == "object" else ["1", "a b"]


def _sample(whole: Any, path: Path) -> list[Any]:
    for step in path:
        if not isinstance(whole, dict | list):
            return []
        if step == ITEMS:
            whole = whole[0] if isinstance(whole, list) and whole else None
        elif step == VALUES:
            whole = next(iter(whole.values()), None)
        else:
            whole = whole.get(step) if isinstance(whole, dict) else None
    return whole[:1] if isinstance(whole, list) else []


def _with(whole: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """A copy with a value at a path, in the first item of lists and the first entry of objects; None: without it."""
    spec = copy.deepcopy(whole)
    at: Any = spec
    for number, step in enumerate(path):
        last = number == len(path) - 1
        key: Any = 0 if step == ITEMS else next(iter(at), "cpu") if step == VALUES else step
        if isinstance(at, list) and not at:
            at.append(None)
        if last and value is None:
            at.pop(key, None)
        elif last:
            at[key] = value
        else:
            empty: Any = [] if path[number + 1] == ITEMS else {}
            if not (at[key] if isinstance(at, list) else at.get(key)):
                at[key] = empty
            at = at[key]
    return spec


async def answers(server: Server, path: str, documents: list[dict[str, Any]]) -> list[list[Cause] | None]:
    """What the API server would say to each new document; None: it takes it. Nothing is made."""
    room = asyncio.Semaphore(AT_A_TIME)

    async def ask(document: dict[str, Any]) -> list[Cause] | None:
        url = f"{path}?dryRun=All&fieldValidation=Strict"
        headers = {"Content-Type": "application/json"}
        async with room, server.session.post(url, data=json.dumps(document), headers=headers) as answer:
            if answer.status < 300:
                return None
            said = await answer.json(content_type=None)
        causes = (said.get("details") or {}).get("causes")
        if not causes:
            return [Cause("", str(said.get("reason")), str(said.get("message")))]
        return [Cause(one.get("field", ""), one.get("reason", ""), one.get("message", "")) for one in causes]

    return list(await asyncio.gather(*map(ask, documents)))
