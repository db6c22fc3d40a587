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

from aiomos.descriptors import Descriptors

Wait = Callable[[int], object]

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


_COMPRESSIONS = (
    _Compression("gzip", b"\x1f\x8b", lambda: zlib.decompressobj(16 + zlib.MAX_WBITS)),
    _Compression("zstandard", b"\x28\xb5\x2f\xfd", lambda: zstandard.ZstdDecompressor().decompressobj()),
)
BLOCK_SIZE = 128 * 1024
_PIECE_SIZE = 2 * 1024
"""Compressed bytes decompressed in one step. It bounds what a step can grow to, whatever the file holds:
deflate expands at most 1032 times, to 2 MiB, and zstandard's 4-byte blocks to 128 KiB each, to 64 MiB."""


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

    @property
    def pipe(self) -> int | None:
        """Descriptor of a pipe or a terminal, whose bytes come when they come; None of a file."""

    def readinto(self, buffer: memoryview) -> int | None:
        """Read into *buffer* what is there, decompressed, waiting for some; 0 is the end of the file.

        None is that a pipe had bytes, of which none could be decompressed yet.

        Raises:
            OSError: the file cannot be read on.
        """

    def close(self) -> None:
        """Close the file; may be called again."""


class RawInput:
    """A file as it lies on disk.

    Args:
        path: Path of the file, or ``-`` for standard input, which is not closed.
        descriptors: The files that are open; one on a disk may be closed and opened again. None to keep it open.
        wait: Called with the descriptor of what is no file on a disk before each read; a named pipe is opened without
            waiting for who writes then. None to wait in the system's calls.

    Attributes:
        path: The path as given.
        size: Bytes of the file, or None where it has no size (a pipe).
        position: Bytes read so far.
        pipe: Its descriptor if it is a pipe, a socket or a device, as a terminal is, else None.
        head: The first bytes, which `readinto` gives again.

    Raises:
        OSError: the file cannot be opened or read.
    """

    def __init__(self, path: str, descriptors: Descriptors | None = None, wait: Wait | None = None) -> None:
        self.path: str = path
        self._wait = wait
        self.position: int = 0
        self._descriptors = Descriptors(1) if descriptors is None else descriptors
        self._file: io.FileIO | None = None
        if path == STANDARD_INPUT:
            os.set_blocking(0, True)
            self._file = io.FileIO(0, closefd=False)
            status = os.fstat(0)
        else:
            descriptor = self._descriptors.use(self, self._open)
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):  # there is no going back to where it was
                self._file = self._kept_open(descriptor)
        self._identity = status.st_dev, status.st_ino
        self.size: int | None = status.st_size if stat.S_ISREG(status.st_mode) else None
        self.pipe: int | None = (
            None if self._file is None or stat.S_ISREG(status.st_mode) else self._file.fileno()
        )
        try:
            self.head: bytes = self._read_head()
        except BaseException:
            self.close()
            raise
        self._pending = self.head

    def _read_head(self) -> bytes:
        head = bytearray(MAGIC_LEN)
        at = 0
        while at < MAGIC_LEN and (n := self._read(memoryview(head)[at:])):
            at += n
        return bytes(head[:at])

    def _read(self, buffer: memoryview) -> int:
        if self._file is not None:
            if self._wait is not None:
                self._wait(self._file.fileno())
            n = self._file.readinto(buffer)
        else:
            n = os.preadv(self._descriptors.use(self, self._reopen), [buffer], self.position)
        self.position += n
        return n

    def _kept_open(self, descriptor: int) -> io.FileIO:
        own = os.dup(descriptor)
        self._descriptors.close(self)
        try:
            return io.FileIO(own)
        except OSError as error:  # a directory; the error names the number
            os.close(own)
            raise OSError(error.errno, error.strerror, self.path) from None

    def _open(self) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC
        if self._wait is None or not stat.S_ISFIFO(os.stat(self.path).st_mode):
            return os.open(self.path, flags)
        descriptor = os.open(self.path, flags | os.O_NONBLOCK)
        os.set_blocking(descriptor, True)
        return descriptor

    def _reopen(self) -> int:
        descriptor = self._open()
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != self._identity:
            os.close(descriptor)
            raise OSError("another file has taken its place while it was read")
        return descriptor

    def readinto(self, buffer: memoryview) -> int:
        """Read into *buffer* what is there, waiting for some; 0 is the end of the file."""
        if self._pending:
            n = min(len(buffer), len(self._pending))
            buffer[:n] = self._pending[:n]
            self._pending = self._pending[n:]
            return n
        return self._read(buffer)

    def close(self) -> None:
        """Close the file, unless it is standard input."""
        self._descriptors.close(self)
        if self._file is not None:
            self._file.close()


class DecompressedInput:
    """What a compressed file decompresses to, over all its members.

    A member that is cut short gives all it has. One that is broken gives what came before the 2 KiB of
    compressed bytes in which that shows: neither library hands out what it made of them.

    Args:
        raw: The compressed file.
        compression: What it is compressed with.
        block_size: Compressed bytes to read at once.

    Attributes:
        path: Path of the file.
        size: Bytes of the compressed file, or None.
        pipe: Descriptor of a pipe, or None.
    """

    def __init__(self, raw: RawInput, compression: _Compression, block_size: int = BLOCK_SIZE) -> None:
        self.path: str = raw.path
        self.size: int | None = raw.size
        self.pipe: int | None = raw.pipe
        self._raw = raw
        self._compression = compression
        self._codec: _Codec | None = None
        self._block = memoryview(bytearray(block_size))
        self._at = self._end = 0  # of the compressed bytes in the block that are not decompressed yet
        self._decompressed = memoryview(b"")

    @property
    def position(self) -> int:
        """Compressed bytes read so far."""
        return self._raw.position

    def readinto(self, buffer: memoryview) -> int | None:
        """Decompress into *buffer*; 0 is the end of the file, None that a pipe is to be waited for.

        Raises:
            OSError: the compressed data are broken, cut short or followed by something else.
        """
        has_read = False
        while not self._decompressed:
            if self._at == self._end:
                if has_read and self.pipe is not None:
                    return None
                has_read = True
                if not self._read_block():
                    return 0
            self._decompressed = memoryview(self._decompress_piece())
        n = min(len(buffer), len(self._decompressed))
        buffer[:n] = self._decompressed[:n]
        self._decompressed = self._decompressed[n:]
        return n

    def _read_block(self) -> bool:
        """Read more compressed bytes; false at the end of the file."""
        self._at, self._end = 0, self._raw.readinto(self._block)
        if self._end == 0 and self._codec is not None:
            raise OSError(f"the {self._compression.name} data are cut short")
        return self._end > 0

    def _decompress_piece(self) -> bytes:
        piece = bytes(self._block[self._at : min(self._at + _PIECE_SIZE, self._end)])
        self._at += len(piece)
        if self._codec is None:
            # gzip(1): zero bytes may pad a file behind its members, as on tapes.
            piece = piece.lstrip(b"\0")
            if not piece:
                return b""
            self._codec = self._compression.start()
        try:
            decompressed = self._codec.decompress(piece)
        except (zlib.error, zstandard.ZstdError) as error:
            raise OSError(f"the {self._compression.name} data are broken: {error}") from error
        if self._codec.eof:
            self._at -= len(self._codec.unused_data)
            self._codec = None
        return decompressed

    def close(self) -> None:
        """Close the file."""
        self._raw.close()


def open_input(
    path: str,
    descriptors: Descriptors | None = None,
    block_size: int = BLOCK_SIZE,
    wait: Wait | None = None,
) -> CaptureInput:
    """Open a capture file to read its decompressed bytes.

    Args:
        path: Path of the file, or ``-`` for standard input.
        descriptors: The files that are open, of several captures together; None to keep this one open.
        block_size: Compressed bytes to read at once.
        wait: As in `RawInput`.

    Raises:
        OSError: the file cannot be opened or read.
    """
    raw = RawInput(path, descriptors, wait)
    for compression in _COMPRESSIONS:
        if raw.head.startswith(compression.magic):
            return DecompressedInput(raw, compression, block_size)
    return raw
