"""An endpoint in a process of its own, to be attacked: what it holds is measured there, and nobody else's memory with it.

`Victim` (the test's end) starts this file as a program (the victim's end) and asks it by lines of JSON.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil

from p2pnet.quic import Connection, Endpoint, FixedIdentity, Message, Settings, Trust
from p2pnet.trust import Identity

if TYPE_CHECKING:
    from tests.quic.attackers import Raw
    from tests.quic.conftest import World

Address = tuple[str, int]

MIB = 1 << 20
ANSWER_S = 120.0
"""As tests.patience says, which the victim's process does not find."""
MEDIAN_S = 1.0
LATE_S = 3.0
"""CPU time that a victim may spend until it has answered an honest peer: a busy machine changes nothing of that."""
REMEMBERED_BYTES = 250_000
"""For the few hundred packets that a victim remembers of a peer that acknowledges none, at half a kilobyte each."""
TURN_CPU_S = 0.5
"""CPU time of one turn of the victim's loop: however slow the machine, nobody else was served in that time."""


# The test's end


class Victim:
    """A running victim. `mark` begins a measurement, `figures` reads it."""

    def __init__(self, process: asyncio.subprocess.Process, address: Address) -> None:
        self.address = address
        self.pid = process.pid
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, identity: Identity, **options: Any) -> AsyncIterator[Victim]:
        """Start one. `settings` (of Settings), `handler` (echo, work, mute) and `work_s` say what it does.

        `trace=False` measures no allocations, which halves the time everything takes.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        try:
            pems = [identity.chain_pem, identity.key_pem, identity.bundle_pem]
            options["identity"] = [base64.b64encode(one).decode() for one in pems]
            victim = cls(process, ("", 0))
            victim.address = tuple((await victim._ask(**options))["address"])
            yield victim
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            # Its pipes are closed while the loop still runs; a warning about them would be a later test's failure.
            process._transport.close()  # type: ignore[attr-defined]

    def cpu_s(self) -> float:
        """CPU time that it spent since it began."""
        return _cpu_s(psutil.Process(self.pid))

    async def mark(self) -> None:
        """Memory is measured from here on."""
        await self._ask(do="mark")

    async def figures(self) -> Any:
        """What happened since the last mark: see `_Measured.figures`."""
        return SimpleNamespace(**await self._ask(do="figures"))

    async def request(self, address: Address, count: int, size: int = 1) -> None:
        """Have the victim dial, and begin so many requests of `size` bytes."""
        await self._ask(do="request", address=address, count=count, size=size)

    async def _ask(self, **what: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(what).encode() + b"\n")
        line = await asyncio.wait_for(stdout.readline(), ANSWER_S)
        assert line, "the victim has died"
        return json.loads(line)


@dataclass
class Honest:
    """A well-behaved peer of the victim: asks again and again, and notes what CPU time the victim spent meanwhile."""

    seconds: list[float] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        """Half of the answers came sooner."""
        return statistics.median(self.seconds)

    @property
    def late_s(self) -> float:
        """95 of 100 answers came sooner."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.95)]

    def check(self) -> None:
        """All its requests were answered, and before the victim had done much else."""
        assert not self.errors, f"of an honest peer's {len(self.seconds)} requests failed: {self.errors}"
        assert self.seconds
        assert self.median_s < MEDIAN_S, f"half of an honest peer's answers took {self.median_s:.3f} s of CPU"
        assert self.late_s < LATE_S, f"one in twenty of an honest peer's answers took {self.late_s:.3f} s of CPU"


@contextlib.asynccontextmanager
async def beside(
    endpoint: Endpoint, address: Address, pid: int | None = None, *, every_s: float = 0.02
) -> AsyncIterator[Honest]:
    """An honest peer at work while the body runs; at its end one more request must be answered.

    `pid` is the victim's process; without it the victim is in this one.
    """
    honest = Honest()
    victim = psutil.Process(pid)
    connection = await endpoint.connect(address, new=True)

    async def ask() -> None:
        started = _cpu_s(victim)
        try:
            await connection.request(b"/x", b"well?", timeout_s=ANSWER_S)
            honest.seconds.append(_cpu_s(victim) - started)
        except Exception as error:
            honest.errors.append(error)

    async def work() -> None:
        while True:
            await ask()
            await asyncio.sleep(every_s)

    task = asyncio.ensure_future(work())
    try:
        yield honest
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ask()
        connection.close()


@dataclass
class Scene:
    """A victim, an honest peer beside it, and as many attackers as the test dials."""

    world: World
    victim: Victim
    honest: Honest
    raws: list[Raw] = field(default_factory=list)

    async def dial(self, **how: Any) -> Raw:
        """One more member of the subnet that keeps to no rule: `Raw.dial`."""
        from tests.quic.attackers import Raw  # the victim's process needs none

        self.raws.append(await Raw.dial(self.world.identity("node-0"), self.victim.address, **how))
        return self.raws[-1]


@contextlib.asynccontextmanager
async def under_attack(world: World, **options: Any) -> AsyncIterator[Scene]:
    """A scene, closed afterwards. Whatever happened in it, the honest peer was served and nothing unforeseen was raised."""
    async with Victim.running(world.identity("node-1"), **options) as victim:
        async with beside(await world.endpoint("node-2"), victim.address, victim.pid) as honest:
            scene = Scene(world, victim, honest)
            try:
                yield scene
            finally:
                for raw in scene.raws:
                    raw.close()
        honest.check()
        figures = await victim.figures()
        assert not figures.faults, f"raised in the victim: {figures.faults}"
        assert figures.turn_cpu_s < TURN_CPU_S, f"a turn of the victim's loop took {figures.turn_cpu_s:.3f} s"


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


# The victim's end


class _Measured:
    """The endpoint under attack, and the measuring of it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.handled = 0
        self.working = 0
        self.working_max = 0
        self.cancelled = 0
        self.faults: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.connections: set[Connection] = set()
        self.dialled: Connection | None = None
        self.held_max = 0.0
        self.turn_cpu_s = 0.0
        self._base = (0, 0)
        self._beaten_at = self._cpu_base = time.process_time()
        self._endpoint: Endpoint

    async def bind(self) -> Address:
        """Begin."""
        asyncio.get_running_loop().set_exception_handler(self._fault)
        pems = (base64.b64decode(one) for one in self.options["identity"])
        self._endpoint = await Endpoint.bind(
            trust=Trust.subnet(FixedIdentity(Identity(*pems))),
            settings=Settings(**self.options.get("settings", {})),
            on_message={"echo": self._echo, "work": self._work, "mute": self._mute}[
                self.options.get("handler", "echo")
            ],
            on_connection=self._met,
        )
        self._pulse_task = asyncio.ensure_future(self._pulse())
        self._pulse_task.add_done_callback(lambda task: task.result())
        return self._endpoint.address

    def mark(self) -> dict[str, Any]:
        """Begin to measure."""
        gc.collect()
        self._beaten_at = self._cpu_base = time.process_time()
        if tracemalloc.is_tracing():
            tracemalloc.reset_peak()
        self.held_max = self.turn_cpu_s = 0.0
        self._base = (tracemalloc.get_traced_memory()[0], _rss())
        return {}

    def figures(self) -> dict[str, Any]:
        """Bytes are growth since `mark`; `peak` and `held_max` (of one connection's ledger) are the most in between."""
        self._beat()
        peak = tracemalloc.get_traced_memory()[1]
        rss = _rss()
        gc.collect()
        return {
            "grown": tracemalloc.get_traced_memory()[0] - self._base[0],
            "peak": peak - self._base[0],
            "rss": rss - self._base[1],
            "held_max": self.held_max,
            "turn_cpu_s": self.turn_cpu_s,
            "cpu_s": time.process_time() - self._cpu_base,
            "handled": self.handled,
            "working": self.working,
            "working_max": self.working_max,
            "cancelled": self.cancelled,
            "faults": dict(self.faults),
            "ends": dict(self.ends),
            "results": dict(self.results),
            "counters": self._endpoint.counters(),
        }

    async def request(self, address: list[Any], count: int, size: int) -> dict[str, Any]:
        """Dial if that is not done yet, and ask."""
        if self.dialled is None:
            self.dialled = await self._endpoint.connect((address[0], address[1]))
            self._met(self.dialled)
        for _ in range(count):
            self.dialled.start_request(b"/x", bytes(size), self._count)
        return {}

    def _count(self, result: Message | Exception) -> None:
        self.results[type(result).__name__] += 1

    def _met(self, connection: Connection) -> None:
        self.connections.add(connection)
        connection.add_done_callback(self._parted)

    def _parted(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.ends[str(connection.close_reason)] += 1

    def _echo(self, _connection: Connection, message: Message) -> None:
        self.handled += 1
        if message.wants_reply:
            message.reply(message.payload, message.header)

    def _mute(self, _connection: Connection, _message: Message) -> None:
        self.handled += 1

    def _work(self, connection: Connection, message: Message) -> None:
        self.handled += 1
        self.working += 1
        self.working_max = max(self.working_max, self.working)

        def done() -> None:
            self.working -= 1
            self.cancelled += message.cancelled
            if message.wants_reply:
                message.reply(b"done")

        # An honest peer's question is a short one: it shows what a busy neighbour costs.
        work_s = 0.0 if message.payload == b"well?" else self.options.get("work_s", 1.0)
        asyncio.get_running_loop().call_later(work_s, done)

    def _fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.faults[f"{type(error).__name__}: {error}"[:200] if error else context["message"][:200]] += 1

    def _beat(self) -> None:
        now = time.process_time()
        self.turn_cpu_s = max(self.turn_cpu_s, now - self._beaten_at)
        self._beaten_at = now

    async def _pulse(self) -> None:
        """Looks at the ledgers, and at the CPU time that passed before the loop was free to look."""
        while True:
            await asyncio.sleep(0.01)
            self._beat()
            for connection in self.connections:
                self.held_max = max(self.held_max, connection.counters()["held_bytes"])


def _rss() -> int:
    return int(psutil.Process().memory_info().rss)


async def _main() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    options = json.loads(await reader.readline())
    if options.get("trace", True):
        tracemalloc.start()
    measured = _Measured(options)
    print(json.dumps({"address": await measured.bind()}), flush=True)
    while line := await reader.readline():
        what = json.loads(line)
        if what["do"] == "request":
            answer = await measured.request(what["address"], what["count"], what["size"])
        else:
            answer = {"mark": measured.mark, "figures": measured.figures}[what["do"]]()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
