"""What verbs are told on the command line: each option that several verbs take is written here once.

A verb's options are a dataclass whose fields are typer's arguments and options, made from the aliases and the functions below;
its docstring is the verb's help. It derives from what all verbs take, and from what all that speak to a subnet take. Light:
`--help` imports this.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from p2pnet.cli import shell_completion
from p2pnet.cli.render import Output
from p2pnet.cli.target_choice import Place, is_bundle
from p2pnet.cli.targets.target import LiveTarget, TargetName
from p2pnet.measure.pace import OfferedPace
from p2pnet.measure.pace import parse as parse_pace
from p2pnet.model import units
from p2pnet.model.errors import SpecError
from p2pnet.model.ids import check_label, check_subnet_name

T = TypeVar("T")
JOBS_MAX = 256  # processes that simulate trials at the same time


def duration(text: str) -> float:
    """Seconds, above zero."""
    seconds = _checked(units.parse_duration, text)
    if seconds <= 0:
        raise typer.BadParameter(f"{text!r} is no time to wait: write more than zero")
    return seconds


def size(text: str) -> int:
    """Bytes, above zero."""
    octets = _checked(units.parse_size, text)
    if octets <= 0:
        raise typer.BadParameter("an artifact holds at least one byte: write 1B or more")
    return octets


def pace(text: str) -> OfferedPace:
    """Artifacts per time, or stages."""
    return _checked(parse_pace, text)


def subnet_name(text: str) -> str:
    """A name a subnet may have."""
    return _checked(check_subnet_name, text)


def subnet_or_bundle(text: str) -> str:
    """A name a subnet may have, or the path of a bundle."""
    if is_bundle(text):
        return text
    if text.endswith((".tar.gz", ".tgz")):
        raise typer.BadParameter(f"there is no file {text}")
    return subnet_name(text)


def label(text: str) -> str:
    """A label a run may have."""
    return _checked(check_label, text)


def _checked(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except SpecError as error:
        raise typer.BadParameter(str(error)) from None


# --- what every verb takes ---


@dataclass(frozen=True, kw_only=True)
class VerbOptions:
    """How to print. `run(options, session)` of a verb gets these with its own."""

    output: Annotated[Output, typer.Option("-o", "--output", help="How to print the result.")] = Output.TABLE
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress, notes and hints.")] = False
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="The whole traceback, should p2pnet itself fail.")
    ] = False

    @property
    def place(self) -> Place:
        """Where the command line says that a subnet lives."""
        return Place()


def on_option(text: str) -> Any:
    """`--on`, in the words of a verb; the type beside it says what can be chosen."""
    return typer.Option("--on", help=text, show_default=False)


def namespace_option(text: str) -> Any:
    """`-n`, in the words of a verb."""
    return typer.Option("-n", "--namespace", metavar="NAME", help=text, show_default=False)


def context_option(text: str) -> Any:
    """`--context`, in the words of a verb."""
    return typer.Option(
        "--context",
        metavar="NAME",
        help=f"{text}, by a context of the kubeconfig.  [default: the current one]",
        show_default=False,
        autocompletion=shell_completion.contexts,
    )


@dataclass(frozen=True, kw_only=True)
class KeptOptions(VerbOptions):
    """Where runs are from, too: verbs that read what is kept of them."""

    on: Annotated[
        TargetName | None,
        on_option("Whose runs.  [default: those kept here under NAME, else those of the current context]"),
    ] = None
    namespace: Annotated[str | None, namespace_option("Its namespace, in a cluster.  [default: the context's]")] = None
    context: Annotated[str | None, context_option("Its cluster")] = None

    @property
    def place(self) -> Place:
        """`--on`, `-n` and `--context`."""
        return Place(self.on, self.namespace, self.context)


@dataclass(frozen=True, kw_only=True)
class SubnetOptions(KeptOptions):
    """Where the subnet lives, too. Verbs to which these options mean something else write them again, in their words."""

    on: Annotated[
        LiveTarget | None,
        on_option("Where the subnet lives.  [default: NAME is looked up here, then in the current context]"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SummaryFiles:
    """Where a result goes besides the screen, for CI; None: nowhere; `-`: stdout."""

    junit: Annotated[
        Path | None,
        typer.Option(
            "--junit", metavar="FILE", help="Write the expectations as JUnit XML, too; - is stdout.", show_default=False
        ),
    ] = None
    md: Annotated[
        Path | None,
        typer.Option("--md", metavar="FILE", help="Write a summary in Markdown, too; - is stdout.", show_default=False),
    ] = None

    def wanted(self) -> dict[str, Path]:
        """Option as typed -> its file, of those that were given."""
        named = {"--junit": self.junit, "--md": self.md}
        return {option: path for option, path in named.items() if path is not None}


@dataclass(frozen=True, kw_only=True)
class SpanFiles:
    """Where the ways of artifacts go as OpenTelemetry spans."""

    otel: Annotated[
        Path | None,
        typer.Option(
            "--otel",
            metavar="FILE",
            show_default=False,
            help="Write each artifact's way as OpenTelemetry spans, too, in lines of OTLP's JSON; - is stdout.",
        ),
    ] = None
    otlp: Annotated[
        str | None,
        typer.Option(
            "--otlp",
            metavar="URL",
            show_default=False,
            help="Send these spans to a collector, by OTLP over HTTP, like http://localhost:4318. Needs p2pnet[otel].",
        ),
    ] = None

    def wanted(self) -> dict[str, Path]:
        """`--otel`, if it was given."""
        return {} if self.otel is None else {"--otel": self.otel}


@dataclass(frozen=True, kw_only=True)
class ReportFiles(SpanFiles, SummaryFiles):
    """Where a report goes, in which form."""

    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Write the report as one HTML page, too; - is stdout.", show_default=False
        ),
    ] = None
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="The HTML page with charts and the network in motion: one file of 1 MB or more, with scripts.",
        ),
    ] = False
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE", help="Write every receipt as a row of CSV, too; - is stdout.", show_default=False
        ),
    ] = None

    def wanted(self) -> dict[str, Path]:
        """Option as typed -> its file, of those that were given."""
        page = {} if self.html is None else {"--html": self.html}
        rows = {} if self.csv is None else {"--csv": self.csv}
        return page | SummaryFiles.wanted(self) | rows | SpanFiles.wanted(self)

    def forms(self) -> list[str]:
        """The options that were given, `--otlp` among them, which names no file."""
        return [*self.wanted(), *(["--otlp"] if self.otlp is not None else [])]


def jobs_option(text: str) -> Any:
    """`--jobs`, in the words of a verb."""
    return typer.Option("--jobs", min=1, max=JOBS_MAX, metavar="J", help=text, show_default=False)


# --- subnets, runs, artifacts ---


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The subnet.", parser=subnet_name, autocompletion=shell_completion.subnets)
]
KeptName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The subnet, or a file that `p2pnet collect` packed.", parser=subnet_or_bundle,
        autocompletion=shell_completion.subnets,
    ),
]  # fmt: skip
ARTIFACT_HELP = "The beginning of its id, its file's name, latest, or -1, -2 back from there."
Artifact = Annotated[
    str,
    typer.Argument(
        metavar="ARTIFACT", help=ARTIFACT_HELP, show_default=False, autocompletion=shell_completion.artifacts
    ),
]
IgnoreUnsupported = Annotated[
    bool,
    typer.Option(
        "--ignore-unsupported",
        help="Fields this target cannot honour are left out, which every report says, instead of an error.",
    ),
]


def wait_option(text: str) -> Any:
    """`--timeout`, in the words of a verb: what is waited for, and for how long without it."""
    return typer.Option("--timeout", metavar="DURATION", parser=duration, help=text, show_default=False)


def name_argument(default: str) -> Any:
    """NAME of a verb that does without, and what it means then."""
    return typer.Argument(
        metavar="NAME", help=f"The subnet.  [default: {default}]", parser=subnet_name,
        autocompletion=shell_completion.subnets, show_default=False,
    )  # fmt: skip


def file_option(text: str) -> Any:
    """`-f FILE`, in the words of a verb."""
    return typer.Option("-f", "--file", metavar="FILE", help=f"{text} (YAML or JSON; - is stdin).", show_default=False)
