"""The bytes of a capture file: read from disk, a pipe or standard input, counted, and decompressed.

gzip and zstandard are recognised by their first bytes, never by the file's name.
"""

import io
import os
import stat
import zlib
from collections.abc import Callable
from typing import Protocol

import attrs
import zstandard

STANDARD_INPUT = "-"
MAGIC_LEN = 4


class _Codec(Protocol):
    """One compressed member, as `zlib.decompressobj` and zstandard's ``decompressobj`` read it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


@attrs.frozen
class _Compression:
    name: str
    magic: bytes
    start: Callable[[], _Codec]
    piece: int
    """Compressed bytes taken at once. Bounds what one step can grow to, whatever the file holds: deflate
    expands at most 1032 times (to 16 MiB); a zstandard block of 4 bytes to 128 KiB (to 64 MiB)."""


_COMPRESSIONS = (
    _Compression("gzip", b"\x1f\x8b", lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), 16 * 1024),
    _Compression(
        "zstandard", b"\x28\xb5\x2f\xfd", lambda: zstandard.ZstdDecompressor().decompressobj(), 2 * 1024
    ),
)


class CaptureInput(Protocol):
    """Where a reader takes the bytes of one capture from."""

    @property
    def path(self) -> str:
        """Path of the file; ``-`` for standard input."""

    @property
    def size(self) -> int | None:
        """Bytes of the file as it lies on disk, or None where it has no size (a pipe)."""

    @property
    def position(self) -> int:
        """Bytes of the file as it lies on disk that were read so far."""

    def readinto(self, buffer: memoryview) -> int:
        """Read into *buffer* what is there, decompressed, waiting for some; 0 is the end of the file.

        Raises:
            OSError: the file cannot be read on.
        """

    def close(self) -> None:
        """Close the file; may be called again."""


class RawInput:
    """A file as it lies on disk.

    Args:
        path: Path of the file, or ``-`` for standard input, which is not closed.

    Attributes:
        path: The path as given.
        size: Bytes of the file, or None where it has no size (a pipe).
        position: Bytes read so far.
        head: The first bytes, which `readinto` gives again.

    Raises:
        OSError: the file cannot be opened or read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.position = 0
        if path == STANDARD_INPUT:
            os.set_blocking(0, True)
            self._file = io.FileIO(0, closefd=False)
        else:
            self._file = io.FileIO(path)
        status = os.fstat(self._file.fileno())
        self.size = status.st_size if stat.S_ISREG(status.st_mode) else None
        try:
            self.head = self._read_head()
        except OSError:
            self.close()
            raise
        self._pending = self.head

    def _read_head(self) -> bytes:
        head = b""
        while len(head) < MAGIC_LEN and (more := self._file.read(MAGIC_LEN - len(head))):
            head += more
        self.position = len(head)
        return head

    def readinto(self, buffer: memoryview) -> int:
        """Read into *buffer* what is there, waiting for some; 0 is the end of the file."""
        if self._pending:
            n = min(len(buffer), len(self._pending))
            buffer[:n] = self._pending[:n]
            self._pending = self._pending[n:]
            return n
        n = self._file.readinto(buffer)
        self.position += n
        return n

    def close(self) -> None:
        """Close the file, unless it is standard input."""
        self._file.close()


class DecompressedInput:
    """What a compressed file decompresses to, over all its members.

    A broken member ends it with an `OSError`, after what was decompressed up to the piece that is broken.

    Args:
        raw: The compressed file.
        compression: What it is compressed with.

    Attributes:
        path: Path of the file.
        size: Bytes of the compressed file, or None.
    """

    def __init__(self, raw: RawInput, compression: _Compression) -> None:
        self.path = raw.path
        self.size = raw.size
        self._raw = raw
        self._compression = compression
        self._codec: _Codec | None = None
        self._compressed = b""
        self._piece = memoryview(bytearray(compression.piece))
        self._decompressed = memoryview(b"")

    @property
    def position(self) -> int:
        """Compressed bytes read so far."""
        return self._raw.position

    def readinto(self, buffer: memoryview) -> int:
        """Decompress into *buffer*; 0 is the end of the file.

        Raises:
            OSError: the compressed data are broken, cut short or followed by something else.
        """
        while not self._decompressed:
            compressed = self._take_piece()
            if not compressed:
                return 0
            self._decompressed = memoryview(self._decompress(compressed))
        n = min(len(buffer), len(self._decompressed))
        buffer[:n] = self._decompressed[:n]
        self._decompressed = self._decompressed[n:]
        return n

    def _take_piece(self) -> bytes:
        """Return compressed bytes of a member; none at the end of the file."""
        while True:
            compressed = self._compressed or bytes(self._piece[: self._raw.readinto(self._piece)])
            self._compressed = b""
            if self._codec is None:
                # gzip(1): zero bytes may pad a file behind its members, as on tapes.
                padded, compressed = compressed, compressed.lstrip(b"\0")
                if padded and not compressed:
                    continue
            elif not compressed:
                raise OSError(f"the {self._compression.name} data are cut short")
            return compressed

    def _decompress(self, compressed: bytes) -> bytes:
        if self._codec is None:
            self._codec = self._compression.start()
        try:
            decompressed = self._codec.decompress(compressed)
        except (zlib.error, zstandard.ZstdError) as error:
            raise OSError(f"the {self._compression.name} data are broken: {error}") from error
        if self._codec.eof:
            self._compressed = self._codec.unused_data
            self._codec = None
        return decompressed

    def close(self) -> None:
        """Close the file."""
        self._raw.close()


def open_input(path: str) -> CaptureInput:
    """Open a capture file to read its decompressed bytes.

    Args:
        path: Path of the file, or ``-`` for standard input.

    Raises:
        OSError: the file cannot be opened or read.
    """
    raw = RawInput(path)
    for compression in _COMPRESSIONS:
        if raw.head.startswith(compression.magic):
            return DecompressedInput(raw, compression)
    return raw
