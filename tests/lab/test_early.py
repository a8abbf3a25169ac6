"""A lab starts without reading the machine's authorities, for it asks nobody over TLS."""

import os
import ssl
import subprocess
import sys

import pytest

from p2pnet.lab.early import AUTHORITIES_ENV, without_authorities


@pytest.mark.parametrize("before", [None, "/somewhere/ca.pem"])
def test_a_context_made_meanwhile_trusts_nobody_and_the_variable_is_as_before(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(AUTHORITIES_ENV, raising=False)
    if before is not None:
        monkeypatch.setenv(AUTHORITIES_ENV, before)
    with without_authorities():
        context = ssl.create_default_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.get_ca_certs() == []
    assert os.environ.get(AUTHORITIES_ENV) == before


def test_a_lab_that_starts_reads_none() -> None:
    code = (
        "import runpy, sys; sys.argv = ['lab', '--help']\n"
        "try: runpy.run_module('p2pnet.lab.__main__', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "from aiohttp import connector; sys.exit(len(connector._SSL_CONTEXT_VERIFIED.get_ca_certs()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
