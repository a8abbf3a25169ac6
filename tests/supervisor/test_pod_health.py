"""What a pod's health page makes of those of its nodes."""

import asyncio

from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tests.ports import free_port

from p2pnet.supervisor import pod_health

Sample = tuple[str, dict[str, str], int]

LABELS = st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), st.sampled_from(["x", "y"]), max_size=2)
SAMPLES = st.lists(st.tuples(st.sampled_from(["a_total", "b", "c"]), LABELS, st.integers(0, 9)), max_size=8)


@given(pages=st.dictionaries(st.sampled_from(["node-0", "node-1", "node-2"]), SAMPLES))
def test_the_union_of_expositions_keeps_every_sample_once_and_families_together(
    pages: dict[str, list[Sample]],
) -> None:
    texts = {node: exposition(samples) for node, samples in pages.items()}
    lines = pod_health.union(texts).splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert len(samples) == sum(map(len, pages.values()))
    assert all('{node="' in line for line in samples)
    heads = [line for line in lines if line.startswith("#")]
    assert len(heads) == len(set(heads))
    families = [line.partition("{")[0] for line in samples]
    assert [family for family, before in zip(families, [None, *families], strict=False) if family != before] == list(
        dict.fromkeys(families)
    )


def exposition(samples: list[Sample]) -> str:
    lines = []
    for family in ("a_total", "b", "c"):
        mine = [(labels, value) for name, labels, value in samples if name == family]
        if mine:
            lines.append(f"# TYPE {family} gauge")
        for labels, value in mine:
            inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
            lines.append(f"{family}{{{inside}}} {value}" if inside else f"{family} {value}")
    return "".join(f"{line}\n" for line in lines)


async def test_a_pod_is_ready_when_all_its_nodes_are_and_healthy_while_one_is_paused() -> None:
    said = {"node-0": 200, "node-1": 503}
    ports = {name: free_port() for name in said}
    runners = {name: await serve(ports[name], name, said) for name in said}
    still: dict[str, str] = {}
    page = pod_health.PodHealth(ports, lambda: still, hold_s=0.0)
    _, port = await page.start("127.0.0.1", 0)
    assert await pod_health.ask(port, "/readyz") == (503, "node-1: node-1\n")
    said["node-1"] = 200
    assert await pod_health.ask(port, "/readyz") == (200, "ok\n")
    await runners.pop("node-0").cleanup()
    status, text = await pod_health.ask(port, "/healthz")
    assert status == 503
    assert "node-0: no answer" in text
    still["node-0"] = "it is paused"
    assert await pod_health.ask(port, "/healthz") == (200, "ok\n")
    assert await pod_health.ask(port, "/readyz") == (503, "node-0: it is paused\n")
    await page.stop()
    assert (await pod_health.ask(port, "/healthz"))[0] == 0
    for runner in runners.values():
        await runner.cleanup()


async def test_a_probe_of_a_pod_that_starts_waits_for_its_answer_and_later_ones_do_not() -> None:
    port, said, asked = free_port(), {"node-0": 503}, 0

    async def handler(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        said["node-0"] = 200 if asked >= 3 else 503
        return web.Response(status=said["node-0"], text="x\n")

    app = web.Application()
    app.add_routes([web.get("/{path}", handler)])
    runner = await serve_app(port, app)
    page = pod_health.PodHealth({"node-0": port}, dict, hold_s=60.0)
    _, there = await page.start("127.0.0.1", 0)
    assert await asyncio.gather(*(pod_health.ask(there, "/healthz") for _ in range(5))) == [(200, "ok\n")] * 5
    assert asked == 3, "one look for all who wait"
    asked = -100
    assert (await pod_health.ask(there, "/healthz"))[0] == 503, "it has been up"
    waiting = asyncio.create_task(pod_health.ask(there, "/readyz"))
    await asyncio.sleep(0.05)
    await page.stop()
    assert (await waiting)[0] == 0
    await runner.cleanup()


async def serve(port: int, name: str, said: dict[str, int]) -> web.AppRunner:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=said[name], text=f"{name}\n")

    app = web.Application()
    app.add_routes([web.get("/{path}", handler)])
    return await serve_app(port, app)


async def serve_app(port: int, app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


async def test_the_metrics_of_a_lone_node_come_as_they_are() -> None:
    port, said = free_port(), {"node-0": 200}
    runner = await serve(port, "p2pnet_node_ready 1.0", said)
    page = pod_health.PodHealth({"node-0": port}, dict)
    said["p2pnet_node_ready 1.0"] = 200
    _, there = await page.start("127.0.0.1", 0)
    assert await pod_health.ask(there, "/metrics") == (200, "p2pnet_node_ready 1.0\n")
    await page.stop()
    await runner.cleanup()
