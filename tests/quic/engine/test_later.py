"""Libraries that aioquic imports and nobody here calls are taken in when somebody does, and not before."""

import subprocess
import sys
from typing import Any

import pytest
from aioquic import tls

from p2pnet.quic.engine.later import LaterModule, left_for_later


def test_a_pod_of_nodes_starts_without_what_it_does_not_call() -> None:
    code = (
        "import sys, p2pnet.supervisor.pod;"
        "verify = {'OpenSSL', 'service_identity', 'certifi', 'attr'};"
        "found = (verify | {'argparse', 'difflib', 'tempfile', 'shutil'}) & set(sys.modules);"
        "sys.exit(' '.join(sorted(found)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_aioquic_has_them_all_the_same() -> None:
    theirs: Any = tls  # what it imports and does not export
    assert theirs.service_identity.VerificationError is not None
    assert type(theirs.crypto.X509Store()).__module__ == "OpenSSL.crypto"
    assert theirs.certifi.where().endswith(".pem")


def test_others_never_see_a_stand_in_and_what_is_there_stays() -> None:
    with left_for_later("subprocess", "no_such_library", "no_such_library.part"):
        assert sys.modules["subprocess"] is subprocess
        stand_in = sys.modules["no_such_library"]
        assert isinstance(stand_in.part, LaterModule)
        with pytest.raises(AttributeError):
            _ = stand_in.missing
    assert not [name for name, module in sys.modules.items() if isinstance(module, LaterModule)]
    with pytest.raises(ModuleNotFoundError):
        _ = stand_in.missing
