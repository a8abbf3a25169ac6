"""X.509 is imported without patterns that nothing here matches; who needs them has them."""

import re
import subprocess
import sys
from typing import Any

from cryptography.x509 import Name, name

from p2pnet.trust.later import NAMES, LaterPattern, LaterPatterns


def test_a_name_as_text_is_read_all_the_same() -> None:
    read = Name.from_rfc4514_string("CN=node-0\\, the first,O=p2pnet")
    assert read.rfc4514_string() == "CN=node-0\\, the first,O=p2pnet"


def test_other_modules_never_see_the_stand_in() -> None:
    import p2pnet.trust  # noqa: F401

    assert sys.modules["re"] is re
    assert not [one for one in sys.meta_path if isinstance(one, LaterPatterns)]
    theirs: Any = name
    assert theirs.__name__ == NAMES
    assert LaterPatterns(NAMES).find_spec("json", None) is None


def test_a_pattern_is_compiled_when_it_is_used() -> None:
    wrong = LaterPattern("(")
    found: Any = LaterPattern("N(O)DE", re.IGNORECASE)
    assert found.match("node")[1] == "o"
    try:
        wrong.match("(")
    except re.error:
        return
    raise AssertionError("the pattern is wrong, and nobody said so")


def test_a_node_and_a_lab_start_without_compiling_them() -> None:
    code = (
        "import sys, {}; from cryptography.x509 import name;"
        "sys.exit(type(name._RFC4514NameParser._STRING_RE).__name__ != 'LaterPattern')"
    )
    for module in ("p2pnet.supervisor.pod", "p2pnet.quic", "p2pnet.trust"):
        assert subprocess.run([sys.executable, "-c", code.format(module)], check=False).returncode == 0, module
