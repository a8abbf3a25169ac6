# ruff: noqa: RUF012 - pydantic copies mutable defaults for every instance
"""The shapes of `spec.network` and `spec.faults`: what links do, and what is wrong with them. `spec` has the rest."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from p2pnet.model import network
from p2pnet.subnet.names import FaultName
from p2pnet.subnet.quantities import (
    BandwidthText,
    Document,
    DurationText,
    RateText,
    ShareText,
    SizeText,
    Text,
    is_whole,
)

FaultKind = Literal["shape", "access", "block", "partition", "pause", "kill", "restart", "churn"]
Mtu = Annotated[int, Field(ge=network.MTU_MIN, le=network.MTU_MAX)]


class ShapeSpec(Document):
    """What a path does to packets, one way. What is left out, it does not do."""

    latency: DurationText | None = None
    """One-way delay, with its unit, e.g. 90ms; with a jitter its mean. Default: none."""
    jitter: DurationText | None = None
    """How far the delay varies, with its unit, e.g. 5ms: the standard deviation, or with distribution uniform the largest
    difference. The mean stays the latency. Default: none."""
    distribution: Literal["normal", "uniform"] = "normal"
    """How delays are spread: normal or uniform. Default: normal."""
    keep_order: bool = True
    """With jitter: whether packets stay in order, as in a queue; without it, e.g. false, each has a delay of its own and some
    overtake others. Default: true."""
    loss: ShareText | None = None
    """Share of packets that are lost, e.g. 0.2%. Default: none."""
    loss_burst: Annotated[float, Field(ge=1, le=network.LOSS_BURST_MAX)] = 1.0
    """Number of packets lost in a row on average (Gilbert-Elliott), e.g. 5. Default: 1, losses independent of each other."""
    duplication: ShareText | None = None
    """Share of packets that arrive twice, e.g. 0.1%. Default: none."""
    reorder: ShareText | None = None
    """Share of packets that are overtaken by others, e.g. 1%. Default: none."""
    bandwidth: BandwidthText | None = None
    """Bits per second at most, with their unit, e.g. 50Mbit. Default: no limit."""
    queue: SizeText | None = None
    """How much may wait for the bandwidth, a size with its unit, e.g. 256KiB. Default: 1MiB."""
    discipline: Literal["droptail", "codel"] = "droptail"
    """Which packets a queue drops: droptail, those that do not fit; codel, also those that waited too long. Default: droptail."""
    mtu: Mtu | None = None
    """The largest IP packet that passes, in bytes, from 1280, e.g. 1400; larger ones vanish. Default: any."""

    @property
    def shapes(self) -> bool:
        """Whether it does anything at all."""
        values = (self.latency, self.jitter, self.loss, self.duplication, self.reorder)
        return bool(self.bandwidth or self.mtu) or any(one is not None and one.number > 0 for one in values)


class RuleSpec(ShapeSpec):
    """A shape for the packets from some nodes to some others, one way.

    A selector is `*`, names of nodes joined by commas, or `key=value` parts joined by commas, over the groups' labels, `group`
    and `node`.
    """

    from_: Annotated[Text, Field(alias="from")] = "*"
    """Selector of the nodes that send, e.g. region=eu. Default: *, every node."""
    to: Text = "*"
    """Selector of the nodes that receive, e.g. node-3. Default: *, every node."""


class LineSpec(Document):
    """A node's access link, shared by all its peers."""

    up: BandwidthText | None = None
    """Bits per second that leave the node at most, with their unit, e.g. 100Mbit. Default: no limit."""
    down: BandwidthText | None = None
    """Bits per second that reach the node at most, with their unit, e.g. 1Gbit. Default: no limit."""
    queue: SizeText | None = None
    """How much may wait in either direction, a size with its unit, e.g. 256KiB. Default: 1MiB."""
    discipline: Literal["droptail", "codel"] = "droptail"
    """Which packets its queues drop: droptail or codel. Default: droptail."""


class AccessSpec(LineSpec):
    """Access links of all nodes, and of groups that have others."""

    groups: Annotated[dict[str, LineSpec], Field(max_length=17)] = {}
    """Access links of the nodes of a group, in the place of the rest as a whole, e.g. {home: {up: 10Mbit, down: 50Mbit}}.
    Default: none."""


class NetworkSpec(Document):
    """The links of a healthy subnet. The most specific rule that matches decides, else preset and default."""

    preset: Literal["none", "ic-lhg73", "ic-io67", "aws"] = "none"
    """Measured delays and losses between the places of a real network: none, ic-lhg73, ic-io67 or aws. A node's place is its
    group's label region where it names one, else nodes take places in turn. Default: none."""
    loss_max: ShareText | None = None
    """Share of packets that a link of a preset loses at most, e.g. 5%. Default: as measured."""
    access: AccessSpec = AccessSpec()
    """Access links of the nodes, e.g. {up: 100Mbit, down: 1Gbit}. Default: no limits."""
    default: ShapeSpec = ShapeSpec()
    """What links do for which no rule stands, e.g. {latency: 10ms}; a preset's figures come before it. Default: nothing."""
    rules: Annotated[list[RuleSpec], Field(max_length=64)] = []
    """Links that do otherwise, e.g. [{from: region=eu, to: region=us, latency: 90ms}]. Default: none."""


class PartitionSpec(Document):
    """Who is cut from whom, both ways. Give one of the two."""

    minority: ShareText | None = None
    """Share of the nodes, drawn by the seed, that is cut from all others, e.g. 30%. Default: none."""
    groups: Annotated[list[Text], Field(max_length=16)] = []
    """Selectors of the parts, e.g. [region=eu, region=us]; nodes in none of them are one part more. Default: none."""


class ChurnSpec(Document):
    """Nodes that die and come back, one after another, by a schedule drawn from the seed."""

    rate: RateText
    """Number of nodes that die in a time, with its unit, e.g. 6/m. Required."""
    down: DurationText = DurationText("5s")
    """How long each stays away, with its unit, e.g. 10s. Default: 5s."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    """Number from which the schedule is drawn, e.g. 7. Default: spec.seed."""


class FaultSpec(RuleSpec):
    """One thing that is wrong with links or nodes, on top of the network, by a name to clear it by.

    One of: a shape, access, block, partition, pause, kill, restart, churn. `from` may be a share of the nodes too, like 20%.
    """

    name: FaultName
    """The fault's name, e.g. cut-eu. Required."""
    both_ways: bool = False
    """Whether a shape or a block holds from `to` to `from` too, e.g. true. Default: false."""
    access: LineSpec | None = None
    """Access links of the nodes in from, e.g. {up: 1Mbit}; the narrower of it and the network's counts. Default: none."""
    block: bool = False
    """Whether no packet gets through, one way, e.g. true. Default: false."""
    partition: PartitionSpec | None = None
    """A cut between parts of the subnet, e.g. {minority: 30%}. Default: none."""
    pause: bool = False
    """Whether the nodes in from stand still, e.g. true. Default: false."""
    kill: bool = False
    """Whether the nodes in from are killed: once, or with `for` kept dead for that time, e.g. true. Default: false."""
    restart: bool = False
    """Whether the nodes in from are restarted once, in good order, e.g. true. Default: false."""
    churn: ChurnSpec | None = None
    """Nodes in from that die and come back, e.g. {rate: 6/m}. Default: none."""
    after: DurationText | None = None
    """How long after it was ordered it begins, with its unit, e.g. 10s. Default: at once."""
    for_: Annotated[DurationText | None, Field(alias="for")] = None
    """How long it lasts, with its unit, e.g. 30s. Default: until it is cleared."""

    @field_validator("from_")
    @classmethod
    def _a_share_is_one(cls, text: str) -> str:
        return ShareText.read(text) if is_whole(ShareText.pattern, text) else text

    @property
    def kinds(self) -> list[FaultKind]:
        """What it does to links or nodes: one thing in a document without contradictions."""
        done: dict[FaultKind, object] = {
            "shape": self.shapes, "access": self.access, "block": self.block, "partition": self.partition,
            "pause": self.pause, "kill": self.kill, "restart": self.restart, "churn": self.churn,
        }  # fmt: skip
        return [kind for kind, does in done.items() if does]

    @property
    def share(self) -> ShareText | None:
        """The share of the nodes in `from`, where one stands there."""
        return ShareText(self.from_) if is_whole(ShareText.pattern, self.from_) else None
