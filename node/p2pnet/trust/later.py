"""`import_x509`: cryptography's X.509 without what only names written as text need, a pattern that takes 10 ms to compile.

Every pod and every process of nodes imports X.509 before it can serve, and names nobody by RFC 4514.
"""

import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

NAMES = "cryptography.x509.name"
"""The module whose patterns wait."""


class LaterPattern:
    """A regular expression that is compiled when something of it is used."""

    def __init__(self, text: str, flags: int = 0) -> None:
        self._text, self._flags = text, flags

    def __getattr__(self, name: str) -> Any:
        return getattr(re.compile(self._text, self._flags), name)  # which `re` keeps


class LaterPatterns:
    """Finds one module, which sees a `re` that compiles later. As a finder of `sys.meta_path` it passes over all others."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Called by the import machinery."""
        spec = PathFinder.find_spec(name, path, target) if name == self._name else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                stand_in: Any = ModuleType("re")
                stand_in.__dict__.update(vars(re) | {"compile": LaterPattern})
                sys.modules["re"] = stand_in
                try:
                    execute(module)
                finally:
                    sys.modules["re"] = re

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def import_x509() -> None:
    """Import `cryptography.x509`; whoever has it already has it whole."""
    finder: Any = LaterPatterns(NAMES)
    sys.meta_path.insert(0, finder)
    try:
        import cryptography.x509  # noqa: F401
    finally:
        sys.meta_path.remove(finder)
