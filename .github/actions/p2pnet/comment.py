#!/usr/bin/env python3
"""Keep one comment on a pull request up to date: `comment.py FILE [--name NAME]`, in any CI.

FILE is Markdown, such as `p2pnet compare ... --md FILE` writes; `-` is stdin. The comment begins with a hidden marker,
`<!-- p2pnet NAME -->`: where one is there it is updated, else it is made, and there is never a second one of that NAME.

| from the environment | |
| --- | --- |
| GITHUB_TOKEN, or GH_TOKEN | may write comments: `permissions: {pull-requests: write}` in a workflow |
| GITHUB_REPOSITORY | owner/name; or `--repository` |
| GITHUB_EVENT_PATH, else GITHUB_REF | which pull request; or `--pull N` |
| GITHUB_API_URL | of an own server; GitHub sets it |

Exit codes: 0 done, or with `--optional` not for this job to do: GitHub refused (a fork's token may only read), there is no
token (a fork gets no secrets) or no pull request; 1 GitHub refused, or was not to be reached; 2 usage. Needs nothing but
Python 3.10.
"""

import argparse
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

API = "https://api.github.com"
COMMENT_CHARS_MAX = 65_536  # GitHub's own bound
PAGE = 100  # comments that one answer holds
PAGES_MAX = 50
TRIES = 4
TIMEOUT_S = 20.0
PAUSE_S = 2.0  # before the second try; doubled for each next one
PAUSE_S_MAX = 60.0
ANSWER_BYTES_MAX = 16 << 20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,60}")
MARKER = re.compile(r"<!-- p2pnet [^\n]{1,80} -->\s*")
CUT = "\n\n*Cut: a comment holds no more.*\n"
REFUSED = range(400, 500)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class CommentError(Exception):
    """What is wrong, in a sentence; `code` is the exit code. `barred`: this job may not, or has nothing to comment on."""

    def __init__(self, message: str, code: int = 1, *, barred: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.barred = barred


class _Unfollowed(urllib.request.HTTPRedirectHandler):
    """The token goes to whom it was meant for, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        """No request follows a redirect: it becomes an HTTPError."""


class Comments:
    """The comments of one pull request."""

    def __init__(self, api: str, repository: str, pull: int, token: str, *, pause_s: float = PAUSE_S) -> None:
        self._api = api.rstrip("/")
        self._repository = repository
        self._pull = pull
        self._token = token
        self._pause_s = pause_s
        self._opener = urllib.request.build_opener(_Unfollowed)

    def marked(self, marker: str) -> list[dict[str, Any]]:
        """Those that begin with the marker and whose author is that of the first of them, oldest first."""
        found: list[dict[str, Any]] = []
        for page in range(1, PAGES_MAX + 1):
            query = urllib.parse.urlencode({"per_page": PAGE, "page": page})
            comments = self._ask("GET", f"issues/{self._pull}/comments?{query}")
            found += [one for one in comments if str(one.get("body") or "").startswith(marker)]
            if len(comments) < PAGE:
                break
        return [one for one in found if _author(one) == _author(found[0])]

    def write(self, marker: str, body: str) -> str:
        """Have exactly one comment with this marker, and this body; what was done, in a word and an address."""
        there = self.marked(marker)
        for double in there[1:]:  # two jobs at the same time
            self._ask("DELETE", f"issues/comments/{int(double['id'])}")
        if not there:
            made = self._ask("POST", f"issues/{self._pull}/comments", {"body": body})
            return f"made {made.get('html_url', '')}"
        first = there[0]
        if str(first.get("body") or "").replace("\r\n", "\n").rstrip() == body.rstrip():
            return f"unchanged {first.get('html_url', '')}"
        self._ask("PATCH", f"issues/comments/{int(first['id'])}", {"body": body})
        return f"updated {first.get('html_url', '')}"

    def _ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        pause_s = self._pause_s
        for attempt in range(1, TRIES + 1):
            try:
                return self._once(method, path, document)
            except urllib.error.HTTPError as error:
                said, retry = _said(error), _retry_s(error)
                if attempt == TRIES or (error.code < 500 and retry is None):
                    raise CommentError(
                        f"{method} {path.partition('?')[0]}: {error.code} {said}{_hint(error.code)}",
                        barred=error.code in REFUSED,
                    ) from None
                wait_s = pause_s if retry is None else retry
            except (OSError, ValueError, http.client.HTTPException) as error:
                # a POST that was done all the same is found by its marker the next time
                if attempt == TRIES:
                    raise CommentError(f"{self._api} cannot be reached: {error}") from None
                wait_s = pause_s
            time.sleep(min(wait_s, PAUSE_S_MAX))
            pause_s *= 2
            if method == "POST":
                method, path, document = self._instead_of_a_second(path, document)
        raise AssertionError("the last try returns or raises")

    def _instead_of_a_second(self, path: str, document: Mapping[str, Any] | None) -> Any:
        """What to ask after a POST whose answer was lost: where it was done, the comment is written again, not twice."""
        marker = str((document or {}).get("body") or "").partition("\n")[0]
        there = self.marked(marker)
        return ("PATCH", f"issues/comments/{int(there[0]['id'])}", document) if there else ("POST", path, document)

    def _once(self, method: str, path: str, document: Mapping[str, Any] | None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - `main` checked the scheme
            f"{self._api}/repos/{self._repository}/{path}", method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={
                "Authorization": f"Bearer {self._token}", "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28", "User-Agent": "p2pnet-comment", "Content-Type": "application/json",
            },
        )  # fmt: skip
        with self._opener.open(request, timeout=TIMEOUT_S) as answer:
            text = answer.read(ANSWER_BYTES_MAX)
        return json.loads(text) if text else {}


def body_of(text: str, marker: str) -> str:
    """The comment: the marker in a line of its own, then the text without one that it had, at most as long as GitHub takes."""
    own = MARKER.match(text)
    body = f"{marker}\n{text[own.end() :] if own else text}"
    return body if len(body) <= COMMENT_CHARS_MAX else body[: COMMENT_CHARS_MAX - len(CUT)] + CUT


def pull_of(environ: Mapping[str, str]) -> int:
    """The number of the pull request that a workflow runs for. Raises CommentError (exit 2)."""
    event = environ.get("GITHUB_EVENT_PATH")
    if event:
        try:
            found = json.loads(Path(event).read_text(encoding="utf-8"))
            number = (found.get("pull_request") or found.get("issue") or {}).get("number") or found.get("number")
            if isinstance(number, int):
                return number
        except (OSError, ValueError, AttributeError):
            pass
    match = re.fullmatch(r"refs/pull/([0-9]+)/(?:merge|head)", environ.get("GITHUB_REF", ""))
    if match:
        return int(match[1])
    words = "this runs for no pull request: give --pull N, or run it in a workflow on: pull_request"
    raise CommentError(words, 2, barred=True)


def main(words: list[str] | None = None) -> int:
    """Run; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("file", metavar="FILE", help="Markdown; - is stdin")
    parser.add_argument("--name", default="compare", help="which comment, where there are several (default: compare)")
    parser.add_argument("--pull", type=int, metavar="N", help="the pull request")
    parser.add_argument("--repository", metavar="OWNER/NAME", default=os.environ.get("GITHUB_REPOSITORY", ""))
    parser.add_argument("--optional", action="store_true", help="no leave, no token or no pull request is a warning")
    options = parser.parse_args(words)
    try:
        said = _run(options, os.environ)
    except CommentError as error:
        if options.optional and error.barred:
            print(f"warning: no comment: {error}", file=sys.stderr)  # noqa: T201
            return 0
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.code
    print(said)  # noqa: T201
    return 0


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> str:
    if NAME.fullmatch(options.name) is None or "--" in options.name:
        raise CommentError(f"--name {options.name}: letters, digits, blanks and . _ / -, at most 61", 2)
    if re.fullmatch(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+", options.repository) is None:
        raise CommentError("which repository? give --repository OWNER/NAME, or set GITHUB_REPOSITORY", 2)
    token = environ.get("GITHUB_TOKEN") or environ.get("GH_TOKEN") or ""
    if not token.strip():
        words = "no token: set GITHUB_TOKEN, in a workflow env: {GITHUB_TOKEN: ${{ github.token }}}"
        raise CommentError(words, 2, barred=True)
    api = environ.get("GITHUB_API_URL") or API
    parts = urllib.parse.urlsplit(api)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise CommentError(f"GITHUB_API_URL {api}: a token goes over https alone", 2)
    marker = f"<!-- p2pnet {options.name} -->"
    body = body_of(_text(options.file), marker)
    pull = options.pull if options.pull is not None else pull_of(environ)
    pause_s = float(environ.get("P2PNET_COMMENT_PAUSE_S") or PAUSE_S)
    return Comments(api, options.repository, pull, token.strip(), pause_s=pause_s).write(marker, body)


def _text(file: str) -> str:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        _refuse(f"cannot read {file}: {error}")
    if not text.strip():
        _refuse(f"{file} is empty")
    return text


def _refuse(message: str) -> NoReturn:
    raise CommentError(message, 2)


def _author(comment: Mapping[str, Any]) -> Any:
    return (comment.get("user") or {}).get("login")


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(ANSWER_BYTES_MAX)).get("message") or error.reason)[:300]
    except (OSError, ValueError, AttributeError):
        return str(error.reason)


def _retry_s(error: urllib.error.HTTPError) -> float | None:
    """How long GitHub asks to wait before the next try; None: it does not."""
    if error.code not in (403, 429):
        return None
    after = error.headers.get("Retry-After", "")
    return float(after) if after.isdigit() else (PAUSE_S if error.code == 429 else None)


def _hint(code: int) -> str:
    if code in (401, 403, 404):
        return " (does the token have pull-requests: write? That of a fork's pull request may only read)"
    return ""


if __name__ == "__main__":
    sys.exit(main())
