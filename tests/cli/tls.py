"""A fake API server behind TLS that wants a client certificate."""

import base64
import contextlib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.cli.fake_kube import BEARER, FakeKube

from p2pnet.trust import Authority


@contextlib.contextmanager
def tls_server(folder: Path) -> Iterator[tuple[FakeKube, dict[str, Any], dict[str, Any]]]:
    """The server, and the cluster and user entries of a kubeconfig for it."""
    now = datetime.now(UTC)
    authority = Authority.create("kube", now=now, ttl=timedelta(days=1))
    leaf = authority.issue("spiffe://kube/server", now=now, ttl=timedelta(hours=1), dns_names=["api.example"])
    mine = authority.issue("spiffe://kube/me", now=now, ttl=timedelta(hours=1))
    (folder / "server.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    (folder / "me.key").write_bytes(mine.key_pem)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.certificate_pem.decode())
    tls.load_cert_chain(folder / "server.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    fake = FakeKube()
    fake.start(tls)
    cluster = {
        "server": f"https://127.0.0.1:{fake.port}", "tls-server-name": "api.example",
        "certificate-authority-data": base64.b64encode(authority.certificate_pem).decode(),
    }  # fmt: skip
    chain = base64.b64encode(mine.chain_pem).decode()
    try:
        yield fake, cluster, {"token": BEARER, "client-certificate-data": chain, "client-key": "me.key"}
    finally:
        fake.stop()
