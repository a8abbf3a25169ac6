"""`withdraw`: an artifact taken back from every node."""

from dataclasses import dataclass

from p2pnet.cli.documents import WithdrawnArtifact
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.resolve import choose_artifact
from p2pnet.cli.session import Session


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line."""

    name: str
    artifact: str


async def run(options: Options, session: Session) -> Outcome:
    """Ask all nodes; say how many held it, and who could not be asked."""
    session.next_step = f"p2pnet report {options.name} -o json lists the artifact ids of its latest run"
    target = session.target()
    prefix = await choose_artifact(options.artifact, target, options.name)
    async with target.desk(options.name) as desk:
        session.listener.waiting("every node to let go of it")
        answer = await desk.withdrawal(prefix)
    if answer.silent:
        session.note(f"could not be asked: {', '.join(answer.silent)}")
    document = WithdrawnArtifact(
        subnet=options.name,
        artifact=answer.artifact,
        held=len(answer.held),
        nodes=sorted(answer.held),
        silent=sorted(answer.silent),
    )
    return Outcome(document, next=(f"p2pnet trace {options.name} {answer.artifact[:12]}",))
