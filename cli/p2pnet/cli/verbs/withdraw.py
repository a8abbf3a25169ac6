"""`withdraw`: an artifact taken back from every node."""

from dataclasses import dataclass

from p2pnet.cli.documents import WithdrawnArtifact
from p2pnet.cli.options import Artifact, Name, SubnetOptions
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.resolve import choose_artifact
from p2pnet.cli.session import Session

EXAMPLE = "p2pnet withdraw demo 3fa9c2d1"


@dataclass(frozen=True)
class WithdrawOptions(SubnetOptions):
    """Take an artifact back.

    Every node lets go of it and does not want it again.
    """

    name: Name
    artifact: Artifact


async def run(options: WithdrawOptions, session: Session) -> Outcome:
    """Ask all nodes; say how many held it, and who could not be asked."""
    session.next_step = f"p2pnet report {options.name} -o json lists the artifact ids of its latest run"
    target = session.target()
    prefix = await choose_artifact(options.artifact, target, options.name)
    async with target.lab(options.name) as client:
        session.listener.waiting("every node to let go of it")
        answer = await client.withdrawal(prefix)
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
