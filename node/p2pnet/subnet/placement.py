"""Presets: which figures of a measured network a document asks for, and at which of its places each node is. Pure."""

from typing import NamedTuple

import msgspec

from p2pnet.model.network import LinkShape
from p2pnet.netem.presets import preset
from p2pnet.subnet.network_shapes import carried
from p2pnet.subnet.network_spec import NetworkSpec
from p2pnet.subnet.selectors import Roster

PLACE_LABEL = "region"
"""The groups' label that names a place."""
NO_PRESET = "none"
_WORDS = {"delay_ns": "latency", "jitter_ns": "jitter", "loss": "loss"}


class Placement(NamedTuple):
    """Where nodes are, and why some are not where they were asked to be."""

    places: dict[str, str]
    """Place by node, in member order; empty without a preset."""
    unknown: dict[str, str]
    """Groups whose label names no place of the preset, and what it names."""


def preset_figures(name: str) -> frozenset[str]:
    """What a preset gives to links, of `latency jitter loss`; nothing without one."""
    return frozenset() if name == NO_PRESET else frozenset(_WORDS[field] for field in preset(name).measured)


def placement_of(roster: Roster, name: str) -> Placement:
    """Each node at the place that its group's label `region` names, else at the preset's places in turn, in member order."""
    if name == NO_PRESET:
        return Placement({}, {})
    places = preset(name).places
    labels = {group: found[PLACE_LABEL] for group, found in roster.labels.items() if PLACE_LABEL in found}
    placed: dict[str, str] = {}
    turn = 0
    for node, group in roster.groups.items():
        if labels.get(group) in places:
            placed[node] = labels[group]
        else:
            placed[node] = places[turn % len(places)]
            turn += 1
    return Placement(placed, {group: place for group, place in labels.items() if place not in places})


class PresetLinks:
    """The path from place to place: the preset's figures, and of the document's default what the preset says nothing about."""

    def __init__(self, network: NetworkSpec, default: LinkShape) -> None:
        self._preset = preset(network.preset)
        self._default = default
        self._loss_max = network.loss_max.ratio if network.loss_max is not None else 1.0
        self._shapes: dict[tuple[str, str], LinkShape] = {}

    @property
    def place_count(self) -> int:
        """Places of the preset."""
        return len(self._preset.places)

    @property
    def jitter_is_cut(self) -> bool:
        """Whether the default asks for a jitter that some delays of the preset do not carry."""
        places = self._preset.places
        return "jitter_ns" not in self._preset.measured and any(
            self.shape(source, to).jitter_ns < self._default.jitter_ns
            for source in places
            for to in places
            if source != to
        )

    def shape(self, source: str, to: str) -> LinkShape:
        """One way. A jitter of the default is cut to what the measured delay carries."""
        if (source, to) not in self._shapes:
            figures = self._preset.figures(source, to, self._loss_max)
            measured = {field: getattr(figures, field) for field in self._preset.measured}
            if "jitter_ns" in measured:
                measured["jitter_kind"] = figures.jitter_kind
            self._shapes[source, to] = carried(msgspec.structs.replace(self._default, **measured))
        return self._shapes[source, to]
