"""The time series of the run that goes on, read from its file in the lab as that grows, in parts. Bounded."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from p2pnet.cli.ui.sums import WAYS_MAX
from p2pnet.measure.findings import TimeSeries
from p2pnet.measure.sampled import SampledNodes
from p2pnet.model.report import Finding, NodeReceipts
from p2pnet.model.time_series import NodeSample
from p2pnet.store.archive import RUN_FILE, SAMPLES_FILE

_sample = msgspec.json.Decoder(NodeSample)


class GrowingFiles(Protocol):
    """Files of runs in a lab, see `LabClient.run_file_from`."""

    async def run_file_from(self, run_id: str, file: str, start: int) -> bytes:
        """A part of such a file from there on."""


class _Clock(msgspec.Struct):
    """What of run.json is looked at."""

    unix_offset_s: float | None = None


class LiveSamples:
    """Samples of one run after another. One part of the file is read at a look: whoever comes late catches up."""

    def __init__(self) -> None:
        self.series: SampledNodes | None = None
        """None until there is a publication to count time from, and a sample."""
        self.unix_offset_s: float | None = None
        """Added to an event's time it gives Unix seconds; None: no run has told yet."""
        self._findings = TimeSeries()
        self._run = ""
        self._read = 0
        """Bytes of whole lines."""

    async def look(self, files: GrowingFiles, run: str, first_ns: int | None) -> None:
        """Take in what is new of this run; empty: none goes on. Times are since `first_ns`. Raises TargetError."""
        if run and run != self._run:
            self._run, self._read = run, 0
        if not self._run or first_ns is None:
            return
        if self._read == 0:
            await self._learn_clock(files)
        data = await files.run_file_from(self._run, SAMPLES_FILE, self._read)
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        if self.series is None and whole:
            self.series = SampledNodes(first_ns, ways_max=WAYS_MAX)
        for line in whole.splitlines():
            self._take(line)
        if not run and not whole:
            self._run = ""  # it is over, and all of it was read

    def findings(self, per_node: Sequence[NodeReceipts]) -> list[Finding]:
        """What stands out, the gravest first."""
        return self._findings.findings(per_node)

    def _take(self, line: bytes) -> None:
        try:
            one = _sample.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # of another version: series are a help
        if self.series is not None:
            self.series.add(one)
        self._findings.add(one)

    async def _learn_clock(self, files: GrowingFiles) -> None:
        try:
            found = msgspec.json.decode(await files.run_file_from(self._run, RUN_FILE, 0), type=_Clock)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # it is longer than a part: a run of very many artifacts
        self.unix_offset_s = found.unix_offset_s or self.unix_offset_s
