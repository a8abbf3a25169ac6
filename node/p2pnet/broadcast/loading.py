"""Finds and makes clients: p2pnet's own, those of entry points, or of a class by its name; for nodes and for the simulator."""

import importlib
from collections.abc import Callable
from typing import Any, cast

from p2pnet.broadcast.client import Client
from p2pnet.model.config import ClientConfig
from p2pnet.model.errors import LocalError, SpecError
from p2pnet.model.ids import CLIENT_NAME

ENTRY_POINTS = "p2pnet.clients"
"""Group of entry points, by which an installed package offers clients."""
OURS = {"blob": "p2pnet.broadcast.blob:BlobClient", "beacon": "p2pnet.broadcast.beacon:BeaconClient"}
"""Not entry points: reading every installed package's metadata would cost each node's start 10 ms."""
_METHODS = ("make", "inspect", "on_state_change", "bouncer", "is_urgent", "relay")


def load_client(spec: ClientConfig, place: str = "client", *, node: str = "") -> Client:
    """One client, named as the config says. Its class is called with the settings and, where it takes a `node`, with this
    node's name. Raises SpecError: `<place>.class: what is wrong`, or .name, or .settings.
    """
    return maker_of(spec, place)(node)


def maker_of(spec: ClientConfig, place: str = "client") -> Callable[[str], Client]:
    """As `load_client`, for many nodes: a function from a node's name to a client, whose class is looked for once."""
    if not CLIENT_NAME.fullmatch(spec.name):
        raise SpecError(
            f"{place}.name: {spec.name!r}: at most 12 lower-case letters and digits, a letter first: it names routes"
        )
    target = spec.class_ or OURS.get(spec.name) or entry_point(spec.name, place)
    make = find_maker(target, place)
    takes_node = takes_a_node(make)

    def made(node: str) -> Client:
        try:
            client = make(**({"node": node} if takes_node else {}) | spec.settings)
        except (TypeError, ValueError, LocalError) as error:
            raise SpecError(f"{place}.settings: {error}") from error
        except (Exception, SystemExit) as error:
            raise SpecError(f"{place}.class: {target} cannot be made: {_words(error)}") from error
        _check(client, target, place)
        # One class may serve several clients of a config, each under the name given there.
        try:
            client.name = spec.name
        except AttributeError as error:
            raise SpecError(f"{place}.class: {target} takes no name: {error}") from error
        return cast("Client", client)

    return made


def find_maker(target: str, place: str) -> Callable[..., Any]:
    """The class, or another callable that makes a client, behind `module:Class`. Raises SpecError."""
    module_name, colon, class_name = target.partition(":")
    if not colon or not module_name or not class_name:
        raise SpecError(f"{place}.class: {target!r} is not of the form module:Class")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise SpecError(f"{place}.class: {module_name} cannot be imported: {_words(error)}") from error
    found = getattr(module, class_name, None)
    if not callable(found):
        from difflib import get_close_matches  # for those who make a mistake

        near = get_close_matches(class_name, dir(module), n=1)
        guess = f", did you mean {near[0]}?" if near and near[0] != class_name else ""
        raise SpecError(f"{place}.class: {module_name} has no class {class_name}{guess}")
    return cast("Callable[..., Any]", found)


def takes_a_node(make: Callable[..., Any]) -> bool:
    """Whether it has a parameter named `node`."""
    code = getattr(getattr(make, "__init__", None), "__code__", None) or getattr(make, "__code__", None)
    return code is not None and "node" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _check(client: object, target: str, place: str) -> None:
    missing = [method for method in _METHODS if not callable(getattr(client, method, None))]
    missing += [] if hasattr(client, "tick_s") else ["tick_s"]
    if missing:
        raise SpecError(
            f"{place}.class: {target} is no client, it lacks {', '.join(missing)}: see p2pnet.broadcast.Client"
        )
    tick_s = getattr(client, "tick_s", None)
    if tick_s is not None and not (isinstance(tick_s, int | float) and tick_s > 0):
        raise SpecError(f"{place}.class: the tick_s of {target} is {tick_s!r}: None, or seconds above zero")


def entry_point(name: str, place: str) -> str:
    """The `module:Class` of an installed package's client. Raises SpecError."""
    from importlib.metadata import entry_points  # imports csv, email and more: only where clients are not p2pnet's own

    for point in entry_points(group=ENTRY_POINTS, name=name):
        return point.value
    raise SpecError(
        f"{place}.name: no entry point {name!r} in the group {ENTRY_POINTS}: install the package that has it, or give"
        " the client a class"
    )


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
