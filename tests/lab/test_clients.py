"""Several clients in one subnet: whose artifacts a run makes, and how an artifact of any of them is found again."""

import asyncio
import os

import pytest
from tests.patience import PATIENCE_S

from p2pnet.lab.runs import run as run_module
from p2pnet.lab_client import ProblemError
from p2pnet.model.events import EventKind
from p2pnet.model.jobs import Payload, RunRequest


@pytest.fixture
def document():
    clients = [{"name": "chat", "class": "chat:Chat"}, {"name": "blob"}, {"name": "dkg", "class": "dkg:Dkg"}]
    return {
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"},
        "spec": {"nodes": 3, "clients": clients},
    }  # fmt: skip


async def published(lab_client, client="", **more):
    started = await lab_client.start_run(
        RunRequest([Payload("x", size=100)], client=client, **more), key=os.urandom(4).hex()
    )
    return [state async for state in lab_client.follow(started.run)][-1]


@pytest.mark.parametrize(("asked", "client"), [("chat", "chat"), ("dkg", "dkg"), ("", "blob")])
async def test_a_run_publishes_by_the_client_asked_for_and_says_which(lab_client, asked, client):
    state = await published(lab_client, asked, publisher="node-0")
    report = state.report
    assert (report.client, state.request.client, report.verdict) == (client, client, "pass")
    [artifact] = report.artifact_ids
    _, file, events = await lab_client.artifact_events(artifact)
    assert {event.client for event in events} == {client} == {file.request.client}
    assert (await lab_client.get(artifact[:10])).size == 100
    assert (await lab_client.withdrawal(artifact)).held == ["node-0", "node-1", "node-2"]


async def test_a_client_that_is_not_there_is_refused_with_those_that_are(lab_client, lab):
    with pytest.raises(ProblemError, match="no client 'nobody': the subnet has chat, blob, dkg") as caught:
        await lab_client.start_run(RunRequest([Payload("x", size=1)], client="nobody"), key="k")
    assert caught.value.exit_code == 2
    assert lab.runs.all() == []


async def test_the_same_request_with_the_default_client_is_the_same_run(lab_client):
    first, again, named = [
        (await lab_client.start_run(RunRequest([Payload("x", size=1)], client=client), key="k")).run
        for client in ("", "", "blob")
    ]
    assert first == again == named


async def test_the_report_says_that_bytes_are_those_of_all_clients(lab_client):
    report = (await published(lab_client)).report
    assert "bytes sent are those of all clients (chat, blob, dkg)" in report.notes


async def test_other_clients_events_fill_no_room_in_a_run(lab_client, nodes, monkeypatch):
    monkeypatch.setattr(run_module, "EARLY_EVENTS_MAX", 5)
    nodes.gate.clear()
    started = await lab_client.start_run(RunRequest([Payload("x", size=1)], count=20, rate=100, client="chat"), key="k")
    busy = nodes.nodes["node-1"]
    for number in range(50):
        own = bytes([number]) * 32
        busy.hold(own, "", b"", "dkg")
        busy.tell(EventKind.PUBLISHED, own)
        await asyncio.sleep(0.002)
    nodes.gate.set()
    report = [state async for state in lab_client.follow(started.run)][-1].report
    assert (report.verdict, report.artifacts) == ("pass", 20)


async def test_a_clients_own_product_is_found_by_what_nodes_said_of_it(lab_client, lab, nodes):
    product = os.urandom(32)
    for name, kind in (("node-1", EventKind.PUBLISHED), ("node-0", EventKind.VALIDATED)):
        nodes.nodes[name].hold(product, "", b"product", "dkg")
        nodes.nodes[name].tell(kind, product, bytes=7)
    async with asyncio.timeout(PATIENCE_S):
        while len(lab.collector.of_artifact(product.hex())) < 2:
            await asyncio.sleep(0.01)
    whole, file, events = await lab_client.artifact_events(product.hex()[:12])
    assert (whole, file.run, file.nodes) == (product.hex(), "", ["node-0", "node-1", "node-2"])
    assert [event.kind for event in events] == [EventKind.PUBLISHED, EventKind.VALIDATED]
    got = await lab_client.get(product.hex()[:12])
    assert (got.data, got.node) == (b"product", "node-0")  # not its maker
    assert (await lab_client.withdrawal(product.hex())).held == ["node-0", "node-1"]


async def test_a_whole_id_nobody_spoke_of_is_sought_at_every_client(lab_client, nodes):
    silent = os.urandom(32)
    nodes.nodes["node-2"].hold(silent, "", b"quiet", "dkg")
    assert (await lab_client.get(silent.hex())).data == b"quiet"
    with pytest.raises(ProblemError, match="no run published"):
        await lab_client.artifact_events(silent.hex())
    assert (await lab_client.withdrawal(silent.hex())).held == ["node-2"]
    with pytest.raises(ProblemError, match="no node holds"):
        await lab_client.get(silent.hex())


async def test_a_prefix_of_two_products_is_ambiguous(lab_client, lab, nodes):
    for last in (1, 2):
        nodes.nodes["node-0"].tell(EventKind.PUBLISHED, bytes(31) + bytes([last]))
    async with asyncio.timeout(PATIENCE_S):
        while len(lab.collector.of_artifact("000000")) < 2:
            await asyncio.sleep(0.01)
    with pytest.raises(ProblemError, match="000000 is ambiguous: 2 artifacts"):
        await lab_client.get("000000")
