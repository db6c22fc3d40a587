"""Captures by other programs, and real ones."""

import contextlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dpkt
import pytest

from aiomos.errors import CaptureError
from aiomos.transport.captures import open_captures
from tests.unit.transport.formats import Row, pcap, rows, samples

needs_wireshark = pytest.mark.skipif(
    not all(map(shutil.which, ("capinfos", "editcap", "mergecap"))),
    reason="needs capinfos, editcap and mergecap",
)


def run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "capture"
    path.write_bytes(pcap(samples(50)))
    return path


@pytest.mark.interop
@needs_wireshark
@pytest.mark.parametrize("kind", ["pcap", "nsecpcap", "modpcap", "pcapng"])
def test_formats_of_editcap(capture: Path, kind: str) -> None:
    converted = capture.with_suffix(".out")
    run("editcap", "-F", kind, capture, converted)
    assert list(open_captures([converted])) == rows(samples(50))


@pytest.mark.interop
@needs_wireshark
@pytest.mark.parametrize("kind", ["5views", "k12text", "netmon2", "snoop", "visual"])
def test_other_formats_of_editcap_are_refused(capture: Path, kind: str) -> None:
    converted = capture.with_suffix(".out")
    run("editcap", "-F", kind, capture, converted)
    with pytest.raises(CaptureError, match="neither"):
        open_captures([converted])


@pytest.mark.interop
@needs_wireshark
def test_mergecap_merges_the_same_way(tmp_path: Path) -> None:
    parts = [tmp_path / str(number) for number in range(3)]
    for number, part in enumerate(parts):
        part.write_bytes(pcap(samples(60)[number::3]))
    run("mergecap", "-w", tmp_path / "merged", *parts)
    assert list(open_captures(parts)) == list(open_captures([tmp_path / "merged"])) == rows(samples(60))


# --- a folder of real captures --------------------------------------------------------------------


# Fractions of a damaged time stamp that Wireshark cannot hold.
OVERFLOWN_TIMES = {"fuzz-2021-06-07-c6c72a0a56.pcap"}


def real_captures() -> list[Path]:
    folder = os.environ.get("AIOMOS_CAPTURES")
    return sorted(Path(folder).glob("*.*cap*")) if folder else []


@pytest.fixture(scope="module")
def captures() -> list[Path]:
    paths = real_captures()
    if not paths:
        pytest.skip("set AIOMOS_CAPTURES to a folder of captures")
    return paths


def readable(path: Path) -> list[Row]:
    """Return all frames that can be read."""
    got: list[Row] = []
    with contextlib.suppress(CaptureError):
        got.extend(open_captures([path]))
    return got


def dpkt_frames(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        for _, data in dpkt.pcap.UniversalReader(file):
            yield bytes(data)


@pytest.mark.captures
def test_real_captures_hold_what_dpkt_finds(captures: list[Path]) -> None:
    """Its frames, not its times: dpkt takes the unit of an interface's times for that of all."""
    for path in captures:
        if path.read_bytes()[4:8] == struct.pack("<HH", 2, 0):
            continue  # lengths in the order of version 2.0, which dpkt does not know
        assert [row[1] for row in readable(path)] == list(dpkt_frames(path)), path


def epoch_ns(text: str) -> int:
    """Read capinfos' seconds; the fraction of a damaged time stamp may be more than a second."""
    seconds, fraction = text.split(".")
    return int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0"))


@pytest.mark.captures
@pytest.mark.interop
@needs_wireshark
def test_real_captures_have_the_count_lengths_and_times_that_capinfos_finds(captures: list[Path]) -> None:
    command = ["capinfos", "-T", "-r", "-B", "-N", "-c", "-d", "-a", "-e", "-S", *map(str, captures)]
    table = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = {Path(name).name: numbers for name, *numbers in (line.split("\t") for line in table.splitlines())}
    assert len(found) == len(captures)
    for path in captures:
        frames = readable(path)
        times = [row[0] for row in frames]
        count, length, earliest, latest = found[path.name]
        assert (len(frames), sum(row[3] for row in frames)) == (int(count), int(length)), path
        if path.name in OVERFLOWN_TIMES:
            continue
        assert (min(times), max(times)) == (epoch_ns(earliest), epoch_ns(latest)), path


@pytest.mark.captures
def test_real_captures_merged_are_all_their_frames(captures: list[Path]) -> None:
    whole = [path for path in captures if ends_well(path)]
    with open_captures(whole) as source:
        merged = list(source)
    assert sorted(merged) == sorted(row for path in whole for row in readable(path))


def ends_well(path: Path) -> bool:
    try:
        for _ in open_captures([path]):
            pass
    except CaptureError:
        return False
    return True
