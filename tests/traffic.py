"""Connections for tests, written down as what each end sends, in batches the test chooses.

::

    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"GET /")
    traffic.cut()                      # what follows comes in another batch
    conn.server(b"200")
    conn.close()
    aiomos.run(app, source=traffic.source())

Initial sequence numbers lie just below 2**32, so every connection crosses the wrap.
"""

from __future__ import annotations

import asyncio
import functools
import io
import os
import struct
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
import uvloop

import aiomos
from aiomos import (
    App,
    Budgets,
    Chunk,
    Filter,
    Flow,
    Gap,
    Level,
    MonitorConnection,
    Report,
    Settings,
    Stream,
    Timeouts,
)
from aiomos.app import Overlap
from aiomos.engine.engine import Engine
from aiomos.face.pressure import Pressure
from aiomos.testing.batches import feed_frames
from aiomos.testing.packets import mss, tcp_frame, wscale
from aiomos.transport.pcap import CaptureReader
from aiomos.transport.source import FrameSource
from aiomos.transport.writer import CaptureWriter

Result = TypeVar("Result")
Side = Literal["client", "server"]
Frame = tuple[int, bytes, int, int]
"""Time in nanoseconds, bytes, link type, length on the wire."""

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND
STEP_NS = 1_000_000
ISN: dict[Side, int] = {"client": 0xFFFF_FFF0, "server": 0xFFFF_FFFC}
ETHERNET = 1


class Traffic:
    """Frames in batches; the clock goes on by a millisecond with each."""

    def __init__(self) -> None:
        self.batches: list[list[Frame]] = [[]]
        self.now_ns = START_NS
        self.connections: set[tuple[str, int, str]] = set()
        """Client, its port, and server of each."""

    def cut(self) -> None:
        """Begin another batch."""
        self.batches.append([])

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += round(seconds * 1e9)

    def add(self, frame: bytes, *, captured: int | None = None) -> None:
        """Add a frame, of which only the first *captured* bytes may have been captured."""
        self.batches[-1].append((self.now_ns, frame[:captured], ETHERNET, len(frame)))
        self.now_ns += STEP_NS

    def connection(
        self,
        port: int = 1000,
        *,
        client: str = "10.0.0.1",
        server: str = "10.0.0.2",
        isn: dict[Side, int] = ISN,
        opened: bool = True,
    ) -> Connection:
        """Make a connection to port 80, after its handshake unless *opened* is false."""
        connection = Connection(self, port, client, server, isn)
        self.connections.add((client, port, server))
        if opened:
            connection.open()
        return connection

    def pause(self, batches: int = 5) -> None:
        """Let some batches with nothing of interest pass, so that handlers come to wait for what follows."""
        for _ in range(batches):
            self.cut()
            self.tick(0)
        self.cut()

    def tick(self, seconds: float) -> None:
        """Let time pass, and something else than the connections show it: a frame of no flow."""
        self.wait(seconds)
        self.add(tcp_frame("10.9.9.9", "10.9.9.8", flags="A"))

    @property
    def frames(self) -> list[Frame]:
        return [frame for batch in self.batches for frame in batch]

    def pcapng(self) -> bytes:
        """The traffic as a capture; what stands between its batches makes a reader end a batch there too."""
        file = io.BytesIO()
        with CaptureWriter(file, format="pcapng") as writer:
            for number, batch in enumerate(self.batches):
                if number:
                    writer.add_interface()
                for time_ns, data, _, wirelen in batch:
                    writer.write(time_ns, data, wirelen)
        return file.getvalue()

    def write(self, path: Path) -> Path:
        path.write_bytes(self.pcapng())
        return path

    def source(self) -> FrameSource:
        """The traffic as a source for `aiomos.run`."""
        return CaptureReader(Pieces([self.pcapng()]), [])


class Connection:
    """One TCP connection; each end acknowledges all that the other sent, unless the test says otherwise."""

    def __init__(self, traffic: Traffic, port: int, client: str, server: str, isn: dict[Side, int]) -> None:
        self.traffic = traffic
        self.isn = isn
        self.ends: dict[Side, tuple[str, int]] = {"client": (client, port), "server": (server, 80)}
        self.sent: dict[Side, int] = {"client": 0, "server": 0}
        """Offset of the next byte, one more after a FIN."""

    def open(self) -> None:
        """Shake hands."""
        self.segment("client", at=-1, flags="S")
        self.segment("server", at=-1, flags="SA")
        self.segment("client")

    def client(self, data: bytes = b"", **fields: Any) -> None:
        self.segment("client", data, **fields)

    def server(self, data: bytes = b"", **fields: Any) -> None:
        self.segment("server", data, **fields)

    def segment(
        self,
        side: Side,
        data: bytes = b"",
        *,
        at: int | None = None,
        ack: int | None = None,
        flags: str = "A",
        window: int = 65535,
        options: bytes = b"",
        captured: int | None = None,
    ) -> None:
        """Send a segment.

        Args:
            side: Who sends it.
            data: Its payload.
            at: Stream offset of the payload; by default behind all sent so far. The SYN is at -1.
            ack: Offset up to which the peer's bytes are acknowledged; by default all it has sent.
            flags: Letters of ``FSRPAUEC``.
            window: As it is sent; it is not scaled.
            options: Of TCP.
            captured: How many bytes of the payload were captured, if not all.
        """
        peer: Side = "server" if side == "client" else "client"
        at = self.sent[side] if at is None else at
        frame = tcp_frame(
            *(self.ends[side][0], self.ends[peer][0], self.ends[side][1], self.ends[peer][1]),
            seq=self.isn[side] + 1 + at,
            ack=self.isn[peer] + 1 + (self.sent[peer] if ack is None else ack) if "A" in flags else 0,
            flags=flags,
            window=window,
            options=options,
            payload=data,
        )
        self.sent[side] = max(self.sent[side], at + len(data) + ("F" in flags) + ("S" in flags))
        cut = None if captured is None else len(frame) - len(data) + captured
        self.traffic.add(frame, captured=cut)

    def reset(self, side: Side = "client") -> None:
        self.segment(side, flags="RA")

    def close(self) -> None:
        """Close both halves, the client first."""
        self.segment("client", flags="FA")
        self.segment("server", flags="FA")
        self.segment("client")


def lopsided() -> Traffic:
    """A connection of which each number that is told of its halves is unlike all that it could be taken for.

    The client's stream has 700 bytes of which 40 are lost, the server's 2,500 with 90 lost. Of the client 2 segments
    are retransmitted, 3 come out of order and 4 are copies of one; of the server 5, 1 and 6.
    """
    traffic = Traffic()
    conn = traffic.connection(opened=False)
    conn.client(at=-1, flags="S", options=mss(1460) + wscale(7))
    traffic.wait(0.029)
    conn.server(at=-1, flags="SA", options=mss(1200) + wscale(9))
    traffic.wait(0.009)
    conn.client()
    for _ in range(1 + 4):
        conn.client(b"a" * 300, at=0)
    conn.server()
    for times in (1, 2):
        conn.client(b"a" * 250, at=0, window=65535 - times)
    for at in (520, 460, 400):  # the last of them first
        conn.client(b"b" * 60, at=at)
        conn.server(ack=300)
    conn.client(b"c" * 100, at=300)
    for _ in range(1 + 6):
        conn.server(b"d" * 600, at=0)
    conn.client()
    for times in range(1, 6):
        conn.server(b"d" * 500, at=0, window=65535 - times)
    conn.server(b"f" * 900, at=1300)
    conn.server(b"e" * 700, at=600)
    conn.client()
    conn.client(b"g" * 80, at=620)
    conn.server(b"h" * 210, at=2290)
    conn.server()
    conn.client()
    traffic.wait(2)
    conn.client()
    conn.server(window=1)
    conn.close()
    return traffic


class Pieces:
    """A capture that is made while it is read (`aiomos.transport.inputs.CaptureInput`)."""

    path = "-"
    size = None
    pipe = None

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.position = 0
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        if not self._piece:
            self._piece = memoryview(next(self._pieces, b""))
        n = min(len(buffer), len(self._piece))
        buffer[:n] = self._piece[:n]
        self._piece = self._piece[n:]
        self.position += n
        return n

    def close(self) -> None:
        self._pieces = iter(())


BUDGETS = Budgets(flows=16, held_bytes=8 << 20)


@dataclass
class Seen:
    """What the engine made of one connection."""

    client: list[Chunk | Gap]
    server: list[Chunk | Gap]
    flow: Flow
    counters: dict[str, int]

    @property
    def data(self) -> dict[int, int]:
        """The client's bytes by stream offset."""
        chunks = [item for item in self.client if isinstance(item, Chunk)]
        return {chunk.offset + at: byte for chunk in chunks for at, byte in enumerate(chunk)}


def follow(
    frames: Sequence[Frame],
    *,
    batch_size: int = 1000,
    level: Level = Level.STREAM,
    overlap: Overlap = "first",
    timeouts: Timeouts | None = None,
    budgets: Budgets = BUDGETS,
) -> Seen:
    """Feed frames to an engine, so many a batch, and read what it delivers of the one connection in them."""
    engine = Engine(Settings(budgets=budgets, timeouts=timeouts or Timeouts()), bytes(16), fail)
    opened: list[MonitorConnection] = []

    def opener(flow: Flow) -> MonitorConnection:
        pressure = Pressure(budgets.stream_bytes, budgets.stream_bytes_total)
        opened.append(MonitorConnection(flow, pressure, engine.released, "mark", level is Level.STREAM))
        return opened[-1]

    engine.add_rule(Filter("").program, level, overlap=overlap, opener=opener)
    for first in range(0, len(frames), batch_size):
        feed_frames(engine, frames[first : first + batch_size])
    while engine.finish():
        pass
    (conn,) = opened
    counters = engine.statistics()
    assert not any(value for name, value in counters.items() if name.startswith("held.")), counters
    return Seen(read(conn.client), read(conn.server), conn.flow, counters)


def fail(_callback: object, _flow: object, error: Exception) -> None:
    raise error


def read(stream: Stream) -> list[Chunk | Gap]:
    """Read a half that has ended; needs no event loop, since nothing has to be waited for."""

    async def collect() -> list[Chunk | Gap]:
        return [item async for item in stream.chunks(gaps="mark")]

    with pytest.raises(StopIteration) as done:
        collect().send(None)
    items: list[Chunk | Gap] = done.value.value
    return items


def check_unbroken(items: list[Chunk | Gap]) -> None:
    """Every offset is told of once, as a byte or as part of a gap."""
    at = 0
    for item in items:
        assert item.offset == at
        length = item.length if isinstance(item, Gap) else len(item)
        assert length > 0
        at += length


def flood(chunks: int, size: int, *, side: Side = "server", chatter: int = 0) -> Iterator[bytes]:
    """A capture, piece by piece, of one connection in which *side* sends *chunks* segments of *size* bytes.

    The other end acknowledges each and, every *chatter* of them, sends a byte.
    """
    yield struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 18, ETHERNET)
    traffic = Traffic()
    conn = traffic.connection()
    data = bytes(size)
    peer: Side = "client" if side == "server" else "server"
    conn.segment(side, data)
    conn.segment(peer)
    frames = traffic.frames
    opening, (_, first, _, _), (_, answer, _, _) = frames[:3], frames[-2], frames[-1]
    heads = first[:38], first[42:]
    talked = 0
    for time_ns, frame, _, _ in opening:
        yield record(time_ns, frame)
    time_ns = traffic.now_ns
    for number in range(chunks):
        time_ns += STEP_NS
        seq = (ISN[side] + 1 + number * size) & 0xFFFF_FFFF
        yield record(time_ns, heads[0] + struct.pack("!I", seq) + heads[1])
        ack = struct.pack("!II", (ISN[peer] + 1 + talked) & 0xFFFF_FFFF, (seq + size) & 0xFFFF_FFFF)
        reply = answer[:38] + ack + answer[46:]
        if chatter and number % chatter == 0:
            reply = reply[:16] + struct.pack("!H", 41) + reply[18:54] + b"?"
            talked += 1
        yield record(time_ns, reply)


def record(time_ns: int, frame: bytes) -> bytes:
    """A frame as a pcap file holds it, with its time in nanoseconds."""
    return struct.pack("<IIII", *divmod(time_ns, SECOND), len(frame), len(frame)) + frame


async def drain(items: AsyncIterable[Any], into: list[Any]) -> None:
    """Read to the end; what came before an error is in *into*."""
    async for item in items:
        into.append(item)  # noqa: PERF401


Loop = Literal["uvloop", "asyncio"]


SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
HANGING_SECONDS = 300 if SANITIZED else 60
"""Only what hangs comes to it, on a busy machine, too; with the sanitizers everything takes many times as long."""


def in_loop(main: Coroutine[Any, Any, Result], loop: Loop) -> Result:
    """Run a coroutine in a new event loop of that kind; one that hangs ends with a TimeoutError."""
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(asyncio.wait_for(main, HANGING_SECONDS))


def watch(
    handler: Callable[[MonitorConnection], Coroutine[Any, Any, object]],
    source: Traffic | FrameSource,
    *,
    runs: int | None = None,
    ends: int | None = None,
    settings: Settings | None = None,
    loop: Loop = "asyncio",
    level: Level = Level.STREAM,
    **options: Any,
) -> Report:
    """Run one handler over traffic; what it raises, assertions included, comes out.

    Args:
        handler: Its assertions count, so that it must be started, and come to its end each time.
        source: What it runs over.
        runs: For how many connections it must be started: by default all that the traffic has.
        ends: How many of these must return, neither cancelled nor ended by what the path did: by default all.
        settings: By default only that what a handler raises comes out.
        loop: Which event loop.
        level: As of `App.monitor`, as are *options*.
    """
    app = App("test")
    started = ended = 0

    @functools.wraps(handler)
    async def whole(conn: MonitorConnection) -> None:
        nonlocal started, ended
        started += 1
        await handler(conn)
        ended += 1

    app.monitor(level=level, **options)(whole)
    if runs is None:
        runs = len(source.connections) if isinstance(source, Traffic) else 1
    if isinstance(source, Traffic):
        source = source.source()
    settings = settings or Settings(on_error="raise")
    report = in_loop(aiomos.serve(app, source=source, settings=settings), loop)
    assert started == runs, f"the handler was started {started} times, not {runs}"
    ends = runs if ends is None else ends
    assert ended == ends, f"of {runs} handlers {ended} came to their end, not {ends}"
    return report
