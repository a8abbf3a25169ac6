"""Loads the clients of a config: p2pnet's own, an entry point, or a class by its name.

Errors name the place in the Subnet document. Before nodes are started, `try_clients` loads their clients in a process of its
own (`python -m p2pnet.node.clients`), for a user's module may hang, print or exit.
"""

import importlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import IO, Any, cast

import msgspec

from p2pnet.broadcast import Broadcast, Client
from p2pnet.model.config import ClientConfig, NodeConfig
from p2pnet.model.errors import LocalError, SpecError
from p2pnet.model.ids import CLIENT_NAME
from p2pnet.model.limits import KIB

ENTRY_POINTS = "p2pnet.clients"
"""Group of entry points, by which an installed package offers clients."""
EXIT_REFUSED = 2
"""Exit code of a trial whose clients cannot be used."""
ALL_LOADED = "all of them"
"""Last line of a trial that went well."""
LINE_BYTES_MAX = 8 * KIB
"""Read of the end of a trial's output."""
TRIAL_S = 30.0
"""Longest trial: importing torch takes 10 s on a slow machine."""
_OURS = {"blob": "p2pnet.broadcast.blob:BlobClient", "beacon": "p2pnet.broadcast.beacon:BeaconClient"}
"""Not entry points: reading every installed package's metadata would cost each node's start 10 ms."""
_METHODS = ("make", "inspect", "on_state_change", "bouncer", "is_urgent", "relay")


def load_clients(
    specs: Sequence[ClientConfig], on_place: Callable[[str], None] = lambda _place: None, *, node: str = ""
) -> list[Client]:
    """The clients of `node`, in order. `on_place(place)` is called before each is loaded. Raises SpecError naming its place."""
    clients = []
    for index, spec in enumerate(specs):
        place = f"spec.clients[{index}]"
        on_place(place)
        clients.append(load_client(spec, place, node=node))
    return clients


def load_client(spec: ClientConfig, place: str = "client", *, node: str = "") -> Client:
    """One client, named as the config says. Its class is called with the settings and, where it takes a `node`, with this
    node's name. Raises SpecError: `<place>.class: what is wrong`, or .name, or .settings.
    """
    if not CLIENT_NAME.fullmatch(spec.name):
        raise SpecError(
            f"{place}.name: {spec.name!r}: at most 12 lower-case letters and digits, a letter first: it names routes"
        )
    target = spec.class_ or _OURS.get(spec.name) or _entry_point(spec.name, place)
    make = _find(target, place)
    try:
        client = make(**({"node": node} if _takes_node(make) else {}) | spec.settings)
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


def is_ours(client: Client) -> bool:
    """Whether its class is p2pnet's own: known to be quick, so it needs no thread of its own."""
    return type(client).__module__.startswith("p2pnet.broadcast.")


def make_broadcast(config: NodeConfig, client: Client, incarnation: str) -> Broadcast:
    """The broadcast of one client at this node."""
    return Broadcast(client, config.name, config.broadcast, broadcast_rng(config, client, incarnation))


def broadcast_rng(config: NodeConfig, client: Client, incarnation: str) -> random.Random:
    """Randomness of one broadcast. The incarnation is part of its seed: no two starts draw the same back-offs."""
    return random.Random(f"{config.seed}/{config.name}/{client.name}/{incarnation}")


def _find(target: str, place: str) -> Callable[..., Any]:
    """The class, or another callable that makes the client."""
    module_name, colon, class_name = target.partition(":")
    if not colon or not module_name or not class_name:
        raise SpecError(f"{place}.class: {target!r} is not of the form module:Class")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise SpecError(f"{place}.class: {module_name} cannot be imported: {_words(error)}") from error
    found = getattr(module, class_name, None)
    if not callable(found):
        near = get_close_matches(class_name, dir(module), n=1)
        guess = f", did you mean {near[0]}?" if near and near[0] != class_name else ""
        raise SpecError(f"{place}.class: {module_name} has no class {class_name}{guess}")
    return cast("Callable[..., Any]", found)


def _takes_node(make: Callable[..., Any]) -> bool:
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


def _entry_point(name: str, place: str) -> str:
    from importlib.metadata import entry_points  # imports csv, email and more: only where clients are not p2pnet's own

    for point in entry_points(group=ENTRY_POINTS, name=name):
        return point.value
    raise SpecError(
        f"{place}.name: no entry point {name!r} in the group {ENTRY_POINTS}: install the package that has it, or give"
        " the client a class"
    )


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def try_clients(
    specs: Sequence[ClientConfig], *, environment: Mapping[str, str] | None = None, within_s: float = TRIAL_S
) -> str:
    """Why nodes of this Python could not run these clients, with the place in the document; empty: they could.

    Blocks while a process loads them, at most `within_s` seconds; p2pnet's own are not tried.
    """
    if all(not spec.class_ and spec.name in _OURS and not spec.settings for spec in specs):
        return ""
    import tempfile  # imports lzma, bz2 and more, which no node needs

    with tempfile.TemporaryFile() as specs_file, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        specs_file.write(msgspec.json.encode(list(specs)))
        specs_file.seek(0)
        command = [sys.executable, "-m", "p2pnet.node.clients"]
        # Files, not pipes: a grandchild may keep pipes open for ever.
        trial = subprocess.Popen(command, stdin=specs_file, stdout=out, stderr=err, env=environment, cwd="/")  # noqa: S603
        try:
            code = trial.wait(within_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            trial.kill()
            trial.wait()
        last = _last_line(out) or "spec.clients[0]"
        if code is None:
            return f"{last}.class: loading it takes longer than {within_s:g} s"
        if code == EXIT_REFUSED and ": " in last:
            return last
        if code == 0 and last == ALL_LOADED:
            return ""
        return f"{last}.class: loading it ends the process, with code {code}: {_last_line(err) or 'it says nothing'}"


def _last_line(file: IO[bytes]) -> str:
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - LINE_BYTES_MAX))
    lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def main() -> int:
    """Clients as JSON on stdin; a line on stdout for each before it is loaded, and one for how it ended. 0, or 2: refused."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it, whatever a module does about KeyboardInterrupt
    out = os.dup(1)
    os.dup2(2, 1)  # what a module prints while it is imported goes to stderr

    def write_line(line: str) -> None:
        os.write(out, " ".join(line.split()).encode() + b"\n")

    try:
        load_clients(msgspec.json.decode(sys.stdin.buffer.read(), type=list[ClientConfig]), write_line)
    except SpecError as error:
        write_line(str(error))
        return EXIT_REFUSED
    write_line(ALL_LOADED)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # at once, whatever threads a module has started
