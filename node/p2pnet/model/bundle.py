"""The manifest of a bundle: a run, or those of a scenario, packed to be looked at elsewhere. Printed by `collect`, too."""

import msgspec

MANIFEST_SCHEMA = "p2pnet.io/bundle/v1"


class BundledFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a bundle; `size` in bytes, `sha256` in hex, of the file as it is in the bundle."""

    name: str
    """Its path in the archive, e.g. `runs/r-20261121-201530-3f/run.json`."""
    size: int
    sha256: str
    cut: str = ""
    """What is missing of it and why; empty: it is whole."""
    redacted: int = 0
    """Values in it that look like secrets and were taken out."""


class LeftOut(msgspec.Struct, frozen=True):
    """What belongs to the run and is not in the bundle, and the reason."""

    what: str
    why: str


class BundleManifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`, the first file of a bundle. Keys are a contract; more may follow."""

    schema: str = MANIFEST_SCHEMA
    version: str
    """Version of p2pnet that packed it."""
    subnet: str
    target: str
    """Where the runs were made."""
    scenario: str = ""
    """Name of the scenario whose runs these are; empty: it is a run by itself."""
    runs: list[str]
    """Ids of the runs, in the order in which they were made."""
    files: list[BundledFile] = []
    """All others, in the order of the archive."""
    left_out: list[LeftOut] = []
    file: str = ""
    """Where the bundle is, as `collect` prints it; empty within the bundle."""
    size: int = 0
    """Its bytes, as `collect` prints them; 0 within the bundle."""
