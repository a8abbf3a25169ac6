"""HTTP to a lab, whatever carries it (`unix` on this machine, `aio` over TCP): one request, its answer, its errors."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Protocol, TypeVar

import msgspec

from p2pnet.model.errors import P2pnetError, TargetError
from p2pnet.model.jobs import Problem


class ProblemError(P2pnetError):
    """The lab answered with a `Problem` document."""

    def __init__(self, problem: Problem, *, status: int = 0) -> None:
        super().__init__(problem.error)
        self.problem = problem
        self.status = status

    @property
    def exit_code(self) -> int:
        """The exit code of the command line."""
        return self.problem.exit_code

    @property
    def hint(self) -> str:
        """What to do about it, or empty."""
        return self.problem.hint


T = TypeVar("T")

CONNECT_S = 5.0
ANSWER_S = 60.0  # of silence: a stream of a lab has a heartbeat every 10 s
READ_BYTES = 1 << 18  # taken from a socket at a time
LINE_BYTES_MAX = 64 << 20  # one NDJSON line; the largest is a run with its report


class Response(Protocol):
    """An HTTP response whose head has been read."""

    @property
    def status(self) -> int:
        """The status code."""

    def header(self, name: str) -> str:
        """The value of a header; empty when it is missing."""

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body in pieces, as they come."""

    async def read(self) -> bytes:
        """The whole body, or the rest of it."""


class Wire(ABC):
    """HTTP to one lab. A failed connection is a TargetError (exit 3), a status of 400 and above a ProblemError."""

    patience_s = 10.0
    """How long an answer may take that a lab can give at once."""

    def __init__(self, where: str) -> None:
        """`where`: how errors call the lab."""
        self._where = where

    async def close(self) -> None:
        """Close all connections."""
        return

    @abstractmethod
    def open(
        self, method: str, path: str, *, json: object = None, data: bytes | None = None,
        query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[Response]:  # fmt: skip
        """Send a request; the response, of a status below 400, is read inside the block."""

    async def ask(
        self, method: str, path: str, shape: type[T], *, json: object = None, data: bytes | None = None,
        query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None,
        within_s: float | None = None,
    ) -> T:  # fmt: skip
        """The answer to one request, JSON of this shape. Raises TargetError when it is not whole after `within_s`."""
        try:
            async with (
                asyncio.timeout(within_s),
                self.open(method, path, json=json, data=data, query=query, headers=headers) as response,
            ):
                body = await response.read()
        except TimeoutError as error:
            raise self._unreachable(error) from error
        try:
            return msgspec.json.decode(body, type=shape)
        except msgspec.DecodeError as error:
            raise TargetError(
                f"{self._where} answered {method} {path} unlike the version of this p2pnet: {error}",
                hint="use the p2pnet version that started the subnet",
            ) from error

    async def lines(self, path: str, shape: type[T], query: Mapping[str, str]) -> AsyncGenerator[T, None]:
        """The NDJSON lines of an answer as they come; heartbeats (empty lines) are left out."""
        async with self.open("GET", path, query=query) as response, aclosing(response.pieces()) as pieces:
            rest = bytearray()
            async for piece in pieces:
                rest += piece
                if len(rest) > LINE_BYTES_MAX:
                    raise TargetError(f"the lab at {self._where} sent a line over {LINE_BYTES_MAX} bytes")
                *whole, last = rest.split(b"\n")
                rest = bytearray(last)
                for line in whole:
                    if line.strip():
                        yield msgspec.json.decode(line, type=shape)

    # --- overridden by transports ---

    def _refusal(self, status: int, body: bytes, request: str) -> Exception:
        """The exception for an answer with a status of 400 and above."""
        del request
        return ProblemError(_problem(status, body), status=status)

    def _unreachable(self, error: BaseException) -> TargetError:
        """The exception for a lab that cannot be reached or does not answer."""
        hint = "start the subnet again: p2pnet up"
        return TargetError(f"the lab at {self._where} does not answer: {_words(error)}", hint=hint)


def body_of(json: object, data: bytes | None) -> tuple[bytes, dict[str, str]]:
    """The body of a request as bytes, and its Content-Type header."""
    if json is not None:
        return msgspec.json.encode(json), {"Content-Type": "application/json"}
    return (b"", {}) if data is None else (data, {"Content-Type": "application/octet-stream"})


def _problem(status: int, body: bytes) -> Problem:
    try:
        return msgspec.json.decode(body, type=Problem)
    except msgspec.DecodeError:
        text = body[:200].decode(errors="replace").strip()
        return Problem(f"the lab answered {status}: {text}", exit_code=70 if status >= 500 else 2)


def _words(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "it is silent"
    cause = getattr(error, "os_error", None) or error
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
