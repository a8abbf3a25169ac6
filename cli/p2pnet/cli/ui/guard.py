"""Who may see and press what: one address that works once, a cookie, and requests of the page itself only."""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

TOKEN_BYTES = 32
SAFE = {"GET", "HEAD"}


@dataclass
class Guard:
    """The secrets of one server. Any process of this machine reaches its port, and so does any page of a browser."""

    port: int = 0
    """Where the server listens; it is part of what a request must say."""
    _token: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES), repr=False)
    _secret: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES), repr=False)

    def url(self) -> str:
        """The address that works once."""
        return f"http://127.0.0.1:{self.port}/?token={self._token}"

    @property
    def cookie(self) -> str:
        """Its name: browsers keep one jar for all ports of a host."""
        return f"p2pnet-ui-{self.port}"

    def exchange(self, token: str) -> str | None:
        """The cookie's value for the token of the address, once; None for any other and from then on."""
        if not self._token or not _same(self._token, token):
            return None
        self._token = ""
        return self._secret

    def knows(self, value: str | None) -> bool:
        """Whether that is the cookie's value."""
        return value is not None and _same(self._secret, value)

    def foreign(self, method: str, headers: Mapping[str, str]) -> str | None:
        """Why a request is not one of the page's own; None where it is. What changes something must say where it comes from.

        A name that an attacker points at 127.0.0.1 still stands in `Host`.
        """
        host, origin = headers.get("Host", ""), headers.get("Origin")
        if host not in (f"127.0.0.1:{self.port}", f"localhost:{self.port}"):
            return "this server answers to 127.0.0.1 only"
        if (origin is not None or method not in SAFE) and origin != f"http://{host}":
            return "this request comes from another page"
        if method not in SAFE and headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return "this request comes from another site"
        return None


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode("utf-8", "surrogateescape"))
