"""Takes out of documents and logs what looks like a secret, before they are carried away."""

import re
from typing import Any

import msgspec

TAKEN_OUT = "taken-out-it-looks-like-a-secret"
"""In the place of a secret: valid wherever one can stand in a Subnet or Scenario, so also as the value of a label."""
SECRET_KEY = re.compile(
    r"(?i)(^|[-_.]|(?<=[a-z]))(pass(word|wd|phrase)?|pwd|secret(s|[-_]?key)?|token|api[-_]?key|private[-_]?key"
    r"|access[-_]?key([-_]?id)?|signing[-_]?key|encryption[-_]?key|credentials?|authorization|cookie|dsn)$"
)
"""Keys of documents, and names of environment variables, whose values are secrets."""
SECRET_TEXT = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:(?:ghp|gho|ghs|github_pat|glpat|xox[abprs])[-_]|(?:sk|hf)"
    r"(?:_|-(?=[A-Za-z0-9_-]*(?:[A-Z]|[a-z0-9]{20}|(?=[a-z]*[0-9])[a-z0-9]{16}))))[A-Za-z0-9_-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|(?<=://)[^\s/:@]{1,256}:[^\s/@]{1,256}(?=@)"
    r"|(?i:(?<=bearer )[A-Za-z0-9._~+/=-]{8,})"
    r"|(?i:(?<=x-p2pnet-token: )\S+)",
    re.DOTALL,
)
"""Keys in PEM, tokens of well-known services, JSON web tokens, passwords in URLs, and what stands behind Bearer. Words of small
letters joined by dashes behind `sk-` and `hf-` are no token: names of nodes and subnets are such words."""
ASSIGNED = re.compile(
    r"(?i)\b((?:[\w.-]*[_.-])?(?:password|passwd|secret|token|api[_-]?key|private[_-]?key|access[_-]?key)[\"']?\s*[=:]\s*)"
    r"(\"[^\"\n]{4,}\"|'[^'\n]{4,}'|[^\s\"',;]{4,})"
)
"""`TOKEN=...` in a line of a log."""


SELECTOR_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_./]*)(\s*=\s*)([A-Za-z0-9][-A-Za-z0-9_.]*)")
"""`key=value` in a selector of nodes."""


class Redactor:
    """Takes the secrets out of documents that belong together.

    Labels of groups are what selectors of rules and faults name, so different ones stay different, and the selectors name them
    as they are then.
    """

    def __init__(self) -> None:
        self._labels: dict[tuple[str, str], str] = {}
        """What stands for a label that looks like a secret, by key and value."""

    def redacted_json(self, data: bytes) -> tuple[bytes, int]:
        """A JSON text without secrets, and how many there were; without any it stays as it is, to the byte.

        Raises msgspec.DecodeError.
        """
        value = msgspec.json.decode(data)
        self._learn(value)
        value, count = self._of(value)
        return (msgspec.json.format(msgspec.json.encode(value)) + b"\n", count) if count else (data, 0)

    def _learn(self, value: Any) -> None:
        """The labels of all groups in a document, at whatever depth its Subnets are."""
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            self._learn(item)
        groups = value.get("groups") if isinstance(value, dict) else None
        for group in groups if isinstance(groups, list) else ():
            labels = group.get("labels") if isinstance(group, dict) else None
            for key, text in labels.items() if isinstance(labels, dict) else ():
                if isinstance(text, str) and text and (SECRET_KEY.search(key) or SECRET_TEXT.search(text)):
                    self._labels.setdefault((key, text), f"{TAKEN_OUT}-{len(self._labels) + 1}")

    def _of(self, value: Any) -> tuple[Any, int]:
        match value:
            case dict():
                return self._of_mapping(value)
            case list():
                found = [self._of(item) for item in value]
                return [item for item, _ in found], sum(count for _, count in found)
            case str():
                return self._of_text(value)
            case _:
                return value, 0

    def _of_text(self, text: str) -> tuple[str, int]:
        named = 0

        def stand_in(part: re.Match[str]) -> str:
            nonlocal named
            known = self._labels.get((part[1], part[3]))
            named += known is not None
            return part[0] if known is None else part[1] + part[2] + known

        left = SELECTOR_PART.sub(stand_in, text) if self._labels else text
        left, count = SECRET_TEXT.subn(TAKEN_OUT, left)
        return left, named + count

    def _of_mapping(self, value: dict[str, Any]) -> tuple[dict[str, Any], int]:
        total, left = 0, {}
        # Kubernetes writes a variable as two keys.
        is_secret_variable = isinstance(value.get("name"), str) and SECRET_KEY.search(value["name"]) is not None
        for key, item in value.items():
            if isinstance(item, str) and (key, item) in self._labels:
                left[key], count = self._labels[key, item], 1
            elif isinstance(item, str) and item and (SECRET_KEY.search(key) or (is_secret_variable and key == "value")):
                left[key], count = TAKEN_OUT, 1
            else:
                left[key], count = self._of(item)
            total += count
        return left, total


def redacted_text(text: str) -> tuple[str, int]:
    """A log without secrets, and how many there were."""
    left, count = SECRET_TEXT.subn(TAKEN_OUT, text)
    left, more = ASSIGNED.subn(lambda found: found[1] + TAKEN_OUT, left)
    return left, count + more
