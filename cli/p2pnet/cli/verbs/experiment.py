"""`inject`, `report`, `trace`, `get`, `withdraw`."""

from functools import partial
from typing import Annotated

import typer

from p2pnet.cli import options, shell_completion
from p2pnet.cli.app import Command, verb


@verb("p2pnet inject demo --size 64KiB --count 20 --rate 10/s --expect 'p95 <= 800ms'")
def inject(
    name: options.Name,
    *,
    files: options.Files = None,
    size: options.Size = None,
    count: Annotated[int, typer.Option("--count", min=1, metavar="N", help="How often to publish each.")] = 1,
    rate: options.Rate = None,
    publisher: options.Publisher = "random",
    client: options.Client = None,
    seed: options.Seed = None,
    within: options.Within = None,
    expect: options.Expect = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the run's id and end.")] = False,
    shared: Annotated[bool, typer.Option("--shared", help="Run beside other runs; the report says so.")] = False,
    label: options.Label = "",
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C stops the run instead of leaving it.")
    ] = False,
    html: options.Html = None,
    junit: options.Junit = None,
    md: options.Markdown = None,
    csv: options.Csv = None,
) -> Command:
    """Publish artifacts and report.

    Follows them until every node has them; Ctrl-C leaves the run to go on.
    """
    from p2pnet.cli.report_files import ReportFiles
    from p2pnet.cli.verbs import inject as command

    chosen = command.Options(
        name=name,
        files=tuple(files or ()),
        size=size,
        count=count,
        rate=rate,
        publisher=publisher,
        client=client,
        seed=seed,
        within_s=60.0 if within is None else within,
        expect=tuple(expect or ()),
        wait=not no_wait,
        shared=shared,
        label=label,
        cancel_on_interrupt=cancel_on_interrupt,
        report_files=ReportFiles(html=html, junit=junit, md=md, csv=csv),
    )
    return partial(command.run, chosen)


@verb("p2pnet report demo")
def report(
    name: options.Name,
    run: options.Run = None,
    *,
    html: options.Html = None,
    junit: options.Junit = None,
    md: options.Markdown = None,
    csv: options.Csv = None,
) -> Command:
    """Show the report of a run.

    Also after `down`; a run that goes on is followed to its end.
    """
    from p2pnet.cli.report_files import ReportFiles
    from p2pnet.cli.verbs import report as command

    report_files = ReportFiles(html=html, junit=junit, md=md, csv=csv)
    return partial(command.run, command.Options(name=name, run=run, report_files=report_files))


@verb("p2pnet trace demo photo.jpg")
def trace(name: options.Name, artifact: options.OptionalArtifact = None) -> Command:
    """Draw an artifact's hop tree.

    Who got it from whom, and which way took longest.
    """
    from p2pnet.cli.verbs import trace as command

    return partial(command.run, command.Options(name=name, artifact=artifact))


@verb("p2pnet get demo 3fa9c2d1 -O photo.jpg")
def get(
    name: options.Name,
    *,
    artifact: options.Artifact,
    file: Annotated[
        str | None,
        typer.Option(
            "-O",
            "--output-file",
            metavar="FILE",
            help="Where to; - is stdout.  [default: its own name on a terminal and beside -o json, else stdout]",
            show_default=False,
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(
            "--node",
            metavar="NODE",
            help="Whose bytes.  [default: not the publisher's]",
            show_default=False,
            autocompletion=shell_completion.nodes,
        ),
    ] = None,
) -> Command:
    """Get an artifact from a node.

    The bytes as that node holds them; by default not the one that published it.
    """
    from p2pnet.cli.verbs import get as command

    return partial(command.run, command.Options(name=name, artifact=artifact, file=file, node=node))


@verb("p2pnet withdraw demo 3fa9c2d1")
def withdraw(name: options.Name, artifact: options.Artifact) -> Command:
    """Take an artifact back.

    Every node lets go of it and does not want it again.
    """
    from p2pnet.cli.verbs import withdraw as command

    return partial(command.run, command.Options(name=name, artifact=artifact))
