"""The network in memory and the loop in virtual time: what they do to datagrams and clocks, and endpoints on them."""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from tests.patience import PATIENCE_S

from p2pnet.model.errors import LocalError, SpecError, TrustError
from p2pnet.netem import LinkShape
from p2pnet.quic import BadAddress, Endpoint, EndpointError, FixedIdentity, HandshakeFailed, Retry, Settings, Trust
from p2pnet.quic.memory import QUEUE_DATAGRAMS_MAX, Deadlock, MemoryNetwork, MemoryTransport, VirtualLoop, run_virtual
from p2pnet.trust import Identity

ONE, TWO, THREE = ("10.0.0.1", 4100), ("10.0.0.2", 4100), ("10.0.0.3", 4100)


class Ends:
    """Transports of one network, and what each has received."""

    def __init__(self, network: MemoryNetwork, *addresses: Any) -> None:
        self.transports: list[MemoryTransport] = []
        self.received: list[list[tuple[bytes, Any]]] = []
        self.log: list[tuple[float, int, bytes]] = []
        for index, address in enumerate(addresses):
            transport = network.transport(address)
            self.transports.append(transport)
            self.received.append([])
            transport.start(self._collector(index))

    def _collector(self, index: int) -> Any:
        def collect(datagrams: list[tuple[bytes, Any]]) -> None:
            now = asyncio.get_running_loop().time()
            self.received[index] += datagrams
            self.log += [(now, index, data) for data, _ in datagrams]

        return collect


# The network


def test_datagrams_arrive_after_the_delay_in_order_with_their_source() -> None:
    async def scenario() -> None:
        ends = Ends(MemoryNetwork(delay_s=0.25), ONE, TWO)
        one, two = ends.transports
        one.send([(bytes([number]), two.address) for number in range(100)])
        await asyncio.sleep(0.249)
        assert not ends.received[1]
        await asyncio.sleep(0.002)
        assert ends.received[1] == [(bytes([number]), ONE) for number in range(100)]
        assert one.sent_bytes == two.received_bytes == 100

    run_virtual(scenario())


def test_ipv6_has_the_systems_form_and_any_spelling() -> None:
    async def scenario() -> None:
        network = MemoryNetwork(mtu_bytes=1280)
        ends = Ends(network, ("fd00::1", 7), ("fd00:0:0::0002", 7))
        one, two = ends.transports
        assert two.address == ("fd00::2", 7)
        assert two.family == socket.AF_INET6
        two.send([(b"x", ("fd00:0::1", 7, 0, 0)), (b"y" * 1232, ("fd00::1", 7, 0, 0)), (b"z" * 1233, one.address)])
        await asyncio.sleep(1)
        assert ends.received[0] == [(b"x", ("fd00::2", 7, 0, 0)), (b"y" * 1232, ("fd00::2", 7, 0, 0))]
        assert network.counters()["too_large_total"] == 1

    run_virtual(scenario())


def test_an_address_is_bound_once_and_free_again_after_close() -> None:
    network = MemoryNetwork()
    one = network.transport(ONE)
    with pytest.raises(EndpointError, match="taken") as error:
        network.transport(ONE)
    assert error.value.errno
    one.close()
    one.close()
    network.transport(ONE)
    ports = {network.transport(("10.0.0.9", 0)).address[1] for _ in range(50)}
    assert len(ports) == 50
    for nonsense in ("0.0.0.0", "::", "example.org"):
        with pytest.raises(BadAddress):
            network.transport((nonsense, 1))


def test_what_nobody_receives_is_counted_and_the_sender_hears_nothing() -> None:
    async def scenario() -> None:
        network = MemoryNetwork(delay_s=0.1)
        ends = Ends(network, ONE, TWO)
        one, two = ends.transports
        one.send([(b"x", THREE), (b"x", ("fd00::1", 1, 0, 0)), (b"x", TWO)])
        two.close()
        one.send([(b"x", TWO)])
        one.close()
        one.send([(b"x", TWO)])
        await asyncio.sleep(1)
        assert not ends.received[1]
        counters = network.counters()
        assert counters["sent_total"] == counters["unreachable_total"] == 4
        assert counters["under_way"] == 0

    run_virtual(scenario())


def test_disconnected_pairs_hear_nothing_of_each_other_and_others_do() -> None:
    async def scenario() -> None:
        network = MemoryNetwork(delay_s=0.1)
        ends = Ends(network, ONE, TWO, THREE)
        one, two, three = ends.transports
        one.send([(b"under way", TWO)])
        network.disconnect(TWO, ONE)
        one.send([(b"cut", TWO)])
        two.send([(b"cut", ONE), (b"passes", THREE)])
        three.send([(b"passes", TWO)])
        await asyncio.sleep(0.5)
        network.reconnect(ONE, TWO)
        network.reconnect(ONE, TWO)
        one.send([(b"again", TWO)])
        await asyncio.sleep(0.5)
        assert ends.received[0] == []
        assert [data for data, _ in ends.received[1]] == [b"passes", b"again"]
        assert [data for data, _ in ends.received[2]] == [b"passes"]
        assert network.counters()["cut_total"] == 3

    run_virtual(scenario())


def test_the_hook_sees_every_datagram_and_loses_those_it_says() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        ends = Ends(network, ONE, TWO)
        seen = []

        def hook(source: Any, destination: Any, data: bytes) -> bool | None:
            seen.append((source, destination, data))
            return {b"lost": False, b"kept": True}.get(data)

        network.on_send = hook
        ends.transports[0].send([(b"lost", TWO), (b"kept", TWO), (b"nothing said", TWO), (b"nobody", THREE)])
        await asyncio.sleep(1)
        assert [data for data, _ in ends.received[1]] == [b"kept", b"nothing said"]
        assert [data for _, _, data in seen] == [b"lost", b"kept", b"nothing said", b"nobody"]
        assert seen[0] == (ONE, TWO, b"lost")

    run_virtual(scenario())


def test_the_paths_mtu_may_shrink_while_datagrams_flow() -> None:
    async def scenario() -> None:
        network = MemoryNetwork(mtu_bytes=1500)
        ends = Ends(network, ONE, TWO)
        ends.transports[0].send([(b"x" * 1472, TWO), (b"x" * 1473, TWO)])
        network.mtu_bytes = 1280
        ends.transports[0].send([(b"x" * 1472, TWO), (b"x" * 1252, TWO)])
        await asyncio.sleep(1)
        assert [len(data) for data, _ in ends.received[1]] == [1472, 1252]

    run_virtual(scenario())


def test_what_is_under_way_to_one_transport_is_bounded() -> None:
    async def scenario() -> None:
        network = MemoryNetwork(delay_s=1)
        ends = Ends(network, ONE, TWO, THREE)
        one, two, _ = ends.transports
        one.send([(b"x", TWO)] * (QUEUE_DATAGRAMS_MAX + 100) + [(b"x", THREE)])
        assert two.queued == QUEUE_DATAGRAMS_MAX
        await asyncio.sleep(2)
        assert len(ends.received[1]) == QUEUE_DATAGRAMS_MAX
        assert len(ends.received[2]) == 1
        assert two.queued == two.queued_bytes == 0
        one.send([(b"x" * 65_000, TWO)] * 2_000)
        assert two.queued_bytes < 65_000_000 + (4 << 20)
        assert network.counters()["overflowed_total"] > 1_000

    run_virtual(scenario())


def test_a_shape_with_bandwidth_spreads_what_comes_at_once() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        network.shape = LinkShape(bandwidth_bps=8_000_000.0)
        ends = Ends(network, ONE, TWO)
        ends.transports[0].send([(b"x" * 972, TWO)] * 500)  # 1,000 bytes with headers: a millisecond each
        await asyncio.sleep(0.2505)
        assert 249 <= len(ends.received[1]) <= 251
        await asyncio.sleep(0.25)
        assert len(ends.received[1]) == 500

    run_virtual(scenario())


def test_a_change_of_shape_keeps_what_waits_and_serves_it_at_the_new_bandwidth() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        network.shape = LinkShape(bandwidth_bps=8_000_000.0)
        ends = Ends(network, ONE, TWO)
        ends.transports[0].send([(b"x" * 972, TWO)] * 600)
        await asyncio.sleep(0.1005)
        assert (len(ends.received[1]), ends.transports[1].queued) == (100, 500)
        network.shape = LinkShape(bandwidth_bps=80_000_000.0)
        await asyncio.sleep(0.0255)
        assert 353 <= len(ends.received[1]) <= 356
        network.shape = LinkShape()
        await asyncio.sleep(0.0001)
        assert len(ends.received[1]) == 600
        assert network.counters()["under_way"] == network.counters()["lost_total"] == 0

    run_virtual(scenario())


def test_what_a_shape_does_to_datagrams_is_counted_even_after_their_receiver_has_gone() -> None:
    async def scenario() -> None:
        network = MemoryNetwork(delay_s=0.1)
        one, two = Ends(network, ONE, TWO).transports
        for shape in (LinkShape(loss=1.0), LinkShape(blocked=True), LinkShape(mtu=1_400), LinkShape(delay_ns=1)):
            network.shape = shape
            one.send([(b"x" * 1_400, TWO)])
        two.close()
        await asyncio.sleep(1)
        counters = network.counters()
        assert [counters[f"{name}_total"] for name in ("lost", "too_large", "unreachable")] == [2, 1, 1]
        assert network.counters() == counters

    run_virtual(scenario())


def test_a_jitter_that_the_delay_cannot_carry_is_refused() -> None:
    with pytest.raises(SpecError, match=r"jitter_s: 0.1 is more than 0.8 times the delay, 0.1 s"):
        MemoryNetwork(delay_s=0.1, jitter_s=0.1)


def test_a_receiver_that_raises_harms_no_other() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        ends = Ends(network, ONE, TWO)
        broken = network.transport(THREE)
        broken.start(lambda _datagrams: 1 / 0)
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
        ends.transports[0].send([(b"x", THREE), (b"y", TWO)] * 3)
        await asyncio.sleep(1)
        assert len(ends.received[1]) == 3
        assert [type(one) for one in reported] == [ZeroDivisionError]

    run_virtual(scenario())


def crossfire(seed: int, **options: Any) -> list[tuple[float, int, bytes]]:
    """Three transports send to each other at once; everything that arrived, in order."""

    async def scenario() -> list[tuple[float, int, bytes]]:
        ends = Ends(MemoryNetwork(seed=seed, **options), ONE, TWO, THREE)
        for number in range(20):
            for index, transport in enumerate(ends.transports):
                others = [other.address for other in ends.transports if other is not transport]
                transport.send([(bytes([index, number]), other) for other in others])
        await asyncio.sleep(10)
        return ends.log

    return run_virtual(scenario())


@pytest.mark.parametrize("options", [{}, {"delay_s": 0.2, "jitter_s": 0.1}, {"delay_s": 0.05, "loss": 0.2}], ids=str)
def test_the_same_seed_gives_the_same_deliveries_and_another_seed_others(options: dict[str, float]) -> None:
    assert crossfire(1, **options) == crossfire(1, **options)
    assert crossfire(1, **options) != crossfire(2, **options)


@pytest.mark.parametrize("seed", range(10))
def test_whatever_the_seed_each_flow_keeps_its_order(seed: int) -> None:
    log = crossfire(seed, delay_s=0.1, jitter_s=0.05)
    assert len(log) == 120
    for receiver in range(3):
        for sender in range(3):
            numbers = [data[1] for _, index, data in log if index == receiver and data[0] == sender]
            assert numbers == ([] if receiver == sender else list(range(20)))


# Virtual time


def test_a_day_of_sleep_takes_no_time() -> None:
    async def scenario() -> float:
        for _ in range(23):
            await asyncio.sleep(3_600)
        return asyncio.get_running_loop().time()

    started = time.monotonic()
    assert run_virtual(scenario()) == 23 * 3_600
    assert time.monotonic() - started < PATIENCE_S


def test_timers_ring_in_order_at_their_times() -> None:
    async def scenario() -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        rung: list[tuple[float, str]] = []

        def ring(name: str) -> None:
            rung.append((loop.time(), name))

        for delay, name in [(3.0, "late"), (0.1, "early"), (1 / 3, "middle"), (1e6 / 3e6, "same")]:
            loop.call_later(delay, ring, name)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await loop.create_future()
        return rung

    assert run_virtual(scenario()) == [(0.1, "early"), (1 / 3, "middle"), (1 / 3, "same"), (3.0, "late")]


def test_the_time_of_day_goes_along() -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    loop = VirtualLoop(started_at=start)
    try:
        loop.run_until_complete(asyncio.sleep(90))
        assert loop.utc_now() == start + timedelta(seconds=90)
    finally:
        loop.close()


def test_a_wait_for_nothing_is_a_deadlock_that_says_where() -> None:
    async def waits_in_vain() -> None:
        await asyncio.sleep(2)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match=r"any more at 2 s(.|\n)*waits in .*waits_in_vain \(.*test_memory.py:\d+\)"):
        run_virtual(waits_in_vain())


def test_a_wait_beside_timers_without_end_is_a_deadlock_too() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        def ring() -> None:
            loop.call_later(60, ring)

        ring()
        await loop.create_future()

    with pytest.raises(Deadlock, match="still not done after 7200 virtual seconds"):
        run_virtual(scenario(), limit_s=7_200)


def test_a_timer_in_the_past_that_rings_without_end_is_a_deadlock_too() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        def ring() -> None:
            loop.call_at(loop.time() - 1, ring)

        ring()
        await asyncio.sleep(1)

    with pytest.raises(Deadlock, match="something spins"):
        run_virtual(scenario())


def test_work_in_threads_takes_no_virtual_time() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        hurried = loop.call_later(0.001, lambda: None)
        await asyncio.to_thread(time.sleep, 0.05)
        assert loop.time() == 0.0
        hurried.cancel()
        assert (await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_DGRAM))[0][4] == ("127.0.0.1", 80)
        assert loop.time() == 0.0

    run_virtual(scenario())


def test_sockets_are_refused() -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for add in (asyncio.get_running_loop().add_reader, asyncio.get_running_loop().add_writer):
                with pytest.raises(LocalError, match="MemoryNetwork"):
                    add(sock, lambda: None)

    run_virtual(scenario())


def test_an_exception_leaves_the_loop_as_from_any_other() -> None:
    async def scenario() -> None:
        await asyncio.sleep(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_virtual(scenario())


# Whole endpoints


class Peers:
    """Endpoints of one network, with leaves whose signatures are all of one length."""

    def __init__(self, network: MemoryNetwork, settings: Settings | None = None) -> None:
        self.network = network
        self.settings = settings
        self.trace: list[tuple[float, Any, Any, int]] = []
        network.on_send = self._note
        self._leaves = LEAVES

    def _note(self, source: Any, destination: Any, data: bytes) -> None:
        self.trace.append((asyncio.get_running_loop().time(), source, destination, len(data)))

    async def endpoint(self, address: Any, **options: Any) -> Endpoint:
        loop: Any = asyncio.get_running_loop()
        trust = Trust.pinned(FixedIdentity(LEAVES[address[1] % 2]), FINGERPRINTS)
        return await Endpoint.bind(
            trust=trust,
            settings=self.settings,
            transport=self.network.transport(address),
            clock=loop.time,
            utc_now=loop.utc_now,
            **options,
        )

    async def pair(self) -> tuple[Any, Any]:
        def echo(_connection: Any, message: Any) -> None:
            if message.wants_reply:
                message.reply(message.payload)

        server = await self.endpoint(("10.0.0.1", 4101), on_message=echo)
        client = await self.endpoint(("10.0.0.2", 4102))
        return server, client


def leaf(number: int) -> Identity:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "peer")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1_000 + number)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=2))
        .sign(key, None)
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(certificate.public_bytes(serialization.Encoding.PEM), pem, b"")


LEAVES = [leaf(0), leaf(1)]
FINGERPRINTS = [x509.load_pem_x509_certificate(one.chain_pem).fingerprint(hashes.SHA256()).hex() for one in LEAVES]


def test_an_idle_hour_of_two_endpoints_passes_in_pings() -> None:
    async def scenario() -> None:
        peers = Peers(MemoryNetwork(delay_s=0.02))
        server, client = await peers.pair()
        connection = await client.connect(server.address)
        await asyncio.sleep(1)
        before = len(peers.trace)
        await asyncio.sleep(3_600)
        assert not connection.closed
        pings = (len(peers.trace) - before) / 2
        assert 3_600 / 5 * 0.9 < pings < 3_600 / 5 * 1.5
        client.close()
        server.close()

    run_virtual(scenario())


def test_silence_ends_both_ends_after_the_idle_time() -> None:
    async def scenario() -> None:
        peers = Peers(MemoryNetwork(delay_s=0.02))
        server, client = await peers.pair()
        connection = await client.connect(server.address)
        other = server.connections[0]
        ended: list[float] = []
        for one in (connection, other):
            one.add_done_callback(lambda _: ended.append(asyncio.get_running_loop().time()))
        await asyncio.sleep(1)
        cut = asyncio.get_running_loop().time()
        peers.network.disconnect(server.address, client.address)
        await asyncio.sleep(60)
        assert connection.close_reason.kind == other.close_reason.kind == "idle"
        assert all(9 <= at - cut <= 21 for at in ended)

    run_virtual(scenario())


def test_a_connection_ends_with_its_certificate_hours_later() -> None:
    async def scenario() -> None:
        server, client = await Peers(MemoryNetwork(delay_s=0.02)).pair()
        connection = await client.connect(server.address)
        loop: Any = asyncio.get_running_loop()
        left_s = (connection.not_after - loop.utc_now()).total_seconds()
        assert left_s > 600
        await asyncio.sleep(left_s - 60)
        assert not connection.closed
        await asyncio.sleep(120)
        assert "expired" in connection.close_reason.text
        with pytest.raises(TrustError) as refused:
            await client.connect(server.address)
        assert refused.value.kind == "expired"

    run_virtual(scenario())


def test_a_peer_that_starts_after_two_seconds_is_reached_by_retrying() -> None:
    async def scenario() -> None:
        peers = Peers(MemoryNetwork(delay_s=0.02))
        client = await peers.endpoint(("10.0.0.2", 4102))
        dial = asyncio.ensure_future(client.connect(("10.0.0.1", 4101), timeout_s=0.3, retry=Retry()))
        await asyncio.sleep(2)
        server = await peers.endpoint(("10.0.0.1", 4101))
        connection = await dial
        assert connection.address == server.address
        assert 2 < asyncio.get_running_loop().time() < 6

    run_virtual(scenario())


def test_a_silent_address_costs_the_whole_budget_and_no_more() -> None:
    async def scenario() -> None:
        client = await Peers(MemoryNetwork()).endpoint(("10.0.0.2", 4102))
        with pytest.raises(HandshakeFailed):
            await client.connect(("10.0.0.1", 4101), timeout_s=9.0, retry=Retry(budget_s=30))
        assert 19 < asyncio.get_running_loop().time() <= 30
        await asyncio.sleep(1)
        assert client.counters()["handshakes"] == 0

    run_virtual(scenario())


def load(seed: int, **options: Any) -> tuple[float, list[tuple[float, Any, Any, int]]]:
    """Twenty exchanges of 100 KiB at once: when they were done, and every datagram sent."""

    async def scenario() -> tuple[float, list[tuple[float, Any, Any, int]]]:
        peers = Peers(MemoryNetwork(seed=seed, **options))
        server, client = await peers.pair()
        connection = await client.connect(server.address)
        payloads = [bytes([number]) * 100_000 for number in range(20)]
        replies = await asyncio.gather(*(connection.request(b"/x", payload) for payload in payloads))
        assert [reply.payload for reply in replies] == payloads
        done = asyncio.get_running_loop().time()
        client.close()
        await asyncio.sleep(1)
        server.close()
        return done, peers.trace

    return run_virtual(scenario())


@pytest.mark.parametrize(
    "options",
    [{}, {"delay_s": 0.02}, {"delay_s": 0.02, "loss": 0.02}, {"delay_s": 0.02, "jitter_s": 0.01, "loss": 0.01}],
    ids=str,
)
def test_the_same_seed_is_the_same_to_the_last_datagram(options: dict[str, float]) -> None:
    done, trace = load(1, **options)
    assert load(1, **options) == (done, trace)
    if options.get("loss"):
        assert load(2, **options)[1] != trace


def test_more_delay_takes_more_time() -> None:
    assert load(1, delay_s=0.0)[0] < load(1, delay_s=0.01)[0] < load(1, delay_s=0.1)[0]
