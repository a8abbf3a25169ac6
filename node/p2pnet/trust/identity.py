"""An identity: certificate chain, key and trust bundle of a node or lab, as files; and signatures with its key."""

import os
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from p2pnet.model.errors import SpecError
from p2pnet.trust.authority import Leaf
from p2pnet.trust.bundle import Bundle, VerifiedPeer, verify

_ECDSA = ec.ECDSA(hashes.SHA256())

CHAIN_FILE = "tls.crt"
"""Certificate chain, leaf first, PEM."""
KEY_FILE = "tls.key"
"""The leaf's private key, PEM."""
BUNDLE_FILE = "ca.crt"
"""The authorities that peers are checked against, PEM."""
LAB_BUNDLE_FILE = "lab-ca.crt"
"""Present when another authority issues the nodes' leaves: the subnet's own, which alone vouches for the lab."""


@dataclass(frozen=True)
class Identity:
    """Own chain and key, and the bundle peers are checked against. Parsed on first use; equal when the texts are."""

    chain_pem: bytes
    key_pem: bytes
    bundle_pem: bytes
    lab_bundle_pem: bytes = b""
    """The only authorities the lab is checked against; empty: the same as for peers."""

    @classmethod
    def of(cls, leaf: Leaf, bundle_pem: bytes) -> "Identity":
        """A leaf just issued, with the bundle to check peers against."""
        return cls(leaf.chain_pem, leaf.key_pem, bundle_pem)

    @classmethod
    def read(cls, directory: Path, name: str = "tls") -> "Identity":
        """The identity in `<name>.crt`, `<name>.key` and `ca.crt`, checked: readable, and the key is the leaf's.

        A `lab-ca.crt` beside them is read if it is there. The directory is resolved once: Kubernetes swaps a whole
        `..data` link, so paths through the link could see two generations. Raises SpecError naming the file.
        """
        resolved = Path(os.path.realpath(directory))
        # The Secret's files are links through ..data themselves: go to their real folder before reading any.
        generation = Path(os.path.realpath(resolved / "..data"))
        folder = generation if generation.is_dir() else resolved
        files = list(identity_files(name))
        if (folder / LAB_BUNDLE_FILE).exists():
            files.append(LAB_BUNDLE_FILE)
        identity = cls(*(_read(folder / file, directory / file) for file in files))
        identity.check(directory, name)
        return identity

    def check(self, directory: Path = Path(), name: str = "tls") -> None:
        """Raise SpecError, naming the file in `directory`, unless all of them parse and the key is the leaf's."""
        chain_file, key_file, _ = identity_files(name)
        files = (*identity_files(name), LAB_BUNDLE_FILE)
        for file, part in zip(files, ("certificates", "private_key", "bundle", "lab_bundle"), strict=True):
            try:
                getattr(self, part)
            except SpecError as error:
                raise SpecError(f"{directory / file}: {error}") from error
        if self.private_key.public_key() != self.certificates[0].public_key():
            raise SpecError(f"{directory / key_file}: is not the key of the leaf in {chain_file}")

    def write(self, directory: Path) -> None:
        """Write the files, each replaced in one step; the key is readable by its owner only.

        A reader in between sees a key that is not the leaf's, and keeps the identity it had (see `check`).
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The chain last: until it is there the new key does not fit, and readers keep what they have.
        files = {BUNDLE_FILE: self.bundle_pem, KEY_FILE: self.key_pem, CHAIN_FILE: self.chain_pem}
        if self.lab_bundle_pem:
            files = {LAB_BUNDLE_FILE: self.lab_bundle_pem, **files}
        else:
            (directory / LAB_BUNDLE_FILE).unlink(missing_ok=True)
        for name, data in files.items():
            temporary = directory / f".{name}.new"
            temporary.unlink(missing_ok=True)
            # Created with its mode: after a chmod there would have been a moment in which others could read the key.
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            temporary.replace(directory / name)

    @cached_property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """The chain, leaf first. Raises SpecError when it cannot be read."""
        try:
            return tuple(x509.load_pem_x509_certificates(self.chain_pem))
        except (ValueError, x509.InvalidVersion) as error:
            raise SpecError(f"not a certificate chain: {error}") from error

    @cached_property
    def private_key(self) -> PrivateKeyTypes:
        """The leaf's key. Raises SpecError when it cannot be read."""
        try:
            return serialization.load_pem_private_key(self.key_pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SpecError(f"not a private key: {error}") from error

    @cached_property
    def bundle(self) -> Bundle:
        """The authorities peers are checked against. Raises SpecError when they cannot be read."""
        return Bundle.from_pem(self.bundle_pem)

    @cached_property
    def lab_bundle(self) -> Bundle:
        """The authorities the lab is checked against. Raises SpecError when they cannot be read."""
        return Bundle.from_pem(self.lab_bundle_pem) if self.lab_bundle_pem else self.bundle

    @property
    def trusted(self) -> tuple[str, ...]:
        """SHA-256 in hex of every authority trusted, for peers or for the lab."""
        return tuple(dict.fromkeys((*self.bundle.fingerprints, *self.lab_bundle.fingerprints)))

    @cached_property
    def chain_der(self) -> tuple[bytes, ...]:
        """The chain as a handshake carries it, leaf first."""
        return tuple(one.public_bytes(serialization.Encoding.DER) for one in self.certificates)

    @property
    def not_after(self) -> datetime:
        """When the leaf ends (aware, UTC)."""
        return self.certificates[0].not_valid_after_utc

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf's DER, in hex."""
        return self.certificates[0].fingerprint(hashes.SHA256()).hex()

    @cached_property
    def uri(self) -> str:
        """The one URI of the leaf, not verified. Raises SpecError when it has not exactly one."""
        try:
            names = self.certificates[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound) as error:
            raise SpecError(f"the leaf has no URI: {error}") from error
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        if len(uris) != 1:
            raise SpecError(f"the leaf must carry exactly one URI, it has {len(uris)}")
        return uris[0]

    def verify(self, *, now: datetime) -> VerifiedPeer:
        """Whom peers with the same bundle will see in this identity at `now`. Raises TrustError."""
        return verify(self.chain_der, self.bundle, now=now)


def identity_files(name: str = "tls") -> tuple[str, str, str]:
    """Names of the chain, key and bundle file of the identity `name`; all identities of a folder share the bundle."""
    return f"{name}.crt", f"{name}.key", BUNDLE_FILE


def sign(identity: Identity, data: bytes) -> bytes:
    """A signature over `data`: ECDSA with SHA-256, or Ed25519. Raises SpecError for a key of another kind."""
    key = identity.private_key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, _ECDSA)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    raise SpecError(f"the key of {identity.uri} is neither of an elliptic curve nor Ed25519: issue an ECDSA P-256 leaf")


def signed_by(leaf_der: bytes, data: bytes, signature: bytes) -> bool:
    """Whether the key of this leaf (already verified) made the signature; False for any other bytes, never an error."""
    try:
        key = x509.load_der_x509_certificate(leaf_der).public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, _ECDSA)
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _read(path: Path, shown: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(f"{shown}: cannot read it: {error.strerror}") from error
