"""cert-manager beside a cluster: its own controllers, as `cluster.sh build` has compiled them, and Issuers for tests."""

import base64
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster.kit import Cluster, until

from p2pnet.trust import Authority

KINDS = ("certificates", "certificaterequests", "issuers")
END_S = 120.0
"""For its controllers to end when they are told to."""


def home() -> Path:
    """Where `cluster.sh` keeps what it has made."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("CLUSTER_HOME") or cache / "p2pnet-cluster")


class CertManager:
    """What a test sees of cert-manager in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    def define(self) -> None:
        """Make the API server know its kinds."""
        for kind in KINDS:
            self._cluster.kubectl(
                "apply", "--server-side", "-f", str(home() / "certmanager" / f"cert-manager.io_{kind}.yaml")
            )
        for kind in KINDS:
            self._cluster.established(f"{kind}.cert-manager.io")

    def forget(self) -> None:
        """Take them away again."""
        names = [f"crd/{kind}.cert-manager.io" for kind in KINDS]
        self._cluster.kubectl("delete", "--ignore-not-found", *names)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Its controllers at work in the namespace. No webhook: what that would refuse, Subnets cannot ask for."""
        log = home() / "logs" / self._cluster.name / "certmanager.log"
        environment = os.environ | {"KUBECONFIG": str(home() / "run" / self._cluster.name / "admin.kubeconfig")}
        with log.open("ab") as out:
            process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self._cluster.name}", str(home() / "bin" / "certmanager"),
                 "--namespace", self.namespace],
                stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment, start_new_session=True,
            )  # fmt: skip
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=END_S)

    def issuer(self, name: str) -> Authority:
        """A CA Issuer with a new authority; an Issuer of that name gets it in place of its former one."""
        authority = Authority.create(f"{name} of {self.namespace}", now=datetime.now(UTC))
        data = {"tls.crt": authority.certificate_pem, "tls.key": authority.key_pem}
        secret = {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{name}-ca"}, "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }  # fmt: skip
        issuer = {
            "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": name},
            "spec": {"ca": {"secretName": f"{name}-ca"}},
        }  # fmt: skip
        self._cluster.apply([secret, issuer], self.namespace)
        return authority

    def ask(self, name: str, uri: str) -> None:
        """A Certificate for this URI, as whoever may make Certificates in the namespace can have it."""
        spec = {
            "secretName": name, "uris": [uri], "usages": ["digital signature", "server auth", "client auth"],
            "privateKey": {"algorithm": "ECDSA", "size": 256}, "issuerRef": {"name": "ours", "kind": "Issuer"},
        }  # fmt: skip
        body = {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": name}, "spec": spec}
        self._cluster.apply(body, self.namespace)
        self._cluster.wait(f"certificate/{name}", "condition=Ready", self.namespace)

    def certificates(self) -> dict[str, Any]:
        """Name -> Certificate."""
        found = self._cluster.get("certificates.cert-manager.io", "--namespace", self.namespace)
        return {one["metadata"]["name"]: one for one in found}

    def renew(self, name: str) -> None:
        """What `cmctl renew` does: tell cert-manager that the Certificate is being issued."""
        before = self.certificates()[name]
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        asked = {
            "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "asked for by a test",
            "lastTransitionTime": moment, "observedGeneration": before["metadata"]["generation"],
        }  # fmt: skip
        conditions = [one for one in before["status"]["conditions"] if one["type"] != "Issuing"]
        patch = json.dumps({"status": {"conditions": [*conditions, asked]}})
        self._cluster.kubectl(
            "patch",
            "certificate",
            name,
            "--namespace",
            self.namespace,
            "--subresource=status",
            "--type=merge",
            "-p",
            patch,
        )
        revision = before["status"].get("revision", 0)
        until(lambda: self.certificates()[name]["status"].get("revision", 0) > revision, f"{name} is renewed")
