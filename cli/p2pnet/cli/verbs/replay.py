"""`replay`: a bundle's run, or scenario, again in the simulator, beside what was recorded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.options import VerbOptions
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.target_choice import Place

EXAMPLE = "p2pnet replay run.tar.gz"
VERDICT_CODES = {
    "reproduced": ExitCode.OK, "not reproduced": ExitCode.EXPECTATION_FAILED, "nothing to compare": ExitCode.INVALID,
}  # fmt: skip


@dataclass(frozen=True)
class ReplayOptions(VerbOptions):
    """Run a bundle again in the simulator.

    The same subnet, seed, publications and faults, in virtual time, and how far that is the record again. Exit code 0: its
    verdict is reproduced, 1: it is not, 5: the record has none. A simulated record has the same digest again.
    """

    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="What `collect` packed.", exists=False, show_default=False)
    ]
    trust_clients: Annotated[
        bool,
        typer.Option("--trust-clients", help="Import and run the bundle's own clients, where it has some, from this Python."),
    ] = False  # fmt: skip

    @property
    def place(self) -> Place:
        """Where replays are kept, for commands to type next."""
        return Place("sim")


async def run(options: ReplayOptions, session: Session) -> Outcome:
    """The replays are kept as simulated runs are."""
    from dataclasses import replace

    from p2pnet.cli.replaying import replay_bundle
    from p2pnet.cli.spec_file import unreadable
    from p2pnet.cli.threads import in_daemon
    from p2pnet.model.errors import SpecError
    from p2pnet.store.bundle_format import BundleError
    from p2pnet.store.bundles import open_bundle

    target = session.target()
    session.interrupted_note = "interrupted: nothing is kept"
    session.listener.waiting(f"{options.bundle} to be unpacked and checked")
    if not options.bundle.is_file():
        why = "it is a directory, not a file" if options.bundle.is_dir() else "there is no such file"
        raise CommandError(
            f"cannot read {options.bundle}: {why}", where=str(options.bundle),
            next_step="p2pnet collect RUN packs one; p2pnet runs lists the runs there are",
        )  # fmt: skip
    try:
        opened = await in_daemon(open_bundle, options.bundle)
    except BundleError as error:
        raise _refused(options.bundle, error) from None
    except OSError as error:
        if error.filename in (None, str(options.bundle)):
            raise unreadable(options.bundle, error) from None
        raise
    try:
        document, interrupted = await replay_bundle(opened, target.state, session, trust_clients=options.trust_clients)
    except BundleError as error:
        raise _refused(options.bundle, error) from None
    except SpecError as error:  # a client that cannot be loaded, a graph that cannot be
        importing = "install its package for this Python, or name its folder in PYTHONPATH"
        hint = importing if "cannot be imported" in str(error) else "replay it with the version that packed it"
        raise CommandError(str(error), where=str(options.bundle), next_step=hint) from None
    finally:
        opened.close()
    kept = [one.replay for one in document.runs if one.replay]
    hint = f"p2pnet report {document.subnet} {kept[0]}" if kept else f"p2pnet runs {document.subnet}"
    outcome = Outcome(document, exit_code=VERDICT_CODES[document.verdict], next=(hint,))
    return replace(outcome, exit_code=ExitCode.INTERRUPTED) if interrupted else outcome


def _refused(path: Path, error: Exception) -> CommandError:
    return CommandError(
        f"{path} cannot be replayed: {error}", where=str(path), next_step="pack it again with p2pnet collect RUN"
    )
