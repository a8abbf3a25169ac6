"""`python -m p2pnet.node CONFIG` without a supervisor: how it ends."""

import asyncio
import logging
import signal
import socket
import time

from tests.node.kit import Bench, ended, port_of, run_node

from p2pnet.node.process import QUIC_LINES_PER_MINUTE, FewLines


async def test_asked_by_sigterm_it_ends_with_0_without_waiting_for_the_labs_long_poll(bench: Bench) -> None:
    bench.subnet.ports["node-0"] = 1
    bench.subnet.write_members(bench.subnet.membership(1, ["node-0"]))
    config = bench.subnet.write_node("node-0", port=0)
    process = await run_node(config)
    bench.subnet.ports["node-0"] = await port_of(process)
    # a long poll of the lab is open when the signal comes
    state = await bench.peers("node-0")
    waiting = asyncio.ensure_future(bench.events("node-0", state.event_cursor, wait_ms=60_000))
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert (await waiting).events == []
    code, _ = await ended(process)
    assert code == 0
    assert time.monotonic() - started < 60


async def test_a_config_that_cannot_be_used_ends_it_with_2_and_a_sentence(bench: Bench) -> None:
    bench.subnet.folder.joinpath("node.json").write_text('{"name": "node-0"}')
    code, words = await ended(await run_node(bench.subnet.folder / "node.json"))
    assert code == 2
    assert "node.json" in words
    assert "Traceback" not in words


async def test_an_address_in_use_ends_it_with_3(bench: Bench) -> None:
    bench.subnet.ports["node-0"] = 1
    bench.subnet.write_members(bench.subnet.membership(1, ["node-0"]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        code, words = await ended(await run_node(bench.subnet.write_node("node-0", port=taken.getsockname()[1])))
    assert code == 3
    assert "Traceback" not in words


def test_who_is_refused_all_day_does_not_fill_the_log() -> None:
    few = FewLines()

    def passed(seconds: float) -> bool:
        record = logging.LogRecord("quic", logging.WARNING, "", 0, "refused", None, None)
        record.created = seconds
        return few.filter(record)

    assert [passed(1000 + at / 10) for at in range(100)].count(True) == QUIC_LINES_PER_MINUTE
    assert passed(1061)
