"""Floods that try to have an engine hold more than its budgets say, and the memory that they cost.

``python -m tests.floods NAME`` prints by how many bytes the process grew, most of all, after the first frames. It is a
process of its own, as memory that was had once is not given back.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

import aiomos
from aiomos import App, Budgets, Event, Flow, Level, Settings
from aiomos.testing.packets import ethernet, ipv4, tcp_frame
from aiomos.transport.pcap import CaptureReader
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
    """Bytes that are kept to be looked back at, little and much."""
    for size, clients in ((10, 60_000), (1400, 20_000), (10, 60_000)):
        data = segments("PA", bytes(size))
        for client in range(clients):
            yield SYN(client + 100_000 * size)
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
}


def growth(name: str) -> tuple[int, dict[str, int]]:
    """Run a flood; by how much the process grew, and the counters."""
    make, budgets = FLOODS[name]
    app: App[None] = App("flooded")
    sizes: list[int] = []

    @app.on(Event.CONN_NEW_DATA, level=Level.STREAM, midstream=True)
    def look(flow: Flow) -> None:
        flow.client.peek(0, 4)

    def pieces() -> Iterator[bytes]:
        yield struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 18, ETHERNET)
        frames = make()
        numbers = count()
        while part := list(islice(frames, PART)):
            yield b"".join(record(START_NS + next(numbers) * STEP_NS // 1000, frame) for frame in part)
            sizes.append(rss())

    report = aiomos.run(
        app,
        source=CaptureReader(Pieces(pieces()), []),
        settings=Settings(budgets=Budgets(**budgets), on_error="raise"),
    )
    return max(sizes) - sizes[FIRST], report.counters


if __name__ == "__main__":
    grown, counters = growth(sys.argv[1])
    print(grown, {key: value for key, value in counters.items() if value})
