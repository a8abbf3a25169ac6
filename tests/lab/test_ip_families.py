"""Pods and their lab over IPv6 alone, and over both IP families from sockets that take both; with real processes."""

import socket
from pathlib import Path

import pytest
from tests.lab.podkit import Pods, client_at, until_answers, until_connected

from p2pnet.model.jobs import Payload, RunRequest

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="pods are Linux"),
    pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6"),
]


@pytest.mark.parametrize(
    ("host", "at", "labs"),
    [("::1", "::1", ["::1"]), ("::", "::1", ["::1", "127.0.0.1"]), ("::", "127.0.0.1", ["::1", "127.0.0.1"])],
    ids=["IPv6 alone", "both, reached by IPv6", "both, reached by IPv4"],
)
async def test_pods_and_their_lab_work_whatever_the_ip_family(
    tmp_path: Path, host: str, at: str, labs: list[str]
) -> None:
    pods = Pods(tmp_path, nodes=2, host=host, at=at)
    try:
        for first in range(2):
            pods.start_pod(first)
        port = pods.start_lab()
        for lab in labs:
            await until_answers(pods, port, lab)
        async with client_at(port, at=labs[0]) as lab_client:
            await until_connected(lab_client, 2, pods)
            request = RunRequest([Payload("x", size=100_000)], publisher="node-0")
            run = await lab_client.start_run(request, key="one")
            ended = [state async for state in lab_client.follow(run.run)][-1]
            assert ended.report is not None
            assert ended.report.verdict == "pass", (ended.report.invalid, pods.log())
            await lab_client.node_action("node-1", "restart")  # through its agent
            written = [line async for line in lab_client.logs(node="node-1")]
            assert any("restart ordered" in line.line for line in written)
    finally:
        pods.end()
