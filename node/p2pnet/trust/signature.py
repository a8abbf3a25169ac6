"""Signatures with a leaf's key over bytes that are no handshake. ECDSA with SHA-256, or Ed25519."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from p2pnet.model.errors import SpecError
from p2pnet.trust.identity import Identity

_ECDSA = ec.ECDSA(hashes.SHA256())


def sign(identity: Identity, data: bytes) -> bytes:
    """The signature of the identity's key. Raises SpecError for a key of another kind."""
    key = identity.private_key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, _ECDSA)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    raise SpecError(f"the key of {identity.uri} is neither of an elliptic curve nor Ed25519: issue an ECDSA P-256 leaf")


def signed_by(leaf_der: bytes, data: bytes, signature: bytes) -> bool:
    """Whether the key of this leaf, verified before, made the signature; False whatever the bytes."""
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
