"""A scenario that was made smaller: how much, what it fails by, and the two documents themselves."""

import yaml
from rich.console import Group, RenderableType
from rich.text import Text

from p2pnet.cli.render import text
from p2pnet.cli.terminal import clean
from p2pnet.measure.wording import turned_out
from p2pnet.model.shrunk import ScenarioSize, ShrunkScenario
from p2pnet.model.text import plural
from p2pnet.model.units import format_duration, format_size

LINES_MAX = 60  # of one document that are shown; the file has all


def draw(shrunk: ShrunkScenario, width: int) -> RenderableType:
    """The headline, sizes before and after, the documents, the verdict."""
    one = shrunk.expectation
    about = one.expr if one.expr.startswith(f"{one.name}.") else f"{one.name}: {one.expr}"
    took = f"{plural(shrunk.trials, 'trial')} in {format_duration(shrunk.seconds)}"
    name = Text(clean(shrunk.scenario), style="bold cyan")
    lines: list[RenderableType] = [
        *text.flow("shrunk", [name, f"from {shrunk.file}", f"seed {shrunk.seed}", took, _ended(shrunk)], width),
        *text.flow("before", _sizes(shrunk.before), width),
        *text.flow("after", _sizes(shrunk.after), width),
    ]
    for path, document in (
        (shrunk.subnet_file, shrunk.subnet_document),
        (shrunk.scenario_file, shrunk.scenario_document),
    ):
        lines += [Text(), Text(clean(path), style="bold"), *_yaml(document)]
    lines.append(Text())
    verdict = f"MISS {about}  ({turned_out(one)})"
    return Group(
        *lines, *text.flow("FAIL", [verdict, "" if shrunk.verified else "not verified"], width, style="bold red")
    )


def _ended(shrunk: ShrunkScenario) -> str:
    return {
        "finished": "nothing more can go",
        "bounded": f"ended {shrunk.why}: it may become smaller still",
        "cancelled": "interrupted: this is the smallest so far",
    }[shrunk.state]


def _sizes(size: ScenarioSize) -> list[str]:
    return [
        plural(size.nodes, "node"), plural(size.steps, "step"), plural(size.faults, "fault"),
        f"{plural(size.artifacts, 'artifact')} of {format_size(size.bytes)}", plural(size.lines, "line"),
    ]  # fmt: skip


def _yaml(document: dict[str, object]) -> list[Text]:
    drawn = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100).splitlines()
    lines = [Text(f"  {clean(line)}") for line in drawn[:LINES_MAX]]
    return (
        lines if len(drawn) <= LINES_MAX else [*lines, Text(f"  ... {len(drawn) - LINES_MAX} more lines", style="dim")]
    )
