"""How workers send what their apps write: records, each with the time of the engine's clock at which it was written.

A record is a header, which says what it is, to which output it belongs, its time and length, and its bytes. They go
through a socket of their own, and only one way.
"""

import enum
import struct

import attrs

HEADER = struct.Struct("=BHIq")
"""What it is, output, length, time in nanoseconds."""

STANDARD_OUTPUT = 0
"""The output that is always open; others have numbers from 1."""


class What(enum.IntEnum):
    """What a record is."""

    OPEN = 1
    """An output was opened; its path."""
    DATA = 2
    """Something was written to it."""
    HEADING = 3
    """Written to it at its top: once, whichever worker comes first."""
    PART = 4
    """A part of a summary; a pickle of the part and of what draws it."""
    CLOSE = 5
    """It was closed."""
    TIME = 6
    """A sign of life: what comes later is not earlier than this."""
    RUNNING = 7
    """Apps are attached; frames come next."""
    END = 8
    """The worker has come to its end; a pickle of its `Ending`."""


@attrs.frozen
class Record:
    """One record.

    Attributes:
        what: What it is.
        output: Number of the output.
        time_ns: When it was written.
        data: Its bytes.
    """

    what: What
    output: int
    time_ns: int
    data: bytes


@attrs.frozen
class Ending:
    """How a worker ended.

    Attributes:
        counters: As `Runtime.statistics` gives them.
        error: What it failed with, if it did.
        calls: As of `Report`.
    """

    counters: dict[str, int]
    error: BaseException | None = None
    calls: dict[str, tuple[int, int]] = attrs.field(factory=dict)


def written(what: What, output: int, time_ns: int, data: bytes) -> bytes:
    """Write a record down."""
    return HEADER.pack(what, output, len(data), time_ns) + data


class Reader:
    """Takes records from bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Record]:
        """Return the records that are complete now."""
        self._rest += data
        records: list[Record] = []
        at, end = 0, len(self._rest)
        while end - at >= HEADER.size:
            what, output, length, time_ns = HEADER.unpack_from(self._rest, at)
            start = at + HEADER.size
            if length > end - start:
                break
            at = start + length
            records.append(Record(What(what), output, time_ns, bytes(self._rest[start:at])))
        del self._rest[:at]
        return records
