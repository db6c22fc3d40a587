"""Floods that try to have an engine hold more than its budgets say, and the memory that they cost.

``python -m tests.floods NAME`` prints by how many bytes the process grew, most of all, after the first frames. It is a
process of its own, as memory that was had once is not given back.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

import aiomos
from aiomos import (
    App,
    Budgets,
    Event,
    Flow,
    Hook,
    Level,
    MonitorConnection,
    Packet,
    Runtime,
    Settings,
)
from aiomos.testing.packets import ethernet, ipv4, tcp_frame, udp_frame
from aiomos.transport.interfaces import Interface
from aiomos.transport.pcap import CaptureReader
from aiomos.transport.transport import Transport
from tests.traffic import ETHERNET, START_NS, STEP_NS, Pieces, record

MIB = 1 << 20
PART = 100
FIRST = 20
"""Frames that are read at once, and parts of so many after which the growth is counted."""

Frames = Iterator[bytes]


def rss() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def segments(flags: str, payload: bytes = b"") -> Callable[..., bytes]:
    """Make segments of a form: of client number so much, at a sequence number."""
    form = bytearray(tcp_frame(flags=flags, payload=payload))

    def make(client: int, seq: int = 0, ack: int = 0) -> bytes:
        struct.pack_into("!I", form, 26, 0x0A00_0000 + (client >> 14))
        struct.pack_into("!H", form, 34, 0x4000 + (client & 0x3FFF))
        struct.pack_into("!II", form, 38, seq & 0xFFFF_FFFF, ack & 0xFFFF_FFFF)
        return bytes(form)

    return make


SYN = segments("S")


def held() -> Frames:
    """Segments behind holes: first small ones, then others, each after others have had the whole budget."""
    client = 0
    for size, frames, of_a_flow in (
        (1, 200_000, 4000),
        (200, 100_000, 500),
        (1400, 60_000, 40),
        (40_000, 2000, 1),
    ):
        data = segments("A", bytes(size))
        for _ in range(frames // of_a_flow):
            client += 1
            yield SYN(client)
            for at in range(of_a_flow):
                yield data(client, 2 + at * (size + 1))


def missed() -> Frames:
    """Flows with as many gaps as are remembered, and more."""
    data = segments("A", b"!")
    for client in range(3000):
        yield SYN(client)
        for at in range(80):
            yield data(client, 2 + 2 * at)


def kept() -> Frames:
    """Bytes that are kept to be looked back at, little and much, of connections picked up in the middle."""
    for size, clients in ((10, 60_000), (1400, 20_000), (10, 60_000)):
        data = segments("PA", bytes(size))
        for client in range(clients):
            yield data(client + 100_000 * size, 1)


def half_open() -> Frames:
    for client in range(300_000):
        yield SYN(client)


def with_data() -> Frames:
    """SYNs with data, which wait for an answer."""
    syn = segments("S", bytes(1400))
    for client in range(60_000):
        yield syn(client)


def flows() -> Frames:
    """Connections that are picked up in the middle."""
    data = segments("PA", b"?")
    for client in range(300_000):
        yield data(client, 5, 5)


def pending() -> Frames:
    """SYNs within connections, one for each."""
    data = segments("PA", b"?")
    for turn in range(20):
        for client in range(4000):
            yield data(client, 5, 5)
            yield SYN(client, 1_000_000 * turn)


def fragments() -> Frames:
    for size, frames in ((8, 200_000), (1400, 20_000)):
        form = bytearray(ethernet(ipv4(bytes(size), more_fragments=True, fragment_offset=0, ip_id=1)))
        for number in range(frames):
            struct.pack_into("!H", form, 18, number & 0xFFFF)
            struct.pack_into("!I", form, 26, 0x0A00_0000 + (number >> 8))
            yield bytes(form)


def datagrams() -> Frames:
    """From so many clients."""
    form = bytearray(udp_frame())
    for client in range(200_000):
        struct.pack_into("!I", form, 26, 0x0A00_0000 + (client >> 14))
        struct.pack_into("!H", form, 34, 0x4000 + (client & 0x3FFF))
        yield bytes(form)


def unacknowledged() -> Frames:
    """What connections say in pieces of several sizes, and nobody acknowledges."""
    for size, clients, of_a_flow in ((1, 50, 1000), (20, 100, 500), (1400, 500, 100), (40_000, 100, 20)):
        data = segments("PA", bytes(size))
        for client in range(size * 10_000, size * 10_000 + clients):
            yield SYN(client)
            for at in range(of_a_flow):
                yield data(client, 1 + at * size)


SMALL = {
    "flows": 4096,
    "half_open": 1024,
    "held_bytes": 2 * MIB,
    "kept_bytes": 2 * MIB,
    "fragment_bytes": 2 * MIB,
}
FLOODS: dict[str, tuple[Callable[[], Frames], dict[str, int]]] = {
    "held": (held, SMALL | {"held_bytes": 16 * MIB}),
    "missed": (missed, SMALL),
    "kept": (kept, SMALL | {"kept_bytes": MIB}),
    "half_open": (half_open, SMALL),
    "with_data": (with_data, SMALL),
    "flows": (flows, SMALL),
    "pending": (pending, SMALL),
    "fragments": (fragments, SMALL | {"fragment_bytes": 8 * MIB}),
    "slow": (unacknowledged, SMALL | {"stream_bytes": MIB, "stream_bytes_total": 4 * MIB}),
    "unread": (unacknowledged, SMALL | {"stream_bytes": 64 * 1024, "stream_bytes_total": 4 * MIB}),
    "sessions": (datagrams, SMALL | {"sessions": 8192}),
    "edited": (unacknowledged, SMALL | {"edited_bytes": 4 * MIB, "edited_bytes_half": 64 * 1024}),
}


IN_LINE = {"unread", "sessions", "edited"}


class Wire(Transport):
    """Two ends, by the first of which a flood comes; what is sent is gone.

    Args:
        frames: The flood.
        note: Called with each batch.
        over: Set when there are no more.
    """

    forwards = (1, 0)

    def __init__(self, frames: Frames, note: Callable[[], object], over: asyncio.Event) -> None:
        self._frames, self._note, self.over = frames, note, over
        self._ready = os.eventfd(1)  # there is always something
        self.runtime: Runtime | None = None
        self.interfaces.extend(Interface("", f"end{number}", 1, 0) for number in range(2))

    def fileno(self) -> int:
        """Return what is always ready."""
        return self._ready

    def receive(self) -> list[tuple[int, bytes, int]]:
        """Return the next frames; the run ends with them."""
        self._note()
        frames = [(time.time_ns(), frame, 0) for frame in islice(self._frames, PART)]
        if not frames and self.runtime is not None:
            self.runtime.stop()
            self.over.set()
        return frames

    def send(self, frame: bytes, interface: int = 0) -> None:
        """Have a frame sent."""

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self._ready)
        super().close()


def of(name: str, seen: Counter[str], over: asyncio.Event) -> App[None]:
    """Make the app that is flooded, which counts for itself what it saw, until it is *over*."""
    app: App[None] = App("flooded")
    match name:
        case "sessions":

            @app.on(Event.PKT_IN, hook=Hook.RAW)
            def open_session(pkt: Packet) -> None:
                session = pkt.session(idle=300.0, on_end=lambda _: seen.update(["ended"]))
                seen["sessions"] += 1
                if seen["sessions"] % 2 and seen["sessions"] < 50_000:
                    session.close()

        case "edited":

            @app.on(Event.PKT_IN, hook=Hook.SENDER)
            def replace(pkt: Packet) -> None:
                if pkt.payload:
                    try:
                        pkt.replace(pkt.payload[:-1] + b"!")
                    except BufferError:
                        seen["edits_refused"] += 1

        case "slow":

            @app.monitor(midstream=True)
            async def read_slowly(conn: MonitorConnection) -> None:
                async for chunk in conn.client:
                    seen["read"] += len(chunk)
                    del chunk  # what it keeps is its own
                    for _ in range(3):
                        await asyncio.sleep(0)

        case "unread":

            @app.monitor(midstream=True, gaps="mark")
            async def read_not(_: MonitorConnection) -> None:
                seen["handlers"] += 1
                await over.wait()

        case _:

            @app.on(Event.CONN_NEW_DATA, level=Level.STREAM, midstream=True)
            def look(flow: Flow) -> None:
                flow.client.peek(0, 4)

    return app


def growth(name: str) -> tuple[int, dict[str, int]]:
    """Run a flood; by how much the process grew, and the counters."""
    make, budgets = FLOODS[name]
    seen: Counter[str] = Counter()
    over = asyncio.Event()
    app = of(name, seen, over)
    sizes: list[int] = []
    settings = Settings(budgets=Budgets(**budgets), on_error="raise")
    if name in IN_LINE:
        wire = Wire(make(), lambda: sizes.append(rss()), over)

        def started(runtime: Runtime) -> None:
            wire.runtime = runtime

        report = asyncio.run(aiomos.serve(app, transport=wire, settings=settings, started=started))
        return max(sizes) - sizes[FIRST], report.counters | seen

    def pieces() -> Iterator[bytes]:
        yield struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 18, ETHERNET)
        frames = make()
        numbers = count()
        while part := list(islice(frames, PART)):
            yield b"".join(record(START_NS + next(numbers) * STEP_NS // 1000, frame) for frame in part)
            sizes.append(rss())

    report = aiomos.run(app, source=CaptureReader(Pieces(pieces()), []), settings=settings)
    return max(sizes) - sizes[FIRST], report.counters | seen


if __name__ == "__main__":
    grown, counters = growth(sys.argv[1])
    print(grown, {key: value for key, value in counters.items() if value})
