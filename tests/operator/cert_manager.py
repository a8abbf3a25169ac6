"""What cert-manager's controllers do with Certificates, in the operator's small world: Secrets filled, statuses written."""

from datetime import timedelta

from tests.operator.kit import NAMESPACE, World

from p2pnet.operator.kube.api import CERTIFICATE, SECRET, Object, decoded, encoded, meta, name_of, time_text
from p2pnet.trust import Authority

GO_UNITS = {"h": 3600, "m": 60, "s": 1}


class CertManager:
    """One CA Issuer per name. `issue` is one round of all controllers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.authorities: dict[str, Authority] = {}
        self.gives_authority = True
        """Whether Secrets get a ca.crt: of ACME they do not."""
        self.uris: dict[str, str] = {}
        """Certificate -> the URI an odd Issuer puts in instead."""

    def authority(self, issuer: str) -> Authority:
        if issuer not in self.authorities:
            self.authorities[issuer] = Authority.create(issuer, now=self._world.now)
        return self.authorities[issuer]

    def issue(self, *renewed: str) -> list[str]:
        """Fill what is empty, of another Issuer, or named here; the Certificates that were issued."""
        done = []
        for certificate in self._world.api.all(CERTIFICATE):
            name, spec = name_of(certificate), certificate["spec"]
            secret = self._world.api.objects.get((SECRET, NAMESPACE, spec["secretName"]))
            annotations = (meta(secret or {}).get("annotations")) or {}
            of_it = annotations.get("cert-manager.io/issuer-name") == spec["issuerRef"]["name"]
            if name in renewed or not decoded(secret).get("tls.crt") or not of_it:
                self._fill(certificate, secret)
                done.append(name)
        return done

    def _fill(self, certificate: Object, secret: Object | None) -> None:
        now, spec, name = self._world.now, certificate["spec"], name_of(certificate)
        authority = self.authority(spec["issuerRef"]["name"])
        uri = self.uris.get(name, spec["uris"][0])
        leaf = authority.issue(
            uri, now=now, ttl=timedelta(seconds=seconds(spec["duration"])), dns_names=spec["dnsNames"]
        )
        data = {"tls.crt": leaf.chain_pem, "tls.key": leaf.key_pem}
        if self.gives_authority:
            data["ca.crt"] = authority.certificate_pem
        if secret is None:  # without an owner, as cert-manager does by default
            body = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name}}
            secret = self._world.api.put(SECRET, NAMESPACE, body)
        template = spec["secretTemplate"]
        mine = {"cert-manager.io/certificate-name": name, "cert-manager.io/issuer-name": spec["issuerRef"]["name"]}
        changed = {
            **secret, "data": encoded(data),
            "metadata": {
                **meta(secret), "labels": {**meta(secret).get("labels", {}), **template["labels"]},
                "annotations": {**meta(secret).get("annotations", {}), **template["annotations"], **mine},
            },
        }  # fmt: skip
        self._world.api._change(secret, changed)
        self.tell(name, ready=True, message="Certificate is up to date and has not expired")

    def tell(self, name: str, *, ready: bool, message: str) -> None:
        """The Certificate's condition."""
        since = time_text(self._world.now)
        condition = {
            "type": "Ready", "status": str(ready), "reason": "x", "message": message, "lastTransitionTime": since,
        }  # fmt: skip
        self._world.api.one(CERTIFICATE, name)["status"] = {"conditions": [condition]}


def seconds(duration: str) -> int:
    """Of Go's `1h30m0s`."""
    total, digits = 0, ""
    for letter in duration:
        if letter.isdigit():
            digits += letter
        else:
            total, digits = total + int(digits) * GO_UNITS[letter], ""
    return total
