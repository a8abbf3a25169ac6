"""The baseline: aioquic, or a package of its form, used as well as forty lines can: one socket, GRO in, GSO out, no bounds."""

import asyncio
import itertools
import socket
import time

UDP_SEGMENT, UDP_GRO = 103, 104


class PlainLoop:
    """All connections of one socket. `accept(data)` makes a server's; `on_event(address, event)` may write."""

    def __init__(self, sock, accept, on_event):
        self.sock, self.accept, self.on_event, self.loop = sock, accept, on_event, asyncio.get_running_loop()
        self.quics, self.timers, self.marked = {}, {}, {}
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.loop.add_reader(sock, self.read)

    def read(self):
        for _ in range(2):  # few, so that both ends are at work at the same time
            try:
                data, control, _, address = self.sock.recvmsg(65536, 64)
            except BlockingIOError:
                return
            step, now = int.from_bytes(control[0][2][:2], "little") if control else len(data), time.monotonic()
            quic = self.quics.get(address) or self.quics.setdefault(address, self.accept(data))
            for start in range(0, len(data), step):
                quic.receive_datagram(data[start : start + step], address, now)
            self.mark(address)

    def mark(self, address):
        if not self.marked:
            self.loop.call_soon(self.flush)
        self.marked[address] = None

    def flush(self):
        for address in list(self.marked):
            quic, now = self.quics[address], time.monotonic()
            while (event := quic.next_event()) is not None:
                self.on_event(address, event)
            for size, run in itertools.groupby(quic.datagrams_to_send(now), lambda datagram: len(datagram[0])):
                control = [(socket.IPPROTO_UDP, UDP_SEGMENT, size.to_bytes(2, "little"))]
                while pieces := [data for data, _ in itertools.islice(run, min(44, 65_000 // size))]:
                    self.sock.sendmsg(pieces, control, 0, address)
            at, (due, timer) = quic.get_timer(), self.timers.get(address, (None, None))
            if at != due:
                _ = timer and timer.cancel()
                self.timers[address] = at, at and self.loop.call_later(max(0, at - now), self.ring, address, at)
        self.marked.clear()

    def ring(self, address, at):
        del self.timers[address]
        self.quics[address].handle_timer(max(at, time.monotonic()))
        self.mark(address)
