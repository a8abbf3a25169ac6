"""What comes before the lab's other imports. It needs to be quick: a subnet's nodes wait for its lab before they dial."""

import contextlib
import os
from collections.abc import Iterator

AUTHORITIES_ENV = "SSL_CERT_FILE"
"""The variable that tells OpenSSL where the machine's authorities are."""


@contextlib.contextmanager
def without_authorities() -> Iterator[None]:
    """A TLS context that is made meanwhile knows no authority, and so refuses every server.

    aiohttp makes one for clients when it is imported and reads all authorities of the machine for it, 50 ms. The lab is none.
    """
    before = os.environ.get(AUTHORITIES_ENV)
    os.environ[AUTHORITIES_ENV] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ[AUTHORITIES_ENV]
        else:
            os.environ[AUTHORITIES_ENV] = before
