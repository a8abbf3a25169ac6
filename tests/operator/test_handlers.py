"""Handlers only enqueue, for every kind with a controller, and kopf writes nothing into anybody's object."""

import ast
from pathlib import Path

import kopf
import pytest

import p2pnet.operator
from p2pnet.operator import handlers
from p2pnet.operator.kube.api import EVENT, POD, SECRET, ResourceKind
from p2pnet.operator.kube.queue import Controller, Key, Workers
from p2pnet.operator.subnet.context import CHILDREN, SUBNET, SUBNET_LABEL

FOLDER = Path(p2pnet.operator.__file__).parent
OTHER = ResourceKind("p2pnet.io/v1alpha1", "Other", "others")


async def reconcile(_key: Key) -> float | None:
    return None


CONTROLLERS = [
    Controller(SUBNET, CHILDREN, SUBNET_LABEL, reconcile),
    Controller(OTHER, (POD,), "p2pnet.io/other", reconcile),
]


class RecordingWorkers(Workers):
    def __init__(self) -> None:
        self.added: list[tuple[Key, bool]] = []

    def add(self, key: Key, *, urgent: bool = False) -> None:
        self.added.append((key, urgent))


def subnet(generation: int = 1, **annotations: str) -> dict[str, object]:
    metadata = {"namespace": "ns", "name": "demo", "uid": "u", "generation": generation, "annotations": annotations}
    return {"metadata": metadata}


def test_an_edit_is_urgent_and_our_own_status_write_is_ignored() -> None:
    workers = RecordingWorkers()
    triggers = handlers.Triggers(workers, CONTROLLERS)
    for event_type, body in [
        (None, subnet()),
        ("MODIFIED", subnet()),
        ("MODIFIED", subnet(2)),
        ("MODIFIED", subnet(2, a="b")),
    ]:
        triggers.resource(SUBNET, event_type, body)
    assert workers.added == [(Key(SUBNET, "ns", "demo"), True)] * 3
    triggers.resource(SUBNET, "DELETED", subnet(2, a="b"))
    triggers.resource(SUBNET, "ADDED", subnet(2, a="b"))
    assert len(workers.added) == 5


def test_a_child_names_the_resource_it_belongs_to_and_other_objects_name_none() -> None:
    workers = RecordingWorkers()
    triggers = handlers.Triggers(workers, CONTROLLERS)
    triggers.child({"metadata": {"namespace": "ns", "labels": {"p2pnet.io/subnet": "demo"}}})
    triggers.child({"metadata": {"namespace": "ns", "labels": {"p2pnet.io/other": "demo"}}})
    triggers.child({"metadata": {"namespace": "ns"}})
    assert workers.added == [(Key(SUBNET, "ns", "demo"), False), (Key(OTHER, "ns", "demo"), False)]


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


def test_only_our_objects_are_watched_and_the_server_selects_them() -> None:
    settings, registry = kopf.OperatorSettings(), kopf.OperatorRegistry()
    handlers.configure(settings, CONTROLLERS)
    handlers.register(registry, handlers.Triggers(RecordingWorkers(), CONTROLLERS), CONTROLLERS)
    assert settings.scanning.disabled
    assert not settings.posting.enabled
    assert sum(settings.networking.error_backoffs) > 600
    assert all(kind.plural in settings.watching.label_selectors for kind in CHILDREN)
    assert {POD, SECRET} < set(CHILDREN)
    assert EVENT not in CHILDREN


@pytest.mark.parametrize("module", sorted((FOLDER / "kube").glob("*.py")), ids=lambda path: path.stem)
def test_nothing_in_kube_knows_what_a_subnet_is(module: Path) -> None:
    assert "subnet" not in module.read_text().lower()
