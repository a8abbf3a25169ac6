"""At-least-once sending: whatever is lost between, the handler sees each message once, and the sender knows."""

from __future__ import annotations

import asyncio
import random
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.quic.conftest import World
from tests.quic.virtual import DEAD, VirtualWorld, play

from p2pnet.model.errors import LimitError, TrustError
from p2pnet.quic import (
    BadAddress,
    CloseCode,
    Endpoint,
    EndpointClosed,
    FixedIdentity,
    FrameError,
    HandshakeFailed,
    Message,
    MessageTooLarge,
    Retry,
    Settings,
    StreamCode,
    StreamLost,
    Trust,
)
from p2pnet.quic.memory import MemoryNetwork, run_virtual
from p2pnet.quic.once import ROUTE_ONCE, AtLeastOnce, DeliveryFailed, Window

if TYPE_CHECKING:
    from tests.quic.conftest import Until

SOON = Retry(initial_s=0.02, cap_s=0.1, budget_s=20.0)


class Receiver:
    """An endpoint that notes what its handler got; `fault` is raised, if any."""

    def __init__(self) -> None:
        self.taken: list[tuple[bytes, bytes, bytes]] = []
        self.fault: Exception | None = None
        self.endpoint: Any = None
        self.deliveries: Any = None

    def __call__(self, connection: Any, message: Message) -> None:
        assert not message.wants_reply or message.header in (b"/plain", b"/hold")
        if self.fault is not None:
            raise self.fault
        self.taken.append((message.header, message.dst, message.payload))
        if message.wants_reply and message.header == b"/plain":
            message.reply(b"plain")

    def serve(self, endpoint: Endpoint, **options: Any) -> Receiver:
        self.endpoint = endpoint
        self.deliveries = AtLeastOnce(endpoint, **options)
        return self


async def receiver(world: World, name: str = "node-1", **options: Any) -> Receiver:
    window = {key: options.pop(key) for key in ("window_ids", "window_senders", "window_bytes") if key in options}
    one = Receiver()
    return one.serve(await world.endpoint(name, on_message=one, **options), **window)


async def reborn(world: World, former: Receiver) -> Receiver:
    """Another start of this receiver, at the same address."""
    one = Receiver()
    endpoint = await Endpoint.bind(former.endpoint.address, trust=former.endpoint.trust, on_message=one)
    world.endpoints.append(endpoint)
    return one.serve(endpoint)


async def sender(world: World, name: str = "node-0", **options: Any) -> AtLeastOnce:
    return AtLeastOnce(await world.endpoint(name, **options))


# One attempt


async def test_a_message_arrives_whole_and_its_sender_knows(world: World) -> None:
    there = await receiver(world)
    here = await sender(world)
    await here.send(there.endpoint.address, b"/order", b"to", b"payload", expect=world.uri("node-1"))
    await here.send(there.endpoint.address, b"", b"", [b"in", b"", b"pieces"])
    await here.send(there.endpoint.address, b"/order", b"to", b"")
    assert there.taken == [(b"/order", b"to", b"payload"), (b"", b"", b"inpieces"), (b"/order", b"to", b"")]
    counters = here.counters()
    assert counters["sent_total"] == counters["attempts_total"] == 3
    assert there.deliveries.counters()["taken_total"] == there.deliveries.counters()["ids"] == 3


async def test_equal_messages_are_two_messages(world: World) -> None:
    there = await receiver(world)
    here = await sender(world)
    await asyncio.gather(*(here.send(there.endpoint.address, b"/x", b"", b"same") for _ in range(50)))
    assert len(there.taken) == 50


async def test_plain_messages_pass_by_as_before(world: World) -> None:
    there = await receiver(world)
    here = await sender(world)
    connection = await here._endpoint.connect(there.endpoint.address)
    assert (await connection.request(b"/plain", b"x")).payload == b"plain"
    await connection.send(ROUTE_ONCE, b"", b"uni")
    assert there.taken == [(b"/plain", b"", b"x"), (ROUTE_ONCE, b"", b"uni")]


async def test_an_endpoint_without_a_handler_keeps_its_messages_for_its_reader(world: World) -> None:
    here = await sender(world)
    there = await receiver(world)
    connection = await there.endpoint.connect(here._endpoint.address)
    await connection.send(b"/x", b"", b"y")
    async for message in here._endpoint.connections[0].messages():
        assert message.payload == b"y"
        break


# What is not tried again


async def test_a_handler_that_raises_is_called_once_and_the_sender_told_at_once(world: World) -> None:
    there = await receiver(world)
    here = await sender(world)
    reported: list[Any] = []
    there.endpoint.loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    there.fault = KeyError("a mistake")
    with pytest.raises(DeliveryFailed) as failed:
        await here.send(there.endpoint.address, b"/x", b"", b"y", retry=SOON)
    assert failed.value.kind == "failed"
    assert here.counters()["attempts_total"] == 1
    assert reported == [there.fault]
    there.fault = None
    connection = here._endpoint.connections[0]
    again = struct.pack(">16sQII", here._instance, 1, 2, 0) + b"/xy"
    assert (await connection.request(ROUTE_ONCE, again)).payload == b"failed"
    assert not there.taken


@pytest.mark.parametrize("case", ["too large", "header too large", "unaware", "refused", "wrong name", "port 0"])
async def test_what_is_permanent_fails_at_the_first_attempt(world: World, case: str) -> None:
    settings = Settings(message_bytes_max=100_000, route_caps={b"/small": 10}, header_bytes_max=50)
    there = await receiver(world, settings=settings)
    if case == "refused":
        here = await sender(world, trust=world.trust(world.expired("node-0")))
    else:
        here = await sender(world)
    address: tuple[str, int] = there.endpoint.address
    header, payload, expect = b"/small", b"x" * 10, None
    await_error: type[Exception] = MessageTooLarge
    if case == "too large":
        payload += b"x"
    elif case == "header too large":
        header = b"h" * 51
    elif case == "unaware":
        address, await_error = (await world.endpoint("node-2", on_message=world.echo)).address, FrameError
        payload = b""
    elif case == "refused":
        await_error = HandshakeFailed
    elif case == "wrong name":
        expect, await_error = world.uri("node-7"), TrustError
    else:
        address, await_error = ("127.0.0.1", 0), BadAddress
    with pytest.raises(await_error):
        await here.send(address, header, b"", payload, expect=expect, retry=SOON)
    assert here.counters()["attempts_total"] == 1
    assert not there.taken
    if case == "too large":
        await here.send(address, header, b"", payload[:-1])
        assert len(there.taken) == 1


async def test_a_closed_endpoint_sends_no_more(world: World) -> None:
    there = await receiver(world)
    here = await sender(world)
    here._endpoint.close()
    with pytest.raises(EndpointClosed):
        await here.send(there.endpoint.address, b"/x", b"", b"y", retry=SOON)


@pytest.mark.parametrize(
    "junk",
    [
        b"x",
        b"x" * 31,
        struct.pack(">16sQII", b"i" * 16, 1, 1, 0),
        struct.pack(">16sQII", b"i" * 16, 1, 2**32 - 1, 2**32 - 1),
    ],
    ids=len,
)
async def test_junk_on_the_route_is_refused_and_costs_nothing(world: World, junk: bytes) -> None:
    there = await receiver(world)
    connection = await (await world.endpoint()).connect(there.endpoint.address)
    with pytest.raises(StreamLost) as lost:
        await connection.request(ROUTE_ONCE, junk)
    assert lost.value.code == StreamCode.MALFORMED
    assert not there.taken
    assert there.deliveries.counters()["ids"] == 0
    assert not connection.closed


# What is tried again


async def test_a_reply_that_is_lost_costs_a_second_attempt_and_no_second_delivery(world: World, until: Until) -> None:
    there = await receiver(world, settings=Settings(idle_s=0.5))
    here = await sender(world)
    await here._endpoint.connect(there.endpoint.address)
    there.endpoint.egress = lambda _connection, datagrams: (
        [] if there.taken else datagrams
    )  # deaf ears once it is taken
    sending = asyncio.ensure_future(here.send(there.endpoint.address, b"/x", b"", b"y", retry=SOON, timeout_s=2))
    await until(lambda: there.taken and not there.endpoint.connections)
    there.endpoint.egress = None
    await sending
    assert there.taken == [(b"/x", b"", b"y")]
    assert here.counters()["attempts_total"] >= 2
    assert there.deliveries.counters()["duplicates_total"] >= 1


async def test_a_connection_closed_midway_costs_a_second_attempt_and_no_second_delivery(world: World) -> None:
    there = await receiver(world)
    here = await sender(world)
    closings = 0

    class Closing(Receiver):
        def __call__(self, connection: Any, message: Message) -> None:
            nonlocal closings
            super().__call__(connection, message)
            if closings < 3:
                closings += 1
                connection.close(CloseCode.REPLACED, "midway")

    other = Closing()
    there = other.serve(await world.endpoint("node-2", on_message=other))
    await asyncio.gather(
        *(here.send(there.endpoint.address, b"/x", b"", b"%d" % number, retry=SOON) for number in range(20))
    )
    assert closings == 3
    assert sorted(there.taken) == sorted((b"/x", b"", b"%d" % number) for number in range(20))
    assert here.counters()["attempts_total"] > 20


async def test_a_peer_that_starts_anew_between_attempts_gets_the_message(world: World, until: Until) -> None:
    there = await receiver(world)
    here = await sender(world)
    address = there.endpoint.address
    connection = await here._endpoint.connect(address)
    there.endpoint.close()
    await there.endpoint.wait_closed()
    await until(lambda: connection.closed)
    sending = asyncio.ensure_future(here.send(address, b"/x", b"", b"y", retry=SOON, timeout_s=0.3))
    await until(lambda: here.counters()["attempts_total"] > 1)
    successor = await reborn(world, there)
    await sending
    assert successor.taken == [(b"/x", b"", b"y")]
    assert not there.taken


async def test_a_draining_peer_is_tried_again_until_its_successor_answers(world: World, until: Until) -> None:
    there = await receiver(world)
    here = await sender(world)
    address = there.endpoint.address
    connection = await here._endpoint.connect(address)
    held = asyncio.ensure_future(connection.request(b"/hold", b"x"))
    await until(lambda: there.taken)
    draining = asyncio.ensure_future(there.endpoint.drain(30))
    await asyncio.sleep(0)
    sending = asyncio.ensure_future(here.send(address, b"/x", b"", b"y", retry=SOON, timeout_s=0.3))
    await until(lambda: here.counters()["attempts_total"] > 1)
    assert not connection.closed
    held.cancel()  # it was all that the drain waited for
    await draining
    successor = await reborn(world, there)
    await sending
    assert [header for header, _, _ in there.taken] == [b"/hold"]
    assert successor.taken == [(b"/x", b"", b"y")]


async def test_a_handler_without_room_is_asked_again_until_it_has_some(world: World, until: Until) -> None:
    there = await receiver(world)
    here = await sender(world)
    there.fault = LimitError("my queue is full")
    sending = asyncio.ensure_future(here.send(there.endpoint.address, b"/x", b"", b"y", retry=SOON))
    await until(lambda: there.deliveries.counters()["busy_total"] >= 3)
    assert there.deliveries.counters()["ids"] == 0
    there.fault = None
    await sending
    assert len(there.taken) == 1
    there.fault = LimitError("for good")
    with pytest.raises(DeliveryFailed) as failed:
        await here.send(there.endpoint.address, b"/x", b"", b"y", retry=Retry(initial_s=0.01, budget_s=0.1))
    assert failed.value.kind == "busy"


def test_a_silent_address_costs_the_budget_and_no_more() -> None:
    async def scenario(world: VirtualWorld) -> None:
        here = await sender(world)
        started = world.loop.time()
        with pytest.raises(HandshakeFailed):
            await here.send(DEAD, b"/x", b"", b"y", timeout_s=0.1, retry=Retry(initial_s=0.05, budget_s=0.6))
        assert world.loop.time() - started <= 0.6 + 0.1
        assert 2 <= here.counters()["attempts_total"] <= 5

    play(scenario)


# Whose ids


def envelope(instance: bytes, number: int, payload: bytes) -> bytes:
    return struct.pack(">16sQII", instance, number, 2, 0) + b"/x" + payload


async def test_a_proven_peer_cannot_use_up_the_ids_of_another(world: World) -> None:
    there = await receiver(world)
    victim = await sender(world, "node-0")
    thief = await (await world.endpoint("node-6")).connect(there.endpoint.address)
    for number in range(1, 5):  # the ids that the victim will use, if the thief has learned its instance
        assert (await thief.request(ROUTE_ONCE, envelope(victim._instance, number, b"thief"))).payload == b"taken"
    for _ in range(4):
        await victim.send(there.endpoint.address, b"/x", b"", b"victim")
    assert [payload for _, _, payload in there.taken] == [b"thief"] * 4 + [b"victim"] * 4
    assert there.deliveries.counters()["senders"] == 2


async def test_a_sender_started_anew_is_no_duplicate_of_its_former_self(world: World) -> None:
    there = await receiver(world)
    for _ in range(3):
        here = await sender(world, "node-0")
        await here.send(there.endpoint.address, b"/x", b"", b"y")
        here._endpoint.close()
    assert len(there.taken) == 3
    assert there.deliveries.counters()["senders"] == 1


async def test_where_trust_proves_nothing_each_instance_counts_for_itself(world: World) -> None:
    one = Receiver()
    there = one.serve(await world.endpoint(trust=Trust.anyone(), on_message=one))
    for _ in range(2):
        here = AtLeastOnce(await world.endpoint(trust=Trust.anyone()))
        await here.send(there.endpoint.address, b"/x", b"", b"y")
    assert len(there.taken) == 2
    assert there.deliveries.counters()["senders"] == 2


async def test_what_falls_out_of_the_window_is_delivered_again(world: World) -> None:
    there = await receiver(world, window_ids=3)
    connection = await (await world.endpoint()).connect(there.endpoint.address)
    for number in (1, 2, 3, 1, 4, 1, 2):
        await connection.request(ROUTE_ONCE, envelope(b"i" * 16, number, b"%d" % number))
    assert [payload for _, _, payload in there.taken] == [b"1", b"2", b"3", b"4", b"2"]
    assert there.deliveries.counters()["forgotten_total"] == 2


# The window alone

ACTIONS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.sampled_from([b"taken", b"failed"])), max_size=80)


class Model:
    """The same by plain lists: (sender, id, outcome), longest unused first; senders by their last use."""

    def __init__(self, ids: int, senders: int) -> None:
        self.ids, self.senders = ids, senders
        self.entries: list[tuple[str, bytes, bytes]] = []
        self.order: list[str] = []

    def use(self, sender: str, mark: bytes, outcome: bytes) -> bytes | None:
        found = next((one for one in self.entries if one[:2] == (sender, mark)), None)
        if found is not None:
            self.entries.remove(found)
        self.entries.append(found or (sender, mark, outcome))
        self.order = [one for one in self.order if one != sender] + [sender]
        own = [one for one in self.entries if one[0] == sender]
        if len(own) > self.ids:
            self.entries.remove(own[0])
        if len(self.order) > self.senders:
            gone = self.order.pop(0)
            self.entries = [one for one in self.entries if one[0] != gone]
        return found[2] if found else None


@given(actions=ACTIONS, ids=st.integers(1, 5), senders=st.integers(1, 4))
def test_the_window_is_as_a_plain_list_says(actions: list[Any], ids: int, senders: int) -> None:
    window, model = Window(ids=ids, senders=senders), Model(ids, senders)
    for who, what, outcome in actions:
        sender, mark = f"sender {who}", bytes([what])
        known = window.outcome(sender, mark)
        assert known == model.use(sender, mark, outcome)
        if known is None:
            window.remember(sender, mark, outcome)
        assert len(window) == len(model.order) <= senders
        assert window.ids == len(model.entries)


@given(actions=ACTIONS, bytes_max=st.integers(0, 5_000))
def test_the_windows_bytes_are_bounded_and_its_books_right(actions: list[Any], bytes_max: int) -> None:
    window = Window(bytes_max=bytes_max)
    empty = window.held_bytes
    for who, what, outcome in actions:
        sender, mark = f"sender {who}", bytes([what])
        window.remember(sender, mark, outcome)
        assert window.outcome(sender, mark) == outcome  # what has just come is never what goes
        assert window.held_bytes <= max(bytes_max, 1_000)
    assert empty == 0
    assert window.ids == sum(
        window.outcome(f"sender {who}", bytes([what])) is not None for who in range(5) for what in range(3)
    )


def test_the_estimate_of_an_ids_cost_is_no_underestimate() -> None:
    import tracemalloc

    window = Window(ids=20_000)
    tracemalloc.start()
    try:
        for number in range(20_000):
            window.remember("sender", number.to_bytes(24, "big"), b"taken")
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert window.held_bytes / 3 < used < window.held_bytes


# A bad network, in virtual time


class Island:
    """One receiver's address and one sender's, on a network in memory."""

    def __init__(self, **options: Any) -> None:
        self.world = World()
        self.network = MemoryNetwork(**options)
        self.transports: dict[str, Any] = {}

    async def bind(self, name: str, host: str, **options: Any) -> Endpoint:
        self.transports[name] = self.network.transport((host, 4100))
        return await Endpoint.bind(
            trust=Trust.subnet(FixedIdentity(self.world.identity(name))),
            transport=self.transports[name],
            clock=asyncio.get_running_loop().time,
            **options,
        )

    async def receiver(self) -> Receiver:
        one = Receiver()
        return one.serve(await self.bind("node-1", "10.0.0.1", on_message=one))

    async def sender(self) -> AtLeastOnce:
        return AtLeastOnce(await self.bind("node-0", "10.0.0.2"))


def test_a_peer_killed_without_a_close_gets_the_message_after_its_restart() -> None:
    async def scenario() -> None:
        island = Island(delay_s=0.02)
        there, here = await island.receiver(), await island.sender()
        await here.send(there.endpoint.address, b"/x", b"", b"before")
        island.transports["node-1"].close()  # killed: nothing of it is heard any more
        sending = asyncio.ensure_future(here.send(there.endpoint.address, b"/x", b"", b"after", retry=Retry()))
        await asyncio.sleep(3)
        successor = await island.receiver()
        await sending
        assert asyncio.get_running_loop().time() < 30
        assert [payload for _, _, payload in there.taken] == [b"before"]
        assert [payload for _, _, payload in successor.taken] == [b"after"]
        for one in (here._endpoint, there.endpoint, successor.endpoint):
            one.close()

    run_virtual(scenario())


def test_cancelling_a_send_ends_its_attempts() -> None:
    async def scenario() -> None:
        island = Island(delay_s=0.02)
        there, here = await island.receiver(), await island.sender()
        there.fault = LimitError("full")
        sending = asyncio.ensure_future(here.send(there.endpoint.address, b"/x", b"", b"y"))
        await asyncio.sleep(5)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.sleep(1)  # an attempt under way may still arrive
        attempts = here.counters()["attempts_total"]
        assert attempts > 2
        there.fault = None
        await asyncio.sleep(60)
        assert not there.taken
        assert here.counters()["attempts_total"] == attempts
        here._endpoint.close()
        there.endpoint.close()

    run_virtual(scenario())


@pytest.mark.parametrize("seed", range(6))
def test_through_loss_cuts_and_closes_every_message_is_taken_exactly_once(seed: int) -> None:
    async def scenario() -> int:
        rng = random.Random(seed)
        island = Island(seed=seed, delay_s=0.02, jitter_s=0.015, loss=0.05)
        there, here = await island.receiver(), await island.sender()
        ends = there.endpoint.address, here._endpoint.address
        retry = Retry(budget_s=600, rng=random.Random(seed))

        async def late(number: int) -> None:
            await asyncio.sleep(rng.uniform(0, 200))
            await here.send(there.endpoint.address, b"/x", b"", b"%d" % number, retry=retry)

        def closing(connection: Any, message: Message) -> None:
            there(connection, message)
            if rng.random() < 0.1:  # before the answer has left
                connection.close(CloseCode.REPLACED, "trouble")

        there.deliveries._rest = closing

        async def trouble() -> None:
            for _ in range(6):
                await asyncio.sleep(rng.uniform(5, 20))
                island.network.disconnect(*ends)
                await asyncio.sleep(rng.uniform(1, 40))
                island.network.reconnect(*ends)

        await asyncio.gather(trouble(), *(late(number) for number in range(200)))
        assert sorted(payload for _, _, payload in there.taken) == sorted(b"%d" % number for number in range(200))
        here._endpoint.close()
        there.endpoint.close()
        return there.deliveries.counters()["duplicates_total"]

    assert run_virtual(scenario()) > 0
