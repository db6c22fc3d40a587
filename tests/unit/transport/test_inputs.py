"""The bytes of a capture file: pipes, standard input, gzip, zstandard, and their damage."""

import gzip
import os
import random
import select
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from aiomos.errors import CaptureError
from aiomos.transport.inputs import open_input
from aiomos.transport.pcap import CaptureReader
from tests.unit.transport.formats import Row, damaged, pcap, pcapng, rows, samples

Compress = Callable[[bytes], bytes]


def gzip_bytes(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zstandard_bytes(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


COMPRESSED = pytest.mark.parametrize("compress", [gzip_bytes, zstandard_bytes])


def read_file(path: Path) -> tuple[list[Row], CaptureError | None]:
    got: list[Row] = []
    try:
        got.extend(CaptureReader(open_input(str(path)), []))
    except CaptureError as error:
        return got, error
    return got, None


def read_bytes(path: Path, data: bytes) -> tuple[list[Row], CaptureError | None]:
    path.write_bytes(data)
    return read_file(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "named.txt"  # the name says nothing


@pytest.mark.parametrize("compress", [bytes, gzip_bytes, zstandard_bytes])
@pytest.mark.parametrize("build", [pcap, pcapng])
def test_compression_is_known_by_its_first_bytes(
    file: Path, compress: Compress, build: Callable[..., bytes]
) -> None:
    assert read_bytes(file, compress(build(samples(3000)))) == (rows(samples(3000)), None)


@COMPRESSED
def test_members_follow_each_other(file: Path, compress: Compress) -> None:
    whole = pcap(samples(100))
    members = b"".join(compress(whole[at : at + 1000]) for at in range(0, len(whole), 1000))
    assert read_bytes(file, compress(b"") + members) == (rows(samples(100)), None)


def test_gzip_padding_is_passed_over(file: Path) -> None:
    padded = gzip_bytes(pcap(samples())) + bytes(100_000)
    assert read_bytes(file, padded) == (rows(samples()), None)


@COMPRESSED
def test_what_follows_the_last_member_is_told(file: Path, compress: Compress) -> None:
    got, error = read_bytes(file, compress(pcap(samples())) + b"something else")
    assert got == rows(samples())
    assert error is not None
    assert isinstance(error.__cause__, OSError)


@COMPRESSED
def test_compressed_file_cut_at_any_byte(file: Path, compress: Compress) -> None:
    """Every frame that can be decompressed is delivered, as zlib and zstandard themselves say."""
    frames = samples(12)
    whole = compress(pcap(frames))
    for length in range(len(whole)):
        start = (
            zlib.decompressobj(31) if compress is gzip_bytes else zstandard.ZstdDecompressor().decompressobj()
        )
        readable = start.decompress(whole[:length])
        got, error = read_bytes(file, whole[:length])
        assert error is not None
        present = [frame for i, frame in enumerate(frames) if len(pcap(frames[: i + 1])) <= len(readable)]
        assert got == rows(present)
    assert read_bytes(file, whole) == (rows(frames), None)


@COMPRESSED
def test_large_compressed_file_cut_in_the_middle(file: Path, compress: Compress) -> None:
    generator = random.Random(6)
    frames = [sample.__class__(sample.seconds, 0, generator.randbytes(500), 500) for sample in samples(4000)]
    whole = compress(pcap(frames))
    got, error = read_bytes(file, whole[: len(whole) // 2])
    assert error is not None
    assert got == rows(frames)[: len(got)]
    assert 1700 < len(got) < 2100


@COMPRESSED
def test_changed_bytes_never_do_worse_than_an_error(file: Path, compress: Compress) -> None:
    """Nor do they go by as though nothing had been changed: both forms have a checksum."""
    generator = random.Random(7)
    frames = samples(30)
    whole = compress(pcap(frames))
    errors = 0
    for _ in range(1000):
        got, error = read_bytes(file, damaged(whole, generator))
        assert len(got) <= len(frames)
        if error is None:  # what is changed is no part of the frames, as the time of a gzip file
            assert got == rows(frames)
        else:
            errors += 1
    assert errors == (998 if compress is gzip_bytes else 1000)


@pytest.mark.parametrize("compress", [gzip_bytes, zstandard_bytes])
def test_memory_is_bounded_however_much_a_file_expands(file: Path, compress: Compress) -> None:
    file.write_bytes(compress(pcap([]) + bytes(300_000_000)))
    assert file.stat().st_size < 400_000
    source = open_input(str(file))
    buffer = memoryview(bytearray(1 << 16))
    tracemalloc.start()
    try:
        total = sum(iter(lambda: source.readinto(buffer), 0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        source.close()
    assert total == 300_000_000 + len(pcap([]))
    assert peak < 140 * 1024 * 1024


@pytest.mark.parametrize("compress", [bytes, gzip_bytes, zstandard_bytes])
def test_pipe_has_no_size(tmp_path: Path, compress: Compress) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = compress(pcap(samples(3000)))

    def write() -> None:
        with open(pipe, "wb", buffering=0) as file:
            for at in range(0, len(data), 777):
                file.write(data[at : at + 777])

    writer = threading.Thread(target=write)
    writer.start()
    capture = CaptureReader(open_input(str(pipe)), [])
    assert list(capture) == rows(samples(3000))
    writer.join()
    assert (capture.position(), capture.total()) == (len(data), None)


def test_a_pipe_tells_what_to_wait_for_while_a_record_is_incomplete() -> None:
    """Else what comes next is read at once; at its end there is nothing to wait for."""
    reading, writing = os.pipe()
    data = pcap(samples(3))
    os.write(writing, data[:-10])
    capture = CaptureReader(open_input(f"/dev/fd/{reading}"), [])
    os.close(reading)
    assert capture.starved is None
    assert capture.read_batch()
    assert len(capture.batch()) == 2
    waited_for = capture.starved
    assert waited_for is not None
    assert not select.select([waited_for], [], [], 0)[0]
    os.write(writing, data[-10:])
    assert select.select([waited_for], [], [], 0)[0]
    assert capture.starved is None
    assert capture.read_batch()
    assert len(capture.batch()) == 1
    os.close(writing)
    assert not capture.read_batch()
    assert capture.starved is None


@COMPRESSED
def test_progress_counts_compressed_bytes(file: Path, compress: Compress) -> None:
    file.write_bytes(compress(pcap(samples(3000))))
    capture = CaptureReader(open_input(str(file)), [])
    list(capture)
    assert capture.position() == capture.total() == file.stat().st_size


def test_read_error_comes_after_the_frames_before_it() -> None:
    class Failing:
        path, size, position, pipe = "disk", None, 0, None

        def __init__(self) -> None:
            self.parts = [pcap(samples())[:-10]]

        def readinto(self, buffer: memoryview) -> int:
            if not self.parts:
                raise OSError(5, "Input/output error")
            part = self.parts.pop()
            buffer[: len(part)] = part
            return len(part)

        def close(self) -> None:
            pass

    capture = CaptureReader(Failing(), [])
    assert capture.read_batch()
    assert capture.batch()[-1][1] == samples()[3].data
    with pytest.raises(CaptureError, match="Input/output error") as caught:
        capture.read_batch()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.frames == 4


def test_what_cannot_be_opened_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_input(str(tmp_path / "missing"))
    with pytest.raises(IsADirectoryError) as raised:
        open_input(str(tmp_path))
    assert raised.value.filename == str(tmp_path)
