"""Every capture whole, cut at every length class, and with random bytes flipped, in its frames and in its file.

AIOMOS_CAPTURES adds a folder of captures. AIOMOS_MUTATIONS is how many random mutations each capture gets,
4 without it; the AddressSanitizer build gives more.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.hostile import OVERLAPS, Choices, Frame, check_capture, check_frames, read_frames

SHIPPED = Path(__file__).parents[1] / "data"
MUTATIONS = int(os.environ.get("AIOMOS_MUTATIONS", "4"))
MOST_FRAMES = 500 * MUTATIONS
"""Frames of one capture that are cut and flipped; the whole capture is run once."""

# Where headers end: Ethernet, VLAN, cooked, IPv4 without and with options, IPv6, extension headers, TCP without and
# with options, tunnels.
HEADER_ENDS = (0, 4, 14, 16, 18, 20, 22, 24, 34, 36, 40, 42, 54, 58, 62, 66, 74, 82, 94, 114)
LENGTHS = sorted({end + step for end in HEADER_ENDS for step in (-1, 0, 1) if end + step >= 0})
FILE_LENGTHS = (0, 3, 4, 23, 24, 25, 39, 40, 41, 60, 100)


def captures() -> list[Path]:
    """List the captures that ship, and those of AIOMOS_CAPTURES."""
    folders = [SHIPPED, *filter(None, [os.environ.get("AIOMOS_CAPTURES")])]
    return [
        path
        for folder in map(Path, folders)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in {".py", ".md", ".txt", ".pyc"}
    ]


each_capture = pytest.mark.parametrize("path", captures(), ids=lambda path: f"{path.parent.name}/{path.name}")


def flipped(data: bytes, chosen: random.Random, share: float) -> bytes:
    """Replace some bytes, at least one, by others."""
    changed = bytearray(data)
    for _ in range(1 + int(len(changed) * share)) if changed else ():
        changed[chosen.randrange(len(changed))] ^= chosen.randrange(1, 256)
    return bytes(changed)


def all_choices(seed: random.Random) -> Iterator[Choices]:
    """Give ways to run, every one of them within a few steps."""
    while True:
        yield Choices(
            decapsulate=seed.random() < 0.7,
            separate=seed.random() < 0.3,
            verify=seed.random() < 0.3,
            tight=seed.random() < 0.5,
            midstream=seed.random() < 0.7,
            overlap=seed.choice(OVERLAPS),
            batch=seed.choice((1, 7, 64)),
            watched=seed.random() < 0.1,
        )


@each_capture
def test_a_whole_capture(path: Path) -> None:
    check_capture(path.read_bytes(), Choices())
    check_frames(read_frames(path)[:MOST_FRAMES], Choices(tight=True, watched=False))


@each_capture
def test_frames_cut_at_every_length_class(path: Path) -> None:
    frames = read_frames(path)[:MOST_FRAMES]
    chosen = random.Random(path.name)
    lengths = chosen.sample(LENGTHS, min(12 * MUTATIONS, len(LENGTHS)))  # all of them over a few captures
    for length, choices in zip(lengths, all_choices(chosen), strict=False):
        check_frames([(time_ns, data[:length], link, wire) for time_ns, data, link, wire in frames], choices)


@each_capture
def test_frames_cut_and_flipped_at_random(path: Path) -> None:
    frames = read_frames(path)[:MOST_FRAMES]
    chosen = random.Random(path.name)
    for _, choices in zip(range(MUTATIONS), all_choices(chosen), strict=False):
        check_frames([mutated(frame, chosen) for frame in frames], choices)


def mutated(frame: Frame, chosen: random.Random) -> Frame:
    """Cut a frame, flip some of its bytes, state another length, or leave it."""
    time_ns, data, link, wire = frame
    match chosen.randrange(6):
        case 0:
            return time_ns, data[: chosen.randrange(len(data) + 1)], link, wire
        case 1:
            return time_ns, flipped(data, chosen, 0.01), link, wire
        case 2:
            # Only the headers: what makes a frame take another way.
            return time_ns, flipped(data[:96], chosen, 0.02) + data[96:], link, wire
        case 3:
            cut = data[: chosen.randrange(len(data) + 1)]
            return time_ns, cut, link, len(cut)
        case _:
            return frame


@each_capture
def test_a_file_cut_at_every_length_class(path: Path) -> None:
    data = path.read_bytes()
    chosen = random.Random(path.name)
    lengths = [*FILE_LENGTHS, *(chosen.randrange(len(data) + 1) for _ in range(MUTATIONS))]
    for length in lengths:
        check_capture(data[:length], Choices(watched=chosen.random() < 0.1))


@each_capture
def test_a_file_with_random_bytes_flipped(path: Path) -> None:
    data = path.read_bytes()
    chosen = random.Random(path.name)
    for number, choices in zip(range(MUTATIONS), all_choices(chosen), strict=False):
        # In turns anywhere, and only where the headers of the file and its first records are.
        head = len(data) if number % 2 else 128
        check_capture(flipped(data[:head], chosen, 0.005) + data[head:], choices)
