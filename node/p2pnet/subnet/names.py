"""Names, keys, values and amounts, ours and as Kubernetes writes them, with words for what is none. For the shapes.

What is Kubernetes' follows its API server, which refuses pods that break its rules; where its versions differ, the strictest.
A Subnet is refused by the same patterns, in the same words, at `kubectl apply`.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from p2pnet.model import limits
from p2pnet.model.ids import CLIENT_NAME, GROUP_NAME, SUBNET_NAME
from p2pnet.subnet.quantities import Text, Worded, is_whole, pattern_schema, wrong

AMOUNT_CHARS_MAX = 32
NUMBER_END = 1 << 63  # an API server makes larger numbers inexact, and takes none with a fraction
HUGE_PAGES = "hugepages-"
PAGE = r"[1-9][0-9]{0,5}[KMGT]i"
QUOTA = "requests."
"""Begins what quotas call the requests of a vendor's resource by: no resource's own name begins so."""
RESOURCE_DOMAIN_CHARS_MAX = limits.NAME_CHARS_MAX - len(QUOTA)
PAGED_BYTES_END = 1 << 53  # fewer are counted exactly by an API server
NO_PAGES = "no whole number of such pages"
_WORD = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

KEY = Worded(
    rf"^({_DOMAIN}/)?{_WORD}$",
    "no key of a label or an annotation: write up to 63 letters, digits, -, _ and ., after a domain and / if any, like"
    " example.com/team",
)
LABEL_VALUE = Worded(
    rf"^({_WORD})?$",
    "no value of a label: write up to 63 letters, digits, -, _ and ., a letter or digit first and last",
)
VARIABLE = Worded(
    r"^([-_A-Za-z]|\.[-_A-Za-z0-9])[-._A-Za-z0-9]*$",
    "no name of a variable: write letters, digits, _, - and ., no digit and no two dots first, like LOG_LEVEL",
)
RESOURCE = Worded(
    rf"^(cpu|memory|ephemeral-storage|{HUGE_PAGES}{PAGE}|{_DOMAIN}/{_WORD})$",
    "no resource: write cpu, memory, ephemeral-storage, hugepages-2Mi, or one of a vendor like nvidia.com/gpu",
)
AMOUNT = Worded(
    r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,2})?$",
    "no amount: write it as Kubernetes does, like 500m or 64Mi",
)
COUNTED = Worded(
    r"^[0-9]+(\.0*)?([KMGTPE]i|[kMGTPE]|[eE]\+?[0-9]{1,2})?$",
    "no whole number, and resources of a vendor are counted: write it like 1",
)
OBJECT_NAME = Worded(
    rf"^{_DOMAIN}$", "no name of an object: write lower case letters, digits, - and ., like registry-login"
)
CONFIG_KEY = Worded(
    r"^([-_A-Za-z0-9]|\.[-_A-Za-z0-9])[-._A-Za-z0-9]*$",
    "no key of a ConfigMap: write letters, digits, -, _ and ., no two dots first, like edges",
)
IMAGE = Worded(r"^[!-~]+$", "no image: write a name without spaces, like registry.example/p2pnet-node:1")
PROFILE = Worded(
    r"^[A-Za-z0-9_][-A-Za-z0-9_.]*(/[A-Za-z0-9_][-A-Za-z0-9_.]*)*$",
    "no profile: write a path below the folder of profiles of the machine, like profiles/p2pnet.json",
)
SHARED_RESOURCES = ("cpu", "memory", "ephemeral-storage")
"""Those of which pods may use more than they request; of all others request and limit are the same."""
OWNED_KEY = r"^(([^/]*\.)?p2pnet\.io|(app\.|controller\.)?kubernetes\.io|k8s\.io)/"
"""Begins keys of pods that are not the user's: the operator finds its pods by them, or Kubernetes means something by them. What
stands below other parts of kubernetes.io is: an autoscaler's safe-to-evict, say."""
OWNED = "set by Kubernetes or by p2pnet: choose another key"

_SCALE: dict[str, Decimal | int] = {
    "": 1, "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    **{unit: 1000**power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", 1)},
}  # fmt: skip


def amount_of(text: str | int) -> Decimal:
    """The number in an amount that was checked."""
    found = re.match(r"[0-9.]+([eE][-+]?[0-9]{1,2})?", str(text))
    number = found.group() if found else ""
    return Decimal(number) * _SCALE[str(text).removeprefix(number)]


def _check_amount(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int) or (isinstance(value, int) and value >= NUMBER_END):
        raise wrong(str(value), f"{AMOUNT.words}; a fraction or a number beyond 2^63 in quotes, like '0.5'")
    if len(str(value)) > AMOUNT_CHARS_MAX:
        raise PydanticCustomError("amount", "write at most {chars} characters", {"chars": AMOUNT_CHARS_MAX})
    AMOUNT.check(str(value))
    return value


def _check_keys(values: Mapping[str, Any], words: Worded) -> None:
    for key in values:
        if len(key) > limits.NAME_CHARS_MAX:
            raise wrong(key, words.words)
        words.check(key)


def _check_resources(amounts: dict[str, Any]) -> dict[str, Any]:
    _check_keys(amounts, RESOURCE)
    for key, amount in amounts.items():
        domain, slash, _ = key.partition("/")
        if slash and (key.startswith(QUOTA) or len(domain) > RESOURCE_DOMAIN_CHARS_MAX):
            raise wrong(key, RESOURCE.words)
        if slash and not is_whole(COUNTED.pattern, str(amount)):
            raise _wrong_amount(key, amount, COUNTED.words)
        page = amount_of(key.removeprefix(HUGE_PAGES)) if key.startswith(HUGE_PAGES) else 0
        if page and (size := amount_of(amount)) < PAGED_BYTES_END and size % page:
            raise _wrong_amount(key, amount, NO_PAGES)
    return amounts


def _wrong_amount(key: str, amount: object, words: str) -> PydanticCustomError:
    return PydanticCustomError("amount", "{said}", {"said": f"{key}: {str(amount)!r} is {words}"})


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    _check_keys(labels, KEY)
    for key, value in labels.items():
        if not is_whole(LABEL_VALUE.pattern, value):
            raise PydanticCustomError("label", "{said}", {"said": f"{key}: {value!r} is {LABEL_VALUE.words}"})
    return labels


def _check_annotations(annotations: dict[str, str]) -> dict[str, str]:
    _check_keys(annotations, KEY)
    return annotations


def _check_object_annotations(annotations: dict[str, str]) -> dict[str, str]:
    """Annotations of the document itself: Kubernetes takes capitals in the domain there."""
    _check_keys({key.lower(): None for key in annotations}, KEY)
    return annotations


def _check_not_owned(values: dict[str, str]) -> dict[str, str]:
    for key in values:
        if re.match(OWNED_KEY, key):
            raise wrong(key, OWNED)
    return values


def _check_environment(values: dict[str, str]) -> dict[str, str]:
    _check_keys(values, VARIABLE)
    return values


SubnetName = Annotated[
    str,
    Worded(
        f"^{SUBNET_NAME.pattern}$",
        "no name of a subnet: write up to 40 lower case letters, digits and -, a letter first, like demo",
    ),
]
GroupName = Annotated[
    str,
    Worded(
        f"^{GROUP_NAME.pattern}$",
        "no name of a group: write up to 12 lower case letters and digits, a letter first, like eu",
    ),
]
ClientName = Annotated[
    str,
    Worded(
        f"^{CLIENT_NAME.pattern}$",
        "no name of a client: write up to 12 lower case letters and digits, a letter first, like blob",
    ),
]
FaultName = Annotated[
    str,
    Worded(
        r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
        "no name of a fault: write up to 63 lower case letters, digits and -, like cut-eu",
    ),
]
ClassPath = Annotated[
    Text, Worded(r"^[A-Za-z0-9_.]+:[A-Za-z0-9_]+$", "no class: write its module and its name, like chat:Chat")
]
TrustDomain = Annotated[
    Text,
    Worded(
        r"^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$",
        "no trust domain: write lower case letters, digits, -, . and _, like testing",
    ),
]
ObjectName = Annotated[Text, OBJECT_NAME]
ConfigKey = Annotated[Text, CONFIG_KEY]
Image = Annotated[Text, IMAGE]
Identifier = Annotated[int, Field(ge=0, lt=1 << 31)]
Amount = Annotated[
    Any,
    AfterValidator(_check_amount),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": AMOUNT_CHARS_MAX,
            "minimum": 0,
            **pattern_schema(AMOUNT.pattern, AMOUNT.words),
        }
    ),
]
Amounts = Annotated[dict[str, Amount], Field(max_length=16), AfterValidator(_check_resources)]
Labels = Annotated[dict[str, Text], Field(max_length=32), AfterValidator(_check_labels)]
PodLabels = Annotated[Labels, AfterValidator(_check_not_owned)]
PodAnnotations = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]],
    Field(max_length=32),
    AfterValidator(_check_annotations),
    AfterValidator(_check_not_owned),
]
Environment = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64), AfterValidator(_check_environment)
]
ObjectLabels = Annotated[dict[str, str], AfterValidator(_check_labels)]
ObjectAnnotations = Annotated[dict[str, str], AfterValidator(_check_object_annotations)]
Namespace = Annotated[
    str,
    Field(max_length=63),
    Worded(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "no namespace: write lower case letters, digits and -, like testing"),
]
