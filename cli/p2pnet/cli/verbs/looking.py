"""`logs`, `ping`, `doctor`, `schema`, `completion`."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from p2pnet.cli import options, shell_completion
from p2pnet.cli.app import Command, verb


@verb("p2pnet logs demo --grep handshake --follow")
def logs(
    name: options.Name,
    *,
    node: Annotated[
        str | None,
        typer.Option(
            "--node",
            metavar="NODE",
            help="Lines of this node; `lab` for the lab's.",
            show_default=False,
            autocompletion=shell_completion.nodes,
        ),
    ] = None,
    artifact: Annotated[
        str | None,
        typer.Option(
            "--artifact",
            metavar="ID",
            help="Lines that name this artifact.",
            show_default=False,
            autocompletion=shell_completion.artifacts,
        ),
    ] = None,
    grep: Annotated[
        str | None, typer.Option("--grep", metavar="RE", help="Lines that match this expression.", show_default=False)
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="What was logged while this run was on.",
            show_default=False,
            autocompletion=shell_completion.runs,
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines until Ctrl-C.")] = False,
) -> Command:
    """Show the logs of all nodes.

    Merged and sorted by time: what nodes wrote, and what happened to them (ends, stops, silences, lost links). Of a subnet
    that is dead or was taken down, what is kept.
    """
    from p2pnet.cli.verbs import logs as command

    return partial(
        command.run, command.Options(name=name, node=node, artifact=artifact, grep=grep, follow=follow, run=run)
    )


@verb("p2pnet ping node-3 --subnet demo")
def ping(
    *,
    addresses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ADDRESS",
            help="HOST:PORT, [IPV6]:PORT, or with --subnet the name of a node; all its nodes without any.",
            show_default=False,
            autocompletion=shell_completion.nodes,
        ),
    ] = None,
    subnet: Annotated[
        str | None,
        typer.Option(
            "--subnet",
            metavar="NAME",
            parser=options.subnet_name,
            help="Ask nodes of this subnet, as its lab.  [default: the one that has them]",
            show_default=False,
            autocompletion=shell_completion.subnets,
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", metavar="FILE", help="Trust whom these authorities vouch for (PEM).", show_default=False
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(
            "--cert", metavar="FILE", help="With --bundle: our own leaf, for peers that ask.", show_default=False
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The key of that leaf.", show_default=False)
    ] = None,
    anyone: Annotated[
        bool, typer.Option("--anyone", help="Trust whoever answers, as qp2p does; show no certificate.")
    ] = False,
    count: Annotated[int, typer.Option("--count", min=1, max=1000, metavar="N", help="How many echoes of each.")] = 3,
    timeout: Annotated[
        float | None,
        options.wait_option("How long to wait for each answer.  [default: 5s]"),
    ] = None,
) -> Command:
    """Ask peers for an echo.

    Whether they answer, how quickly, over what path, under which certificate, and where they see us.
    """
    from p2pnet.cli.verbs import ping as command

    chosen = command.Options(
        addresses=tuple(addresses or ()),
        subnet=subnet,
        bundle=bundle,
        cert=cert,
        key=key,
        anyone=anyone,
        count=count,
        timeout_s=5.0 if timeout is None else timeout,
    )
    return partial(command.run, chosen)


@verb("p2pnet doctor", about="machine")
def doctor() -> Command:
    """Check this machine.

    Whether it can hold a subnet, and what to do where it cannot.
    """
    from p2pnet.cli.verbs import doctor as command

    return command.run


@verb("p2pnet schema report", about="nothing")
def schema(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="report, status, subnet, trace, ...",
            show_default=False,
            autocompletion=shell_completion.kinds,
        ),
    ],
) -> Command:
    """Print a JSON Schema.

    Of a document that p2pnet prints or reads.
    """
    from p2pnet.cli.verbs import schema as command

    return partial(command.run, command.Options(kind=kind))


class Shell(StrEnum):
    """Shells that words can be completed in."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@verb("p2pnet completion bash > ~/.local/share/bash-completion/completions/p2pnet", about="nothing")
def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
) -> Command:
    """Print a completion script.

    For verbs, options, and the names of subnets, nodes, runs and artifacts. Changes no file: put it where your shell
    looks for such scripts, or source it.
    """
    from p2pnet.cli.verbs import completion as command

    return partial(command.run, command.Options(shell.value))
