"""`LabClient`: the lab's `/v1`, typed, with one method per question or command to a live subnet."""

import asyncio
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

from p2pnet.lab_client.http import ProblemError, Response, Wire
from p2pnet.model import limits
from p2pnet.model.control import MembersTaken
from p2pnet.model.errors import SpecError
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import (
    LAB_HEADER,
    ArtifactEvents,
    FaultList,
    FaultRequest,
    LogLine,
    NodeAction,
    Revision,
    Rotation,
    RunFile,
    RunLabel,
    RunList,
    RunRequest,
    RunState,
    Upload,
    UploadRequest,
    Withdrawal,
)  # fmt: skip
from p2pnet.model.registry import Membership
from p2pnet.model.report import RUN_ENDED, FaultStatus, MemberStatus, Status

if TYPE_CHECKING:
    from p2pnet.lab_client.kube import Kube

FILE_PART_BYTES = 1 << 20  # of a file that is read while it grows
AGAIN_BYTES_MAX = 8 << 20
PARTIAL, BEYOND = 206, 416  # status of an answer with a part of a file, and of a question beyond its end
FOLLOW_WAIT_MS = 20_000  # one long poll; below the idle timeouts of common proxies


class Downloaded(msgspec.Struct, frozen=True):
    """A range of an artifact's bytes as `node` holds them; `size` is the whole artifact's."""

    name: str
    size: int
    data: bytes
    node: str


class LabClient:
    """A session with one lab: `async with LabClient.unix(socket) as client`.

    Raises TargetError (exit 3) when the lab is gone, ProblemError when it refuses.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        """For requests that have no method here."""

    @classmethod
    def unix(cls, socket_path: Path | str) -> Self:
        """The client of a local lab, by its socket."""
        from p2pnet.lab_client.unix import UnixWire

        return cls(UnixWire(socket_path))

    @classmethod
    def proxied(cls, kube: "Kube", subnet: str, token: Callable[[], str]) -> Self:
        """The client of a lab in a cluster, through the API server's proxy; see `proxy.ProxyWire`. Needs a running loop."""
        from p2pnet.lab_client.proxy import ProxyWire

        return cls(ProxyWire(kube, subnet, token))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.wire.close()

    async def summary(self) -> Status:
        """The status of the subnet now."""
        return await self.wire.ask("GET", "/v1/summary", Status, within_s=self.wire.patience_s)

    async def lab(self) -> str:
        """Names this process of the lab, see `Revision.lab`."""
        asked = self.wire.ask("GET", "/v1/revision", Revision, query={"wait_ms": "0"}, within_s=self.wire.patience_s)
        return (await asked).lab

    async def members(self) -> Membership:
        """The registry and edges in force."""
        return await self.wire.ask("GET", "/v1/members", Membership)

    async def push_members(self, membership: Membership) -> int:
        """Give a lab in a cluster a newer member list; the version then in force."""
        return (await self.wire.ask("POST", "/v1/members", MembersTaken, json=membership)).version

    async def spec(self) -> dict[str, Any]:
        """The Subnet document in force."""
        return await self.wire.ask("GET", "/v1/spec", dict[str, Any], within_s=self.wire.patience_s)

    async def written(self) -> dict[str, Any]:
        """The document as it was written last, in force or not: what an edit is compared with."""
        return await self.spec()

    async def patch_spec(self, document: dict[str, Any]) -> dict[str, Any]:
        """Apply a live edit, a whole Subnet document or a merge patch of it; the document then in force."""
        return await self.wire.ask("PATCH", "/v1/spec", dict[str, Any], json=document)

    async def put_spec(self, document: dict[str, Any]) -> dict[str, Any]:
        """Put a document in force in a lab in a cluster, as its operator does; the document then in force."""
        return await self.wire.ask("PUT", "/v1/spec", dict[str, Any], json=document)

    async def upload(self, path: Path, name: str, on_progress: Callable[[int, int], None] | None = None) -> str:
        """Send a file in parts of 1 MiB; the id of the upload, for a `Payload`. Raises SpecError for an unreadable file."""
        try:
            size = _size_of(path)
            state = await self.wire.ask("POST", "/v1/uploads", Upload, json=UploadRequest(name, size))
            with path.open("rb") as file:
                while state.offset < size:
                    file.seek(state.offset)
                    part = file.read(min(limits.UPLOAD_PART_BYTES, size - state.offset))
                    if not part:
                        raise SpecError(f"{path}: became shorter while it was being sent")
                    state = await self._send_part(state, part)
                    if on_progress is not None:
                        on_progress(state.offset, size)
        except OSError as error:
            raise SpecError(f"{path}: {error.strerror}") from error
        return state.upload

    async def upload_bytes(self, data: bytes, name: str) -> str:
        """Send bytes as a file of this name; the id of the upload, for a `Payload`."""
        state = await self.wire.ask("POST", "/v1/uploads", Upload, json=UploadRequest(name, len(data)))
        while state.offset < len(data):
            state = await self._send_part(state, data[state.offset :][: limits.UPLOAD_PART_BYTES])
        return state.upload

    async def _send_part(self, state: Upload, part: bytes) -> Upload:
        path, query = f"/v1/uploads/{state.upload}", {"offset": str(state.offset)}
        try:
            return await self.wire.ask("PUT", path, Upload, data=part, query=query)
        except ProblemError as error:
            if error.status != 409:
                raise
            return await self.wire.ask("GET", path, Upload)  # a part was sent twice: go on where the lab is

    async def start_run(self, request: RunRequest, *, key: str, lab: str = "") -> RunState:
        """Create a run. The same idempotency `key` with the same request is the same run.

        `lab`: the `Revision.lab` of the only process that may: any other one refuses (ProblemError, 412).
        """
        headers = {"Idempotency-Key": key} | ({LAB_HEADER: lab} if lab else {})
        return await self.wire.ask("POST", "/v1/runs", RunState, json=request, headers=headers)

    async def run_of_key(self, key: str) -> RunState | None:
        """The run that was created with this idempotency key; None: this process of the lab knows none."""
        found = (await self.wire.ask("GET", "/v1/runs", RunList, query={"key": key})).runs
        return found[0] if found else None

    async def runs(self) -> list[RunState]:
        """Runs of this lab, oldest first."""
        return (await self.wire.ask("GET", "/v1/runs", RunList)).runs

    async def run(self, run_id: str) -> RunState:
        """One run now."""
        return await self.wire.ask("GET", f"/v1/runs/{_quote(run_id)}", RunState)

    async def follow(self, run_id: str, cursor: int = 0) -> AsyncIterator[RunState]:
        """The states of a run as they change; the last one is finished or cancelled."""
        while True:
            query = {"cursor": str(cursor), "wait_ms": str(FOLLOW_WAIT_MS)}
            within_s = FOLLOW_WAIT_MS / 1000 + self.wire.patience_s
            state = await self.wire.ask("GET", f"/v1/runs/{_quote(run_id)}", RunState, query=query, within_s=within_s)
            ended = state.state in RUN_ENDED
            if ended or state.cursor > cursor:
                yield state
            if ended:
                return
            cursor = state.cursor

    async def cancel(self, run_id: str) -> RunState:
        """End a run; its state once it has ended. A run that had ended stays as it is."""
        return await self.wire.ask("POST", f"/v1/runs/{_quote(run_id)}/cancel", RunState)

    async def label(self, run_id: str, label: str) -> RunState:
        """Give a run another label; an empty one takes it away."""
        return await self.wire.ask("PATCH", f"/v1/runs/{_quote(run_id)}", RunState, json=RunLabel(label))

    async def run_file(self, run_id: str, file: str) -> AsyncIterator[bytes]:
        """A file of the run's directory, one of `archive.RUN_FILES`, in pieces. ProblemError (404) when it has none."""
        async with self.wire.open("GET", f"/v1/runs/{_quote(run_id)}/files/{_quote(file)}") as response:
            async for part in response.pieces():
                yield part

    async def artifact_events(self, artifact_prefix: str) -> tuple[str, RunFile, list[Collected]]:
        """The whole id of an artifact, the run that published it, and its events in time order."""
        found = await self.wire.ask("GET", f"/v1/artifacts/{_quote(artifact_prefix)}/events", ArtifactEvents)
        return found.artifact, found.run, found.events

    async def get(
        self, artifact: str, *, node: str | None = None, offset: int = 0, length: int = limits.GET_RANGE_BYTES
    ) -> Downloaded:
        """A range of an artifact's bytes, from `node`, else from a holder that did not publish it.

        Pass the `node` of the first answer on with the next range, so that all bytes come from one holder.
        """
        headers = {"Range": f"bytes={offset}-{offset + max(1, length) - 1}"}
        query = {"node": node} if node else {}
        path = f"/v1/artifacts/{_quote(artifact)}"
        async with self.wire.open("GET", path, query=query, headers=headers) as response:
            data = await response.read()
            return Downloaded(
                name=urllib.parse.unquote(response.header("X-P2pnet-Name")),
                size=int(response.header("X-P2pnet-Size")),
                data=data if length > 0 else b"",
                node=response.header("X-P2pnet-Node"),
            )

    async def withdraw(self, artifact: str) -> int:
        """Remove an artifact from every node; how many held it."""
        return len((await self.withdrawal(artifact)).held)

    async def withdrawal(self, artifact: str) -> Withdrawal:
        """As `withdraw`, with the names of the nodes."""
        return await self.wire.ask("DELETE", f"/v1/artifacts/{_quote(artifact)}", Withdrawal)

    async def logs(
        self, *, node: str | None = None, artifact: str | None = None, grep: str | None = None, follow: bool = False,
        tail: int | None = None, since: float | None = None,
    ) -> AsyncGenerator[LogLine, None]:  # fmt: skip
        """Lines of the nodes' logs and the lab's, merged by time; with `follow`, the new ones as they come, without end.

        `node`: one, or several joined by commas; `artifact`: also its events; `grep`: a regular expression, searched for in the
        line as a table shows it (time, level, node and words with one space between); `since` in Unix seconds.
        """
        query = {"node": node, "artifact": artifact, "grep": grep, "tail": None if tail is None else str(tail)}
        query["since_ms"] = None if since is None else str(int(since * 1000))
        asked = {key: value for key, value in query.items() if value is not None}
        asked["follow"] = "1" if follow else "0"
        async with aclosing(self.wire.lines("/v1/logs", LogLine, asked)) as lines:
            async for line in lines:
                yield line

    async def run_file_from(self, run_id: str, file: str, start: int) -> bytes:
        """At most FILE_PART_BYTES of such a file, which may still grow, from there on; empty where there is nothing (yet).

        One that was packed meanwhile has no parts: it is read again from its begin, unless `start` is beyond AGAIN_BYTES_MAX.
        """
        headers = {"Range": f"bytes={start}-{start + FILE_PART_BYTES - 1}"}
        try:
            async with self.wire.open(
                "GET", f"/v1/runs/{_quote(run_id)}/files/{_quote(file)}", headers=headers
            ) as response:
                if response.status == PARTIAL:
                    return await response.read()
                return await _part_of(response, start) if start <= AGAIN_BYTES_MAX else b""
        except ProblemError as error:
            if error.status not in (404, BEYOND):
                raise
            return b""

    async def events(self, cursor: int = 0, kinds: Collection[EventKind] = ()) -> AsyncGenerator[Collected, None]:
        """The subnet's events from `cursor` on, as they come, without end; only of these kinds, where any are named."""
        asked = {"cursor": str(cursor)} | ({"kinds": ",".join(kinds)} if kinds else {})
        async with aclosing(self.wire.lines("/v1/events", Collected, asked)) as events:
            async for event in events:
                yield event

    async def node_action(
        self, name: str, action: Literal["restart", "kill", "pause", "resume"], *, run: str = ""
    ) -> MemberStatus:
        """Restart, kill, pause or resume a node; `run` names the run that orders it. The node's entry of the status."""
        request = NodeAction(action, run)
        return await self.wire.ask("POST", f"/v1/nodes/{_quote(name)}", MemberStatus, json=request)

    async def faults(self) -> FaultList:
        """All faults: of the document, then leased ones in the order they came."""
        return await self.wire.ask("GET", "/v1/faults", FaultList, within_s=self.wire.patience_s)

    async def add_fault(self, request: FaultRequest) -> FaultStatus:
        """Put a fault in force; what became of it. ProblemError where it does not fit the subnet."""
        return await self.wire.ask("POST", "/v1/faults", FaultStatus, json=request)

    async def renew_fault(self, name: str, lease_s: float) -> FaultStatus:
        """Let a leased fault last for `lease_s` from now on. ProblemError (404) when there is none of that name any more."""
        path, query = f"/v1/faults/{_quote(name)}/renew", {"lease_s": f"{lease_s:g}"}
        return await self.wire.ask("POST", path, FaultStatus, query=query, within_s=self.wire.patience_s)

    async def clear_fault(self, name: str | None = None) -> FaultList:
        """End a fault, or all of them; what is left. ProblemError (404) when there is none of that name."""
        path = "/v1/faults" if name is None else f"/v1/faults/{_quote(name)}"
        return await self.wire.ask("DELETE", path, FaultList)

    async def rotate(self) -> list[str]:
        """Issue every node a new leaf now; the nodes' names."""
        return (await self.wire.ask("POST", "/v1/rotate", Rotation)).nodes

    async def stop(self) -> None:
        """Stop the lab and all nodes; returns when the lab has accepted the order."""
        await self.wire.ask("POST", "/v1/stop", dict[str, Any])


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")


async def wait_until_up(client: LabClient, *, timeout_s: float, poll_s: float = 0.1) -> Status | None:
    """The first status whose condition Ready is True; None when there is none within `timeout_s`."""

    async def poll() -> Status:
        while True:
            status = await client.summary()
            if any(condition.type == "Ready" and condition.status == "True" for condition in status.conditions):
                return status
            await asyncio.sleep(poll_s)

    try:
        return await asyncio.wait_for(poll(), timeout_s)
    except TimeoutError:
        return None


async def _part_of(response: Response, start: int) -> bytes:
    """FILE_PART_BYTES of a body from there on."""
    read, part = 0, bytearray()
    async with aclosing(response.pieces()) as pieces:
        async for piece in pieces:
            part += piece[max(0, start - read) :]
            read += len(piece)
            if len(part) >= FILE_PART_BYTES:
                break
    return bytes(part[:FILE_PART_BYTES])


def _size_of(path: Path) -> int:
    return path.stat().st_size
