"""cert-manager issues the nodes' leaves: its own controllers do it here, and pods, kubelets and the collector are real."""

import base64
import contextlib
import re
from collections.abc import Iterator

import msgspec
import pytest
from tests.cluster.demo import Demo, whole
from tests.cluster.inside import Inside
from tests.cluster.issuing import CertManager
from tests.cluster.kit import Cluster, conditions, until
from tests.cluster.test_certificates import SERVED_S, check_lossless, injection, served

from p2pnet.model.control import ROUTE_PEERS, ControlReply, PeersReply, PeersRequest
from p2pnet.model.errors import P2pnetError
from p2pnet.quic import Endpoint, FixedIdentity, Trust
from p2pnet.trust import Identity

NO_WRITES = r'verb="get"|"subnets"|"events"|"leases"'
IDENTITY = {"identity": {"issuer": "certManager", "issuerRef": {"name": "ours"}}}


DIALLED_S = 60.0
"""For a connection, and for an answer, on a busy machine."""


@pytest.fixture
def cert_manager(operator: Cluster, namespace: str) -> Iterator[CertManager]:
    """Absent at first."""
    made = CertManager(operator, namespace)
    made.forget()
    yield made
    made.forget()


def degraded(demo: Demo) -> tuple[str, str]:
    [found] = [one for one in demo.status().get("conditions", []) if one["type"] == "Degraded"] or [{}]
    return found.get("reason", ""), found.get("message", "")


def everything(demo: Demo) -> set[str]:
    """Of the Subnet and of cert-manager's, whatever its labels."""
    kinds = "secrets,certificates.cert-manager.io,certificaterequests.cert-manager.io,pods,services,configmaps"
    names = set(demo.kubectl("get", kinds, "--output", "name").split())
    return {one for one in names if not one.endswith(("/ours-ca", "/kube-root-ca.crt"))}


def test_a_subnet_waits_for_cert_manager_and_is_served_renewed_scaled_and_gone(
    operator: Cluster, namespace: str, cert_manager: CertManager
) -> None:
    demo = Demo(operator, namespace, {"nodes": 4, **IDENTITY})
    until(lambda: degraded(demo)[0] == "CertManagerMissing", "the Subnet says that cert-manager is missing")
    assert not demo.pods()
    cert_manager.define()
    authority = cert_manager.issuer("ours")
    with cert_manager.running():
        ready = demo.until_ready(4)
        assert conditions(ready)["CertificatesReady"] == "True"
        certificates = {f"certificate.cert-manager.io/demo-node-{number}" for number in range(4)}
        assert demo.objects() == whole(4) | {"secret/demo-trust"}
        assert certificates <= everything(demo)
        assert authority.fingerprint[:16] in served(demo)["node-0"][1:]
        for name, one in cert_manager.certificates().items():
            owners = demo.get("secret", name)["metadata"]["ownerReferences"]
            assert {owner["uid"] for owner in owners} == {ready["metadata"]["uid"], one["metadata"]["uid"]}
        report = demo.p2pnet("inject", "demo", "--size", "64KiB", "--count", "8")
        assert (report["verdict"], report["reach"]["ratio"]) == ("pass", 1), report
        rest(demo)
        control_is_for_a_leaf_of_the_subnets_own_authority(demo, cert_manager)
        renewed_by_another_authority(demo, cert_manager)
        demo.kubectl("scale", "subnet/demo", "--replicas=3")
        demo.until_ready(3)
        until(lambda: demo.objects() == whole(3) | {"secret/demo-trust"}, "the fourth node's objects are gone")
        demo.kubectl("delete", "subnet", "demo", "--wait=false")
        with contextlib.suppress(AssertionError):  # what is left says more
            until(lambda: not everything(demo), "nothing is left of it")
        assert everything(demo) == set()


def rest(demo: Demo) -> None:
    """What cert-manager and the API server add to what was asked for is nothing to write again for."""

    def counted() -> tuple[float, float]:
        """Looks at Subnets, and writes to what belongs to them, of the operator so far; it renews its claim all the time."""
        [pod] = [one["metadata"]["name"] for one in demo.cluster.get("pods", "--namespace", "p2pnet-system")]
        page = demo.kubectl("get", "--raw", f"/api/v1/namespaces/p2pnet-system/pods/{pod}:8081/proxy/metrics")
        looks, writes = 0.0, 0.0
        for line in page.splitlines():
            if line.startswith("p2pnet_reconcile_total{"):
                looks += float(line.rpartition(" ")[2])
            if line.startswith("p2pnet_api_requests_total{") and not re.search(NO_WRITES, line):
                writes += float(line.rpartition(" ")[2])
        return looks, writes

    looks, writes = counted()
    demo.annotate("note", "look again")
    until(lambda: counted()[0] > looks, "the operator has looked")
    assert counted()[1] == writes


def control_is_for_a_leaf_of_the_subnets_own_authority(demo: Demo, cert_manager: CertManager) -> None:
    """The Issuer makes a leaf for the lab's very URI: no node listens to it, as it does to the lab's own."""
    [pod] = [one for one in demo.pods() if one["metadata"]["name"] == "demo-node-0"]
    address, node = (pod["status"]["podIP"], 4100), demo.get("certificate", "demo-node-0")["spec"]["uris"][0]
    lab = node.partition("/node/")[0] + "/lab"
    cert_manager.ask("impostor", lab)
    bundle = secret(demo, "demo-lab")["ca.crt"]
    own, forged = secret(demo, "demo-lab"), secret(demo, "impostor")
    with Inside(demo.cluster.name) as inside:
        state = inside.do(asked(address, node, Identity(own["tls.crt"], own["tls.key"], bundle)))
        assert isinstance(state, PeersReply)
        with pytest.raises(P2pnetError, match="no authority of the bundle vouches"):
            inside.do(asked(address, node, Identity(forged["tls.crt"], forged["tls.key"], bundle)))
    demo.kubectl("delete", "certificate/impostor", "secret/impostor")


def secret(demo: Demo, name: str) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in demo.get("secret", name)["data"].items()}


async def asked(address: tuple[str, int], node: str, identity: Identity) -> ControlReply:
    """What a node tells whoever shows itself so."""
    endpoint = await Endpoint.bind(("0.0.0.0", 0), trust=Trust.subnet(FixedIdentity(identity)))
    try:
        connection = await endpoint.connect(address, expect=node, timeout_s=DIALLED_S)
        reply = await connection.request(ROUTE_PEERS, msgspec.msgpack.encode(PeersRequest()), timeout_s=DIALLED_S)
        return msgspec.msgpack.decode(reply.payload, type=ControlReply)
    finally:
        endpoint.close()
        await endpoint.wait_closed()


def renewed_by_another_authority(demo: Demo, cert_manager: CertManager) -> None:
    """The Issuer's authority is replaced and every leaf renewed, one by one, while artifacts are on their way."""
    before, pods = served(demo), demo.uids()
    old = [one for one in before["node-0"][1:] if one != demo.status()["authority"]["fingerprint"][:16]]
    new = cert_manager.issuer("ours").fingerprint[:16]
    with injection(demo) as reports:
        for name in sorted(cert_manager.certificates()):
            cert_manager.renew(name)
        until(
            lambda: all(leaf != before[name][0] for name, (leaf, *_) in served(demo).items()),
            "all show a new leaf", within_s=SERVED_S,
        )  # fmt: skip
    check_lossless(reports)
    until(
        lambda: all(new in words and old[0] not in words for words in served(demo).values()),
        "all trust the new authority and nobody the old one", within_s=2 * SERVED_S,
    )  # fmt: skip
    demo.until_ready(4)
    assert (demo.restarts(), demo.uids()) == (0, pods)


def test_an_issuer_may_come_late_and_packed_pods_mount_the_leaves_of_all_their_nodes(
    operator: Cluster, namespace: str, cert_manager: CertManager
) -> None:
    cert_manager.define()
    with cert_manager.running():
        demo = Demo(operator, namespace, {"nodes": 3, "nodesPerPod": 2, **IDENTITY})
        until(lambda: len(cert_manager.certificates()) == 3, "leaves are asked for")
        assert not demo.pods()
        cert_manager.issuer("ours")
        demo.until_ready(3)
        assert len(demo.pods()) == 2
