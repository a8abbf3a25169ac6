"""`ping`: whether peers answer, how quickly, over what path, under which certificate, and at which address they see us."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from p2pnet.cli import shell_completion
from p2pnet.cli.documents import Pings
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.options import VerbOptions, on_option, subnet_name, wait_option
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.target_choice import Place
from p2pnet.cli.targets.target import Target
from p2pnet.model.errors import SpecError, TargetError, TrustError
from p2pnet.model.registry import Member
from p2pnet.model.text import address_text, parse_address, some
from p2pnet.store import SubnetPaths

if TYPE_CHECKING:  # with aioquic and cryptography, which help does without
    from p2pnet.cli.probing import Answer, ProbedPeer
    from p2pnet.quic import Trust

EXAMPLE = "p2pnet ping node-3 --subnet demo"
WHERE = "p2pnet ping"
WAYS = "--subnet NAME, --bundle FILE (with --cert and --key), or --anyone"
TIMEOUT_S = 5.0
SHOWN = 8


@dataclass(frozen=True)
class PingOptions(VerbOptions):
    """Ask peers for an echo.

    Whether they answer, how quickly, over what path, under which certificate, and where they see us.
    """

    addresses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ADDRESS",
            help="HOST:PORT, [IPV6]:PORT, or with --subnet the name of a node; all its nodes without any.",
            show_default=False,
            autocompletion=shell_completion.nodes,
        ),
    ] = None
    subnet: Annotated[
        str | None,
        typer.Option(
            "--subnet",
            metavar="NAME",
            parser=subnet_name,
            help="Ask nodes of this subnet, as its lab.  [default: the one that has them]",
            show_default=False,
            autocompletion=shell_completion.subnets,
        ),
    ] = None
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", metavar="FILE", help="Trust whom these authorities vouch for (PEM).", show_default=False
        ),
    ] = None
    cert: Annotated[
        Path | None,
        typer.Option(
            "--cert", metavar="FILE", help="With --bundle: our own leaf, for peers that ask.", show_default=False
        ),
    ] = None
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The key of that leaf.", show_default=False)
    ] = None
    anyone: Annotated[
        bool, typer.Option("--anyone", help="Trust whoever answers, as qp2p does; show no certificate.")
    ] = False
    count: Annotated[int, typer.Option("--count", min=1, max=1000, metavar="N", help="How many echoes of each.")] = 3
    timeout_s: Annotated[
        float | None,
        wait_option("How long to wait for each answer.  [default: 5s]"),
    ] = None
    on: Annotated[Literal["local"] | None, on_option("Where the subnet lives: nodes of a cluster are not reached.")] = (
        field(default=None, kw_only=True)
    )

    @property
    def place(self) -> Place:
        """`--on`."""
        return Place(self.on)

    @property
    def patience_s(self) -> float:
        """How long each answer is waited for."""
        return TIMEOUT_S if self.timeout_s is None else self.timeout_s


@dataclass(frozen=True, slots=True)
class PingPlan:
    """Whom to ask, and who we are to them."""

    peers: "list[ProbedPeer]"
    trust: "Trust"
    trusted: str
    """In words: whom it is that a peer has to be vouched for by."""
    subnet: str | None = None


async def run(options: PingOptions, session: Session) -> Outcome:
    """Exit 3 unless all of them answered."""
    from p2pnet.cli.probing import Prober

    _check(options)
    plan = _plan(options, session)
    total = len(plan.peers)
    session.listener.progress("peers asked", 0, total)
    async with Prober(plan.trust, count=options.count, timeout_s=options.patience_s) as prober:
        answers = await prober.probe(plan.peers, lambda done: session.listener.progress("peers asked", done, total))
    document = Pings(trust=plan.trusted, subnet=plan.subnet, pings=[ping for ping, _ in answers])
    if failure := _failure(answers, options, plan):
        return Outcome(document, exit_code=failure.exit_code, failure=failure)
    return Outcome(document, next=(f"p2pnet status {plan.subnet}",) if plan.subnet else ())


# --- what was asked ---


def _check(options: PingOptions) -> None:
    """CommandError (exit 2) for options that contradict each other."""
    given = {"--subnet": options.subnet, "--bundle": options.bundle, "--anyone": options.anyone or None}
    ways = [name for name, value in given.items() if value is not None]
    if len(ways) > 1:
        raise CommandError(
            f"{' and '.join(ways)} say different things about whom to trust", where=WHERE, next_step="keep one of them"
        )
    if (options.cert is None) != (options.key is None):
        raise CommandError("--cert and --key belong together", where=WHERE, next_step="name both files")
    if options.cert is not None and options.bundle is None:
        raise CommandError(
            "--cert and --key say who we are, but nothing says who the peer has to be",
            where=WHERE,
            next_step="name the authorities' certificates with --bundle FILE",
        )
    if not options.addresses and options.subnet is None:
        raise CommandError(
            "Missing argument 'ADDRESS...'",
            where=WHERE,
            next_step="p2pnet ping HOST:PORT, or --subnet NAME for all its nodes",
        )


def _anyone(session: Session) -> "Trust":
    """What the library logs of such a trust is a note here, which `-q` silences."""
    from p2pnet.quic import Trust

    session.note("trust is anyone: who answers is not authenticated, anybody may read and pose as anybody")
    logger = logging.getLogger("p2pnet.quic.trust")
    before, logger.disabled = logger.disabled, True
    try:
        return Trust.anyone()
    finally:
        logger.disabled = before


def _plan(options: PingOptions, session: Session) -> PingPlan:
    from p2pnet.quic import FixedIdentity, Trust
    from p2pnet.trust import Identity

    asked = tuple(dict.fromkeys(options.addresses or ()))
    if options.anyone:
        return PingPlan(list(map(_by_address, asked)), _anyone(session), "anyone")
    if options.bundle is not None:
        peers = list(map(_by_address, asked))
        return PingPlan(peers, _by_bundle(options.bundle, options.cert, options.key), str(options.bundle))
    target = session.target()
    if target.kind != "local":
        raise CommandError(
            f"nodes of a subnet in a cluster ({target.kind}) are not reached from this machine",
            where=WHERE,
            next_step=f"ping their addresses from inside, with {WAYS.partition(', ')[2]}",
        )
    name = options.subnet if options.subnet is not None else _subnet_of(asked, target)
    paths = _running(name, target)
    peers = _members_meant(asked, _members(paths), name)
    trust = Trust.subnet(FixedIdentity(Identity.read(paths.lab_identity)))
    return PingPlan(peers, trust, f"subnet {name}", subnet=name)


def _by_address(asked: str) -> "ProbedPeer":
    """A peer known by an address alone."""
    from p2pnet.cli.probing import ProbedPeer

    address = parse_address(asked)
    if address is None:
        raise CommandError(
            f"{asked!r} is no address",
            where=WHERE,
            next_step="write HOST:PORT or [IPV6]:PORT, the port from 1 to 65535",
        )
    return ProbedPeer(asked, *address)


def _by_bundle(bundle: Path, cert: Path | None, key: Path | None) -> "Trust":
    """The peer has to be vouched for by the bundle; we show the leaf, or are nobody."""
    from p2pnet.quic import FixedIdentity, Trust
    from p2pnet.trust import Bundle, Identity

    if cert is None or key is None:
        try:
            return Trust.authority(Bundle.from_pem(_read(bundle)))
        except SpecError as error:
            raise _unusable(bundle, error) from error
    identity = Identity(_read(cert), _read(key), _read(bundle))
    for path, part in ((cert, "certificates"), (key, "private_key"), (bundle, "bundle")):
        try:
            getattr(identity, part)
        except SpecError as error:
            raise _unusable(path, error) from error
    if identity.private_key.public_key() != identity.certificates[0].public_key():
        raise CommandError(
            f"{key} is not the key of the leaf in {cert}", where=WHERE, next_step="name the leaf's own key"
        )
    return Trust.subnet(FixedIdentity(identity))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CommandError("there is no such file", where=str(path), next_step="check the path") from None


def _unusable(path: Path, error: SpecError) -> CommandError:
    return CommandError(str(error), where=str(path), next_step="name a file in PEM form")


# --- subnets of this machine ---


def _subnet_of(asked: Iterable[str], target: Target) -> str:
    """The only subnet of this machine that has all these nodes."""
    having = []
    for name in target.names():
        if target.presence(name) != "up":
            continue
        try:
            _members_meant(asked, members := _members(target.state.subnet(name)), name)
        except (CommandError, SpecError, TargetError):
            continue
        places = {place for member in members for place in (member.name, *member.addresses)}
        if places >= set(asked):
            having.append(name)
    if len(having) == 1:
        return having[0]
    shown = " ".join(asked)
    if having:
        raise CommandError(
            f"{shown}: which subnet's, {' or '.join(having)}?", where=WHERE, next_step=f"--subnet {having[0]}"
        )
    for one in asked:
        _by_address(one)  # says what an address looks like
    raise CommandError(f"nothing says whom to trust at {shown}", where=WHERE, next_step=WAYS)


def _running(name: str, target: Target) -> SubnetPaths:
    """Its files. CommandError (exit 3) unless it runs; its lab need not answer."""
    presence = target.presence(name)
    if presence != "up":
        target.subnet(name)  # says that there is none, or that it is damaged
        raise CommandError(
            f"{name} is {presence}: no node of it answers",
            where=str(target.state.subnet(name).lab_log),
            next_step=f"p2pnet up {name}",
            exit_code=ExitCode.NOT_FOUND,
        )
    return target.state.subnet(name)


def _members(paths: SubnetPaths) -> list[Member]:
    from p2pnet.peering.discovery import read_membership

    return read_membership(paths.members).registry.members


def _members_meant(asked: Iterable[str], members: Sequence[Member], subnet: str) -> "list[ProbedPeer]":
    """By name or address, all without any; an address that is no member's may be anybody the subnet's authority vouches for."""
    from p2pnet.cli.probing import ProbedPeer

    names = {member.name: member for member in members}
    by_address = {address: member for member in members for address in member.addresses}
    peers = []
    for one in asked or names:
        member = names.get(one) or by_address.get(one)
        if member is None and parse_address(one) is None:
            raise CommandError(
                f"{subnet} has no node {one!r}", where=WHERE, next_step=f"one of {some(names, SHOWN)}, or HOST:PORT"
            )
        peer = _by_address(member.addresses[0] if member and one == member.name else one)
        peers.append(ProbedPeer(one, peer.host, peer.port, member.name, member.uri) if member else peer)
    return peers


# --- what came of it ---


def _failure(answers: "Sequence[Answer]", options: PingOptions, plan: PingPlan) -> CommandError | None:
    silent = [(peer, *answer) for peer, answer in zip(plan.peers, answers, strict=True) if answer[1] is not None]
    if not silent:
        return None
    first, ping, error = silent[0]
    if len(answers) == 1:
        what = f"{first.asked} does not answer: {ping.error}"
    else:
        names = [peer.node or peer.asked for peer, *_ in silent]
        what = f"{len(silent)} of {len(answers)} peers do not answer: {some(names, SHOWN)}"
    where = address_text(first.host, first.port) if len(silent) == 1 else WHERE
    return CommandError(
        what, where=where, next_step=_next_step(first, error, options, plan), exit_code=ExitCode.NOT_FOUND
    )


def _next_step(peer: "ProbedPeer", error: Exception | None, options: PingOptions, plan: PingPlan) -> str:
    from p2pnet.quic import BadAddress, HandshakeFailed

    match error:
        case BadAddress():
            return "check the name, and that this machine has an address of its family"
        case TrustError():
            return f"its certificate is none that {plan.trusted} admits; trust it by {WAYS}"
        case HandshakeFailed(kind="refused"):
            return f"it does not admit {_us(options, plan)}: be known to it by --subnet NAME, or --bundle, --cert and --key"
        case HandshakeFailed(kind="protocol") if options.anyone:
            return "it asks for an identity, or speaks another protocol: --subnet NAME, or --bundle, --cert and --key"
        case HandshakeFailed(kind="protocol"):
            return "it speaks another protocol: see what listens there; --anyone is for endpoints of qp2p"
        case HandshakeFailed(kind="too-many" | "closed"):
            return "it turned us away: try again in a moment"
        case _ if peer.node:
            return f"p2pnet status {plan.subnet}"
        case _:
            return f"see that a peer listens there and that UDP gets through; --timeout {2 * options.patience_s:g}s waits longer"


def _us(options: PingOptions, plan: PingPlan) -> str:
    if plan.subnet:
        return f"the lab of {plan.subnet}"
    return "peers without a certificate" if options.cert is None else f"the leaf in {options.cert}"
