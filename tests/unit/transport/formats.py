"""Captures built byte by byte, as the formats' specifications draw them."""

import io
import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiomos.errors import CaptureError
from aiomos.transport.pcap import CaptureReader

MICROSECOND_MAGIC, NANOSECOND_MAGIC, MODIFIED_MAGIC = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34
SECTION, INTERFACE, PACKET, SIMPLE_PACKET, NAMES, STATISTICS, ENHANCED_PACKET, CUSTOM = (
    *(0x0A0D0D0A, 1, 2, 3, 4, 5, 6),
    0x0BAD,
)
START = 1_700_000_000


@dataclass(frozen=True)
class Sample:
    """A frame to be put into a capture."""

    seconds: int
    fraction: int
    data: bytes
    wirelen: int


def samples(count: int = 5, *, size: int = 60) -> list[Sample]:
    return [
        Sample(START + i, 1000 * i + 7, bytes([i % 256]) * (size + i % 50), size + i % 50 + i % 3)
        for i in range(count)
    ]


# --- pcap -----------------------------------------------------------------------------------------


def pcap_header(
    order: str = "<",
    *,
    magic: int = MICROSECOND_MAGIC,
    version: tuple[int, int] = (2, 4),
    snaplen: int = 65535,
    linktype: int = 1,
) -> bytes:
    return struct.pack(order + "IHHiIII", magic, *version, 0, 0, snaplen, linktype)


def pcap_record(sample: Sample, order: str = "<", *, magic: int = MICROSECOND_MAGIC) -> bytes:
    header = struct.pack(order + "IIII", sample.seconds, sample.fraction, len(sample.data), sample.wirelen)
    extra = struct.pack(order + "IHBx", 3, 0x0800, 4) if magic == MODIFIED_MAGIC else b""
    return header + extra + sample.data


def pcap(frames: Iterable[Sample], order: str = "<", *, magic: int = MICROSECOND_MAGIC) -> bytes:
    records = [pcap_record(frame, order, magic=magic) for frame in frames]
    return pcap_header(order, magic=magic) + b"".join(records)


# --- pcapng ---------------------------------------------------------------------------------------


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<", *, version: tuple[int, int] = (1, 0), options: bytes = b"") -> bytes:
    return block(SECTION, struct.pack(order + "IHHq", 0x1A2B3C4D, *version, -1) + options, order)


def interface(order: str = "<", *, linktype: int = 1, snaplen: int = 0, options: bytes = b"") -> bytes:
    return block(INTERFACE, struct.pack(order + "HxxI", linktype, snaplen) + options, order)


def resolution(tsresol: int, order: str = "<") -> bytes:
    return option(9, bytes([tsresol]), order)


def enhanced_packet(
    units: int, data: bytes, order: str = "<", *, wirelen: int | None = None, index: int = 0
) -> bytes:
    wirelen = len(data) if wirelen is None else wirelen
    header = struct.pack(order + "IIIII", index, *divmod(units, 1 << 32), len(data), wirelen)
    return block(
        ENHANCED_PACKET, header + data + bytes(-len(data) % 4) + option(2, b"\0\0\0\0", order), order
    )


def obsolete_packet(units: int, data: bytes, order: str = "<", *, index: int = 0) -> bytes:
    header = struct.pack(order + "HHIIII", index, 9, *divmod(units, 1 << 32), len(data), len(data))
    return block(PACKET, header + data, order)


def simple_packet(data: bytes, order: str = "<", *, wirelen: int | None = None) -> bytes:
    return block(SIMPLE_PACKET, struct.pack(order + "I", wirelen or len(data)) + data, order)


def pcapng(frames: Iterable[Sample], order: str = "<") -> bytes:
    blocks = [
        enhanced_packet(frame.seconds * 1_000_000 + frame.fraction, frame.data, order, wirelen=frame.wirelen)
        for frame in frames
    ]
    return section(order) + interface(order) + b"".join(blocks)


# --- reading --------------------------------------------------------------------------------------

Row = tuple[int, bytes, int, int]


def rows(frames: Iterable[Sample], *, unit_ns: int = 1000) -> list[Row]:
    """Return what a reader of these frames must yield."""
    return [
        (
            frame.seconds * 1_000_000_000 + frame.fraction * unit_ns,
            frame.data,
            1,
            max(frame.wirelen, len(frame.data)),
        )
        for frame in frames
    ]


class Memory:
    """Bytes as a reader's file; delivered in random small parts if a seed is given, as a pipe may."""

    def __init__(self, data: bytes, *, seed: int | None = None) -> None:
        self.path = "memory"
        self.size: int | None = len(data)
        self.position = 0
        self.pipe = None
        self._file = io.BytesIO(data)
        self._random = None if seed is None else random.Random(seed)
        self.closed = False

    def readinto(self, buffer: memoryview) -> int:
        wanted = len(buffer) if self._random is None else min(len(buffer), self._random.randint(1, 500))
        n = self._file.readinto(buffer[:wanted])
        self.position += n
        return n

    def close(self) -> None:
        self.closed = True


def read(data: bytes, *, block_size: int = 4096) -> list[Row]:
    return list(CaptureReader(Memory(data), [], block_size))


def read_broken(data: bytes, *, block_size: int = 4096) -> tuple[list[Row], CaptureError | None]:
    """Read to the end, or to the error, which is returned with the frames before it."""
    got: list[Row] = []
    try:
        got.extend(CaptureReader(Memory(data), [], block_size))
    except CaptureError as error:
        return got, error
    return got, None


def damaged(data: bytes, generator: random.Random) -> bytes:
    """Return the bytes with a few of them changed."""
    copy = bytearray(data)
    for _ in range(generator.randint(1, 6)):
        copy[generator.randrange(len(copy))] = generator.choice(
            (0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256))
        )
    return bytes(copy)


def boundaries(header: bytes, records: Sequence[bytes]) -> list[int]:
    """Return the places where a capture may end: behind its header and behind each record."""
    places = [len(header)]
    for record in records:
        places.append(places[-1] + len(record))
    return places
