"""`logs`, `doctor`, `schema`."""

from functools import partial
from typing import Annotated

import typer

from p2pnet.cli import options
from p2pnet.cli.app import Command, verb


@verb("p2pnet logs demo --grep handshake --follow")
def logs(
    name: options.Name,
    *,
    node: options.Node = None,
    artifact: Annotated[
        str | None, typer.Option("--artifact", metavar="ID", help="Lines that name this artifact.", show_default=False)
    ] = None,
    grep: Annotated[
        str | None, typer.Option("--grep", metavar="RE", help="Lines that match this expression.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines until Ctrl-C.")] = False,
) -> Command:
    """Show the logs of all nodes.

    Merged and sorted by time.
    """
    from p2pnet.cli.commands import logs as command

    return partial(command.run, command.Options(name=name, node=node, artifact=artifact, grep=grep, follow=follow))


@verb("p2pnet doctor")
def doctor() -> Command:
    """Check this machine.

    Whether it can hold a subnet, and what to do where it cannot.
    """
    from p2pnet.cli.commands import doctor as command

    return command.run


@verb("p2pnet schema report")
def schema(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="report, status, subnet, trace, ...", show_default=False)],
) -> Command:
    """Print a JSON Schema.

    Of a document that p2pnet prints or reads.
    """
    from p2pnet.cli.commands import schema as command

    return partial(command.run, command.Options(kind=kind))
