"""A lab as in a pod: everything mounted, real nodes beside it, HTTP behind a token."""

import asyncio
import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from tests.lab.podkit import NAMESPACE, TOKEN, UP_S, Pods, client_at, until_answers, until_connected

from p2pnet.lab.backends.pod import PodBackend
from p2pnet.lab_client import ProblemError
from p2pnet.model.errors import SpecError
from p2pnet.model.ids import lab_uri
from p2pnet.model.jobs import TOKEN_HEADER, Payload, RunRequest
from p2pnet.subnet.document import digest_of, load_subnet


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    pods = Pods(tmp_path)
    yield pods
    pods.end()


async def test_a_lab_in_a_pod_finds_nodes_by_name_runs_and_takes_newer_members(pods: Pods):
    for index in range(3):
        pods.start_node(index)
    port = pods.start_lab()
    await until_answers(pods, port)
    async with client_at(port) as lab_client:
        await until_connected(lab_client, 3, pods)
        status = await lab_client.summary()
        assert (status.target, status.certificates.issued, status.links.up) == ("cluster", 3, 3)
        assert len(status.trusted) == 1
        assert all(member.trusted == status.trusted and member.leaf for member in status.members)

        started = await lab_client.start_run(RunRequest([Payload("x", size=100_000)], count=3), key="k")
        *_, last = [state async for state in lab_client.follow(started.run)]
        assert (last.report.verdict, last.report.target, last.report.clock_bound_ms) == ("pass", "cluster", 0)
        copied = b"".join([part async for part in lab_client.run_file(started.run, "events.ndjson")])
        assert copied.count(b"validated") >= 6
        with pytest.raises(ProblemError, match="no file"):
            _ = [part async for part in lab_client.run_file(started.run, "../../lab/tls.key")]

        with pytest.raises(ProblemError, match="the Subnet object's"):
            await lab_client.patch_spec({"spec": {"nodes": 4}})

        assert await lab_client.push_members(pods.membership(2, removed=(2,))) == 2
        await until_connected(lab_client, 2, pods)
        assert await lab_client.push_members(pods.membership(1)) == 2  # an older one never overrides

    pods.processes["lab"].send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(pods.processes["lab"].wait, 20) == 0
    assert pods.processes["node-0"].poll() is None  # nodes outlive their lab


async def test_nothing_but_healthz_and_metrics_is_had_without_the_token(pods: Pods):
    port = pods.start_lab()
    await until_answers(pods, port)
    for token in ("", TOKEN[:-1], TOKEN + "a", "é"):
        async with client_at(port, token) as lab_client:
            with pytest.raises(ProblemError) as caught:
                await lab_client.summary()
            assert (caught.value.status, caught.value.exit_code) == (401, 3)
            assert "X-P2pnet-Token" in str(caught.value)
    pods.mounts.token.write_text("b" * 64)
    async with client_at(port, "b" * 64) as lab_client:
        assert (await lab_client.summary()).nodes.desired == 3
        pods.mounts.token.unlink()
        with pytest.raises(ProblemError):
            await lab_client.summary()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert answer.content_type == "text/plain"
            assert 'p2pnet_lab_nodes{state="desired"} 3.0' in await answer.text()
        pods.mounts.token.write_text(TOKEN)
        big = session.post(
            f"http://127.0.0.1:{port}/v1/members", data=io.BytesIO(bytes(9 << 20)), headers={TOKEN_HEADER: TOKEN}
        )
        async with big as answer:
            assert answer.status == 413


async def test_a_lab_whose_mounts_do_not_fit_says_so_and_ends(pods: Pods):
    pods.issue_lab(lab_uri("p2pnet", "elsewhere", "demo"))
    pods.start_lab()
    assert await asyncio.to_thread(pods.processes["lab"].wait, UP_S) == 2
    assert "this lab is spiffe://p2pnet/ns/lab-7/subnet/demo/lab" in pods.log()


async def test_changed_files_are_taken_when_they_fit_and_told_when_they_do_not(pods: Pods):
    backend = PodBackend(pods.mounts, NAMESPACE, host="127.0.0.1")
    await backend.start()
    assert backend.identity.version == 1
    await backend.renew(pods.now)
    assert backend.identity.version == 1
    pods.issue_lab()
    pods.write_members(pods.membership(5, removed=(1,)))
    pods.write_document(seed=7)
    await backend.renew(pods.now)
    assert (backend.identity.version, backend.membership.registry.version, backend.subnet.spec.seed) == (2, 5, 7)
    assert backend.groups() == {"node-0": "node", "node-2": "node"}
    held = backend.identity.current
    pods.issue_lab(lab_uri("p2pnet", "elsewhere", "demo"))
    pods.mounts.members.write_text("{")
    with pytest.raises(SpecError, match="this lab is"):
        await backend.renew(pods.now)
    assert backend.identity.current is held
    assert backend.membership.registry.version == 5
    with pytest.raises(SpecError, match="force-renew"):
        await backend.renew(pods.now, everything=True)
    await backend.close()


async def test_a_pushed_document_stays_in_force_until_the_mounted_one_changes(pods: Pods):
    port = pods.start_lab()
    await until_answers(pods, port)
    written = json.loads(pods.mounts.document.read_text())
    async with client_at(port) as lab_client:
        before = (await lab_client.summary()).document
        assert before == digest_of(load_subnet(written))
        edited = {**written, "spec": {**written["spec"], "ttl": "2h"}}
        await lab_client.put_spec(edited)
        assert (await lab_client.spec())["spec"]["ttl"] == "2h"
        assert (await lab_client.summary()).document == digest_of(load_subnet(edited)) != before
        for wrong, words in (({**edited, "metadata": {"name": "other"}}, "this subnet is demo"), ({}, "metadata")):
            with pytest.raises(ProblemError, match=words) as caught:
                await lab_client.put_spec(wrong)
            assert caught.value.exit_code == 2
        assert (await lab_client.spec())["spec"]["ttl"] == "2h"
    backend = PodBackend(pods.mounts, NAMESPACE, host="127.0.0.1")
    backend.adopt_document(load_subnet(edited))
    await backend.renew(pods.now)
    assert str(backend.subnet.spec.ttl) == "2h"
    pods.write_document(ttl="3h")
    await backend.renew(pods.now)
    assert str(backend.subnet.spec.ttl) == "3h"


async def test_where_cert_manager_issues_leaves_its_own_tool_renews_them(pods: Pods):
    pods.write_document(identity={"issuer": "certManager", "issuerRef": {"name": "ours"}})
    backend = PodBackend(pods.mounts, NAMESPACE, host="127.0.0.1")
    with pytest.raises(SpecError, match=r"cmctl renew -n lab-7 -l p2pnet\.io/subnet=demo"):
        await backend.renew(pods.now, everything=True)
