"""Handlers only enqueue, kopf writes nothing into anybody's object, and the operator asks for no right it does not use."""

import ast
from datetime import timedelta
from pathlib import Path

import kopf
import pytest
from tests.operator.kit import NOW, Api, World

import p2pnet.operator
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.operator import handlers, rbac
from p2pnet.operator.__main__ import check_crd, main
from p2pnet.operator.kube.api import EVENT, POD, SECRET, ApiError, BusyError, ResourceKind
from p2pnet.operator.kube.queue import Key, Workers
from p2pnet.operator.metrics import Metrics
from p2pnet.operator.settings import OperatorSettings
from p2pnet.operator.subnet.context import CHILDREN, SUBNET

FOLDER = Path(p2pnet.operator.__file__).parent


class Noted(Workers):
    def __init__(self) -> None:
        self.added: list[tuple[Key, bool]] = []

    def add(self, key: Key, *, urgent: bool = False) -> None:
        self.added.append((key, urgent))


def subnet(generation: int = 1, **annotations: str) -> dict[str, object]:
    return {
        "metadata": {
            "namespace": "ns",
            "name": "demo",
            "uid": "u",
            "generation": generation,
            "annotations": annotations,
        }
    }


def test_an_edit_is_urgent_and_our_own_status_write_is_nothing() -> None:
    workers = Noted()
    triggers = handlers.Triggers(workers)
    for kind, body in [
        (None, subnet()),
        ("MODIFIED", subnet()),
        ("MODIFIED", subnet(2)),
        ("MODIFIED", subnet(2, a="b")),
    ]:
        triggers.subnet(kind, body)
    assert workers.added == [(Key("ns", "demo"), True)] * 3
    triggers.subnet("DELETED", subnet(2, a="b"))
    triggers.subnet("ADDED", subnet(2, a="b"))
    assert len(workers.added) == 5


def test_a_child_names_its_subnet_and_a_stranger_nobody() -> None:
    workers = Noted()
    triggers = handlers.Triggers(workers)
    triggers.child({"metadata": {"namespace": "ns", "labels": {"p2pnet.io/subnet": "demo"}}})
    triggers.child({"metadata": {"namespace": "ns"}})
    assert workers.added == [(Key("ns", "demo"), False)]


def test_only_event_handlers_are_registered() -> None:
    """The others add finalizers and annotations."""
    used = set()
    for module in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            on = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "on"
            if on and isinstance(node, ast.Attribute):
                used.add(node.attr)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "kopf":
                assert node.attr not in ("daemon", "timer", "index", "exception", "event")
    assert used == {"event", "login", "cleanup"}


@pytest.mark.parametrize(
    ("library", "modules"),
    [("kopf", {"handlers.py", "__main__.py"}), ("kubernetes", {"client.py"}), ("prometheus_client", {"metrics.py"})],
)
def test_each_library_has_its_place(library: str, modules: set[str]) -> None:
    found = set()
    for module in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == library for name in names):
                found.add(module.name)
    assert found == modules


def test_what_is_watched_is_ours_alone_on_the_servers_side() -> None:
    settings, registry = kopf.OperatorSettings(), kopf.OperatorRegistry()
    handlers.configure(settings)
    handlers.register(registry, handlers.Triggers(Noted()))
    assert settings.scanning.disabled
    assert not settings.posting.enabled
    assert sum(settings.networking.error_backoffs) > 600
    assert "secrets" in settings.watching.label_selectors


async def test_every_right_is_used_and_every_use_has_its_right() -> None:
    world = World(nodes=3, ttl="1h")
    used: set[tuple[str, str]] = set()

    def note(verb: str, kind: ResourceKind, name: str) -> None:
        words = {"apply": ("create", "patch"), "create": ("create",), "patch": ("patch",), "delete": ("delete",)}[verb]
        resource = kind.plural + ("/status" if name.endswith("/status") else "")
        used.update((resource, word) for word in words if not (word == "create" and "/" in resource))

    world.api.fault = note
    await world.converge()
    world.api.edit(SUBNET, "demo", nodes=1)
    await world.converge()
    world.now += timedelta(hours=2)
    await world.look()
    allowed = {
        (right.rule["resources"][0], verb) for right in rbac.RIGHTS for verb in right.verbs
        if right.kind.plural != "persistentvolumeclaims"
    }  # fmt: skip
    assert used <= allowed
    writing = {(resource, verb) for resource, verb in allowed if verb in ("create", "patch", "delete", "update")}
    assert writing - used <= {("pods", "patch")}, "for labels that were lost"
    assert ("secrets", "get") not in allowed
    assert all(right.why for right in rbac.RIGHTS)


def test_no_right_is_a_wildcard_and_a_tester_sees_one_token() -> None:
    for role in (rbac.role(cluster_wide=True), rbac.lease_role("x"), rbac.tester_role("x", "demo")):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
    secrets = [rule for rule in rbac.tester_role("x", "demo")["rules"] if rule["resources"] == ["secrets"]]
    assert [(rule["resourceNames"], rule["verbs"]) for rule in secrets] == [(["demo-lab-token"], ["get"])]
    assert rbac.role(cluster_wide=False, namespace="x")["kind"] == "Role"


async def test_a_missing_crd_ends_the_start_with_a_hint() -> None:
    api = Api(lambda: NOW)
    await check_crd(api, ())

    async def missing(*_: object) -> list[dict[str, object]]:
        raise ApiError(404, "NotFound", "no such resource")

    api.find = missing  # type: ignore[assignment,method-assign]
    with pytest.raises(TargetError, match="subnets") as raised:
        await check_crd(api, ("a",))
    assert "crd" in raised.value.hint


async def test_a_server_that_is_busy_at_the_start_is_asked_again_for_a_while() -> None:
    api, asked = Api(lambda: NOW), 0

    async def busy_twice(*_: object) -> list[dict[str, object]]:
        nonlocal asked
        asked += 1
        if asked > 2:
            return []
        error = BusyError(429, "TooManyRequests", "later")
        error.retry_after_s = 0.001
        raise error

    api.find = busy_twice  # type: ignore[assignment,method-assign]
    await check_crd(api, ())
    assert asked == 3
    asked = 0
    with pytest.raises(TargetError, match="later"):
        await check_crd(api, (), patience_s=0.0)
    assert asked == 1


def test_settings_come_from_the_environment_and_say_what_is_wrong() -> None:
    found = OperatorSettings.read(
        {"P2PNET_WATCH_NAMESPACES": "a, b", "P2PNET_WORKERS": "7", "P2PNET_LEADER_ELECTION": "true"}
    )
    assert (found.namespaces, found.workers, found.leader_election) == (("a", "b"), 7, True)
    assert OperatorSettings.read({}).node_image.startswith("p2pnet/p2pnet-node:")
    with pytest.raises(SpecError, match="P2PNET_WORKERS"):
        OperatorSettings.read({"P2PNET_WORKERS": "many"})


def test_wrong_words_are_answered_with_the_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["what"]) == 2
    assert "crd" in capsys.readouterr().err
    assert main(["rbac"]) == 0


async def test_a_subnets_series_go_with_it() -> None:
    metrics, world = Metrics(), World(nodes=2)
    from p2pnet.operator.subnet.reconcile import Reconciler

    world.operator = Reconciler(world.api, world.lab, image="x", metrics=metrics, now=lambda: world.now)
    await world.converge()

    def series() -> list[str]:
        return [
            sample.name
            for family in metrics.registry.collect()
            for sample in family.samples
            if "demo" in sample.labels.values()
        ]

    assert await metrics.watched(world.key, world.operator.reconcile) is not None
    assert "p2pnet_subnet_nodes" in series()
    assert "p2pnet_certificate_expiry_timestamp_seconds" in series()
    world.api.remove(SUBNET, "demo")
    await metrics.watched(world.key, world.operator.reconcile)
    assert series() == []


def test_what_is_watched_is_all_there_is_to_own() -> None:
    assert {POD, SECRET} < set(CHILDREN)
    assert EVENT not in CHILDREN
