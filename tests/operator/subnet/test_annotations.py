"""A value of an annotation of ours that means nothing is told, passed over, and keeps nothing else from being done."""

from datetime import timedelta

import pytest
from tests.operator.kit import World

from p2pnet.operator.kube.api import EVENT, SECRET, name_of
from p2pnet.operator.subnet import annotations
from p2pnet.operator.subnet.annotations import FORCE_RENEW, FORCE_REPLACE, PAUSED, REPLACE_LOST
from p2pnet.operator.subnet.crd import crd

MEANINGLESS = {
    PAUSED: ["yes", "1", "on", "ture", "", "x" * 200_000],
    FORCE_REPLACE: ["", "x" * 254, "9" * 5000],
    FORCE_RENEW: ["", "x" * 200_000],
    REPLACE_LOST: ["soon", "", "5", "-1m", "31d", "3000000d", "99999999999d", "9" * 200_000 + "d"],
}
MEANINGFUL = {
    PAUSED: ["true", "True", "false"],
    FORCE_REPLACE: ["1", "again"],
    FORCE_RENEW: ["1", "x" * 253],
    REPLACE_LOST: ["0s", "2m", "1.5 h", "30d"],
}


def each(values: dict[str, list[str]]) -> list[object]:
    return [pytest.param(name, one, id=f"{name[10:]}={one[:12]}") for name, its in values.items() for one in its]


@pytest.mark.parametrize(("name", "value"), each(MEANINGLESS))
async def test_a_value_that_means_nothing_is_told_and_an_edit_is_done_all_the_same(name: str, value: str) -> None:
    world = World(annotations={name: value}, nodes=2)
    await world.converge()
    [degraded] = [one for one in world.status["conditions"] if one["type"] == "Degraded"]
    assert (degraded["status"], degraded["reason"]) == ("True", "InvalidAnnotation")
    assert name in degraded["message"]
    assert len(degraded["message"]) < 300
    assert world.condition("Ready") == ("True", "Connected")
    assert world.condition("Paused")[0] == "False"
    assert [one["reason"] for one in world.api.all(EVENT)].count("InvalidAnnotation") == 1


@pytest.mark.parametrize(("name", "value"), each(MEANINGFUL))
def test_a_value_that_means_something_is_no_problem(name: str, value: str) -> None:
    assert annotations.problem_with({name: value, "p2pnet.io/ignored": "", "example.com/paused": ""}) == ""


def test_every_annotation_that_people_set_is_checked_and_tried_here() -> None:
    assert MEANINGLESS.keys() == MEANINGFUL.keys() == annotations.CHECKS.keys()


def test_all_problems_are_told_at_once() -> None:
    told = annotations.problem_with({PAUSED: "yes", REPLACE_LOST: "1000d"})
    assert "'yes' is neither true nor false" in told
    assert "'1000d' is more than 30d" in told


def test_the_longest_time_leads_to_a_date_that_clocks_know() -> None:
    longest = annotations.replace_lost_after({REPLACE_LOST: f"{annotations.REPLACE_LOST_MAX.days}d"})
    assert longest == annotations.REPLACE_LOST_MAX == timedelta(days=30)
    assert annotations.replace_lost_after({REPLACE_LOST: "31d"}) is None
    assert annotations.replace_lost_after({}) is None


@pytest.mark.parametrize(("value", "paused"), [("true", True), ("TRUE", True), ("false", False), ("yes", False)])
def test_a_subnet_is_paused_by_true_alone(value: str, *, paused: bool) -> None:
    assert annotations.is_paused({PAUSED: value}) is paused


@pytest.mark.parametrize("name", [FORCE_RENEW, FORCE_REPLACE])
async def test_a_value_that_is_too_long_for_the_status_asks_for_nothing(name: str) -> None:
    """The definition of Subnets has a limit, beyond which no status could be written any more."""
    world = World(nodes=2)
    await world.converge()
    before = {name_of(one): one["data"] for one in world.api.all(SECRET)}
    world.api.annotate("demo", **{name[10:]: "1" * (annotations.FORCE_CHARS_MAX + 1)})
    await world.converge()
    assert {name_of(one): one["data"] for one in world.api.all(SECRET)} == before
    assert "write at most 253 characters" in str(world.status["conditions"])
    kept = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    assert kept["authority"]["properties"]["replaced"]["maxLength"] >= annotations.FORCE_CHARS_MAX
