"""Secrets' base64, both ways. Pure."""

import base64
import binascii
from collections.abc import Mapping

from p2pnet.operator.kube.api import Object


def encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    """Bytes as a Secret's `data` holds them."""
    return {key: base64.b64encode(value).decode() for key, value in data.items()}


def decoded(secret: Object | None) -> dict[str, bytes]:
    """A Secret's `data` as bytes; what is no base64 is left out, as if it were missing."""
    found = {}
    for key, value in ((secret or {}).get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError):
            continue
    return found
