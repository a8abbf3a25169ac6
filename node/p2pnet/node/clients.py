"""The clients of a node's config, and a trial of them. Errors name the place in the Subnet document.

Before nodes are started, `try_clients` loads their clients in a process of its
own (`python -m p2pnet.node.clients`), for a user's module may hang, print or exit.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO

import msgspec

from p2pnet.broadcast import Broadcast, Client
from p2pnet.broadcast.loading import OURS, load_client
from p2pnet.model.behaviours import HONEST, STALE_CERTIFICATE
from p2pnet.model.config import ClientConfig, NodeConfig
from p2pnet.model.errors import SpecError
from p2pnet.model.limits import KIB

EXIT_REFUSED = 2
"""Exit code of a trial whose clients cannot be used."""
ALL_LOADED = "all of them"
"""Last line of a trial that went well."""
LINE_BYTES_MAX = 8 * KIB
"""Read of the end of a trial's output."""
TRIAL_S = 30.0
"""Longest trial: importing torch takes 10 s on a slow machine."""


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


def is_ours(client: Client) -> bool:
    """Whether its class is p2pnet's own: known to be quick, so it needs no thread of its own."""
    return type(client).__module__.startswith("p2pnet.broadcast.")


def make_broadcast(config: NodeConfig, client: Client, incarnation: str) -> Broadcast:
    """The broadcast of one client at this node; an adversary's behaves as the config says."""
    rng = broadcast_rng(config, client, incarnation)
    if config.behaviour in (HONEST, STALE_CERTIFICATE):
        return Broadcast(client, config.name, config.broadcast, rng)
    from p2pnet.adversary import DishonestBroadcast, make_conduct  # only where there is one: nodes start many times

    chance = random.Random(f"{config.seed}/{config.name}/{client.name}/{incarnation}/adversary")
    conduct = make_conduct(
        config.behaviour, chance, me=config.name, seed=config.seed, client=client.name, settings=config.broadcast
    )
    return DishonestBroadcast(client, config.name, config.broadcast, rng, conduct=conduct)


def broadcast_rng(config: NodeConfig, client: Client, incarnation: str) -> random.Random:
    """Randomness of one broadcast. The incarnation is part of its seed: no two starts draw the same back-offs."""
    return random.Random(f"{config.seed}/{config.name}/{client.name}/{incarnation}")


def try_clients(
    specs: Sequence[ClientConfig], *, environment: Mapping[str, str] | None = None, within_s: float = TRIAL_S
) -> str:
    """Why nodes of this Python could not run these clients, with the place in the document; empty: they could.

    Blocks while a process loads them, at most `within_s` seconds; p2pnet's own are not tried.
    """
    if all(not spec.class_ and spec.name in OURS and not spec.settings for spec in specs):
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
