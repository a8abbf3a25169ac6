# ruff: noqa: RUF012 - pydantic copies mutable defaults for every instance
"""The shapes of the Scenario document, field by field, with bounds and defaults."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from p2pnet.measure.pace import OfferedPace
from p2pnet.measure.pace import parse as parse_pace
from p2pnet.model import limits, units
from p2pnet.model.expectation_words import EXPRESSION_CHARS_MAX
from p2pnet.model.load_stages import PACE_CHARS_MAX
from p2pnet.subnet.names import SubnetName
from p2pnet.subnet.network_spec import FaultSpec
from p2pnet.subnet.quantities import Document, DurationText, Quantity, ShareText, SizeText, Text
from p2pnet.subnet.spec import API_VERSION, DEFAULT_GROUP, SIMULATED_NODES_MAX, Spec

KIND = "Scenario"
STEPS_MAX = 100  # of one sequence
BRANCHES_MAX = 16  # steps at the same time
EXPRESSIONS_MAX = 32  # of one step
FILES_MAX = 16  # of one run, as many as `inject` reads from pipes
STEP_NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"  # a fault's, for it is the fault's name

StepKind = Literal[
    "inject",
    "withdraw",
    "expect",
    "fault",
    "heal",
    "scale",
    "restart",
    "upgrade",
    "rotate",
    "wait",
    "parallel",
    "steps",
]
STEP_KINDS: tuple[StepKind, ...] = (
    "inject", "withdraw", "expect", "fault", "heal", "scale", "restart", "upgrade", "rotate", "wait", "parallel", "steps"
)  # fmt: skip
Expression = Annotated[str, Field(min_length=1, max_length=EXPRESSION_CHARS_MAX)]


def _several(value: object) -> object:
    """One text is a list of one."""
    return [value] if isinstance(value, str) else value


def _one_or_more(chars_max: int, items_max: int) -> WithJsonSchema:
    text = {"type": "string", "minLength": 1, "maxLength": chars_max}
    return WithJsonSchema({"anyOf": [text, {"type": "array", "items": text, "minItems": 1, "maxItems": items_max}]})


Expressions = Annotated[
    list[Expression], Field(min_length=1, max_length=EXPRESSIONS_MAX), BeforeValidator(_several),
    _one_or_more(EXPRESSION_CHARS_MAX, EXPRESSIONS_MAX),
]  # fmt: skip
Names = Annotated[
    list[Text], Field(min_length=1, max_length=STEPS_MAX), BeforeValidator(_several),
    _one_or_more(limits.NAME_CHARS_MAX, STEPS_MAX),
]  # fmt: skip


class Abbreviated(Document):
    """A part of the document that may be written as one text, the value of one of its keys: `wait: 10s`."""

    @classmethod
    def key_meant(cls) -> str:
        """The key that a text alone gives."""
        raise TypeError(f"{cls.__name__} says no key")

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, value: object) -> object:
        return {cls.key_meant(): value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        found = handler.resolve_ref_schema(super().__get_pydantic_json_schema__(schema, handler))
        whole = dict(found)
        found.clear()
        found.update({"anyOf": [{"type": "string"}, whole]})
        return found


class PaceText(Quantity):
    """`10/s`, or `2/s for 30s, then 2/s to 20/s over 1m, then 20/s`."""

    __slots__ = ()
    pattern = r"^\s*[0-9]+(\.[0-9]+)?\s*/[smh][\s\S]*$"
    words = units.NO_RATE
    chars_max = PACE_CHARS_MAX

    @staticmethod
    def parse(text: str) -> float:
        """As `measure.pace.parse`: the first rate above zero."""
        return parse_pace(text).constant_per_s

    @property
    def pace(self) -> OfferedPace:
        """The rates and their times."""
        return parse_pace(self)


class InjectSpec(Document):
    """Publish artifacts and follow them to their end: one run, whose report is kept like every other."""

    size: SizeText | None = None
    """Size of generated artifacts, with its unit, e.g. 64KiB. Default: 64KiB, unless files are given."""
    files: Annotated[list[Text], Field(max_length=FILES_MAX)] = []
    """Files to publish instead, by their paths from the scenario's own folder, e.g. [photo.jpg]. Default: none."""
    count: Annotated[int, Field(ge=1, le=limits.RUN_ARTIFACTS_MAX)] | None = None
    """How often each is published, e.g. 20. Default: 1; of a rate whose stages all say a time, as many as they hold."""
    rate: PaceText | None = None
    """Artifacts per time, e.g. 10/s, or stages, e.g. "2/s for 30s, then 2/s to 20/s over 1m, then 20/s".
    Default: a burst, all at once."""
    from_: Annotated[Text, Field(alias="from")] = "random"
    """Who publishes: a node, random, or all, each its own. Default: random."""
    client: Text | None = None
    """The client whose artifacts they are, e.g. chat. Default: blob, else the first of the subnet."""
    within: DurationText = DurationText("60s")
    """How long after the last publication a receipt counts, with its unit, e.g. 10s. Default: 60s."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    """Number from which publishers and bytes are drawn, e.g. 7. Default: the trial's, so that runs are alike."""
    expect: Expressions | None = None
    """What must hold, e.g. [p95 <= 800ms]. reach == 100% must, too, unless an expectation about the run names reach.
    Default: nothing more."""


class StepFault(FaultSpec):
    """Something that is wrong from now on with links or nodes, as in spec.faults of a Subnet; its name is the step's."""

    name: Annotated[str, Field(json_schema_extra={"readOnly": True})] = "x"
    """The step's name stands beside `fault`. Not to be written here."""


class ScaleSpec(Document):
    """Another number of nodes; over when the subnet is connected."""

    nodes: Annotated[int, Field(ge=0, le=SIMULATED_NODES_MAX)]
    """Number of nodes of the group, e.g. 12. Required."""
    group: Text = DEFAULT_GROUP
    """The group, e.g. eu. Default: node."""
    within: DurationText = DurationText("120s")
    """Time to be connected, with its unit, e.g. 60s. Default: 120s."""


class RestartSpec(Abbreviated):
    """Nodes restarted in good order, all at once; over when the subnet is connected."""

    nodes: Text
    """Selector of the nodes, or a share of all, e.g. node-3, region=eu, 20% or *. Required."""
    within: DurationText = DurationText("60s")
    """Time to be connected again, with its unit, e.g. 30s. Default: 60s."""

    @classmethod
    def key_meant(cls) -> str:
        """`restart: node-3`."""
        return "nodes"


class UpgradeSpec(Abbreviated):
    """Nodes replaced, some at a time, each time over when the subnet is connected again."""

    image: Text | None = None
    """Node image to roll out, in a cluster; the operator rolls it. Default: none, nodes are restarted as they are."""
    nodes: Text = "*"
    """Without an image: selector of the nodes, e.g. group=next. Default: *, every node."""
    max_unavailable: Annotated[int, Field(ge=1, le=limits.NODES_MAX)] = 1
    """Without an image: how many nodes are away at a time, e.g. 2. Default: 1."""
    within: DurationText = DurationText("60s")
    """Time to be connected again after each step of the roll, with its unit, e.g. 30s; with an image after all of it.
    Default: 60s."""

    @classmethod
    def key_meant(cls) -> str:
        """`upgrade: "*"`."""
        return "nodes"


class RotateSpec(Document):
    """New certificates for all nodes, which connect anew with them; over when all use theirs and are connected."""

    within: DurationText = DurationText("60s")
    """Time for it, with its unit, e.g. 30s. Default: 60s."""


class WaitSpec(Abbreviated):
    """Time passes, or until something is so. A condition that does not come true in its time is a failed expectation."""

    for_: Annotated[DurationText | None, Field(alias="for")] = None
    """How long to wait, with its unit, e.g. 10s. Give this, or one condition."""
    connected: ShareText | None = None
    """Until this share of edges is up, e.g. 100%. Default: none."""
    holds: Names | None = None
    """Until every honest node holds all that these inject steps published, nodes that joined later too, e.g. before.
    Default: none."""
    gone: Names | None = None
    """Until no honest node holds anything that these inject steps published, e.g. before. Default: none."""
    idle: ShareText | None = None
    """Until this share of honest nodes has nothing left to do, and stays so for some seconds, e.g. 100%. Default: none."""
    promise: Literal["kept"] | None = None
    """kept: until what the broadcast promises is kept by all honest nodes, and all are at rest. A rule of the protocol that was
    broken before, since the subnet was up, fails it at once. In the simulator alone, which looks into nodes. Default: none."""
    within: DurationText | None = None
    """With a condition: how long to wait for it at most, with its unit, e.g. 30s. Default: 60s."""

    @classmethod
    def key_meant(cls) -> str:
        """`wait: 10s`."""
        return "for"


class StepSpec(Document):
    """One step: one of the verbs, with its name and time."""

    name: Annotated[str, Field(pattern=f"^{STEP_NAME}$")] | None = None
    """Name by which expectations, heal and wait mean it, e.g. before. Default: none."""
    at: DurationText | None = None
    """In parallel: how long after the others it begins, with its unit, e.g. 5s. Default: with them."""
    inject: InjectSpec | None = None
    """Publish artifacts: one run, e.g. {size: 64KiB, count: 20, rate: 10/s}."""
    withdraw: Names | None = None
    """What these inject steps published is taken back from every node, by their names, e.g. before."""
    expect: Expressions | None = None
    """What must hold of runs before, by their names, e.g. [before.p95 <= 800ms, after.p99 <= 1.5 * before.p99]."""
    fault: StepFault | None = None
    """Something goes wrong from now on, e.g. {partition: {minority: 30%}} or {from: node-3, loss: 20%, for: 30s}."""
    heal: Names | None = None
    """Faults that end now, by the names of their steps, e.g. split; all of them: "*"."""
    scale: ScaleSpec | None = None
    """Another number of nodes, e.g. {nodes: 12}."""
    restart: RestartSpec | None = None
    """Nodes restarted all at once, e.g. node-3 or 20%."""
    upgrade: UpgradeSpec | None = None
    """Nodes replaced one after the other, e.g. {maxUnavailable: 2}."""
    rotate: RotateSpec | None = None
    """New certificates for all nodes, e.g. {}."""
    wait: WaitSpec | None = None
    """Time passes, e.g. 10s, or until something is so, e.g. {connected: 100%, within: 30s}."""
    parallel: Annotated[list["StepSpec"], Field(min_length=1, max_length=BRANCHES_MAX)] | None = None
    """Steps at the same time, e.g. [{inject: {count: 100, rate: 10/s}}, {at: 3s, fault: {from: node-1, kill: true}}]."""
    steps: Annotated[list["StepSpec"], Field(min_length=1, max_length=STEPS_MAX)] | None = None
    """In parallel: steps that follow each other, beside the other branches."""

    @property
    def kinds(self) -> list[StepKind]:
        """The verbs that are given: one, in a document without contradictions."""
        return [kind for kind in STEP_KINDS if getattr(self, kind) is not None]

    @property
    def kind(self) -> StepKind:
        """Its verb."""
        return self.kinds[0]


class ScenarioSpec(Document):
    """A subnet, and what happens to it."""

    subnet: Spec | None = None
    """The subnet, as under spec of a Subnet document, e.g. {nodes: 8}. Give this or subnetFrom."""
    subnet_from: Text | None = None
    """File of a Subnet document instead, by its path from the scenario's own folder, e.g. ../subnet.yaml."""
    steps: Annotated[list[StepSpec], Field(min_length=1, max_length=STEPS_MAX)]
    """What happens, in this order, e.g. [{name: all, inject: {count: 20, rate: 10/s}}]. Required."""


class ScenarioMetadata(Document):
    """Its name, and what it is about."""

    name: SubnetName
    """The scenario's name, and that of its subnet, at most 40 characters, e.g. partition-and-heal. Required."""
    description: Annotated[str, Field(max_length=2_000)] = ""
    """What it shows, in a sentence or two. Default: none."""


class Scenario(Document):
    """One scenario: `apiVersion`, `kind`, `metadata`, `spec`."""

    api_version: Literal["p2pnet.io/v1alpha1"]
    kind: Literal["Scenario"]
    metadata: ScenarioMetadata
    spec: ScenarioSpec

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.metadata.name


def subnet_document(scenario: Scenario, spec: dict[str, Any]) -> dict[str, Any]:
    """The Subnet document of an inline `spec.subnet`."""
    return {"apiVersion": API_VERSION, "kind": "Subnet", "metadata": {"name": scenario.name}, "spec": spec}
