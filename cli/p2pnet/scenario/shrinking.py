"""A failing scenario made smaller: whatever can go without that failure going is taken out, and numbers are made small.

Hierarchical delta debugging over both documents: at each list and mapping `ddmin` (Zeller and Hildebrandt, 2002) looks for the
fewest parts with which it still fails, from the outside in (Misherghi and Su, 2006); then numbers, sizes and durations
shrink; and again, until nothing changes. Which failure it is, and what a trial is, decides whoever gives `fails`.
"""

import copy
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.expectation_words import EXPRESSION_CHARS_MAX
from p2pnet.model.units import format_size, parse_duration, parse_size
from p2pnet.scenario.expectations import read_expectation, runs_named
from p2pnet.scenario.plan import EVERY_FAULT

Part = TypeVar("Part")
Path = tuple[str | int, ...]
Keep = Callable[[list[Any]], Awaitable[bool]]

ROUNDS_MAX = 20
DURATION_LEAST_S = 0.1
COUNTS = frozenset(("nodes", "count", "maxUnavailable", "degree", "k", "neighbours", "seeds"))
"""Keys of whole numbers that may become smaller. `seed` is none: another one is no smaller."""
DURATIONS = frozenset(("for", "at", "after", "down"))
"""Keys of times that may become shorter. `within` is none: it judges, and a shorter one is another judgement."""
FIXED: frozenset[tuple[str, ...]] = frozenset(
    (
        ("scenario", "apiVersion"), ("scenario", "kind"), ("scenario", "metadata"), ("scenario", "spec"),
        ("scenario", "spec", "subnetFrom"), ("scenario", "spec", "steps"), ("subnet", "apiVersion"), ("subnet", "kind"),
        ("subnet", "metadata"), ("subnet", "spec"),
    )
)  # fmt: skip
SELECTORS = frozenset(("from", "to", "bothWays"))
"""Keys that say where a fault or a rule acts: without them it would act on more, which is another reason to fail."""
FAULTS = frozenset(("fault", "faults", "rules"))
NEEDED = frozenset(
    ("name", "within", "inject", "withdraw", "fault", "heal", "expect", "wait", "scale", "restart", "upgrade", "rotate")
)
"""Keys of a step without which it is another step, or none."""
AWAITED_RUNS = frozenset(("holds", "gone"))
"""Keys of a wait that name inject steps."""


class ShrinkingEndedError(P2pnetError):
    """Nothing more is tried: a bound, or an interrupt. Raised by `fails`."""


class ScenarioDocuments(NamedTuple):
    """A Scenario, which names its Subnet by `subnetFrom`, and that Subnet; as JSON has them."""

    scenario: dict[str, Any]
    subnet: dict[str, Any]


async def ddmin(parts: Sequence[Part], fails: Callable[[list[Part]], Awaitable[bool]]) -> list[Part]:
    """The fewest of these parts with which it still fails: none can be left out by itself.

    It is known to fail with all of them. What `fails` raises comes out here.
    """
    left = list(parts)
    if not left or await fails([]):
        return []
    pieces = 2
    while len(left) > 1:
        size = -(-len(left) // pieces)
        chunks = [left[at : at + size] for at in range(0, len(left), size)]
        without = [[part for other in chunks if other is not chunk for part in other] for chunk in chunks]
        for smaller, then in [*((chunk, 2) for chunk in chunks), *((rest, max(2, pieces - 1)) for rest in without)]:
            if 0 < len(smaller) < len(left) and await fails(smaller):
                left, pieces = smaller, then
                break
        else:
            if size == 1:
                break
            pieces = min(len(left), 2 * pieces)
    return left


class Shrinker:
    """Shrinks one scenario. `tell` hears of each smaller one, with what became smaller in words."""

    def __init__(
        self,
        documents: ScenarioDocuments,
        fails: Callable[[ScenarioDocuments], Awaitable[bool]],
        tell: Callable[[str], None],
    ) -> None:
        """`fails`: whether a candidate is valid, smaller, and fails as these documents do."""
        self.best = documents
        """The smallest so far."""
        self._fails = fails
        self._tell = tell
        self._known = {_text(documents)}

    async def shrink(self) -> None:
        """Until nothing makes it smaller. Raises ShrinkingEndedError before, with `best` as it is by then."""
        for _ in range(ROUNDS_MAX):
            before = self.best
            await self._numbers(("nodes", "size"))  # first: the smaller it is, the quicker is each of all other trials
            await self._inside(("scenario", "spec", "steps"))
            await self._numbers()
            await self._inside(("subnet", "spec"))
            await self._numbers()
            if self.best == before:
                return

    async def _try(self, documents: ScenarioDocuments, what: str) -> bool:
        candidate = tidied(documents)
        text = _text(candidate)
        if text in self._known:
            return False
        self._known.add(text)
        if not await self._fails(candidate):
            return False
        self.best = candidate
        self._tell(what)
        return True

    # --- parts ---

    async def _inside(self, path: Path) -> None:
        """Leave out what can be in a list or mapping, then in each part that is left."""
        await self._thin(path)
        node = _at(self.best, path)
        keys: list[str | int] = (
            list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
        )
        for key in reversed(keys):  # what goes at the end moves nothing before it
            if isinstance(_at(self.best, (*path, key)), dict | list):
                await self._inside((*path, key))

    async def _thin(self, path: Path) -> None:
        node = _at(self.best, path)
        if not isinstance(node, dict | list):
            return
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        removable = [key for key in keys if not _is_fixed(path, key)]
        whole = self.best

        async def fails(kept: list[Any]) -> bool:
            gone = set(removable) - set(kept)
            without = _replaced(whole, path, _without(_at(whole, path), gone))
            return await self._try(without, f"without {_names(path, gone)}")

        await ddmin(removable, fails)

    # --- numbers ---

    async def _numbers(self, keys: Sequence[str] = ()) -> None:
        """Make numbers smaller: those of these keys, or all."""
        paths = [path for path, _ in _leaves(self.best)]
        for path in [path for path in paths if not keys or path[-1] in keys]:
            while await self._lower(path):
                pass

    async def _lower(self, path: Path) -> bool:
        """Make one number smaller; whether that could be."""
        value = _at(self.best, path)
        for one in _smaller(path, value):
            if await self._try(_replaced(self.best, path, one), f"{_place(path)}: {value} to {one}"):
                return True
        return False


def _smaller(path: Path, value: Any) -> list[Any]:
    """What a leaf may become, the smallest first."""
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    if key in COUNTS and isinstance(value, int) and not isinstance(value, bool):
        return sorted(
            {one for one in (1, 2, 3, value // 2, value * 3 // 4, value * 7 // 8, value - 1) if 0 < one < value}
        )
    if not isinstance(value, str):
        return []
    try:
        if key == "size":
            octets = parse_size(value)
            found = sorted({one for one in (1, 1024, octets // 2) if 0 < one < octets})
            return [format_size(one).replace(" ", "") if one % 1024 == 0 else f"{one}B" for one in found]
        if key in DURATIONS:
            seconds = parse_duration(value)
            times = sorted(
                {one for one in (DURATION_LEAST_S, 1.0, round(seconds / 2, 3)) if DURATION_LEAST_S <= one < seconds}
            )
            return [f"{one:g}s" for one in times]
    except SpecError:
        return []
    return []


# --- documents ---


def tidied(documents: ScenarioDocuments) -> ScenarioDocuments:
    """Without references to steps that are gone, steps that do nothing any more, and `parallel` around a single step."""
    scenario = copy.deepcopy(documents.scenario)
    while True:
        steps = scenario["spec"]["steps"]
        names = {str(step.get("name")) for step in _steps(steps)}
        left = _tidied_steps(steps, names)
        if left == steps:
            return ScenarioDocuments(scenario, documents.subnet)
        scenario["spec"]["steps"] = left


def _tidied_steps(steps: list[dict[str, Any]], names: set[str]) -> list[dict[str, Any]]:
    left: list[dict[str, Any]] = []
    for step in steps:
        found = _tidied_step(step, names)
        if found is None:
            continue
        inner = found.get("parallel")
        if inner is not None and len(inner) == 1:
            [only] = inner
            left += only["steps"] if "steps" in only else [{key: value for key, value in only.items() if key != "at"}]
        else:
            left.append(found)
    return left


def _tidied_step(step: dict[str, Any], names: set[str]) -> dict[str, Any] | None:
    found = dict(step)
    if "heal" in found:
        found["heal"] = [name for name in found["heal"] if name in names or name == EVERY_FAULT]
    if "expect" in found and "inject" not in found:
        found["expect"] = [text for text in found["expect"] if _runs(text) <= names]
    if "withdraw" in found:
        found["withdraw"] = [name for name in found["withdraw"] if name in names]
    wait = found.get("wait")
    wait = wait if isinstance(wait, dict) else {}
    for key in AWAITED_RUNS.intersection(wait):
        found["wait"] = {**wait, key: [name for name in wait[key] if name in names]}
        if not found["wait"][key]:
            return None
    for key in ("parallel", "steps"):
        if key in found:
            found[key] = _tidied_steps(found[key], names)
    return None if any(found.get(key) == [] for key in ("heal", "withdraw", "expect", "parallel", "steps")) else found


def _runs(text: str) -> set[str]:
    try:
        return set(runs_named(read_expectation(text[:EXPRESSION_CHARS_MAX])))
    except SpecError:
        return set()


def _steps(steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for step in steps:
        yield step
        for key in ("parallel", "steps"):
            yield from _steps(step.get(key) or [])


def _is_fixed(path: Path, key: str | int) -> bool:
    here = (*path, key)
    if here in FIXED:
        return True
    if key in SELECTORS and not FAULTS.isdisjoint(path):
        return True
    in_step = len(path) > 3 and path[:3] == ("scenario", "spec", "steps") and isinstance(path[-1], int)
    return key == "within" or (in_step and key in NEEDED)


def _at(documents: ScenarioDocuments, path: Path) -> Any:
    node: Any = documents._asdict()
    for key in path:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return None
    return node


def _replaced(documents: ScenarioDocuments, path: Path, value: Any) -> ScenarioDocuments:
    whole: Any = copy.deepcopy(documents._asdict())
    node = whole
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = copy.deepcopy(value)
    return ScenarioDocuments(**whole)


def _without(node: Any, gone: set[Any]) -> Any:
    if isinstance(node, dict):
        return {key: value for key, value in node.items() if key not in gone}
    return [value for index, value in enumerate(node) if index not in gone]


def _leaves(documents: ScenarioDocuments) -> Iterator[tuple[Path, Any]]:
    pending: list[tuple[Path, Any]] = [(("subnet", "spec"), documents.subnet["spec"])]
    pending.append((("scenario", "spec", "steps"), documents.scenario["spec"]["steps"]))
    while pending:
        path, node = pending.pop()
        if isinstance(node, dict | list):
            items = node.items() if isinstance(node, dict) else enumerate(node)
            pending += [((*path, key), value) for key, value in items]
        else:
            yield path, node


def _text(documents: ScenarioDocuments) -> str:
    return repr(documents)


def _place(path: Path) -> str:
    """A path as documents' errors have it, without what all have."""
    text = ""
    for part in path[2:]:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return f"{path[0]} {text.removeprefix('.')}".rstrip()


def _names(path: Path, gone: set[Any]) -> str:
    """Parts of a list or mapping, in words."""
    numbers = sorted(one for one in gone if isinstance(one, int))
    if numbers:
        return f"{_place(path)}[{', '.join(map(str, numbers))}]"
    return f"{_place(path)}: {', '.join(sorted(map(str, gone)))}"
