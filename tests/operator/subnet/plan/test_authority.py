"""Leaves are renewed in time, an authority is replaced while everybody stays connected, and a lost one is never hidden."""

import re
from datetime import timedelta
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operator.kit import NAMESPACE, NOW, World, subnet_context

from p2pnet.operator.kube.api import EVENT, POD, SECRET, decoded, encoded, meta, name_of
from p2pnet.operator.subnet.context import SUBNET
from p2pnet.operator.subnet.plan import leaves
from p2pnet.operator.subnet.plan.authority import NEXT, HeldCertificates, RotationPhase
from p2pnet.trust import Authority, Bundle, Identity, verify

DAY = timedelta(days=1)


def identities(world: World) -> dict[str, Identity]:
    """What the running nodes use now: as their pods have loaded it."""
    found = {}
    for placed in world.context().placements:
        held = world.lab.mounted.get(placed.pod) or {}
        for name in placed.members:
            if f"{name}.crt" in held:
                found[name] = Identity(held[f"{name}.crt"], held[f"{name}.key"], held["ca.crt"])
    return found


def check_everybody_trusts_everybody(world: World) -> None:
    for a, b in combinations(identities(world).values(), 2):
        verify(a.chain_der, b.bundle, now=world.now)
        verify(b.chain_der, a.bundle, now=world.now)


def authority_of(world: World) -> dict[str, bytes]:
    return decoded(world.api.one(SECRET, "demo-ca"))


async def steady(**spec: object) -> World:
    world = World(**{"nodes": 4, **spec})
    await world.converge()
    world.lab.auto_mount = False
    return world


def test_phases_follow_each_other_in_one_circle() -> None:
    old, new = Authority.create("a", now=NOW), Authority.create("b", now=NOW)
    held = HeldCertificates(old.certificate_pem, old)
    bundles = []
    for phase in (RotationPhase.STEADY, RotationPhase.TRUSTING, RotationPhase.ISSUING):
        assert held.phase is phase
        bundles.append(held.bundle.fingerprints)
        held = held.advanced(new if phase is RotationPhase.STEADY else None)
        assert held.phase is NEXT[phase]
    assert bundles == [(old.fingerprint,), (old.fingerprint, new.fingerprint), (new.fingerprint, old.fingerprint)]
    assert held.bundle.fingerprints == (new.fingerprint,)


async def test_an_authority_is_replaced_in_three_phases_gated_on_what_nodes_report() -> None:
    world = await steady()
    old = authority_of(world)["ca.crt"]
    pods = {name_of(pod): meta(pod)["uid"] for pod in world.api.all(POD)}
    world.api.annotate("demo", force_replace="1")
    phases = []
    for turn in range(40):
        await world.reconcile()
        phases.append(world.status["authority"]["phase"])
        if turn % 3 == 0:  # one pod after the other reads its Secret
            names = [name_of(pod) for pod in world.api.all(POD)]
            world.lab.mount(names[(turn // 3) % len(names)])
        check_everybody_trusts_everybody(world)
        world.now += timedelta(seconds=6)
        if phases[-1] == "Steady" and "Issuing" in phases:
            break
    order = [phase for index, phase in enumerate(phases) if index == 0 or phases[index - 1] != phase]
    assert order == ["Trusting", "Issuing", "Steady"]
    assert phases.count("Trusting") > 5
    assert phases.count("Issuing") > 5
    assert authority_of(world)["ca.crt"] != old
    assert {name_of(pod): meta(pod)["uid"] for pod in world.api.all(POD)} == pods, "no pod was replaced"
    world.lab.auto_mount = True
    await world.converge()
    assert all(len(one.bundle.fingerprints) == 1 for one in identities(world).values())
    check_everybody_trusts_everybody(world)


async def test_a_node_that_does_not_report_keeps_the_old_authority_in_force() -> None:
    world = await steady()
    world.api.annotate("demo", force_replace="1")
    for _ in range(10):
        await world.reconcile()
        for pod in ("demo-node-0", "demo-node-1", "demo-node-2", "demo-lab"):
            world.lab.mount(pod)
        world.now += timedelta(seconds=6)
    assert world.status["authority"]["phase"] == "Trusting"
    assert world.condition("Progressing") == ("True", "ReplacingAuthority")
    assert any("node-3" in one["message"] for one in world.status["conditions"])
    assert set(authority_of(world)) == {"ca.crt", "ca.key", "next.crt", "next.key"}


async def test_a_pending_pod_does_not_hold_up_a_replacement() -> None:
    world = await steady()
    world.api.one(POD, "demo-node-3")["status"] = {"phase": "Pending"}
    world.api.annotate("demo", force_replace="1")
    for _ in range(12):
        await world.reconcile()
        for pod in ("demo-node-0", "demo-node-1", "demo-node-2", "demo-lab"):
            world.lab.mount(pod)
        world.now += timedelta(seconds=6)
    assert world.status["authority"]["phase"] == "Steady"
    assert world.status["authority"]["replaced"] == "1"


async def test_a_lab_that_is_silent_holds_a_replacement_up() -> None:
    world = await steady()
    world.lab.auto_mount = True
    world.lab.silent = True
    world.api.annotate("demo", force_replace="1")
    for _ in range(5):
        await world.reconcile()
        world.now += timedelta(seconds=6)
    assert world.status["authority"]["phase"] == "Trusting"


async def test_nodes_that_join_during_a_replacement_get_along_with_all() -> None:
    world = await steady()
    world.api.annotate("demo", force_replace="1")
    await world.reconcile()
    world.api.edit(SUBNET, "demo", nodes=6)
    for turn in range(30):
        await world.reconcile()
        world.kubelet()
        if turn % 2:
            for pod in world.api.all(POD):
                world.lab.mount(name_of(pod))
        check_everybody_trusts_everybody(world)
        world.now += timedelta(seconds=6)
    assert world.status["authority"]["phase"] == "Steady"
    assert len(identities(world)) == 6


async def test_an_authority_about_to_end_is_replaced_by_itself() -> None:
    world = World(nodes=2)
    await world.converge()
    old = authority_of(world)["ca.crt"]
    world.now = NOW + 3650 * DAY - 20 * DAY
    await world.converge()
    assert authority_of(world)["ca.crt"] != old
    assert set(authority_of(world)) == {"ca.crt", "ca.key"}


async def test_an_authority_that_has_ended_is_replaced_at_once() -> None:
    world = await steady()
    world.now = NOW + 3651 * DAY
    await world.reconcile()
    assert set(authority_of(world)) == {"ca.crt", "ca.key"}
    for pod in world.api.all(POD):
        world.lab.mount(name_of(pod))
    check_everybody_trusts_everybody(world)
    assert any(one["reason"] == "AuthorityReplaced" for one in world.api.all(EVENT))


async def test_a_deleted_authority_is_reported_and_not_created_anew() -> None:
    world = await steady()
    before = {name: decoded(world.api.one(SECRET, name)) for name in ("demo-node-0", "demo-lab")}
    world.api.remove(SECRET, "demo-ca")
    for _ in range(3):
        await world.reconcile()
        world.now += timedelta(seconds=6)
    assert (SECRET, NAMESPACE, "demo-ca") not in world.api.objects
    assert world.condition("Degraded") == ("True", "AuthorityLost")
    assert world.condition("CertificatesReady") == ("False", "AuthorityLost")
    assert {name: decoded(world.api.one(SECRET, name)) for name in before} == before


@pytest.mark.parametrize(
    "obeyed", ["", "7", "monday", "lost it", "x" * 64, "9" * 18, "9" * 253],
    ids=["none", "number", "word", "words", "long", "large", "larger"],
)  # fmt: skip
@pytest.mark.parametrize("harm", ["lost", "damaged"])
async def test_the_remedy_that_the_message_names_is_obeyed(obeyed: str, harm: str) -> None:
    world = await steady()
    world.lab.auto_mount = True
    if obeyed:
        world.api.annotate("demo", force_replace=obeyed)
        await world.converge()
    if harm == "lost":
        world.api.remove(SECRET, "demo-ca")
    else:
        world.api.one(SECRET, "demo-ca")["data"]["ca.key"] = ""
    await world.reconcile(2)
    [message] = {one["message"] for one in world.status["conditions"] if one["type"] == "Degraded"}
    assert "restore it" in message
    [command] = re.findall(
        r"kubectl annotate --overwrite subnet demo -n lab-of-ada p2pnet.io/force-replace=(\S+)", message
    )
    assert message in [one["message"] for one in world.api.all(EVENT)]
    world.api.annotate("demo", force_replace=command)
    await world.converge()
    assert world.condition("Degraded") == ("False", "Healthy")
    check_everybody_trusts_everybody(world)


async def test_without_an_authority_a_pod_comes_back_as_long_as_its_leaves_hold() -> None:
    world = await steady()
    world.api.remove(SECRET, "demo-ca")
    world.api.remove(POD, "demo-node-1")
    world.api.remove(POD, "demo-lab")
    world.api.remove(POD, "demo-node-2")
    world.api.remove(SECRET, "demo-node-2")
    await world.reconcile(2)
    assert {name_of(pod) for pod in world.api.all(POD)} >= {"demo-node-1", "demo-lab"}
    assert "demo-node-2" not in {name_of(one) for kind in (POD, SECRET) for one in world.api.all(kind)}
    assert world.condition("Degraded") == ("True", "AuthorityLost")
    assert world.status["certificates"]["issued"] == len(world.context().members) - 1
    world.now += timedelta(days=8)
    world.api.remove(POD, "demo-node-1")
    await world.reconcile()
    assert "demo-node-1" not in {name_of(pod) for pod in world.api.all(POD)}, "a leaf that has ended serves nobody"


async def test_a_deleted_authority_is_replaced_when_asked_and_all_nodes_stay_connected() -> None:
    world = await steady()
    old = authority_of(world)["ca.crt"]
    world.api.remove(SECRET, "demo-ca")
    await world.reconcile()
    world.api.annotate("demo", force_replace="lost it")
    for turn in range(30):
        await world.reconcile()
        if turn % 4 == 3:
            for pod in world.api.all(POD):
                world.lab.mount(name_of(pod))
        check_everybody_trusts_everybody(world)
        world.now += timedelta(seconds=6)
    assert world.status["authority"]["phase"] == "Steady"
    assert authority_of(world)["ca.crt"] != old
    assert world.condition("Degraded") == ("False", "Healthy")


async def test_a_deleted_authority_without_any_pod_is_made_again() -> None:
    world = await steady()
    world.api.remove(SECRET, "demo-ca")
    for pod in list(world.api.all(POD)):
        world.api.remove(POD, name_of(pod))
    world.lab.auto_mount = True
    await world.converge()
    check_everybody_trusts_everybody(world)
    assert len(identities(world)) == 4


@pytest.mark.parametrize("damage", ["no key", "no certificate", "another key", "garbage", "another authority"])
async def test_a_damaged_or_foreign_authority_issues_nothing(damage: str) -> None:
    world = await steady()
    foreign = Authority.create("foreign", now=NOW)
    secret = world.api.one(SECRET, "demo-ca")
    good = dict(secret["data"])
    match damage:
        case "no key":
            del secret["data"]["ca.key"]
        case "no certificate":
            del secret["data"]["ca.crt"]
        case "another key":
            secret["data"]["ca.key"] = encoded({"k": foreign.key_pem})["k"]
        case "garbage":
            secret["data"]["ca.crt"] = "AAAA"
        case _:
            secret["data"] = encoded({"ca.crt": foreign.certificate_pem, "ca.key": foreign.key_pem})
    before = decoded(world.api.one(SECRET, "demo-node-0"))
    await world.reconcile(2)
    assert world.condition("Degraded") == ("True", "AuthorityDamaged")
    assert decoded(world.api.one(SECRET, "demo-node-0")) == before
    secret["data"] = good
    world.lab.auto_mount = True
    await world.converge()
    assert world.condition("Degraded") == ("False", "Healthy")
    assert decoded(world.api.one(SECRET, "demo-node-0")) == before


async def test_a_damaged_authority_is_replaced_when_asked() -> None:
    world = await steady()
    del world.api.one(SECRET, "demo-ca")["data"]["ca.key"]
    world.api.annotate("demo", force_replace="x")
    world.lab.auto_mount = True
    await world.converge()
    assert set(authority_of(world)) == {"ca.crt", "ca.key"}
    check_everybody_trusts_everybody(world)


@pytest.mark.parametrize("wrong", ["another authority's", "another node's", "another key", "of a namespace beside"])
async def test_a_leaf_that_is_not_of_this_node_and_authority_is_issued_anew(wrong: str) -> None:
    world = await steady()
    own = Authority.load(authority_of(world)["ca.crt"], authority_of(world)["ca.key"])
    uri = world.context().uri("node-1")
    match wrong:
        case "another authority's":
            leaf = Authority.create("foreign", now=NOW).issue(uri, now=NOW, ttl=DAY)
        case "another node's":
            leaf = own.issue(world.context().uri("node-0"), now=NOW, ttl=DAY)
        case "another key":
            leaf = own.issue(uri, now=NOW, ttl=DAY)
        case _:
            leaf = own.issue(uri.replace(NAMESPACE, "beside"), now=NOW, ttl=DAY)
    data = world.api.one(SECRET, "demo-node-1")["data"]
    data["node-1.crt"] = encoded({"c": leaf.chain_pem})["c"]
    if wrong != "another key":
        data["node-1.key"] = encoded({"k": leaf.key_pem})["k"]
    await world.reconcile()
    held = decoded(world.api.one(SECRET, "demo-node-1"))
    assert held["node-1.crt"] != leaf.chain_pem
    found = leaves.facts(held["node-1.crt"], held["node-1.key"], own.certificate_pem)
    assert found is not None
    assert found.uri == uri


async def test_leaves_are_renewed_in_time_each_at_its_own_moment_and_no_pod_restarts() -> None:
    world = await steady(nodes=8, identity={"ttl": "6d", "renewBefore": "2d"})
    world.lab.auto_mount = True
    uids = {meta(pod)["uid"] for pod in world.api.all(POD)}
    renewals: set[int] = set()
    last = {name: one.fingerprint for name, one in identities(world).items()}
    for hour in range(0, 24 * 14, 4):
        world.now = NOW + timedelta(hours=hour)
        await world.reconcile()
        for pod in world.api.all(POD):
            world.lab.mount(name_of(pod))
        found = {name: one.fingerprint for name, one in identities(world).items()}
        if found != last:
            renewals.add(hour)
        last = found
        assert all(one.not_after - world.now > 1.6 * DAY for one in identities(world).values())
    assert len(renewals) > 2, "not all at once"
    assert min(renewals) > 24 * 3.5
    assert {meta(pod)["uid"] for pod in world.api.all(POD)} == uids


async def test_force_renew_renews_every_leaf_once() -> None:
    world = await steady()
    world.lab.auto_mount = True
    before = {name: one.fingerprint for name, one in identities(world).items()}
    world.api.annotate("demo", force_renew="today")
    await world.converge()
    after = {name: one.fingerprint for name, one in identities(world).items()}
    assert not set(before.values()) & set(after.values())
    writes = len(world.api.writes)
    await world.reconcile(5)
    assert len(world.api.writes) == writes


async def test_a_shorter_ttl_is_honoured_at_once_and_a_longer_one_in_its_time() -> None:
    world = await steady()
    world.lab.auto_mount = True
    first = {name: one.fingerprint for name, one in identities(world).items()}
    world.api.edit(SUBNET, "demo", identity={"ttl": "14d"})
    await world.converge()
    assert {name: one.fingerprint for name, one in identities(world).items()} == first
    world.api.edit(SUBNET, "demo", identity={"ttl": "1h"})
    await world.converge()
    assert all(one.not_after - world.now < timedelta(hours=1.1) for one in identities(world).values())


async def test_the_authoritys_key_is_mounted_nowhere() -> None:
    world = await steady()
    for pod in world.api.all(POD):
        secrets = {volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume}
        assert secrets <= {name_of(pod), "demo-lab-token"}
        assert pod["spec"]["automountServiceAccountToken"] is False


@settings(max_examples=60, deadline=None)
@given(
    ttl=st.integers(15 * 60, 3650 * 86_400), share=st.floats(0.001, 0.999), end=st.integers(60, 4000 * 86_400),
    fingerprint=st.text("0123456789abcdef", min_size=64, max_size=64),
)  # fmt: skip
def test_a_leaf_just_issued_is_never_due_and_one_that_could_be_longer_is_in_time(
    ttl: int, share: float, end: int, fingerprint: str
) -> None:
    before = max(1, int(ttl * share))
    subnet = subnet_context(nodes=1, identity={"ttl": f"{ttl}s", "renewBefore": f"{before}s"}).subnet
    authority_end = NOW + timedelta(seconds=end)
    not_after = min(NOW + timedelta(seconds=ttl), authority_end)
    leaf = leaves.LeafFacts("spiffe://x", NOW, not_after, fingerprint)
    due = leaves.renew_at(leaf, subnet)
    if not_after == NOW + timedelta(seconds=ttl):
        assert NOW < due < not_after
        assert abs((not_after - due).total_seconds() - before) <= max(0.1 * before, (ttl - before) / 2) + 1
    assert not leaves.is_due(leaf, subnet, authority_end, NOW)
    if authority_end > not_after + timedelta(minutes=2) and ttl > 600:
        assert leaves.is_due(leaf, subnet, authority_end, not_after)


def test_bundles_that_cannot_be_read_are_left_out() -> None:
    one = Authority.create("a", now=NOW).certificate_pem
    assert leaves.readable_authorities([b"", b"x", one, one]) == Bundle.from_pem(one).pem
