"""What the API server refuses of an Injection at `kubectl apply`: the checks of `p2pnet.subnet.injection`, as CEL.

Stages of a rate that are more than 32, faster than a million per second or together longer than a day are seen in the first
reconciliation: CEL does not add them up. Names in the document, of nodes and clients, and whether stages that end at zero
publish as many as `count` says, are the lab's to judge: an Injection that it refuses ends Invalid.
"""

from p2pnet.model import limits
from p2pnet.model.load_stages import ENDLESS_ZERO, HOW, NO_TIME, RATE_MAX
from p2pnet.operator.kube.cel import CelRule, between, per_second, seconds, size_bytes
from p2pnet.subnet.injection import (
    BOTH_PAYLOADS,
    PLAIN_RATE,
    RATE_BOUNDS,
    TTL_MAX_S,
    TTL_MIN_S,
    WITHIN_MAX_S,
)

RULES: dict[tuple[str, ...], list[CelRule]] = {
    (): [
        CelRule("self == oldSelf", "an Injection cannot be changed: make another one, or delete it and apply again"),
        CelRule("!has(self.size) || !has(self.filesFrom)", BOTH_PAYLOADS, path=".size"),
    ],
    ("size",): [
        CelRule(between(size_bytes("self"), 1, limits.ARTIFACT_BYTES_MAX), "from 1B to 128Mi", "self + ': from 1B to 128Mi'"),
    ],
    ("rate",): [
        CelRule(
            f"!self.matches(r'{PLAIN_RATE}') ||"
            f" ({per_second('self')} > 0.0 && {per_second('self')} <= {RATE_MAX!r})", RATE_BOUNDS, f"self + ': {RATE_BOUNDS}'",
        ),
        CelRule(f"self.matches(r'{PLAIN_RATE}') || self.matches(r'[1-9][0-9.]*\\s*/')", f"is no rate: {HOW}"),
        CelRule(r"!self.matches(r'(for|over)\s+0+([.]0+)?\s*[a-z]')", NO_TIME),
        CelRule(
            f"self.matches(r'{PLAIN_RATE}') || !self.matches(r'[,n]\\s*0+([.]0+)?\\s*/[smh]$')", ENDLESS_ZERO,
        ),
    ],
    ("within",): [
        CelRule(
            f"{seconds('self')} > 0.0 && {seconds('self')} <= {float(WITHIN_MAX_S)!r}",
            "above zero and at most 1d", "self + ': above zero and at most 1d'",
        ),
    ],
    ("ttl",): [
        CelRule(between(seconds("self"), TTL_MIN_S, TTL_MAX_S), "from 10s to 3650d", "self + ': from 10s to 3650d'"),
    ],
}  # fmt: skip
"""Path in the spec, ITEMS for the items of a list -> its checks."""
