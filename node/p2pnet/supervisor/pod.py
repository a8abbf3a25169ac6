"""`python -m p2pnet.supervisor.pod`: PID 1 of a node pod. It writes the configs of its nodes and then is their supervisor.

As PID 1 it reaps, forwards SIGTERM and restarts nodes that die, so that a crash costs milliseconds and no pod. The
supervisor's events and the nodes' logs go to the pod's log: with $P2PNET_LOG_FORMAT=json all of it as objects.
"""

import gc
import os
import sys

from p2pnet.supervisor.door import EVERYWHERE, address_in, open_door

HEALTH_PORT = 8080
"""TCP, of the pod's health page."""
# Before the imports below, which take long on a busy machine.
_door = (
    open_door(*address_in(sys.argv, "--health-port", (os.environ.get("P2PNET_HOST", EVERYWHERE), HEALTH_PORT)))
    if __name__ == "__main__"
    else None
)
if __name__ == "__main__":
    gc.disable()  # until all is imported: there is nothing to collect, and looking takes a tenth of the time

import ipaddress
import logging
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec

from p2pnet.model.agent import PORT_BELOW
from p2pnet.model.behaviours import HONEST, Behaviour
from p2pnet.model.config import NodeConfig, write_node_config
from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.log_lines import FIELDS, JsonFormatter, is_json, log_all
from p2pnet.model.text import address_text
from p2pnet.node.clients import try_clients
from p2pnet.node.parent import choose_start
from p2pnet.quic.hosts import ANY, loopback
from p2pnet.supervisor import agent, child
from p2pnet.supervisor.agent_process import AgentProcess
from p2pnet.supervisor.lines import Request
from p2pnet.supervisor.supervisor import Supervisor

if __name__ == "__main__":
    gc.freeze()  # what was imported stays, and the collector need not go through it again and again
    gc.enable()

MOUNTS = Path("/etc/p2pnet")
"""Read-only: `config/node.json`, `members/members.json`, `identity/{<node>.crt,<node>.key,ca.crt}`, perhaps `code/`."""
RUN = Path("/run/p2pnet")
"""Writable: `<node>/node.json`."""
LOG = Path("/proc/self/fd/2")
"""Opened by every node itself: a descriptor shared with the supervisor would be non-blocking, as the supervisor's is."""
UDP_PORT = 4100
"""UDP port of the pod's first node."""
LOGGER = "p2pnet.supervisor"
_json = JsonFormatter()
MEMBERS_MAX = 100
"""Nodes of one pod; spec.nodesPerPod has the same bound. Requests for them fit a pipe unread: 100 x 2 x 200 bytes < 64 KiB."""


class PodMembers(msgspec.Struct, frozen=True):
    """The nodes of a pod and its addresses, as the operator sets them in the environment."""

    members: list[str]
    group: str
    host: str
    address: str = ""
    """IP address at which others reach the pod; empty: `host`, or what the pod's own name resolves to."""
    udp_port: int = UDP_PORT
    """UDP port of the first node; those of the others follow. The agent's is the one below."""
    health_port: int = HEALTH_PORT
    """TCP port of the pod's health page; those of its nodes follow, on the loopback address."""
    behaviour: str = HONEST
    """What its nodes do, see `p2pnet.adversary`."""

    @classmethod
    def read(cls, environment: Mapping[str, str], **ports: int) -> "PodMembers":
        """From P2PNET_MEMBERS (`node-0,node-1`), P2PNET_GROUP, P2PNET_HOST, P2PNET_ADDRESS and P2PNET_BEHAVIOUR.

        Raises SpecError naming the variable.
        """
        members = [name for part in environment.get("P2PNET_MEMBERS", "").split(",") if (name := part.strip())]
        if not members:
            raise SpecError("P2PNET_MEMBERS: names no node")
        if len(members) > MEMBERS_MAX or len(set(members)) < len(members) or any("/" in name for name in members):
            raise SpecError(f"P2PNET_MEMBERS: 1 to {MEMBERS_MAX} different names, separated by commas")
        host, behaviour = environment.get("P2PNET_HOST", ANY), environment.get("P2PNET_BEHAVIOUR", HONEST)
        if behaviour not in get_args(Behaviour):
            raise SpecError(f"P2PNET_BEHAVIOUR: {behaviour!r} is none of {', '.join(get_args(Behaviour))}")
        return cls(
            members, environment.get("P2PNET_GROUP", "node"), host, environment.get("P2PNET_ADDRESS", ""),
            behaviour=behaviour, **ports,
        )  # fmt: skip


def node_configs(pod: PodMembers, base: bytes, mounts: Path = MOUNTS) -> list[NodeConfig]:
    """The config of each member: the subnet's base, and on top of it what is the member's own. Raises SpecError."""
    where = mounts / "config" / "node.json"
    try:
        common = msgspec.json.decode(base, type=dict[str, Any])
        if common.get("discovery") == "seeds":
            # The pod's IP address, not its name: a record has no room for both a long name and a leaf that carries it.
            ports = range(pod.udp_port, pod.udp_port + len(pod.members))
            advertised = [[address_text(own_address(pod), port)] for port in ports]
        else:
            advertised = [[] for _ in pod.members]
        return [
            msgspec.convert(
                # Always, and here: in the subnet's config it would change with the network, whose edits must replace no pod.
                {"await_network": True} | common | _own(pod, index, name, mounts) | {"advertise": advertised[index]},
                NodeConfig,
            )
            for index, name in enumerate(pod.members)
        ]
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise SpecError(f"{where}: not the base of a node config: {error}") from error


def _own(pod: PodMembers, index: int, name: str, mounts: Path) -> dict[str, Any]:
    return {
        "name": name,
        "group": pod.group,
        "host": pod.host,
        "port": pod.udp_port + index,
        "health_host": loopback(),  # for the agent, which answers the probes: a paused node could not
        "health_port": pod.health_port + 1 + index,
        "identity_dir": str(mounts / "identity"),
        "identity_name": name,
        "members_file": str(mounts / "members" / "members.json"),
        "behaviour": pod.behaviour,
    }


def own_address(pod: PodMembers) -> str:
    """The IP address at which others reach the pod. Raises SpecError when it cannot be found."""
    try:
        bound = ipaddress.ip_address(pod.host)
        if pod.address:
            return str(ipaddress.ip_address(pod.address))
        if not bound.is_unspecified:
            return str(bound)
        family = socket.AF_INET if bound.version == 4 else socket.AF_UNSPEC  # `::` is every address, IPv4 too
        found = socket.getaddrinfo(socket.gethostname(), None, family=family, type=socket.SOCK_DGRAM)
    except (ValueError, OSError) as error:
        raise SpecError(f"P2PNET_ADDRESS: the pod's own IP address is not to be found, set it here: {error}") from error
    for *_, (host, *_) in found:
        there = ipaddress.ip_address(str(host).partition("%")[0])
        if not (there.is_loopback or there.is_link_local):
            return str(there)
    raise SpecError("P2PNET_ADDRESS: the pod's name leads to loopback alone, set its IP address here")


def requests(configs: Sequence[NodeConfig], run: Path, log: Path) -> bytes:
    """Lines for the supervisor: bind and start every node; several share one process."""
    lines = []
    pack = "pod" if len(configs) > 1 else ""
    for config in configs:
        lines.append(Request("bind", config.name, host=config.host, port=config.port))
        lines.append(
            Request("start", config.name, config=str(run / config.name / "node.json"), log=str(log), pack=pack)
        )
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def write_configs(configs: Sequence[NodeConfig], run: Path) -> None:
    """`<run>/<node>/node.json` of each."""
    for config in configs:
        folder = run / config.name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_node_config(folder / "node.json", config)


def take_code(folder: Path, environment: MutableMapping[str, str]) -> None:
    """Let this process and its children import what is mounted there: modules, and wheels as they are."""
    wheels = sorted(str(wheel) for wheel in folder.glob("*.whl"))
    if found := [*wheels, str(folder)] if folder.is_dir() else []:
        sys.path[:0] = found
        environment["PYTHONPATH"] = os.pathsep.join([*found, *filter(None, [environment.get("PYTHONPATH")])])


def agent_config(pod: PodMembers, configs: Sequence[NodeConfig]) -> agent.AgentConfig:
    """The agent of the pod: with the leaf of the first node, on the UDP port below that node's."""
    first = configs[0]
    return agent.AgentConfig(
        (first.trust_domain, first.namespace, first.subnet), first.name, Path(first.identity_dir),
        first.identity_name, pod.host,
        pod.udp_port - PORT_BELOW, pod.health_port,
        {config.name: config.health_port for config in configs if config.health_port is not None}, first.idle_s,
    )  # fmt: skip


def serve(
    pod: PodMembers, configs: Sequence[NodeConfig], run: Path, log: Path, door: socket.socket | None = None
) -> int:
    """Supervise these nodes until SIGTERM; the exit code. `door`: where the health page listens already."""
    how = choose_start()
    child.warm_up()
    reader, writer = os.pipe()
    os.write(writer, requests(configs, run, log))  # and never closed: to the supervisor that means that its lab is gone
    # Opened anew, for the supervisor makes it non-blocking: a duplicate of stdout would make that of others so too.
    events = os.open("/proc/self/fd/1", os.O_WRONLY | os.O_APPEND)
    config = agent_config(pod, configs)
    supervisor = Supervisor(how, reader, events)
    if is_json():
        supervisor.write_events(logged_event)
    # This process keeps the door, so that probes find one also while an agent is started again.
    fds = (door.fileno(),) if door is not None else ()
    AgentProcess(supervisor, lambda tables, requests: agent.run(config, tables, requests, door), fds)
    return supervisor.run()


def logged_event(event: str, fields: Mapping[str, Any]) -> bytes:
    """An event of the supervisor as a line of the log, with the event's own keys."""
    bad = event in ("halted", "error", "refused") or (event.endswith("exited") and not fields.get("order"))
    words = " ".join(str(fields[key]) for key in ("name", "how") if fields.get(key))
    record = logging.makeLogRecord(
        {
            "name": LOGGER, "levelno": (level := logging.WARNING if bad else logging.INFO),
            "levelname": logging.getLevelName(level), "msg": f"{event} {words}".rstrip(), FIELDS: {"event": event, **fields},
        }
    )  # fmt: skip
    return _json.format(record).encode(errors="replace")


def _fail(error: Exception) -> int:
    if is_json():
        logging.getLogger(LOGGER).error("%s", error)
    else:
        sys.stderr.write(f"{error}\n")
    return 2


class PodOptions(msgspec.Struct, frozen=True):
    """Where a pod finds what is mounted, and its ports."""

    mounts: Path = MOUNTS
    run: Path = RUN
    udp_port: int = UDP_PORT
    health_port: int = HEALTH_PORT


def read_options(arguments: Sequence[str]) -> PodOptions:
    """The options of a command line; exits with 2 where it cannot be read."""
    if not arguments:  # in a cluster there are none, and a pod starts sooner without argparse
        return PodOptions()
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m p2pnet.supervisor.pod",
        description="The nodes of one pod: P2PNET_MEMBERS, P2PNET_GROUP, P2PNET_HOST, P2PNET_ADDRESS, P2PNET_BEHAVIOUR.",
    )
    parser.add_argument("--mounts", type=Path, default=MOUNTS, help="config, members and identity (%(default)s)")
    parser.add_argument("--run", type=Path, default=RUN, help="a writable folder (%(default)s)")
    parser.add_argument("--udp-port", type=int, default=UDP_PORT, help="of the first node (%(default)s)")
    parser.add_argument("--health-port", type=int, default=HEALTH_PORT, help="of the pod's page (%(default)s)")
    return PodOptions(**vars(parser.parse_args(arguments)))


def main(arguments: Sequence[str] | None = None, door: socket.socket | None = None) -> int:
    """Parse and run; the exit code: 0 stopped, 2 environment, mounts or clients cannot be used."""
    options = read_options(sys.argv[1:] if arguments is None else arguments)
    if is_json():
        log_all(logging.StreamHandler(sys.stderr))
    try:
        pod = PodMembers.read(os.environ, udp_port=options.udp_port, health_port=options.health_port)
        base = options.mounts / "config" / "node.json"
        configs = node_configs(pod, base.read_bytes(), options.mounts)
        write_configs(configs, options.run)
        take_code(options.mounts / "code", os.environ)
        if why := try_clients(configs[0].clients):
            raise SpecError(why)  # once, rather than in every node's log at every restart
    except (P2pnetError, OSError) as error:
        return _fail(error)
    return serve(pod, configs, options.run, LOG, door)


if __name__ == "__main__":
    sys.exit(main(door=_door))
