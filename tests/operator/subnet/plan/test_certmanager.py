"""cert-manager as issuer: Certificates that ask for exactly what nodes need, and Secrets used only when they fit."""

import contextlib
from datetime import timedelta
from typing import Any

import pytest
from tests.operator.cert_manager import CertManager
from tests.operator.kit import FAULTS, NAMESPACE, Killed, World, subnet_context

from p2pnet.model.errors import SpecError
from p2pnet.operator import rbac
from p2pnet.operator.kube.api import (
    CERTIFICATE,
    EVENT,
    POD,
    SECRET,
    ApiError,
    ConflictError,
    annotations_of,
    decoded,
    meta,
    name_of,
    uid_of,
)
from p2pnet.operator.subnet.context import SUBNET
from p2pnet.operator.subnet.plan import certmanager
from p2pnet.operator.subnet.plan.leaves import readable_authorities
from p2pnet.subnet.document import load_subnet
from p2pnet.trust import Bundle, Identity

ISSUER = {"issuer": "certManager", "issuerRef": {"name": "ours"}}


def world_of(nodes: int = 3, **spec: Any) -> tuple[World, CertManager]:
    identity = ISSUER | spec.pop("identity", {})
    world = World(nodes=nodes, identity=identity, **spec)
    return world, CertManager(world)


async def settle(world: World, issuer: CertManager) -> None:
    """Both controllers and the kubelet, until nothing moves."""
    for _ in range(10):
        issued = issuer.issue()
        if await world.converge() == 1 and not issued:
            return
    raise AssertionError("operator and cert-manager do not come to rest")


def files(world: World, pod: str) -> dict[str, bytes]:
    world.lab.mount(pod)
    return world.lab.mounted[pod]


RECOMMENDED = {
    "app.kubernetes.io/name": "p2pnet", "app.kubernetes.io/instance": "demo", "app.kubernetes.io/component": "node",
    "app.kubernetes.io/part-of": "p2pnet",
}  # fmt: skip


def names(world: World, kind: Any, role: str = "node") -> set[str]:
    return {name_of(one) for one in world.api.all(kind) if meta(one).get("labels", {}).get("p2pnet.io/role") == role}


def test_a_certificate_asks_for_exactly_what_a_node_needs() -> None:
    place = subnet_context(nodes=3, identity=ISSUER | {"ttl": "36h", "renewBefore": "90m"})
    body = certmanager.certificate(place, place.placements[1], "node-1")
    assert body == {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {
            "name": "demo-node-1",
            "namespace": NAMESPACE,
            "labels": {
                "app.kubernetes.io/managed-by": "p2pnet-operator", "p2pnet.io/subnet": "demo",
                "p2pnet.io/group": "node", "p2pnet.io/role": "node", **RECOMMENDED, "app.kubernetes.io/version": "test",
            },
            "ownerReferences": [
                {
                    "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "name": "demo", "uid": "uid-0",
                    "controller": True, "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "secretName": "demo-node-1",
            "secretTemplate": {
                "labels": {
                    "app.kubernetes.io/managed-by": "p2pnet-operator", "p2pnet.io/subnet": "demo",
                    "p2pnet.io/group": "node", "p2pnet.io/role": "node", **RECOMMENDED,
                },
                "annotations": {"p2pnet.io/subnet-uid": "uid-0"},
            },
            "issuerRef": {"name": "ours", "kind": "Issuer", "group": "cert-manager.io"},
            "uris": ["spiffe://p2pnet/ns/lab-of-ada/subnet/demo/node/node-1"],
            "dnsNames": ["demo-node-1.demo-nodes.lab-of-ada.svc"],
            "usages": ["digital signature", "server auth", "client auth"],
            "privateKey": {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"},
            "duration": "36h0m0s",
            "renewBefore": "1h30m0s",
            "revisionHistoryLimit": 1,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("identity", "words"),
    [({"ttl": "30m"}, "spec.identity.ttl: 30m: cert-manager issues for 1h"),
     ({"ttl": "2h", "renewBefore": "4m"}, "spec.identity.renewBefore: 4m: cert-manager wants 5m")],
)  # fmt: skip
def test_what_cert_manager_would_refuse_is_refused_before(identity: dict[str, str], words: str) -> None:
    document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}}
    with pytest.raises(SpecError, match=words):
        load_subnet({**document, "spec": {"identity": {**ISSUER, **identity}}})


async def test_pods_start_when_their_leaves_are_there_and_read_them_as_in_every_mode() -> None:
    world, issuer = world_of()
    await world.converge()
    assert not world.api.all(POD), "nobody has a leaf, and the lab would not know whom to trust"
    assert world.condition("CertificatesReady") == ("False", "Issuing")
    await settle(world, issuer)
    assert names(world, POD) == {"demo-node-0", "demo-node-1", "demo-node-2"}
    held = files(world, "demo-node-1")
    assert set(held) == {"node-1.crt", "node-1.key", "ca.crt", "lab-ca.crt"}
    identity = Identity(held["node-1.crt"], held["node-1.key"], held["ca.crt"], held["lab-ca.crt"])
    assert identity.verify(now=world.now).uri == world.context().uri("node-1")
    assert identity.bundle.fingerprints == (issuer.authority("ours").fingerprint,)
    own = decoded(world.api.one(SECRET, "demo-ca"))["ca.crt"]
    assert identity.lab_bundle.fingerprints == Bundle.from_pem(own).fingerprints
    assert world.condition("Ready") == ("True", "Connected")
    assert world.condition("CertificatesReady") == ("True", "Issued")
    assert world.status["certificates"]["issued"] == 3


async def test_the_lab_trusts_both_and_shows_a_leaf_of_the_subnets_own_authority() -> None:
    world, issuer = world_of()
    await settle(world, issuer)
    lab = files(world, "demo-lab")
    own = decoded(world.api.one(SECRET, "demo-ca"))["ca.crt"]
    assert Identity(lab["tls.crt"], lab["tls.key"], own).verify(now=world.now).uri == world.context().lab_uri
    wanted = {*Bundle.from_pem(own).fingerprints, issuer.authority("ours").fingerprint}
    assert set(Bundle.from_pem(lab["ca.crt"]).fingerprints) == wanted


async def test_at_rest_nothing_is_written() -> None:
    world, issuer = world_of()
    await settle(world, issuer)
    before = len(world.api.writes)
    await world.reconcile(5)
    assert len(world.api.writes) == before


@pytest.mark.parametrize("every", [1, 2, 5])
async def test_an_operator_killed_after_every_kth_write_still_gets_there(every: int) -> None:
    world, issuer = world_of(4)
    for nodes in (4, 2):
        world.api.edit(SUBNET, "demo", nodes=nodes)
        for _ in range(60):
            world.api.kill_after = len(world.api.writes) + every
            with contextlib.suppress(Killed, ConflictError):
                await world.reconcile()
            world.start()
            issuer.issue()
            world.kubelet()
            world.now += timedelta(seconds=6)
        world.api.kill_after = None
        await settle(world, issuer)
        wanted = {f"demo-node-{number}" for number in range(nodes)}
        assert names(world, POD) == names(world, SECRET) == names(world, CERTIFICATE) == wanted
    assert world.condition("Ready") == ("True", "Connected")
    made = [(kind, name) for verb, kind, name in world.api.writes if verb == "create" and kind in (POD, SECRET)]
    assert len(made) == len(set(made)), "nothing was made twice"


async def test_a_packed_pod_mounts_the_leaves_of_all_its_members() -> None:
    world, issuer = world_of(5, nodesPerPod=3)
    await settle(world, issuer)
    assert names(world, CERTIFICATE) == {f"demo-node-{number}" for number in range(5)}
    assert {file for file in files(world, "demo-node-1") if file.endswith(".crt")} == {
        "node-3.crt", "node-4.crt", "ca.crt", "lab-ca.crt",
    }  # fmt: skip


async def test_a_leaf_with_another_uri_starts_no_pod_and_is_named() -> None:
    world, issuer = world_of()
    issuer.uris["demo-node-1"] = "spiffe://p2pnet/ns/elsewhere/subnet/demo/node/node-1"
    await settle(world, issuer)
    assert names(world, POD) == {"demo-node-0", "demo-node-2"}
    assert world.condition("Degraded") == ("True", "LeafUnfit")
    [degraded] = [one for one in world.status["conditions"] if one["type"] == "Degraded"]
    assert "Secret demo-node-1: is for spiffe://p2pnet/ns/elsewhere" in degraded["message"]
    assert world.status["certificates"]["issued"] == 2


async def test_a_key_that_is_not_the_leafs_starts_no_pod() -> None:
    world, issuer = world_of(2)
    await world.converge()
    issuer.issue()
    one, two = (world.api.one(SECRET, f"demo-node-{number}") for number in range(2))
    one["data"]["tls.key"] = two["data"]["tls.key"]
    await world.converge()
    assert names(world, POD) == {"demo-node-1"}
    assert world.condition("Degraded") == ("True", "LeafUnfit")


async def test_an_issuer_that_gives_no_authority_is_named_with_the_kinds_that_do() -> None:
    world, issuer = world_of()
    issuer.gives_authority = False
    await settle(world, issuer)
    assert not world.api.all(POD)
    assert world.condition("Degraded") == ("True", "IssuerWithoutAuthority")
    [degraded] = [one for one in world.status["conditions"] if one["type"] == "Degraded"]
    assert "Issuer ours gives no ca.crt" in degraded["message"]
    assert "ca and vault" in degraded["message"]


async def test_a_leaf_that_is_its_own_authority_is_none() -> None:
    world, issuer = world_of(1)
    await world.converge()
    issuer.issue()
    secret = world.api.one(SECRET, "demo-node-0")
    secret["data"]["ca.crt"] = secret["data"]["tls.crt"]
    await world.converge()
    assert world.condition("Degraded") == ("True", "IssuerWithoutAuthority")


async def test_a_certificate_that_is_not_issued_is_reported_after_a_minute_with_cert_managers_message() -> None:
    world, issuer = world_of()
    await world.reconcile()
    issuer.tell("demo-node-0", ready=False, message="Referenced Issuer not found")
    await world.reconcile()
    assert world.condition("Degraded") == ("False", "Healthy")
    world.now += certmanager.ISSUED_WITHIN + timedelta(seconds=1)
    await world.reconcile()
    assert world.condition("Degraded") == ("True", "CertificateNotIssued")
    [degraded] = [one for one in world.status["conditions"] if one["type"] == "Degraded"]
    assert "Referenced Issuer not found" in degraded["message"]
    await settle(world, issuer)
    assert world.condition("Degraded") == ("False", "Healthy")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ApiError(404, "NotFound", "the server could not find the requested resource"), "CertManagerMissing"),
     (FAULTS["forbidden"], "Forbidden")],
)  # fmt: skip
async def test_a_cluster_without_cert_manager_is_degraded_and_serves_as_soon_as_it_is_there(
    error: ApiError, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, issuer = world_of()
    find = world.api.find

    async def missing(kind: Any, namespace: str = "", selector: str = "") -> Any:
        if kind == CERTIFICATE:
            raise error
        return await find(kind, namespace, selector)

    with monkeypatch.context() as patched:
        patched.setattr(world.api, "find", missing)
        again = await world.reconcile()
        assert world.condition("Degraded") == ("True", reason)
        assert again is not None
        assert again <= 30
        writes = len(world.api.writes)
        await world.reconcile()
        assert len(world.api.writes) == writes
    await settle(world, issuer)
    assert world.condition("Ready") == ("True", "Connected")


async def test_a_builtin_subnet_never_asks_for_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(nodes=2)
    find, asked = world.api.find, []

    async def noting(kind: Any, namespace: str = "", selector: str = "") -> Any:
        asked.append(kind)
        return await find(kind, namespace, selector)

    monkeypatch.setattr(world.api, "find", noting)
    await world.converge()
    assert CERTIFICATE not in asked


async def test_a_renewal_is_cert_managers_and_changes_nothing_of_ours() -> None:
    world, issuer = world_of()
    await settle(world, issuer)
    before, writes = files(world, "demo-node-0"), len(world.api.writes)
    world.now += timedelta(days=1)
    issuer.issue("demo-node-0")
    await world.converge()
    ours = [name for _, kind, name in world.api.writes[writes:] if kind not in (SUBNET, EVENT)]
    assert not ours
    assert files(world, "demo-node-0")["node-0.crt"] != before["node-0.crt"]
    assert world.condition("Ready") == ("True", "Connected")


async def test_while_the_issuers_authority_changes_leaves_of_both_are_trusted() -> None:
    world, issuer = world_of()
    await settle(world, issuer)
    old, pods = issuer.authority("ours"), {name_of(pod): uid_of(pod) for pod in world.api.all(POD)}
    del issuer.authorities["ours"]
    new = issuer.authority("ours")
    world.lab.auto_mount = False
    issuer.issue("demo-node-0")
    await world.converge()
    trusted = Bundle.from_pem(files(world, "demo-node-2")["ca.crt"]).fingerprints
    assert set(trusted) == {old.fingerprint, new.fingerprint}
    issuer.issue("demo-node-1", "demo-node-2")
    for name in ("demo-node-0", "demo-node-1"):
        world.lab.mount(name)
    world.lab.mounted["demo-node-2"]["node-2.crt"] = world.lab.mounted["demo-node-1"]["node-1.crt"]
    world.lab.mounted["demo-node-2"]["node-2.key"] = world.lab.mounted["demo-node-1"]["node-1.key"]
    await world.converge()
    bundle = decoded(world.api.one(SECRET, "demo-trust"))["ca.crt"]
    assert old.fingerprint in Bundle.from_pem(bundle).fingerprints, "one node still shows a former leaf"
    assert world.condition("Progressing") == ("True", "ReplacingAuthority")
    world.lab.auto_mount = True
    await world.converge()
    bundle = decoded(world.api.one(SECRET, "demo-trust"))["ca.crt"]
    assert Bundle.from_pem(bundle).fingerprints == (new.fingerprint,)
    assert old.fingerprint not in Bundle.from_pem(files(world, "demo-lab")["ca.crt"]).fingerprints
    assert {name_of(pod): uid_of(pod) for pod in world.api.all(POD)} == pods


async def test_more_authorities_than_a_bundle_may_hold_are_reported_and_the_bundle_stays() -> None:
    world, issuer = world_of(8)
    await world.converge()
    for number in range(8):
        world.api.one(CERTIFICATE, f"demo-node-{number}")["spec"]["issuerRef"]["name"] = f"issuer-{number}"
    issuer.issue()
    await world.reconcile()
    assert world.condition("Degraded") == ("True", "TooManyAuthorities")
    assert not world.api.all(POD)


async def test_the_subnets_own_authority_is_replaced_for_the_lab_alone() -> None:
    world, issuer = world_of()
    await settle(world, issuer)
    before = world.status["authority"]["fingerprint"]
    leaves = {name: files(world, name)[f"{name[5:]}.crt"] for name in names(world, POD)}
    world.api.annotate("demo", force_replace="once")
    await settle(world, issuer)
    assert world.status["authority"]["fingerprint"] != before
    assert world.status["authority"]["phase"] == "Steady"
    assert {name: files(world, name)[f"{name[5:]}.crt"] for name in names(world, POD)} == leaves
    held = files(world, "demo-node-0")
    assert Bundle.from_pem(held["lab-ca.crt"]).fingerprints == (world.status["authority"]["fingerprint"],)
    assert world.condition("Degraded") == ("False", "Healthy")


async def test_a_lost_authority_of_the_lab_is_found_in_what_nodes_trust() -> None:
    world, issuer = world_of()
    await settle(world, issuer)
    old = readable_authorities([files(world, "demo-node-0")["lab-ca.crt"]])
    world.api.remove(SECRET, "demo-ca")
    await world.reconcile()
    assert world.condition("Degraded") == ("True", "AuthorityLost")
    world.api.annotate("demo", force_replace="again")
    await world.reconcile()
    held = decoded(world.api.one(SECRET, "demo-ca"))
    assert held["ca.crt"] == old, "nodes learn of the new one beside the old one, not beside the Issuer's"


async def test_renewing_by_annotation_is_for_the_leaf_of_our_own_authority() -> None:
    world, issuer = world_of(2)
    await settle(world, issuer)
    node, lab = files(world, "demo-node-0"), files(world, "demo-lab")
    world.api.annotate("demo", force_renew="now")
    await settle(world, issuer)
    assert files(world, "demo-node-0") == node
    assert files(world, "demo-lab")["tls.crt"] != lab["tls.crt"]


async def test_the_rights_for_certificates_are_what_is_used_and_no_more() -> None:
    world, issuer = world_of(3)
    await settle(world, issuer)
    world.api.edit(SUBNET, "demo", nodes=1)
    await settle(world, issuer)
    verbs = {"apply": {"create", "patch"}, "create": {"create"}, "patch": {"patch"}, "delete": {"delete"}}
    used = {word for verb, kind, _ in world.api.writes if kind == CERTIFICATE for word in verbs[verb]}
    [right] = rbac.CERT_MANAGER_RIGHTS
    assert used | {"list"} == set(right.verbs)


async def test_secrets_belong_to_subnet_and_certificate() -> None:
    world, issuer = world_of(2)
    await settle(world, issuer)
    for number in range(2):
        owners = meta(world.api.one(SECRET, f"demo-node-{number}"))["ownerReferences"]
        certificate = world.api.one(CERTIFICATE, f"demo-node-{number}")
        assert {one["uid"] for one in owners} == {uid_of(world.subnet), uid_of(certificate)}
        assert not any(one["controller"] for one in owners)


async def test_a_secret_that_was_deleted_and_made_again_by_cert_manager_gets_its_owners_back() -> None:
    world, issuer = world_of(2)
    await settle(world, issuer)
    world.api.remove(SECRET, "demo-node-1")
    issuer.issue()
    assert "ownerReferences" not in meta(world.api.one(SECRET, "demo-node-1"))
    await settle(world, issuer)
    owners = meta(world.api.one(SECRET, "demo-node-1"))["ownerReferences"]
    assert {one["kind"] for one in owners} == {"Subnet", "Certificate"}


async def test_a_certificate_that_was_deleted_is_asked_for_again_and_owns_the_secret_again() -> None:
    world, issuer = world_of(2)
    await settle(world, issuer)
    leaf = files(world, "demo-node-1")["node-1.crt"]
    world.api.remove(CERTIFICATE, "demo-node-1")
    await settle(world, issuer)
    owners = meta(world.api.one(SECRET, "demo-node-1"))["ownerReferences"]
    assert [one["uid"] for one in owners if one["kind"] == "Certificate"] == [
        uid_of(world.api.one(CERTIFICATE, "demo-node-1"))
    ]
    assert files(world, "demo-node-1")["node-1.crt"] == leaf


async def test_scaling_down_deletes_certificates_at_once_and_secrets_after_their_pods() -> None:
    world, issuer = world_of(4)
    await settle(world, issuer)
    world.api.graceful = True
    world.api.edit(SUBNET, "demo", nodes=2)
    await world.reconcile()
    assert names(world, CERTIFICATE) == {"demo-node-0", "demo-node-1"}
    assert {"demo-node-2", "demo-node-3"} <= names(world, SECRET), "their pods are still ending"
    await settle(world, issuer)
    assert names(world, SECRET) == names(world, POD) == {"demo-node-0", "demo-node-1"}


async def test_a_secret_of_somebody_else_is_not_handed_to_cert_manager() -> None:
    world, issuer = world_of(2)
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo-node-1"}, "data": {"password": "eA=="}}
    world.api.put(SECRET, NAMESPACE, foreign)
    await world.reconcile()
    assert world.condition("Degraded") == ("True", "NameConflict")
    issuer.issue()
    await world.reconcile(3)
    assert names(world, CERTIFICATE) == {"demo-node-0"}
    assert world.api.one(SECRET, "demo-node-1")["data"] == {"password": "eA=="}


async def test_bundles_of_somebody_else_are_not_mounted() -> None:
    world, issuer = world_of(2)
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo-trust"}, "data": {"ca.crt": "eA=="}}
    world.api.put(SECRET, NAMESPACE, foreign)
    await world.reconcile()
    issuer.issue()
    await world.reconcile(3)
    assert world.condition("Degraded") == ("True", "NameConflict")
    assert not names(world, POD)
    assert world.api.one(SECRET, "demo-trust")["data"] == {"ca.crt": "eA=="}


async def test_another_issuer_takes_over_without_a_restart() -> None:
    world, issuer = world_of()
    await settle(world, issuer)
    pods = {name_of(pod): uid_of(pod) for pod in world.api.all(POD)}
    identity = world.subnet["spec"]["identity"] | {"issuerRef": {"name": "theirs"}}
    world.api.edit(SUBNET, "demo", identity=identity)
    await settle(world, issuer)
    trusted = Bundle.from_pem(files(world, "demo-node-0")["ca.crt"]).fingerprints
    assert trusted == (issuer.authority("theirs").fingerprint,)
    assert {name_of(pod): uid_of(pod) for pod in world.api.all(POD)} == pods


async def test_secrets_say_for_which_subnet_they_were_made() -> None:
    world, issuer = world_of(1)
    await settle(world, issuer)
    secret = world.api.one(SECRET, "demo-node-0")
    assert annotations_of(secret)["p2pnet.io/subnet-uid"] == uid_of(world.subnet)
    assert not world.context().owns({"metadata": {**meta(secret), "ownerReferences": [], "name": "copy"}})
