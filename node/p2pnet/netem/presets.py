"""Networks that were measured, as paths between their places.

`data/NAME.csv` has a row per pair, which names both ends, so that no index can go wrong; facts and sources are at its head.
What is made of it: the one-way delay is half of the round-trip time, and the loss is the share of packets lost that way. Where
the 90th percentile of round-trip times is known, they are taken to be spread normally around their median, and half of their
variance to arise each way: that is the jitter. It is never more than the delay can carry (`jitter_max_ns`); within a region of
AWS it would be.
"""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from p2pnet.model.errors import SpecError
from p2pnet.model.network import LinkShape, jitter_max_ns

PRESETS = ("ic-lhg73", "ic-io67", "aws")
"""Names of all presets."""

_MS = 1_000_000  # ns
_P90 = 1.281_551_565_544_6  # standard deviations from the median of a normal distribution to its 90th percentile


@dataclass(frozen=True, slots=True)
class Preset:
    """A measured network."""

    name: str
    facts: str
    """What was measured, and the source."""
    places: tuple[str, ...]
    """In the order of the measurement: region names of AWS, numbers of the Internet Computer's nodes."""
    measured: tuple[str, ...]
    """Fields of LinkShape that figures are known of."""
    paths: dict[tuple[str, str], LinkShape]
    """From and to a place -> what was measured. Has each pair, a place and itself too."""

    def figures(self, source: str, to: str, loss_max: float = 1.0) -> LinkShape:
        """What was measured from one place to another, with a loss of at most `loss_max`. Raises SpecError for unknown places."""
        shape = self.paths.get((source, to))
        if shape is None:
            unknown = source if source not in self.places else to
            raise SpecError(f"preset {self.name}: no place {unknown}; there are {', '.join(self.places)}")
        if shape.loss <= loss_max:
            return shape
        return LinkShape(delay_ns=shape.delay_ns, jitter_ns=shape.jitter_ns, loss=loss_max)


@lru_cache(maxsize=len(PRESETS))
def preset(name: str) -> Preset:
    """The preset of this name. Raises SpecError if there is none."""
    if name not in PRESETS:
        raise SpecError(f"preset {name}: unknown; there are {', '.join(PRESETS)}")
    lines = files("p2pnet.netem").joinpath("data", f"{name}.csv").read_text(encoding="utf-8").splitlines()
    facts = " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    return Preset(
        name=name,
        facts=facts,
        places=tuple(dict.fromkeys(row["from"] for row in rows)),
        measured=_measured(rows[0]),
        paths={(row["from"], row["to"]): _path(row) for row in rows},
    )


def _measured(columns: Iterable[str]) -> tuple[str, ...]:
    fields = {"rtt_ms": "delay_ns", "rtt_p50_ms": "delay_ns", "rtt_p90_ms": "jitter_ns", "loss": "loss"}
    return tuple(fields[one] for one in columns if one in fields)


def _path(row: dict[str, str]) -> LinkShape:
    rtt_ms = float(row.get("rtt_ms") or row["rtt_p50_ms"])
    delay_ns, jitter_ns = round(rtt_ms / 2 * _MS), 0
    if "rtt_p90_ms" in row:
        rtt_std_ms = (float(row["rtt_p90_ms"]) - rtt_ms) / _P90
        most_ns = jitter_max_ns(delay_ns, "normal", keep_order=True)
        jitter_ns = min(round(rtt_std_ms / math.sqrt(2) * _MS), most_ns)
    return LinkShape(delay_ns=delay_ns, jitter_ns=jitter_ns, loss=float(row.get("loss", 0)))
