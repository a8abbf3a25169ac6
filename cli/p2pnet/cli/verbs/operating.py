"""`install`, `uninstall`, `render`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from p2pnet.cli import options
from p2pnet.cli.app import Command, verb


@verb("p2pnet install --context staging", about="operator")
def install(
    *,
    operator_image: Annotated[
        str | None,
        typer.Option("--operator-image", metavar="IMAGE", help="Of the operator.  [default: this version's]"),
    ] = None,
    node_image: Annotated[
        str | None,
        typer.Option("--node-image", metavar="IMAGE", help="Of nodes and labs.  [default: this version's]"),
    ] = None,
    timeout: Annotated[
        float | None,
        options.wait_option("How long to wait until the cluster knows Subnets.  [default: 60s]"),
    ] = None,
) -> Command:
    """Install the operator in a cluster.

    Applies what this version ships and waits until the cluster knows Subnets. Again over an older one: an upgrade.
    """
    from p2pnet.cli.verbs import install as command

    return partial(command.run, command.Options(operator_image, node_image, timeout))


@verb("p2pnet uninstall --context staging", about="operator")
def uninstall(
    *,
    orphan: Annotated[bool, typer.Option("--orphan", help="Leave Subnets and their pods as they are.")] = False,
) -> Command:
    """Remove the operator from a cluster.

    Refuses while there are Subnets, which would go with it.
    """
    from p2pnet.cli.verbs import install as command

    return partial(command.remove, command.Removing(orphan))


@verb("p2pnet render -f subnet.yaml", about="objects")
def render(
    *,
    file: Annotated[Path, options.file_option("A Subnet document")],
    ignore_unsupported: options.IgnoreUnsupported = False,
) -> Command:
    """Print the Kubernetes objects of a document.

    As the operator would make them; keys and certificates are left out.
    """
    from p2pnet.cli.verbs import render as command

    return partial(command.run, command.Options(file, ignore_unsupported=ignore_unsupported))
