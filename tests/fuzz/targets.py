"""What is fuzzed: functions from bytes to nothing that fail when a promise is broken.

``frames``: the bytes are frames with their times. One byte of choices, then for each frame a header of five bytes
(time step, link type, extra length on the wire, captured length) and the captured bytes. ``captures``: the
bytes are a capture file. ``in_line``: frames as for ``frames``, which cross the line with ICMP errors about
them in between. ``meddled``: frames as for ``frames``, watched with such errors in between, in whatever a frame can be
wrapped in, by clocks that step, and beside an app that changes everything whenever it is called.
"""

import random
import struct
from collections.abc import Callable, Iterable, Iterator

import attrs

from aiomos.wire.sharding import shard_of
from tests.fuzz.hostile import OVERLAPS, Choices, Frame, check_capture, check_frames
from tests.fuzz.in_line import Choices as InLineChoices
from tests.fuzz.in_line import check_in_line
from tests.fuzz.quotes import with_errors, with_tunnels
from tests.fuzz.steps import with_steps
from tests.wrappings import LINKS

FIRST_LINKTYPES = (1, 101, 113, 276, 0, 108, 9, 50, 12, 14, 228, 229)
LINKTYPES = (*FIRST_LINKTYPES, *sorted({each.linktype for each in LINKS.values()} - {*FIRST_LINKTYPES}))
"""LINKTYPE_ numbers that are read. An input has their places here: only add behind them."""
EXTRA_LENGTHS = (0, 1, 40, 1500)
HEADER = struct.Struct("<BBBH")
START_NS = 1_700_000_000_000_000_000
STEPS = 40
"""Time steps are 0 and the powers of two up to 2**39 ns, nine minutes; from 128 on they lead back."""


def choices_of(byte: int) -> Choices:
    """Read a byte of choices."""
    return Choices(
        decapsulate=bool(byte & 1),
        separate=byte & 0x70 == 0x70,
        verify=bool(byte & 2),
        tight=bool(byte & 4),
        midstream=not byte & 8,
        overlap=OVERLAPS[(byte >> 4 & 7) % len(OVERLAPS)],
        batch=1 if byte & 128 else 64,
    )


def decode_frames(data: bytes) -> Iterator[tuple[tuple[int, int, int], bytes]]:
    """Split an input of the ``frames`` target, without its first byte, into headers and frames."""
    at = 0
    while len(data) - at >= HEADER.size:
        step, link, extra, length = HEADER.unpack_from(data, at)
        at += HEADER.size
        yield (step, link, extra), data[at : at + length]
        at += length


def encode_frames(frames: Iterable[tuple[tuple[int, int, int], bytes]]) -> bytes:
    """Join what `decode_frames` gives."""
    return b"".join(HEADER.pack(*header, len(data)) + data for header, data in frames)


def read_frames_of(data: bytes) -> list[Frame]:
    """Read the frames of an input of the ``frames`` target, with their times."""
    taken: list[Frame] = []
    now = START_NS
    for (step, link, extra), frame in decode_frames(data[1:]):
        now += ((1 << step % STEPS) - 1) * (-1 if step >= 128 else 1)
        wirelen = len(frame) + EXTRA_LENGTHS[extra % len(EXTRA_LENGTHS)]
        taken.append((now, frame, LINKTYPES[link % len(LINKTYPES)], wirelen))
        shard_of(frame, 3, linktype=LINKTYPES[link % len(LINKTYPES)])
    return taken


def frames(data: bytes) -> None:
    """Run one input of the ``frames`` target."""
    check_frames(read_frames_of(data), choices_of(data[0] if data else 0))


def captures(data: bytes) -> None:
    """Run one input of the ``captures`` target."""
    check_capture(data, Choices())


def seed_of(captured: Iterable[Frame], choices: int) -> bytes:
    """Write a capture's frames as an input of the ``frames`` target."""
    parts = []
    before: int | None = None
    for time_ns, data, linktype, wirelen in captured:
        elapsed = 0 if before is None else time_ns - before
        before = time_ns
        step = min(abs(elapsed).bit_length(), STEPS - 1) + (128 // STEPS + 1) * STEPS * (elapsed < 0)
        link = LINKTYPES.index(linktype) if linktype in LINKTYPES else 0
        extra = min(range(len(EXTRA_LENGTHS)), key=lambda i: abs(EXTRA_LENGTHS[i] - (wirelen - len(data))))
        parts.append(((step, link, extra), data[:0xFFFF]))
    return bytes([choices]) + encode_frames(parts)


def mutate_frames(data: bytes, max_size: int, seed: int, mutate: Callable[[bytes, int], bytes]) -> bytes:
    """Change an input of the ``frames`` target between frames or inside one, so that the others stay whole.

    Args:
        data: The input.
        max_size: Most bytes to return.
        seed: Of the choice what to change.
        mutate: Changes bytes, given the most to return.
    """
    chosen = random.Random(seed)
    found = list(decode_frames(data[1:]))
    if not found or chosen.random() < 0.05:
        return mutate(data, max_size)
    at, other = chosen.randrange(len(found)), chosen.randrange(len(found))
    (step, link, extra), frame = found[at]
    match chosen.randrange(8):
        case 0:
            del found[at]
        case 1:
            found.insert(other, found[at])
        case 2:
            found[at], found[other] = found[other], found[at]
        case 3:
            found[at] = (chosen.randrange(256), link, extra), frame
        case 4:
            found[at] = (step, link, extra), frame[: chosen.randrange(len(frame) + 1)]
        case _:
            found[at] = (step, link, extra), mutate(frame, min(0xFFFF, len(frame) + 64))
    return (data[:1] + encode_frames(found))[:max_size]


def made_hostile(frames: list[Frame], chosen: random.Random) -> list[Frame]:
    """Put errors between frames, some into tunnels, and have the clock step."""
    most = [*with_errors(frames, chosen)]
    if chosen.random() < 0.3:
        most = [*with_tunnels(most, chosen)]
    return [*with_steps(most, chosen)]


def in_line(data: bytes) -> None:
    """Run one input of the ``in_line`` target."""
    chosen = random.Random(data[:1] + len(data).to_bytes(4))
    byte = data[0] if data else 0
    choices = InLineChoices(
        seed=chosen.randrange(1 << 30),
        tight=bool(byte & 1),
        closed=bool(byte & 2),
        verify=bool(byte & 4),
        decapsulate=bool(byte & 8),
        forgetful=bool(byte & 16),
        batch=1 if byte & 32 else 16,
        calm=bool(byte & 64),
        meddles=bool(byte & 128),
    )
    check_in_line(made_hostile(read_frames_of(data), chosen), choices)


def meddled(data: bytes) -> None:
    """Run one input of the ``meddled`` target."""
    chosen = random.Random(data[:1] + len(data).to_bytes(4))
    choices = attrs.evolve(
        choices_of(data[0] if data else 0),
        meddling=chosen.randrange(1 << 30),
        watched=chosen.random() < 0.3,  # many more inputs without
    )
    check_frames(made_hostile(read_frames_of(data), chosen), choices)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": frames,
    "captures": captures,
    "in_line": in_line,
    "meddled": meddled,
}
