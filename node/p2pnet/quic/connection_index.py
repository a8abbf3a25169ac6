"""Which connection an arriving datagram belongs to: by its connection id, or by a reset token at its end.

One `ConnectionIndex` per endpoint. Each connection keeps its own entries up to date through its `IndexEntries`, so that none is
left behind when it ends, however many ids it has used (RFC 9000 sections 5.1 and 10.3).
"""

from typing import Any

from p2pnet.quic.engine import Engine


class ConnectionIndex:
    """The entries of all connections of one endpoint. Values are `connection.Connection`."""

    __slots__ = ("by_cid", "by_reset_token")

    def __init__(self) -> None:
        self.by_cid: dict[bytes, Any] = {}
        """Connection id of ours -> connection."""
        self.by_reset_token: dict[bytes, Any] = {}
        """Stateless reset token of a peer's -> the connection that the peer has forgotten when it sends this."""

    def clear(self) -> None:
        """Forget every connection."""
        self.by_cid.clear()
        self.by_reset_token.clear()


class IndexEntries:
    """One connection's entries in the table."""

    __slots__ = ("_cids", "_connection", "_table", "reset_token")

    def __init__(self, table: ConnectionIndex, connection: Any) -> None:
        self._table = table
        self._connection = connection
        self._cids: set[bytes] = set()
        self.reset_token: bytes | None = None
        """The one in the table."""

    def follow(self, engine: Engine) -> None:
        """Take over the ids that the engine has issued or retired, which empties its two lists, and its peer's reset token."""
        table = self._table
        for cid in engine.new_cids:
            self._cids.add(cid)
            table.by_cid[cid] = self._connection
        for cid in engine.old_cids:
            self._cids.discard(cid)
            table.by_cid.pop(cid, None)
        engine.new_cids.clear()
        engine.old_cids.clear()
        token = engine.reset_token
        if token is not self.reset_token:
            self._drop_token()
            self.reset_token = token
            if token is not None:
                table.by_reset_token[token] = self._connection

    def end(self) -> None:
        """Remove all entries: nothing that arrives is for this connection any more."""
        for cid in self._cids:
            self._table.by_cid.pop(cid, None)
        self._cids.clear()
        self._drop_token()

    def _drop_token(self) -> None:
        if self.reset_token is not None:
            self._table.by_reset_token.pop(self.reset_token, None)
