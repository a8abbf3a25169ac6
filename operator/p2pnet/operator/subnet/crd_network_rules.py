"""The checks of `spec.network` and `spec.faults` that CEL can make; `crd_rules` says which it cannot."""

from collections.abc import Iterator

from p2pnet.model.network import BANDWIDTH_BPS_MIN, DELAY_NS_MAX, JitterKind, jitter_max_ns
from p2pnet.model.units import NO_SHARE
from p2pnet.operator.kube.cel import CelRule, between, bits, number, per_second, said, seconds, size_bytes
from p2pnet.operator.subnet.crd_quantities import is_a, is_share
from p2pnet.subnet import network_checks
from p2pnet.subnet.placement import preset_figures
from p2pnet.subnet.quantities import DurationText, ShareText

Rules = dict[tuple[str, ...], list[CelRule]]

_PRESETS = ("ic-lhg73", "ic-io67", "aws")
_NOT_GIVEN = "and none is given"


def _given(field: str) -> str:
    """Whether a quantity is there and not 0; one that is none at all has a rule of its own."""
    *part, key = field.split(".")
    return f"(has({'.'.join(part)}.{key}) && {field}.matches('[1-9]'))"


def _any_of(*conditions: str) -> str:
    return " || ".join(conditions)


def _preset_with(figure: str) -> str:
    """Whether the preset in `self` gives this figure to links."""
    names = ", ".join(f"'{name}'" for name in _PRESETS if figure in preset_figures(name))
    return f"(has(self.preset) && self.preset in [{names}])"


def _most_of(part: str) -> str:
    """CEL expression: the largest jitter, as a share of its latency."""

    def share(kind: JitterKind, *, keep_order: bool) -> str:
        return repr(jitter_max_ns(10**9, kind, keep_order) / 1e9)

    uniform = f"(has({part}.distribution) && {part}.distribution == 'uniform')"
    loose = f"(has({part}.keepOrder) && !{part}.keepOrder)"
    return (
        f"({loose} ? ({uniform} ? {share('uniform', keep_order=False)} : {share('normal', keep_order=False)})"
        f" : ({uniform} ? {share('uniform', keep_order=True)} : {share('normal', keep_order=True)}))"
    )


def _belongs(part: str, below: str, field: str, idle: str, to: str, *, given: str, there: str = "true") -> CelRule:
    """A field that does something only beside another one. `idle`: the condition under which it asks for nothing."""
    return CelRule(
        f"!({there}) || !has({part}.{field}) || {idle} || {given}",
        f"belongs to {to}, {_NOT_GIVEN}",
        path=f"{below}.{field}",
    )


def _shape_rules(part: str = "self", below: str = "", there: str = "true", **presets: str) -> list[CelRule]:
    """What a shape may not be. `part`: where it is, `there`: whether it is; `presets`: conditions under which a preset gives
    a figure, by name.
    """
    latency = _any_of(_given(f"{part}.latency"), presets.get("latency", "false"))
    jitter = f"({_given(f'{part}.jitter')} && {is_a(DurationText, f'{part}.jitter')})"
    loss = _given(f"{part}.loss")
    is_latency, is_loss = is_a(DurationText, f"{part}.latency"), is_a(ShareText, f"{part}.loss")
    lost = f"{number(f'{part}.loss')} / 100.0"
    return [
        CelRule(
            f"!({there}) || !{jitter} || {latency}", "without a latency: give it the latency around which it varies",
            f"{part}.jitter + ' without a latency: give it the latency around which it varies'", f"{below}.jitter",
        ),
        CelRule(
            f"!({there}) || !{jitter} || !{_given(f'{part}.latency')} || !{is_latency} || {presets.get('latency', 'false')}"
            f" || {seconds(f'{part}.jitter')} <= {seconds(f'{part}.latency')} * {_most_of(part)}",
            "is too much for its latency", f"{part}.jitter + ' is too much for a latency of ' + {part}.latency",
            f"{below}.jitter",
        ),
        _belongs(part, below, "distribution", f"{part}.distribution == 'normal'", "a jitter", given=jitter, there=there),
        _belongs(
            part, below, "keepOrder", f"{part}.keepOrder", "a jitter",
            given=_any_of(jitter, presets.get("jitter", "false")), there=there,
        ),
        _belongs(
            part, below, "lossBurst", f"{part}.lossBurst == 1.0", "a loss",
            given=_any_of(loss, presets.get("loss", "false")), there=there,
        ),
        CelRule(
            f"!({there}) || !has({part}.lossBurst) || {part}.lossBurst == 1.0 || !{loss} || !{is_loss}"
            f" || {part}.lossBurst >= ({lost}) / (1.0 - {lost})",
            "so many losses come at least", path=f"{below}.lossBurst",
        ),
        _belongs(part, below, "queue", "false", "bandwidth", given=f"has({part}.bandwidth)", there=there),
        _belongs(
            part, below, "discipline", f"{part}.discipline == 'droptail'", "bandwidth",
            given=f"has({part}.bandwidth)", there=there,
        ),
    ]  # fmt: skip


_BANDWIDTH = CelRule(
    between(bits("self"), BANDWIDTH_BPS_MIN, network_checks.BANDWIDTH_BPS_MAX), network_checks.BANDWIDTH_WORDS,
    f"self + ': {network_checks.BANDWIDTH_WORDS}'",
)  # fmt: skip
_QUEUE = CelRule(
    between(size_bytes("self"), network_checks.QUEUE_BYTES_MIN, network_checks.QUEUE_BYTES_MAX), network_checks.QUEUE_WORDS,
    f"self + ': {network_checks.QUEUE_WORDS}'",
)  # fmt: skip
_LATENCY = CelRule(
    f"{seconds('self')} <= {DELAY_NS_MAX / 1e9!r}",
    network_checks.LATENCY_WORDS,
    f"self + ': {network_checks.LATENCY_WORDS}'",
)
_LOSS = CelRule(f"{number('self')} < 100.0", network_checks.LOSS_WORDS, f"self + ': {network_checks.LOSS_WORDS}'")
_REORDER = CelRule(
    f"{number('self')} < 100.0", network_checks.REORDER_WORDS, f"self + ': {network_checks.REORDER_WORDS}'"
)


def _shape_bounds(*place: str) -> Rules:
    return {
        (*place, "latency"): [_LATENCY], (*place, "loss"): [_LOSS], (*place, "reorder"): [_REORDER],
        (*place, "bandwidth"): [_BANDWIDTH], (*place, "queue"): [_QUEUE],
    }  # fmt: skip


def _line_rules(*place: str) -> Rules:
    limited = "has(self.up) || has(self.down)"
    return {
        place: [
            _belongs("self", "", "queue", "false", "up or down", given=limited),
            _belongs("self", "", "discipline", "self.discipline == 'droptail'", "up or down", given=limited),
        ],
        (*place, "up"): [_BANDWIDTH], (*place, "down"): [_BANDWIDTH], (*place, "queue"): [_QUEUE],
    }  # fmt: skip


_SHAPES = _any_of(
    *(_given(f"self.{key}") for key in ("latency", "jitter", "loss", "duplication", "reorder")),
    "has(self.bandwidth)", "has(self.mtu)",
)  # fmt: skip
_IS = {key: f"(has(self.{key}) && self.{key})" for key in ("block", "pause", "kill", "restart")}
_HAS = {key: f"has(self.{key})" for key in ("access", "partition", "churn")}
_KINDS = f"[{', '.join([f'({_SHAPES})', *_IS.values(), *_HAS.values()])}].filter(kind, kind)"
_LINKS = f"({_SHAPES} || {_IS['block']})"


def _fault_rules() -> Iterator[CelRule]:
    yield CelRule(f"size({_KINDS}) > 0", network_checks.NOTHING)
    yield CelRule(f"size({_KINDS}) <= 1", network_checks.ONE_KIND)
    yield CelRule(f"{_LINKS} || !has(self.to) || self.to == '*'", "belongs to a shape or a block", path=".to")
    yield CelRule(
        f"{_LINKS} || !has(self.bothWays) || !self.bothWays", "belongs to a shape or a block", path=".bothWays"
    )
    yield CelRule(
        "!has(self.partition) || !has(self.from) || self.from == '*'", "has no meaning with a partition", path=".from"
    )
    done_to_nodes = _any_of(_IS["pause"], _IS["kill"], _IS["restart"])
    yield CelRule(f"!({done_to_nodes}) || has(self.from)", network_checks.WHOM, path=".from")
    yield CelRule(
        "!has(self.access) || has(self.access.up) || has(self.access.down)", "does nothing: give it up or down",
        path=".access",
    )  # fmt: skip
    yield CelRule(
        "!has(self.partition) || has(self.partition.minority)"
        " != (has(self.partition.groups) && size(self.partition.groups) > 0)",
        "give one of minority and groups", path=".partition",
    )  # fmt: skip
    yield CelRule(
        f"!{_IS['restart']} || !has(self.__for__)",
        "a restart is done once; for a time away write kill with for",
        path=".for",
    )


def _bounded(text: str, low: float, high: float, words: str) -> list[CelRule]:
    return [CelRule(between(text, low, high), words, f"self + ': {words}'")]


_FAULT = ("faults", "[]")
NETWORK_RULES: Rules = {
    (): [
        CelRule(
            "!has(self.network) || !has(self.network.access) || !has(self.network.access.groups)"
            " || self.network.access.groups.all(name, name == 'node'"
            " || (has(self.groups) && self.groups.exists(group, group.name == name)))",
            "no group is named", path=".network.access.groups",
        ),
    ],
    ("network",): [
        CelRule(
            f"!has(self.lossMax) || {_preset_with('loss')}", "belongs to a preset with losses",
            "'belongs to a preset with losses, not to ' + (has(self.preset) ? self.preset : 'none')", ".lossMax",
        ),
        *_shape_rules(
            "self.default", ".default", "has(self.default)",
            **{figure: _preset_with(figure) for figure in ("latency", "jitter", "loss")},
        ),
    ],
    ("network", "rules", "[]"): _shape_rules(),
    _FAULT: [*_fault_rules(), *_shape_rules()],
    (*_FAULT, "from"): [
        CelRule(f"!{is_a(ShareText, 'self')} || {is_share('self')}", NO_SHARE, said("self", NO_SHARE)),
    ],
    (*_FAULT, "after"): _bounded(seconds("self"), 0, network_checks.FAULT_S_MAX, "at most 30d"),
    (*_FAULT, "for"): _bounded(
        seconds("self"), network_checks.FAULT_S_MIN, network_checks.FAULT_S_MAX, network_checks.FOR_WORDS
    ),
    (*_FAULT, "partition", "minority"): [
        CelRule(
            f"{number('self')} <= {100 * network_checks.MINORITY_MAX!r}", network_checks.MINORITY_WORDS,
            f"self + ': {network_checks.MINORITY_WORDS}'",
        ),
    ],
    (*_FAULT, "churn", "rate"): _bounded(per_second("self"), 0, network_checks.CHURN_PER_S_MAX, "at most 10/s"),
    (*_FAULT, "churn", "down"): _bounded(
        seconds("self"), network_checks.DOWN_S_MIN, network_checks.DOWN_S_MAX, "from 100ms to 1h"
    ),
    **_shape_bounds("network", "default"), **_shape_bounds("network", "rules", "[]"), **_shape_bounds(*_FAULT),
    **_line_rules("network", "access"), **_line_rules("network", "access", "groups", "{}"), **_line_rules(*_FAULT, "access"),
}  # fmt: skip
"""As `crd_rules.RULES`; `{}` is for the values of an object whose keys are the user's."""
