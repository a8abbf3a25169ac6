"""How fast artifacts are offered, as people write it: `10/s`, or `2/s for 30s, then 2/s to 20/s over 1m, then 20/s`. Pure.

The one home of that grammar, for whoever must refuse a wrong one without publishing anything; `measure.pace` says what it means.
"""

import re

from p2pnet.model.errors import SpecError
from p2pnet.model.report import LoadStage
from p2pnet.model.units import format_duration, parse_duration, parse_rate

STAGES_MAX = 32
STAGES_S_MAX = 86_400.0  # a day, all stages together
RATE_MAX = 1e6  # per second
PACE_CHARS_MAX = 1_000
HOW = "write a number per time above zero, like 2/s or 30/m, or stages, like '2/s for 30s, then 2/s to 20/s over 1m'"
NO_TIME = "takes no time: write more than zero"
ENDLESS_ZERO = "would go on without publishing: write a rate above zero, or a time"

_RATE = r"[0-9]+(?:\.[0-9]+)?\s*/[smh]"
_STAGE = re.compile(rf"({_RATE})(?:\s+to\s+({_RATE}))?(?:\s+(for|over)\s+(.+))?")
_NEXT = re.compile(r"\s*,\s*(?:then\s+)?|\s+then\s+")


def read_stages(text: str) -> list[LoadStage]:
    """The stages in a text, one at least, whose `artifacts` are 0. Raises SpecError naming the stage and what is allowed."""
    if len(text) > PACE_CHARS_MAX:
        raise SpecError(f"a rate has at most {PACE_CHARS_MAX} characters, this one {len(text)}")
    parts = _NEXT.split(text.strip())
    if len(parts) > STAGES_MAX:
        raise SpecError(f"{len(parts)} stages are too many: at most {STAGES_MAX}")
    stages = [_stage(text, number, part, last=number == len(parts)) for number, part in enumerate(parts, start=1)]
    if all(one.from_per_s == one.to_per_s == 0 for one in stages):
        raise SpecError(f"{text!r} is no rate: {HOW}")
    if (total := sum(one.for_s or 0.0 for one in stages)) > STAGES_S_MAX:
        raise SpecError(f"the stages of {text!r} take {format_duration(total)}: at most a day")
    return stages


def _stage(text: str, number: int, part: str, *, last: bool) -> LoadStage:
    match = _STAGE.fullmatch(part)
    if match is None:
        if number == 1 and last:
            raise SpecError(f"{text!r} is no rate: {HOW}")
        raise _error(text, number, part, "is not written like 20/s, 2/s for 30s, or 2/s to 20/s over 30s")
    begin, to, word, time = match.groups()
    try:
        rates = [_rate(one) for one in (begin, to or begin)]
        for_s = None if time is None else parse_duration(time)
    except SpecError as error:
        raise _error(text, number, part, str(error)) from None
    if for_s is None and not last:
        raise _error(text, number, part, "says no time, and another stage follows: write it like 2/s for 30s")
    if to is not None and for_s is None:
        raise _error(text, number, part, "is a ramp that says no time: write it like 2/s to 20/s over 30s")
    if to is None and word == "over":
        raise _error(text, number, part, "is no ramp: write it like 2/s for 30s, or 2/s to 20/s over 30s")
    if for_s is not None and for_s <= 0:
        raise _error(text, number, part, NO_TIME)
    if max(rates) > RATE_MAX:
        raise _error(text, number, part, "is more than a million per second")
    if for_s is None and rates[0] == 0:
        if number == 1:
            raise SpecError(f"{text!r} is no rate: {HOW}")
        raise _error(text, number, part, ENDLESS_ZERO)
    return LoadStage(from_per_s=rates[0], to_per_s=rates[1], for_s=for_s)


def _rate(text: str) -> float:
    return 0.0 if float(text.split("/", maxsplit=1)[0]) == 0 else parse_rate(text)


def _error(text: str, number: int, part: str, what: str) -> SpecError:
    return SpecError(f"stage {number} of the rate {text!r}: {part!r} {what}")
