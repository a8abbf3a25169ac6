"""The latencies of a run as a chart: the share of all receipts that had come by a given time. Inline SVG."""

import math
from dataclasses import dataclass

from p2pnet.measure import parse
from p2pnet.measure.wording import milliseconds, percent
from p2pnet.model.errors import SpecError
from p2pnet.model.report import Report
from p2pnet.present.markup import Markup, join, tag

WIDTH, HEIGHT = 480, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 24, 26, 44
NAMED = (("p50", 0.5), ("p95", 0.95))
"""Percentiles with a dot and a label: more labels would overlap."""
THRESHOLD_FACTOR = 1.6  # an expectation's threshold is drawn if it stretches the axis by no more than this


@dataclass(frozen=True, slots=True)
class _Scale:
    """Converts milliseconds and shares to coordinates of the chart."""

    low_ms: float
    high_ms: float

    def x(self, ms: float) -> float:
        return round(LEFT + (ms - self.low_ms) / (self.high_ms - self.low_ms) * (WIDTH - LEFT - RIGHT), 1)

    @staticmethod
    def y(share: float) -> float:
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def cdf(report: Report) -> Markup | None:
    """The cumulative curve of a report; None when no receipt came. It stays below 100 % where receipts are missing."""
    points = [ms for ms in report.cdf_ms if math.isfinite(ms)]
    if not points:
        return None
    limit = _limit(report, points[-1])
    high = max(points[-1], limit[1] if limit else 0.0)
    step = _step((high - min(0.0, points[0])) / 4 or 1.0)
    scale = _Scale(math.floor(min(0.0, points[0]) / step) * step, max(step, math.ceil(high / step - 1e-9) * step))
    reach = 1.0 if report.reach.ratio is None else report.reach.ratio
    said = f"Half of the receipts that came took at most {milliseconds(points[len(points) // 2])}, "
    said += f"the slowest {milliseconds(points[-1])}; {percent(report.reach.ratio)} of those expected came."
    return tag(
        "svg",
        tag("title", "Share of receipts by time since publication", id="cdf-title"),
        tag("desc", said, id="cdf-said"),
        _grid(scale, step),
        _curve(points, reach, scale),
        _threshold(limit, scale) if limit else None,
        *(_dot(name, share, getattr(report.latency_ms, name), scale) for name, share in NAMED),
        class_="chart",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby="cdf-title cdf-said",
    )


def _grid(scale: _Scale, step: float) -> Markup:
    lines = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = scale.y(share)
        lines.append(tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        lines.append(tag("text", f"{share:.0%}", x=LEFT - 8, y=y + 4.5, text_anchor="end"))
    for index in range(round((scale.high_ms - scale.low_ms) / step) + 1):
        ms = scale.low_ms + index * step
        lines.append(tag("text", _tick(ms), x=scale.x(ms), y=HEIGHT - BOTTOM + 18, text_anchor="middle"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    return join([*lines, tag("text", "time since publication", x=middle, y=HEIGHT - 6, text_anchor="middle")])


def _curve(points: list[float], reach: float, scale: _Scale) -> Markup:
    last = max(1, len(points) - 1)
    places = [(scale.x(ms), scale.y(index / last * reach)) for index, ms in enumerate(points)]
    # After the last receipt the curve is level, below 100 % where some never came.
    places = [(places[0][0], scale.y(0.0)), *places, (WIDTH - RIGHT, places[-1][1])]
    line = " ".join(f"{x:g},{y:g}" for x, y in places)
    under = f"{line} {WIDTH - RIGHT},{scale.y(0.0):g} {places[0][0]:g},{scale.y(0.0):g}"
    return join([tag("polyline", class_="under", points=under), tag("polyline", class_="curve", points=line)])


def _dot(name: str, share: float, ms: float | None, scale: _Scale) -> Markup | None:
    if ms is None or not math.isfinite(ms):
        return None
    x, y = scale.x(ms), scale.y(share)
    left = x > WIDTH * 0.6
    label = tag(
        "text", f"{name} {milliseconds(ms)}", class_="named", x=x - 9 if left else x + 9, y=y - 7 if left else y + 17,
        text_anchor="end" if left else "start",
    )  # fmt: skip
    return join([tag("circle", class_="dot", cx=x, cy=y, r=4), label])


def _threshold(limit: tuple[str, float, bool], scale: _Scale) -> Markup:
    expr, ms, ok = limit
    x = scale.x(ms)
    right = x < WIDTH * 0.6
    return tag(
        "g",
        tag("line", class_="limit", x1=x, x2=x, y1=TOP - 8, y2=scale.y(0.0)),
        tag("text", expr, class_="limit-name", x=x, y=TOP - 12, text_anchor="start" if right else "end"),
        class_="is-pass" if ok else "is-fail",
    )


def _limit(report: Report, slowest_ms: float) -> tuple[str, float, bool] | None:
    """The first latency expectation whose threshold fits into the chart: expression, threshold in ms, whether it held."""
    for result in report.expectations:
        try:
            expectation = parse(result.expr)
        except SpecError:
            continue  # a scenario's comparison with another run
        if expectation.kind == "latency" and expectation.threshold <= slowest_ms * THRESHOLD_FACTOR:
            return result.expr, expectation.threshold, result.ok
    return None


def _step(least: float) -> float:
    """The smallest of ..., 1, 2, 5, 10, 20, 50, ... that is at least `least`: the distance of marks on an axis."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def _tick(ms: float) -> str:
    return f"{ms / 1000:g} s" if abs(ms) >= 1000 else f"{ms:.4g} ms"
