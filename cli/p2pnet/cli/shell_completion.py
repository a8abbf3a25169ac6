"""What a shell may complete a word to: names of subnets, nodes, runs, artifacts, clients, contexts, kinds.

Everything comes from files of this machine, in a fraction of a second; no cluster and no lab is asked. Whatever goes wrong
there is nothing to offer: a completion never prints an error. Light: `options` imports this.
"""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from p2pnet.cli.program import is_plugin

VARIABLE = "_P2PNET_COMPLETE"
"""The variable with which a shell asks for completions, after the script that `p2pnet completion` prints."""
RUNS_MAX = 20  # runs offered, the newest
ARTIFACTS_MAX = 50  # artifacts offered, the newest
RUNS_READ_MAX = 100  # runs whose artifacts are read, the newest
ARTIFACTS_READ_MAX = 50_000  # in all of them; so many take 40 ms
ID_CHARS = 12  # of an artifact's id

Offer = tuple[str, str]
"""A word, and a few more that explain it."""
Source = Callable[[typer.Context, str], Iterable[Offer]]


def _safe(source: Source) -> Callable[[typer.Context, str], list[Offer]]:
    """As typer asks for it: filtered by what is typed, and empty when anything goes wrong."""

    def offer(ctx: typer.Context, incomplete: str) -> list[Offer]:
        try:
            return [one for one in source(ctx, incomplete) if one[0].startswith(incomplete)]
        except Exception:  # noqa: BLE001 a person presses Tab: anything but silence would land in the line being typed
            return []

    offer.__doc__ = source.__doc__
    return offer


@_safe
def subnets(_ctx: typer.Context, _incomplete: str) -> Iterable[Offer]:
    """Names of subnets: of this machine, and those whose runs are kept; through kubectl those of clusters."""
    from p2pnet.store import archive

    state = _state()
    heads = archive.list_heads(state)
    if is_plugin() or Path(sys.argv[0]).name.startswith("kubectl_"):
        found = {head.subnet: f"in {head.context}" for head in heads if head.context}
    else:
        found = {head.subnet: "its runs are kept" for head in heads}
        found |= dict.fromkeys(state.names(), "on this machine")
    return sorted(found.items())


@_safe
def nodes(ctx: typer.Context, _incomplete: str) -> Iterable[Offer]:
    """Nodes of the subnet that is named, or of the only one."""
    return [(name, "") for name in _nodes(ctx)]


@_safe
def publishers(ctx: typer.Context, _incomplete: str) -> Iterable[Offer]:
    """`random`, `all`, nodes."""
    return [("random", "one node, by the seed"), ("all", "every node its own"), *((name, "") for name in _nodes(ctx))]


@_safe
def runs(ctx: typer.Context, incomplete: str) -> Iterable[Offer]:
    """The newest of the subnet that is named: ids, labels of one word, `latest`."""
    from p2pnet.store import archive

    heads = archive.list_heads(_state(), _named(ctx))[::-1]
    if heads:
        yield "latest", heads[0].run
    fitting = [head for head in heads if head.run.startswith(incomplete)] if incomplete else heads
    for head in fitting[:RUNS_MAX]:
        yield head.run, " ".join(filter(None, (head.verdict or head.state, head.label)))
    for head in heads:
        if head.label and not any(letter.isspace() for letter in head.label):
            yield head.label, head.run


@_safe
def artifacts(ctx: typer.Context, incomplete: str) -> Iterable[Offer]:
    """The newest of the subnet that is named: `latest`, names of files, beginnings of ids."""
    from p2pnet.store import archive

    state, name = _state(), _named(ctx)
    published = [head for head in archive.list_heads(state, name) if head.artifacts][::-1]
    found: dict[str, str] = {}
    names: dict[str, int] = {}
    left = ARTIFACTS_READ_MAX
    for head in published[:RUNS_READ_MAX]:
        if left <= 0:
            break
        left -= head.artifacts
        run = archive.read_run_file(state, head.run)
        for artifact, file in reversed(list(zip(run.artifacts, run.names, strict=False))):
            names[file] = names.get(file, 0) + 1
            if len(found) < ARTIFACTS_MAX and artifact.startswith(incomplete.lower()):
                found[artifact if len(incomplete) > ID_CHARS else artifact[:ID_CHARS]] = file
    latest = [("latest", "published last")] if published else []
    files = [(file, "") for file, count in names.items() if count == 1 and not any(map(str.isspace, file))]
    return [*latest, *files, *found.items()]


@_safe
def clients(ctx: typer.Context, _incomplete: str) -> Iterable[Offer]:
    """Clients of the subnet that is named."""
    import json

    document = json.loads(_state().subnet(_subnet(ctx)).document.read_bytes())
    return [(str(one["name"]), "") for one in document["spec"].get("clients") or [{"name": "blob"}]]


@_safe
def fault_words(ctx: typer.Context, _incomplete: str) -> Iterable[Offer]:
    """Behind `add` the kinds of faults, or nodes where a kind takes them; behind `clear` the document's faults."""
    import json

    from p2pnet.cli.fault_request import KINDS

    words = list(ctx.params.get("words") or [])
    match str(ctx.params.get("action")):
        case "add" if not words:
            return [(kind, about.help) for kind, about in KINDS.items()]
        case "add" if "--node" in KINDS[words[0]].value and len(words) == 1:
            return [(name, "") for name in _nodes(ctx)]
        case "clear":
            spec = json.loads(_state().subnet(_subnet(ctx)).document.read_bytes())["spec"]
            return [
                (str(fault["name"]), "in the document")
                for fault in spec.get("faults", [])
                if fault["name"] not in words
            ]
    return []


@_safe
def contexts(_ctx: typer.Context, _incomplete: str) -> Iterator[Offer]:
    """Contexts of the kubeconfig, read without its client library, which takes long and may ask plugins."""
    from p2pnet.lab_client import kubeconfig

    for name, (context, _) in kubeconfig.read(os.environ).contexts.items():
        yield name, str(context.get("cluster") or "")


@_safe
def kinds(_ctx: typer.Context, _incomplete: str) -> Iterable[Offer]:
    """Kinds of documents with a schema."""
    from p2pnet.cli.documents import KINDS

    return [(kind, "") for kind in KINDS]


def _state() -> Any:
    from p2pnet.store.state import State

    return State.default()


def _named(ctx: typer.Context) -> str | None:
    """The subnet that is named. Behind an option that has no value yet, arguments are not sorted out."""
    name = ctx.params.get("name") or ctx.params.get("subnet")
    if not name and ctx.args and any(parameter.name == "name" for parameter in ctx.command.params):
        name = ctx.args[0]
    return str(name) if name else None


def _subnet(ctx: typer.Context) -> str:
    return _named(ctx) or str(_state().names()[0])


def _nodes(ctx: typer.Context) -> list[str]:
    import json

    from p2pnet.model.ids import member_order

    return sorted(json.loads(_state().subnet(_subnet(ctx)).ports.read_bytes()), key=member_order)


# --- the answer to a shell ---


def items(offers: Iterable[Offer]) -> list[Any]:
    """Offers as typer's completion takes them."""
    from typer._click.shell_completion import CompletionItem  # in no public module of typer

    return [CompletionItem(word, help=explanation) for word, explanation in offers]


def answer(program: Any) -> int:
    """Print what a word may be completed to, as a shell asks through VARIABLE. Errors print nothing: a line is being typed."""
    from typer.completion import completion_init  # type: ignore[attr-defined] # registers the shells

    completion_init()
    with contextlib.redirect_stderr(io.StringIO()), _without_rich():
        try:
            program.main([], prog_name="p2pnet", complete_var=VARIABLE, standalone_mode=False)
        except SystemExit as ended:  # how typer ends here, with the code that fish asks for
            return ended.code if isinstance(ended.code, int) else 0
        except Exception:  # noqa: BLE001 as said
            return 0
    return 0


@contextlib.contextmanager
def _without_rich() -> Iterator[None]:
    """Keep typer from importing rich, which takes 60 ms, to remove markup that our explanations do not have."""
    before = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment] # how the import system marks what must not be imported
    try:
        yield
    finally:
        del sys.modules["rich"]
        if before is not None:
            sys.modules["rich"] = before
