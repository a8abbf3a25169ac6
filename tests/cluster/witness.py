"""What was seen of a Subnet all the time, not only at the end: who was made, who was away, who trusted whom."""

import base64
import contextlib
from collections.abc import Iterator
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from tests.cluster.control import Twin
from tests.cluster.kit import conditions, until
from tests.cluster.labs import Held
from tests.cluster.server import Thing

from p2pnet.trust import Bundle

TIDY_S = 120.0
"""For what has no use any more to go, also where writes fail: by status it counts no longer."""


class Witness:
    """Watches one Subnet. `with Witness.of(demo) as seen: ...`"""

    def __init__(self, demo: Twin) -> None:
        self._place = demo.place.name
        self._name = demo.name
        self._labs = demo.place.control.labs
        self._there: dict[str, Thing] = {}
        self.made: dict[str, list[str]] = {}
        """Uids of all pods that ever were, by name."""
        self.authorities: list[tuple[str, str]] = []
        """(uid, fingerprint) of every authority that ever issued, in order."""
        self.least: int | None = None
        """The fewest available nodes since `count` was called."""
        self.strangers: list[str] = []
        """Pairs of pods of which one did not trust the other."""

    @classmethod
    @contextlib.contextmanager
    def of(cls, demo: Twin) -> Iterator["Witness"]:
        """A witness, until the block ends."""
        seen, control = cls(demo), demo.place.control
        hooks = (
            (control.kubelet.listeners, seen._pod),
            (control.labs.on_load, seen._load),
            (control.labs.on_secret, seen._secret),
        )
        for listeners, listener in hooks:
            listeners.append(listener)
        try:
            yield seen
        finally:
            for listeners, listener in hooks:
                listeners.remove(listener)

    def count(self) -> None:
        """Count the available nodes from now on."""
        self.least = self._available()

    def _pod(self, kind: str, pod: Thing) -> None:
        if not self._ours(pod):
            return
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        uids = self.made.setdefault(name, [])
        if uid not in uids:
            uids.append(uid)
        if kind == "DELETED":
            self._there.pop(name, None)
        else:
            self._there[name] = pod
        if self.least is not None:
            self.least = min(self.least, self._available())

    def _available(self) -> int:
        return sum(
            conditions(pod).get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp")
            for pod in self._there.values()
            if pod["metadata"]["labels"].get("p2pnet.io/role") == "node"
        )

    def _secret(self, kind: str, secret: Thing) -> None:
        if secret["metadata"]["name"] != f"{self._name}-ca" or not self._ours(secret) or kind == "DELETED":
            return
        now = (secret["metadata"]["uid"], fingerprint(base64.b64decode(secret["data"]["ca.crt"])))
        if now not in self.authorities:
            self.authorities.append(now)

    def _load(self, pod: Thing, held: Held) -> None:
        """Whoever has just loaded an identity meets everybody who runs."""
        if not self._ours(pod):
            return
        for name, other in self._there.items():
            its = self._labs.loaded.get(other["metadata"]["uid"])
            if its is None or its is held:
                continue
            if not (trusts(held, its) and trusts(its, held)):
                self.strangers.append(f"{pod['metadata']['name']} {name}")

    def _ours(self, thing: Thing) -> bool:
        metadata = thing["metadata"]
        labelled = (metadata.get("labels") or {}).get("p2pnet.io/subnet") == self._name
        return metadata["namespace"] == self._place and labelled


def fingerprint(pem: bytes) -> str:
    """Of the first certificate."""
    found: str = Bundle.from_pem(pem).fingerprints[0]
    return found


def trusts(one: Held, other: Held) -> bool:
    """Whether the bundle of one vouches for every leaf of the other."""
    chains = [pem for name, pem in other.files.items() if name.endswith(".crt") and name != "ca.crt"]
    return all(_vouched(one.files.get("ca.crt", b""), chain) for chain in chains)


@lru_cache(maxsize=4096)
def _vouched(bundle: bytes, chain: bytes) -> bool:
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        authorities = x509.load_pem_x509_certificates(bundle)
    except ValueError:  # a test has written nonsense
        return False
    for authority in authorities:
        with contextlib.suppress(ValueError, TypeError, InvalidSignature):
            leaf.verify_directly_issued_by(authority)
            return True
    return False


def until_right(demo: Twin, nodes: int) -> None:
    """Wait until exactly the objects of so many nodes are there, and check them."""
    whole = demo.whole(nodes)
    until(lambda: demo.everything() == whole, f"exactly the objects of {nodes} nodes", TIDY_S, every_s=0.1)
    check_right(demo, nodes)


def check_right(demo: Twin, nodes: int) -> None:
    """Exactly the objects of so many nodes, all owned by this Subnet, one authority in all of them; and nothing else."""
    assert demo.everything() == demo.whole(nodes)
    subnet = demo.thing()
    for plural in ("pods", "secrets", "configmaps", "services", "poddisruptionbudgets", "networkpolicies"):
        for name, child in demo.children(plural).items():
            [owner] = child["metadata"]["ownerReferences"]
            assert owner["uid"] == subnet["metadata"]["uid"], name
            assert (owner["kind"], owner["name"]) == ("Subnet", demo.name)
            assert owner["controller"], name
            assert owner["blockOwnerDeletion"], name
            assert not child["metadata"].get("finalizers"), name
    secrets = {name: Held(name, _files(secret)) for name, secret in demo.children("secrets").items()}
    authority = secrets.pop(f"{demo.name}-ca").files
    assert set(authority) == {"ca.crt", "ca.key"}, "no replacement is under way"
    del secrets[f"{demo.name}-lab-token"]
    for held in secrets.values():
        assert held.files["ca.crt"] == authority["ca.crt"], held.pod
        assert trusts(held, held), held.pod
    assert not subnet["metadata"].get("finalizers")
    assert not [key for key in subnet["metadata"].get("annotations") or {} if "kopf" in key]


def _files(secret: Thing) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
