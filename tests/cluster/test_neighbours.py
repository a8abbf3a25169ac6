"""Subnets beside each other: neither nodes nor labs of one let those of another in."""

import base64

import pytest
from tests.cluster.demo import Demo
from tests.cluster.kit import Cluster

DIAL = """
import asyncio, pathlib, socket, sys
from p2pnet.quic import Endpoint
from p2pnet.quic.trust import FixedIdentity, PeerName, Trust
from p2pnet.trust import Identity

class Credulous(Trust):
    def admit(self, chain_der, *, expect, dialled, now):
        return PeerName("anybody")

async def main(host, port):
    identity = Identity.read(pathlib.Path("/etc/p2pnet/identity"), "node-0")
    endpoint = await Endpoint.bind(("0.0.0.0", 0), trust=Credulous(FixedIdentity(identity)))
    try:
        connection = await endpoint.connect((socket.gethostbyname(host), int(port)), timeout_s=60)
        async with asyncio.timeout(60):  # whoever does not admit us reads nothing, and closes
            await connection.send(b"/anything", b"", b"")
        print("admitted")
    except Exception as error:
        print("refused", type(error).__name__, error)

asyncio.run(main(*sys.argv[1:]))
"""
ASK = """
import sys, urllib.error, urllib.request
request = urllib.request.Request(f"http://{sys.argv[1]}/v1/summary", headers={"X-P2pnet-Token": sys.argv[2]})
try:
    print(urllib.request.urlopen(request, timeout=60).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def inside(demo: Demo, script: str, *words: str) -> str:
    """What a script says in a node's pod."""
    return demo.kubectl("exec", "demo-node-0", "--", "python", "-c", script, *words).strip()


@pytest.fixture
def other_namespace(operator: Cluster, namespace: str) -> str:
    """A second one."""
    name = f"{namespace}-b"
    return operator.namespace(name, restricted=False)


def test_two_namespaces_share_neither_handshakes_nor_labs(
    operator: Cluster, namespace: str, other_namespace: str
) -> None:
    ours, theirs = Demo(operator, namespace, {"nodes": 2}), Demo(operator, other_namespace, {"nodes": 2})
    twin = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "twin"}, "spec": {"nodes": 2}}
    operator.apply(twin, namespace)
    try:
        ours.until_ready(2)
        theirs.until_ready(2)
        operator.wait("subnet/twin", "condition=Ready", namespace)
        assert inside(ours, DIAL, f"demo-node-1.demo-nodes.{namespace}.svc", "4100") == "admitted"
        for host in (f"twin-node-1.twin-nodes.{namespace}.svc", f"demo-node-1.demo-nodes.{other_namespace}.svc"):
            said = inside(ours, DIAL, host, "4100")
            assert said.startswith("refused"), (host, said)
        token = base64.b64decode(ours.get("secret", "demo-lab-token")["data"]["token"]).decode()
        assert inside(ours, ASK, f"demo-lab.{namespace}.svc", token) == "200"
        for lab in (f"twin-lab.{namespace}.svc", f"demo-lab.{other_namespace}.svc"):
            for word in (token, ""):
                assert (lab, inside(ours, ASK, lab, word)) == (lab, "401")
    finally:
        operator.kubectl("delete", "namespace", other_namespace, "--wait=false")
