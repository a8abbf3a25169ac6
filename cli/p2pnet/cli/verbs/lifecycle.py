"""`up`, `status`, `down`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from p2pnet.cli import options
from p2pnet.cli.app import Command, verb


@verb("p2pnet up demo --nodes 10", about="new subnet")
def up(
    name: Annotated[str | None, options.name_argument("the document's, else demo")] = None,
    *,
    file: Annotated[Path | None, options.file_option("A Subnet document")] = None,
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", min=1, metavar="N", help="Size of group `node`.  [default: the file's, 10 without]"),
    ] = None,
    timeout: Annotated[
        float | None,
        options.wait_option("How long to wait for it to be connected.  [default: spec.ready.within, 120s]"),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is connected.")] = False,
    ignore_unsupported: options.IgnoreUnsupported = False,
) -> Command:
    """Start a subnet, or edit one.

    Waits until it is connected. On a subnet that is up, the edits that are live are applied.
    """
    from p2pnet.cli.verbs import up as command

    chosen = command.Options(
        name=name, file=file, nodes=nodes, timeout_s=timeout, wait=not no_wait, ignore_unsupported=ignore_unsupported
    )
    return partial(command.run, chosen)


@verb("p2pnet status demo --watch")
def status(
    name: Annotated[str | None, options.name_argument("the only one, else a list of all")] = None,
    *,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on showing changes until Ctrl-C.")] = False,
) -> Command:
    """Show how a subnet is.

    Nodes, links, certificates, recent runs and faults; without NAME of the only subnet, or a list of all.
    """
    from p2pnet.cli.verbs import status as command

    return partial(command.run, command.Options(name=name, watch=watch))


@verb("p2pnet down demo --yes")
def down(
    name: Annotated[str | None, options.name_argument("demo, else the only one")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every subnet of the target.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
) -> Command:
    """Stop and remove a subnet.

    Its runs are kept. Ends well when it is already gone.
    """
    from p2pnet.cli.verbs import down as command

    return partial(command.run, command.Options(name=name, every=every, yes=yes))
