"""Dials as tasks, with an endpoint that only pretends: whom they reach, what they make of it, what the policy hears."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from p2pnet.model.errors import TrustError
from p2pnet.model.ids import member_uri
from p2pnet.model.registry import Member, Membership, Registry
from p2pnet.peering.dial_policy import DialPhase, DialPolicy
from p2pnet.peering.dialer import Dialer
from p2pnet.peering.discovery import RegistryDirectory
from p2pnet.peering.pacing import Pacer
from p2pnet.quic import CloseCode, Endpoint

SCOPE = ("p2pnet", "local", "demo")
FIRST, SECOND = ("10.0.0.1", 4100), ("10.0.0.2", 4100)


class FakeConnection:
    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.code: int | None = None

    def close(self, code: int, _reason: str) -> None:
        self.code = code


class Stage:
    """A dialer of node-0 that wants node-1, at two addresses; `there` says who answers where."""

    def __init__(self) -> None:
        directory = RegistryDirectory("node-0", *SCOPE)
        member = Member("node-1", member_uri(*SCOPE, "node-1"), [f"{host}:{port}" for host, port in (FIRST, SECOND)])
        directory.offer(Membership(Registry(1, [member])))
        self.there: dict[tuple[str, int], FakeConnection | Exception] = {}
        self.dialled: list[tuple[str, int]] = []
        self.opened: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.linked: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.policy = DialPolicy("node-0", lambda: 0.5)
        self.dialer = Dialer(
            self.policy, directory=directory, refusals=cast("Any", self), pacer=Pacer(), open_link=self.open_link,
            linked=self.linked, latest_dials={"node-1": "before"},
        )  # fmt: skip
        self.dialer.start(cast("Endpoint", self))

    async def connect(self, address: tuple[str, int], **_: Any) -> FakeConnection:
        self.dialled.append(address)
        await self.gate.wait()
        found = self.there.get(address, OSError("nobody there"))
        if isinstance(found, Exception):
            raise found
        return found

    async def open_link(self, name: str, _connection: Any, knows: str) -> None:
        self.opened.append((name, knows))
        self.linked.add(name)
        self.policy.up(name, 0)

    def note(self, kind: str, _why: str, *, peer: str = "") -> None:
        self.notes.append(f"{kind} {peer}")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    made.dialer.stop()
    await settle()


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def node(name: str = "node-1") -> FakeConnection:
    return FakeConnection(member_uri(*SCOPE, name))


async def test_addresses_are_tried_in_turn_until_one_leads_to_the_peer(stage: Stage) -> None:
    stage.there[SECOND] = node()
    stage.dialer.want(["node-1"])
    await settle()
    assert stage.dialled == [FIRST, SECOND]
    assert stage.opened == [("node-1", "before")]
    assert stage.policy.phase("node-1") is DialPhase.LINKED


async def test_a_dial_that_fails_waits_for_its_back_off_and_a_refusal_is_noted(stage: Stage) -> None:
    stage.there[SECOND] = TrustError("expired", "it has ended")
    stage.dialer.want(["node-1"])
    await settle()
    assert stage.opened == []
    assert stage.notes == ["expired node-1"]
    assert stage.policy.phase("node-1") is DialPhase.WAITING
    assert stage.policy.next_wakeup() is not None


async def test_a_seed_becomes_a_link_under_the_name_of_whoever_answers(stage: Stage) -> None:
    stage.there[FIRST] = node("node-7")
    assert await stage.dialer.dial_seed(FIRST) == "node-7"
    assert stage.opened == [("node-7", "")]


async def test_a_seed_that_is_linked_already_or_no_node_is_closed_again(stage: Stage) -> None:
    linked, foreign = node(), FakeConnection("spiffe://elsewhere/x")
    stage.there |= {FIRST: linked, SECOND: foreign}
    stage.linked.add("node-1")
    assert await stage.dialer.dial_seed(FIRST) == "node-1"
    with pytest.raises(OSError, match="no node of this subnet"):
        await stage.dialer.dial_seed(SECOND)
    assert (linked.code, foreign.code, stage.opened) == (CloseCode.DONE, CloseCode.REFUSED, [])


async def test_a_peer_that_is_dialled_as_a_seed_is_not_dialled_a_second_time_meanwhile(stage: Stage) -> None:
    stage.there[FIRST] = node()
    stage.gate.clear()
    seed = asyncio.ensure_future(stage.dialer.dial_seed(FIRST))
    await settle()
    stage.dialer.want(["node-1"])
    await settle()
    assert stage.dialled == [FIRST]
    stage.gate.set()
    assert await seed == "node-1"
    await settle()
    assert (stage.dialled, stage.opened) == ([FIRST], [("node-1", "before")])


async def test_a_dialer_that_was_stopped_dials_nobody(stage: Stage) -> None:
    stage.dialer.stop()
    stage.dialer.want(["node-1"])
    await settle()
    assert stage.dialled == []
