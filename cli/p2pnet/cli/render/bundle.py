"""What `collect` packed, as a person reads it."""

from rich.console import Group, RenderableType
from rich.text import Text

from p2pnet.cli.render import text
from p2pnet.model.bundle import BundledFile, BundleManifest
from p2pnet.model.text import some
from p2pnet.model.units import format_size

SHOWN_MAX = 12  # of what is left out


def draw(manifest: BundleManifest, width: int) -> RenderableType:
    """Where it is, what is in it by folder, what was taken out, cut and left out."""
    runs = [f"scenario {manifest.scenario}"] if manifest.scenario else []
    lines: list[Text] = [
        *text.flow("bundle", [Text(manifest.file, style="bold cyan"), format_size(manifest.size)], width),
        *text.flow("runs", [*runs, some(manifest.runs), f"of {manifest.subnet}", f"on {manifest.target}"], width),
        *text.flow("files", _folders(manifest.files), width),
    ]
    secrets = sum(one.redacted for one in manifest.files)
    if secrets:
        where = some([one.name for one in manifest.files if one.redacted])
        words = "value looks like a secret and was" if secrets == 1 else "values look like secrets and were"
        lines += text.flow("secrets", [f"{secrets} {words} taken out of {where}"], width, style="bold yellow")
    for one in [one for one in manifest.files if one.cut][:SHOWN_MAX]:
        lines += text.flow("cut", [f"{one.name}: {one.cut}"], width, style="bold yellow")
    shown = [f"{one.what}: {one.why}" for one in manifest.left_out[:SHOWN_MAX]]
    if len(manifest.left_out) > SHOWN_MAX:
        shown.append(f"and {len(manifest.left_out) - SHOWN_MAX} more (see -o json)")
    for index, words in enumerate(shown):
        lines += text.flow("left out" if index == 0 else "", [words], width, style="dim")
    return Group(*lines)


def _folders(files: list[BundledFile]) -> list[str]:
    """How many files there are, and their size, by the folder they are in."""
    found: dict[str, list[int]] = {}
    for one in files:
        folder, slash, _ = one.name.partition("/")
        found.setdefault(f"{folder}/" if slash else "documents", []).append(one.size)
    return [f"{len(sizes)} in {folder} ({format_size(sum(sizes))})" if folder.endswith("/") else
            f"{len(sizes)} {folder} ({format_size(sum(sizes))})" for folder, sizes in found.items()]  # fmt: skip
