"""Libraries that aioquic imports and p2pnet never calls: taken in when somebody does.

aioquic verifies names and chains with service_identity and pyOpenSSL; here `tls` verifies, with cryptography. Both are a
quarter of what a node imports, and every pod and every process of nodes would wait for them.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


class LaterModule(ModuleType):
    """The stand-in of a module, which is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:  # it is being imported: the machinery looks whether it is a package
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def left_for_later(*names: str) -> Iterator[None]:
    """What is imported meanwhile gets stand-ins of these modules, a package named before its parts; others never see them.

    Those that are there already stay as they are.
    """
    stand_ins = {name: LaterModule(name) for name in names if name not in sys.modules}
    for name, module in stand_ins.items():
        parent, _, part = name.rpartition(".")
        if parent in stand_ins:
            setattr(stand_ins[parent], part, module)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def import_aioquic() -> None:
    """Import the only module of aioquic that imports them."""
    with left_for_later("certifi", "service_identity", "OpenSSL", "OpenSSL.crypto"):
        import aioquic.tls  # noqa: F401
