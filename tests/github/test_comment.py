"""One comment on a pull request, made once and then updated: the script against a server that behaves as GitHub's does."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_S

from p2pnet.present.comparison import MARKER

SCRIPT = Path(__file__).parents[2] / ".github" / "actions" / "p2pnet" / "comment.py"
ROOT = "/repos/team/proto/issues"


class FakeGitHub(ThreadingHTTPServer):
    """The comments of pull request 7, and what was asked of them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.comments: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.tokens: set[str] = set()
        self.answers: list[tuple[int, dict[str, str]]] = []
        """Statuses and headers of the next answers, in place of what would be answered."""
        self.lost = 0
        """How many POSTs are done without an answer."""

    def comment(self, body: str, login: str = "bot") -> None:
        self.comments.append({"id": len(self.comments) + 1, "body": body, "user": {"login": login}, "html_url": "u"})


class Handler(BaseHTTPRequestHandler):
    server: FakeGitHub

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        found = self.server
        found.asked.append(f"{self.command} {path.removeprefix(ROOT)}")
        found.tokens.add(self.headers["Authorization"])
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if found.answers:
            status, headers = found.answers.pop(0)
            self._send(status, {"message": "as told"}, headers)
            return
        one = next((one for one in found.comments if path == f"{ROOT}/comments/{one['id']}"), None)
        if self.command == "GET" and path == f"{ROOT}/7/comments":
            page = int(re.search(r"\bpage=(\d+)", query)[1])  # type: ignore[index]
            self._send(200, found.comments[(page - 1) * 100 : page * 100])
        elif self.command == "POST" and path == f"{ROOT}/7/comments":
            found.comment(body["body"])
            if found.lost:
                found.lost -= 1
                self.close_connection = True
                self.connection.close()
                return
            self._send(201, found.comments[-1])
        elif self.command == "PATCH" and one is not None:
            one["body"] = body["body"]
            self._send(200, one)
        elif self.command == "DELETE" and one is not None:
            found.comments.remove(one)
            self._send(204, None)
        else:
            self._send(404, {"message": "Not Found"})

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

    def _send(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        octets = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    server = FakeGitHub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def comment(github: FakeGitHub, text: str, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    known = {
        "GITHUB_API_URL": f"http://127.0.0.1:{github.server_port}", "GITHUB_REPOSITORY": "team/proto", "GITHUB_TOKEN": "t0ken",
        "GITHUB_REF": "refs/pull/7/merge", "GITHUB_EVENT_PATH": "", "P2PNET_COMMENT_PAUSE_S": "0.01", "no_proxy": "127.0.0.1",
    }  # fmt: skip
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "GH_"))}
    return subprocess.run(
        [sys.executable, str(SCRIPT), "-", *words], input=text, env={**bare, **known, **environ}, capture_output=True,
        text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip


def test_a_comment_is_made_once_and_then_updated(github: FakeGitHub) -> None:
    github.comment("a person said something", "alice")
    first = comment(github, f"{MARKER}\n## ✅ no regression\n")
    assert (first.returncode, first.stderr, first.stdout.split()[0]) == (0, "", "made")
    assert github.comments[1]["body"] == f"{MARKER}\n## ✅ no regression\n"
    second = comment(github, f"{MARKER}\n## ❌ regression\n")
    assert second.stdout.split()[0] == "updated"
    again = comment(github, f"{MARKER}\n## ❌ regression\n")
    assert again.stdout.split()[0] == "unchanged"
    assert [one["body"] for one in github.comments] == ["a person said something", f"{MARKER}\n## ❌ regression\n"]
    assert github.tokens == {"Bearer t0ken"}


def test_each_name_has_a_comment_of_its_own_whatever_the_text_began_with(github: FakeGitHub) -> None:
    for name in ("wan", "lan", "wan"):
        assert comment(github, f"{MARKER}\n{name}\n", "--name", name).returncode == 0
    assert [one["body"] for one in github.comments] == ["<!-- p2pnet wan -->\nwan\n", "<!-- p2pnet lan -->\nlan\n"]
    assert comment(github, "no marker at all").returncode == 0
    assert github.comments[2]["body"] == f"{MARKER}\nno marker at all"


def test_it_is_found_behind_many_others_and_doubles_are_removed(github: FakeGitHub) -> None:
    for number in range(250):
        github.comment(f"comment {number}", "alice")
    github.comment(f"{MARKER}\nold")
    github.comment(f"{MARKER}\nthe same, from a job that ran beside it")
    github.comment(f"{MARKER}\nquoted by a person", "alice")
    assert comment(github, "new").stdout.split()[0] == "updated"
    marked = [one["body"] for one in github.comments if one["body"].startswith(MARKER)]
    assert marked == [f"{MARKER}\nnew", f"{MARKER}\nquoted by a person"]


def test_a_post_whose_answer_is_lost_makes_no_second_comment(github: FakeGitHub) -> None:
    github.lost = 1
    ended = comment(github, "new")
    assert ended.returncode == 0, ended.stderr
    assert len(github.comments) == 1


def test_a_busy_server_is_asked_again_and_a_refusal_is_told_with_what_would_help(github: FakeGitHub) -> None:
    github.answers = [(502, {}), (429, {"Retry-After": "0"}), (403, {"Retry-After": "0"})]
    assert comment(github, "new").returncode == 0
    github.answers = [(403, {})]
    refused = comment(github, "newer")
    assert refused.returncode == 1
    assert "403 as told (does the token have pull-requests: write?" in refused.stderr
    assert "t0ken" not in refused.stderr
    github.answers = [(403, {})]
    optional = comment(github, "newer", "--optional")
    assert (optional.returncode, optional.stderr.split(":")[0]) == (0, "warning")


def test_what_a_job_cannot_help_is_a_warning_where_the_comment_is_optional(github: FakeGitHub) -> None:
    nowhere = {"GITHUB_REF": "refs/heads/main"}
    for environ, said in ((nowhere, "for no pull request"), ({"GITHUB_TOKEN": ""}, "no token")):
        ended = comment(github, "new", "--optional", **environ)
        assert (ended.returncode, ended.stdout) == (0, "")
        assert ended.stderr.startswith("warning: no comment: ")
        assert said in ended.stderr
    for status in (401, 404, 422):
        github.answers = [(status, {})]
        assert comment(github, "new", "--optional").returncode == 0
    assert github.comments == []


@pytest.mark.parametrize(
    ("words", "environ", "code", "said"),
    [
        (("--name", "a -- b"), {}, 2, "--name"), ((), {"GITHUB_REPOSITORY": ""}, 2, "which repository"),
        ((), {"GITHUB_API_URL": "http://github.example"}, 2, "https alone"), (("--pull", "x"), {}, 2, "--pull"),
        ((), {"GITHUB_API_URL": "http://127.0.0.1:1"}, 1, "cannot be reached"),
    ],
)  # fmt: skip
def test_a_mistake_and_a_server_that_is_away_are_errors_even_where_the_comment_is_optional(
    github: FakeGitHub, words: tuple[str, ...], environ: dict[str, str], code: int, said: str
) -> None:
    ended = comment(github, "new", "--optional", *words, **environ)
    assert ended.returncode == code
    assert said in ended.stderr
    assert "warning" not in ended.stderr


def test_a_server_that_stays_broken_or_speaks_no_http_was_not_reached(github: FakeGitHub) -> None:
    github.answers = [(502, {})] * 4
    assert comment(github, "new", "--optional").returncode == 1
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        thread = threading.Thread(target=_talk, args=(server,))
        thread.start()
        ended = comment(github, "new", GITHUB_API_URL=f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert (ended.returncode, ended.stderr.split(" http")[0]) == (1, "error:")
    assert "cannot be reached" in ended.stderr


def _talk(server: socket.socket) -> None:
    for _ in range(4):
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"who is there?\r\n\r\n")


def test_the_token_does_not_follow_a_redirect_nor_go_without_https(github: FakeGitHub) -> None:
    github.answers = [(302, {"Location": f"http://127.0.0.1:{github.server_port}/elsewhere"})]
    assert comment(github, "new").returncode == 1
    assert github.asked == ["GET /7/comments"]
    plain = comment(github, "new", GITHUB_API_URL="http://github.example")
    assert (plain.returncode, "https alone" in plain.stderr) == (2, True)


def test_a_long_text_is_cut_to_what_a_comment_holds(github: FakeGitHub) -> None:
    assert comment(github, "x" * 100_000).returncode == 0
    body = github.comments[0]["body"]
    assert len(body) == 65_536
    assert body.endswith("*Cut: a comment holds no more.*\n")


@pytest.mark.parametrize(
    ("event", "ref", "words", "asked"),
    [
        ({"pull_request": {"number": 7}}, "refs/heads/main", (), True), ({"issue": {"number": 7}}, "", (), True),
        ({"number": 7}, "", (), True), ([], "refs/pull/7/head", (), True), (None, "refs/heads/main", ("--pull", "7"), True),
        (None, "refs/heads/main", (), False), ({}, "", (), False),
    ],
)  # fmt: skip
def test_the_pull_request_is_that_of_the_event_or_as_told(
    github: FakeGitHub, tmp_path: Path, event: Any, ref: str, words: tuple[str, ...], asked: bool
) -> None:
    path = tmp_path / "event.json"
    path.write_text(json.dumps(event))
    ended = comment(github, "new", *words, GITHUB_REF=ref, GITHUB_EVENT_PATH=str(path))
    assert ended.returncode == (0 if asked else 2)
    assert ended.stderr == "" or "for no pull request" in ended.stderr


@pytest.mark.parametrize(
    ("text", "words", "environ", "said"),
    [
        ("new", (), {"GITHUB_TOKEN": ""}, "no token"), ("new", (), {"GITHUB_REPOSITORY": "x"}, "which repository"),
        ("new", ("--name", "a -- b"), {}, "--name"), ("new", ("--name", "a\nb"), {}, "--name"), (" \n", (), {}, "is empty"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_before_anything_is_asked(
    github: FakeGitHub, text: str, words: tuple[str, ...], environ: dict[str, str], said: str
) -> None:
    ended = comment(github, text, *words, **environ)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert github.asked == []
