"""Takes out of documents and logs what looks like a secret, before they are carried away."""

import re
from typing import Any

import msgspec

TAKEN_OUT = "(taken out: it looks like a secret)"
SECRET_KEY = re.compile(
    r"(?i)(^|[-_.]|(?<=[a-z]))(pass(word|wd|phrase)?|pwd|secret(s|[-_]?key)?|token|api[-_]?key|private[-_]?key"
    r"|access[-_]?key([-_]?id)?|signing[-_]?key|encryption[-_]?key|credentials?|authorization|cookie|dsn)$"
)
"""Keys of documents, and names of environment variables, whose values are secrets."""
SECRET_TEXT = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:ghp|gho|ghs|github_pat|glpat|xox[abprs]|sk|hf)[-_][A-Za-z0-9_-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|(?<=://)[^\s/:@]{1,256}:[^\s/@]{1,256}(?=@)"
    r"|(?i:(?<=bearer )[A-Za-z0-9._~+/=-]{8,})"
    r"|(?i:(?<=x-p2pnet-token: )\S+)",
    re.DOTALL,
)
"""Keys in PEM, tokens of well-known services, JSON web tokens, passwords in URLs, and what stands behind Bearer."""
ASSIGNED = re.compile(
    r"(?i)\b((?:[\w.-]*[_.-])?(?:password|passwd|secret|token|api[_-]?key|private[_-]?key|access[_-]?key)[\"']?\s*[=:]\s*)"
    r"(\"[^\"\n]{4,}\"|'[^'\n]{4,}'|[^\s\"',;]{4,})"
)
"""`TOKEN=...` in a line of a log."""


def redacted(value: Any) -> tuple[Any, int]:
    """A value as JSON has it without secrets, and how many there were."""
    match value:
        case dict():
            return _of_mapping(value)
        case list():
            found = [redacted(item) for item in value]
            return [item for item, _ in found], sum(count for _, count in found)
        case str():
            return SECRET_TEXT.subn(TAKEN_OUT, value)
        case _:
            return value, 0


def _of_mapping(value: dict[str, Any]) -> tuple[dict[str, Any], int]:
    total, left = 0, {}
    # Kubernetes writes a variable as two keys.
    is_secret_variable = isinstance(value.get("name"), str) and SECRET_KEY.search(value["name"]) is not None
    for key, item in value.items():
        if isinstance(item, str) and item and (SECRET_KEY.search(key) or (is_secret_variable and key == "value")):
            left[key], count = TAKEN_OUT, 1
        else:
            left[key], count = redacted(item)
        total += count
    return left, total


def redacted_json(data: bytes) -> tuple[bytes, int]:
    """As `redacted`, of a JSON text; it stays as it is, to the byte, where there is no secret. Raises msgspec.DecodeError."""
    value, count = redacted(msgspec.json.decode(data))
    return (msgspec.json.format(msgspec.json.encode(value)) + b"\n", count) if count else (data, 0)


def redacted_text(text: str) -> tuple[str, int]:
    """As `redacted`, of a log."""
    left, count = SECRET_TEXT.subn(TAKEN_OUT, text)
    left, more = ASSIGNED.subn(lambda found: found[1] + TAKEN_OUT, left)
    return left, count + more
