"""Quantities of the document in the rules of both definitions: which text is one, and what a pattern cannot say of it. Pure."""

from p2pnet.model import units
from p2pnet.operator.kube.cel import CelRule, is_like, is_whole, number, said
from p2pnet.subnet.quantities import Quantity, RateText, ShareText, SizeText


def is_a(kind: type[Quantity], text: str) -> str:
    """CEL expression: whether a text is a quantity of this kind, as whoever reads its number must know."""
    return is_like(text, kind.pattern)


def is_share(text: str) -> str:
    """CEL expression: whether a text that is of a share's pattern is at most 100%. By its digits: a double has too few."""
    return is_like(text, r"^0*(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)\s*%$")


def _rule(holds: str, words: str) -> CelRule:
    return CelRule(holds, words, said("self", words))


QUANTITY_RULES = {
    SizeText.pattern: _rule(is_whole("self"), units.NO_WHOLE_SIZE),
    ShareText.pattern: _rule(is_share("self"), units.NO_SHARE),
    RateText.pattern: _rule(f"{number('self')} > 0.0", units.NO_RATE),
}
"""Pattern -> what else must hold of a text of it."""
