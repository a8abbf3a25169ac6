"""`host:port` as text: what documents, registries and people write, an IPv6 address in brackets."""


def parse_address(text: str) -> tuple[str, int] | None:
    """`host:port` or `[v6]:port` as a pair; None when it is neither."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 1 << 16:
        return None
    return host.removeprefix("[").removesuffix("]"), int(port)


def address_text(host: str, port: int) -> str:
    """What `parse_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
