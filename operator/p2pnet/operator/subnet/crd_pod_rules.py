"""The checks of pods, labels and variables that CEL makes: those of `p2pnet.subnet.names` and `pod_checks`. Pure."""

from p2pnet.model import limits
from p2pnet.operator.kube.cel import CelRule, is_like, said
from p2pnet.subnet import pod_checks
from p2pnet.subnet.checks import OWN_LABEL, OWN_LABELS
from p2pnet.subnet.names import (
    AMOUNT,
    COUNTED,
    HUGE_PAGES,
    KEY,
    LABEL_VALUE,
    NO_PAGES,
    OWNED,
    OWNED_KEY,
    PAGE,
    PAGED_BYTES_END,
    QUOTA,
    RESOURCE,
    RESOURCE_DOMAIN_CHARS_MAX,
    SHARED_RESOURCES,
    VARIABLE,
)
from p2pnet.subnet.quantities import Worded

Rules = dict[tuple[str, ...], list[CelRule]]


def _none(wrong: str, words: str, told: str) -> CelRule:
    """No key of this object is `wrong`, which is CEL; `told`: CEL of what the first one is told."""
    return CelRule(f"!self.exists(key, {wrong})", words, f"self.map(key, {wrong}, {told})[0]")


def _keys(worded: Worded, *wrong: str) -> CelRule:
    """Every key is of this form; `wrong`: CEL of what else one may not be."""
    any_of = " || ".join([f"size(key) > {limits.NAME_CHARS_MAX}", f"!{is_like('key', worded.pattern)}", *wrong])
    return _none(f"({any_of})", worded.words, said("key", worded.words))


def _values(worded: Worded) -> CelRule:
    return _no_value(f"!{is_like('self[key]', worded.pattern)}", worded.words, "self[key]")


def _no_value(wrong: str, words: str, text: str) -> CelRule:
    """No value is `wrong`, which is CEL; `text`: CEL of it as a text."""
    return _none(wrong, words, f"key + ': ' + {said(text, words)}")


_LABELS = [_keys(KEY), _values(LABEL_VALUE)]
_NOT_OWNED = _none(is_like("key", OWNED_KEY), OWNED, said("key", OWNED))
_IS_SHARED = f"key in [{', '.join(map(repr, SHARED_RESOURCES))}]"
_BOTH = "has(self.requests) && has(self.limits)"


def _amount(part: str) -> str:
    return f"quantity(string(self.{part}[key]))"


def _both_are_amounts() -> str:
    return " && ".join(f"isQuantity(string(self.{part}[key]))" for part in ("requests", "limits"))


def _resources() -> list[CelRule]:
    above = f"key in self.limits && {_both_are_amounts()} && {_amount('requests')}.isGreaterThan({_amount('limits')})"
    told = f"key + ': ' + string(self.requests[key]) + ' {pod_checks.ABOVE} ' + string(self.limits[key])"
    alone = {
        "requests": f"!({_IS_SHARED}) && !(has(self.limits) && key in self.limits)",
        "limits": f"!({_IS_SHARED}) && !(has(self.requests) && key in self.requests && (!({_both_are_amounts()})"
        f" || !{_amount('requests')}.isLessThan({_amount('limits')})))",
    }
    not_shared = [
        CelRule(
            f"!has(self.{part}) || !self.{part}.exists(key, {wrong})", pod_checks.NOT_SHARED,
            f"self.{part}.map(key, {wrong}, key + ' {pod_checks.NOT_SHARED}')[0]", ".requests",
        )
        for part, wrong in alone.items()
    ]  # fmt: skip
    return [
        CelRule(
            f"!({_BOTH}) || !self.requests.exists(key, {above})", pod_checks.ABOVE,
            f"self.requests.map(key, {above}, {told})[0]", ".requests",
        ),
        *not_shared,
    ]  # fmt: skip


_TEXT = "string(self[key])"
_IS_AMOUNT = f"{is_like(_TEXT, AMOUNT.pattern)} && isQuantity({_TEXT})"
_BYTES = f"quantity({_TEXT}).asApproximateFloat()"
_PAGE = f"(int(key.find('[0-9]+')) * {{'Ki': {1 << 10}, 'Mi': {1 << 20}, 'Gi': {1 << 30}, 'Ti': {1 << 40}}}[key.find('.i$')])"
_COUNTED = _no_value(
    f"key.contains('/') && {is_like(_TEXT, AMOUNT.pattern)} && !{is_like(_TEXT, COUNTED.pattern)}", COUNTED.words, _TEXT
)
_PAGES = _no_value(
    f"{is_like('key', f'^{HUGE_PAGES}{PAGE}$')} && {_IS_AMOUNT}"
    f" && {_BYTES} < {float(PAGED_BYTES_END)!r} && (int({_BYTES} + 0.5) % {_PAGE} != 0"
    f" || sign(quantity({_TEXT}).sub(int({_BYTES} + 0.5))) != 0)",
    NO_PAGES, _TEXT,
)  # fmt: skip
_RESOURCES = [
    _keys(RESOURCE, f"(key.contains('/') && (key.startsWith('{QUOTA}') || key.indexOf('/') > {RESOURCE_DOMAIN_CHARS_MAX}))"),
    _COUNTED, _PAGES,
]  # fmt: skip
_EXISTS = "(has(self.operator) && self.operator == 'Exists')"
_TOLERATION = [
    CelRule(f"has(self.key) || {_EXISTS}", pod_checks.WITHOUT_KEY, path=".operator"),
    CelRule(f"!has(self.value) || self.value == '' || !{_EXISTS}", pod_checks.BESIDE_EXISTS, path=".value"),
    CelRule(
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        pod_checks.SECONDS,
        path=".effect",
    ),
]
_SECCOMP = [
    CelRule("(self.type == 'Localhost') == has(self.localhostProfile)", pod_checks.PROFILE_OF, path=".localhostProfile")
]
_ESCALATES = "!has(self.allowPrivilegeEscalation) || self.allowPrivilegeEscalation"
_CONTAINER = [
    CelRule(
        f"{_ESCALATES} || !has(self.privileged) || !self.privileged", pod_checks.PRIVILEGED,
        path=".allowPrivilegeEscalation",
    ),
    CelRule(
        f"{_ESCALATES} || !has(self.capabilities) || !has(self.capabilities.add)"
        " || !('CAP_SYS_ADMIN' in self.capabilities.add)",
        pod_checks.SYS_ADMIN,
        path=".allowPrivilegeEscalation",
    ),
]  # fmt: skip


def _pod(*place: str) -> Rules:
    return {
        (*place, "labels"): [*_LABELS, _NOT_OWNED], (*place, "annotations"): [_keys(KEY), _NOT_OWNED],
        (*place, "nodeSelector"): _LABELS, (*place, "tolerations", "[]"): _TOLERATION,
        (*place, "securityContext", "seccompProfile"): _SECCOMP,
        (*place, "containerSecurityContext", "seccompProfile"): _SECCOMP,
        (*place, "containerSecurityContext"): _CONTAINER,
    }  # fmt: skip


def _resource_rules(*place: str) -> Rules:
    return {place: _resources()} | {(*place, part): _RESOURCES for part in ("requests", "limits")}


_OWN = f"key in [{', '.join(map(repr, OWN_LABELS))}]"
POD_RULES: Rules = {
    ("groups", "[]", "labels"): [
        *_LABELS,
        _none(_OWN, OWN_LABEL, said("key", OWN_LABEL)),
    ],
    ("groups", "[]", "env"): [_keys(VARIABLE)],
    **_pod("pod"),
    **_pod("groups", "[]", "pod"),
    **_resource_rules("pod", "resources"),
    **_resource_rules("groups", "[]", "pod", "resources"),
    **_resource_rules("lab", "resources"),
}
"""As `crd_rules.RULES`."""
