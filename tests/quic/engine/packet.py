"""A packet that can be looked into, and whose fate a test decides."""

from __future__ import annotations

from typing import Any, NamedTuple

from aioquic._buffer import Buffer
from aioquic.quic.packet_builder import QuicDeliveryState


class Frame(NamedTuple):
    """One that was written, and whom its fate concerns."""

    kind: int
    buffer: Buffer
    handler: Any
    arguments: tuple[Any, ...]

    @property
    def numbers(self) -> list[int]:
        """What follows the type, of a frame that is all variable-length integers."""
        written = Buffer(data=self.buffer.data)
        found = []
        while not written.eof():
            found.append(written.pull_uint_var())
        return found


class Packet:
    """Stands in for aioquic's packet builder."""

    quic_logger_frames = None

    def __init__(self, room: int = 1_200) -> None:
        self.room = room
        self.frames: list[Frame] = []

    @property
    def remaining_flight_space(self) -> int:
        return self.room - sum(1 + frame.buffer.tell() for frame in self.frames)

    def start_frame(self, kind: int, capacity: int, handler: Any, handler_args: tuple[Any, ...]) -> Buffer:
        assert self.remaining_flight_space >= capacity
        self.frames.append(Frame(int(kind), Buffer(self.room), handler, handler_args))
        return self.frames[-1].buffer

    def acked(self) -> None:
        self._told(QuicDeliveryState.ACKED)

    def lost(self) -> None:
        self._told(QuicDeliveryState.LOST)

    def _told(self, fate: QuicDeliveryState) -> None:
        for frame in self.frames:
            frame.handler(fate, *frame.arguments)
