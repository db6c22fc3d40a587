"""Written captures: read back the same, here and by others."""

import gzip
import io
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import dpkt
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from aiomos.transport.captures import open_captures
from aiomos.transport.interfaces import Interface
from aiomos.transport.pcap import CaptureReader
from aiomos.transport.writer import MAX_TIME_NS, CaptureWriter
from tests.unit.transport.formats import Memory, read

Format = Literal["pcap", "pcapng"]
BOTH_FORMATS = pytest.mark.parametrize("kind", ["pcap", "pcapng"])
LAST_PCAP_TIME = (1 << 32) * 1_000_000_000 - 1

frames = st.lists(
    st.tuples(st.integers(0, LAST_PCAP_TIME), st.binary(max_size=200), st.integers(0, 70_000)), max_size=30
)


@BOTH_FORMATS
@given(frames, st.booleans(), st.integers(0, 0xFFFF))
def test_what_was_written_is_read_back(
    kind: Format, written: list[tuple[int, bytes, int]], nanoseconds: bool, linktype: int
) -> None:
    file = io.BytesIO()
    with CaptureWriter(file, format=kind, nanoseconds=nanoseconds, linktype=linktype) as writer:
        for time_ns, data, cut in written:
            writer.write(time_ns, data, len(data) + cut)
    unit = 1 if nanoseconds else 1000
    assert read(file.getvalue()) == [
        (time_ns // unit * unit, data, linktype, len(data) + cut) for time_ns, data, cut in written
    ]


def test_interfaces_are_read_back() -> None:
    file = io.BytesIO()
    with CaptureWriter(file, format="pcapng", linktype=113) as writer:
        assert writer.add_interface("eth0") == 1
        writer.write(1, b"a", interface=1)
        assert writer.add_interface("tun0", linktype=101, snaplen=100) == 2
        writer.write(2, bytearray(b"bb"), interface=2)
        writer.write(MAX_TIME_NS, memoryview(b"ccc"), interface=0)
    capture = CaptureReader(Memory(file.getvalue()), [])
    got: list[tuple[int, bytes, int, int, int]] = []
    while capture.read_batch():
        got += capture.batch()
    assert got == [(1, b"a", 1, 1, 1), (2, b"bb", 101, 2, 2), (MAX_TIME_NS, b"ccc", 113, 3, 0)]
    assert [(entry.name, entry.linktype, entry.snaplen) for entry in capture.interfaces] == [
        ("", 113, 262144),
        ("eth0", 1, 262144),
        ("tun0", 101, 100),
    ]


@BOTH_FORMATS
@pytest.mark.parametrize(
    ("suffix", "decompress"),
    [
        ("", bytes),
        (".gz", gzip.decompress),
        (".zst", lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data)),
    ],
)
def test_suffix_chooses_the_compression(tmp_path: Path, kind: Format, suffix: str, decompress: Any) -> None:
    plain = io.BytesIO()
    path = tmp_path / f"capture{suffix}"
    for target in (plain, path):
        with CaptureWriter(target, format=kind) as writer:
            for number in range(3000):
                writer.write(number, b"%d" % number)
    assert decompress(path.read_bytes()) == plain.getvalue()
    assert [row[1] for row in open_captures([path])] == [b"%d" % number for number in range(3000)]


def test_same_frames_give_the_same_compressed_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        with CaptureWriter(tmp_path / name) as writer:
            writer.write(1, b"x")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_file_of_the_caller_stays_open() -> None:
    file = io.BytesIO()
    with CaptureWriter(file):
        pass
    assert not file.closed


@BOTH_FORMATS
@pytest.mark.parametrize(
    "arguments",
    [
        {"time_ns": -1},
        {"time_ns": 1 << 63},
        {"data": bytes(101)},
        {"wirelen": 3},
        {"wirelen": 1 << 32},
        {"interface": 1},
        {"interface": -1},
    ],
)
def test_frames_the_format_cannot_hold_are_refused_whole(kind: Format, arguments: dict[str, Any]) -> None:
    file = io.BytesIO()
    writer = CaptureWriter(file, format=kind, snaplen=100)
    before = file.getvalue()
    with pytest.raises(ValueError, match=r"\d"):
        writer.write(**{"time_ns": 0, "data": b"four", **arguments})
    assert file.getvalue() == before


@pytest.mark.parametrize(
    "arguments",
    [{"format": "snoop"}, {"linktype": -1}, {"linktype": 1 << 16}, {"snaplen": 0}, {"snaplen": 1 << 31}],
)
def test_files_that_cannot_be_are_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        CaptureWriter(tmp_path / "capture", **arguments)
    assert not (tmp_path / "capture").exists()


def test_the_first_interface_may_have_a_name() -> None:
    file = io.BytesIO()
    with CaptureWriter(file, format="pcapng", name="eth0") as writer:
        writer.write(1, b"frame")
    interfaces: list[Interface] = []
    assert list(CaptureReader(Memory(file.getvalue()), interfaces, 4096)) == [(1, b"frame", 1, 5)]
    assert [interface.name for interface in interfaces] == ["eth0"]
    with pytest.raises(ValueError, match="no names in a pcap file"):
        CaptureWriter(io.BytesIO(), name="eth0")


def test_pcap_has_no_interfaces() -> None:
    with pytest.raises(ValueError, match="pcapng"):
        CaptureWriter(io.BytesIO()).add_interface("eth0")


@BOTH_FORMATS
def test_dpkt_reads_what_was_written(kind: Format) -> None:
    file = io.BytesIO()
    with CaptureWriter(file, format=kind, nanoseconds=False) as writer:
        for number in range(100):
            writer.write(1_700_000_000_000_000_000 + number * 1_000_000, bytes([number]) * number)
    file.seek(0)
    reader = dpkt.pcap.Reader(file) if kind == "pcap" else dpkt.pcapng.Reader(file)
    assert [(round(time * 1000), data) for time, data in reader] == [
        (1_700_000_000_000 + number, bytes([number]) * number) for number in range(100)
    ]


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
@BOTH_FORMATS
@pytest.mark.parametrize("nanoseconds", [True, False])
def test_tshark_reads_what_was_written(tmp_path: Path, kind: Format, nanoseconds: bool) -> None:
    path = tmp_path / "capture"
    time_ns = 1_700_000_000_123_456_789
    with CaptureWriter(path, format=kind, nanoseconds=nanoseconds) as writer:
        for number in range(10):
            writer.write(time_ns + number, bytes(60 + number), 100)
    fields = [f"-e{field}" for field in ("frame.time_epoch", "frame.cap_len", "frame.len")]
    shown = subprocess.run(
        ["tshark", "-r", path, "-Tfields", *fields], capture_output=True, text=True, check=True
    )
    unit = 1 if nanoseconds else 1000
    assert [line.split() for line in shown.stdout.splitlines()] == [
        [f"1700000000.{(time_ns + number) // unit * unit % 10**9:09}", str(60 + number), "100"]
        for number in range(10)
    ]
