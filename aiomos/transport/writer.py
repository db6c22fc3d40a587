"""Writing captures, pcap and pcapng."""

import gzip
import io
import os
import struct
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Literal, Self, cast

import zstandard

from aiomos.wire.numbers import LINKTYPE_ETHERNET

if TYPE_CHECKING:
    from typing_extensions import Buffer

DEFAULT_SNAPLEN = 256 * 1024
MAX_TIME_NS = (1 << 62) - 1
"""Latest time a reader gives back, in the year 2116."""

_PCAP_MAGIC_MICROSECONDS = 0xA1B2C3D4
_PCAP_MAGIC_NANOSECONDS = 0xA1B23C4D
_SECTION_BLOCK, _INTERFACE_BLOCK, _ENHANCED_PACKET_BLOCK = 0x0A0D0D0A, 1, 6
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_UNKNOWN_LENGTH = -1
_OPTION_END, _OPTION_IF_NAME, _OPTION_IF_TSRESOL = 0, 2, 9


class CaptureWriter:
    """Write frames to a capture, little-endian, whole records only.

    Args:
        target: Path, or a binary file that stays open. A path that ends in ``.gz`` or ``.zst`` is compressed.
        format: ``pcap`` or ``pcapng``.
        linktype: LINKTYPE_ number of the frames; in pcapng, of interface 0.
        nanoseconds: Whether times keep their nanoseconds, or are cut to microseconds.
        snaplen: Longest frame to be written, in bytes.
        name: In pcapng, of interface 0; may be empty.

    Raises:
        ValueError: an argument is out of its range.
        OSError: the file cannot be written.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        format: Literal["pcap", "pcapng"] = "pcap",  # noqa: A002 - the word users look for
        linktype: int = LINKTYPE_ETHERNET,
        nanoseconds: bool = True,
        snaplen: int = DEFAULT_SNAPLEN,
        name: str = "",
    ) -> None:
        if format not in ("pcap", "pcapng"):
            raise ValueError(f"format {format!r}: must be 'pcap' or 'pcapng'")
        _check_interface(linktype, snaplen)
        if name and format != "pcapng":
            raise ValueError("interfaces have no names in a pcap file; use format='pcapng'")
        self._blocks = format == "pcapng"
        self._unit_ns = 1 if nanoseconds else 1000
        self._snaplens: list[int] = []
        self._closing = ExitStack()
        self._file = _open_target(target, self._closing)
        if self._blocks:
            self._write_block(_SECTION_BLOCK, struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, _UNKNOWN_LENGTH))
            self.add_interface(name, linktype=linktype, snaplen=snaplen)
        else:
            self._write_pcap_header(linktype, snaplen)

    def add_interface(
        self, name: str = "", *, linktype: int = LINKTYPE_ETHERNET, snaplen: int = DEFAULT_SNAPLEN
    ) -> int:
        """Describe one more interface; pcapng only.

        Args:
            name: Its name, such as ``eth0``; may be empty.
            linktype: LINKTYPE_ number of its frames.
            snaplen: Longest frame to be written of it, in bytes.

        Returns:
            Its index, to be given to `write`.

        Raises:
            ValueError: the format has no interfaces, or an argument is out of its range.
        """
        if not self._blocks:
            raise ValueError("a pcap file has one interface; use format='pcapng' for more")
        _check_interface(linktype, snaplen)
        resolution = 9 if self._unit_ns == 1 else 6
        options = _option(_OPTION_IF_NAME, name.encode()) if name else b""
        options += _option(_OPTION_IF_TSRESOL, bytes([resolution])) + _option(_OPTION_END, b"")
        self._write_block(_INTERFACE_BLOCK, struct.pack("<HxxI", linktype, snaplen) + options)
        self._snaplens.append(snaplen)
        return len(self._snaplens) - 1

    def write(self, time_ns: int, data: "Buffer", wirelen: int | None = None, interface: int = 0) -> None:
        """Write one frame.

        Args:
            time_ns: Its time in nanoseconds since the epoch, from 0 to `MAX_TIME_NS` in pcapng and to the
                year 2106 in pcap.
            data: Its bytes.
            wirelen: Its length on the wire, where *data* was cut; otherwise that of *data*.
            interface: Index of its interface.

        Raises:
            ValueError: the format cannot hold that.
            OSError: the file cannot be written.
        """
        caplen = memoryview(data).nbytes
        wirelen = caplen if wirelen is None else wirelen
        if not 0 <= interface < len(self._snaplens):
            raise ValueError(f"interface {interface}: there are only {len(self._snaplens)}, counted from 0")
        if caplen > self._snaplens[interface]:
            raise ValueError(
                f"a frame of {caplen} bytes is longer than the snap length {self._snaplens[interface]}"
            )
        if not caplen <= wirelen < 1 << 32:
            raise ValueError(
                f"wirelen {wirelen}: must be from {caplen}, the length of the data, to 2**32 - 1"
            )
        if self._blocks:
            self._write_packet_block(time_ns, data, caplen, wirelen, interface)
        else:
            self._write_record(time_ns, data, caplen, wirelen)

    def close(self) -> None:
        """Write what is buffered and close the file, if it was opened here. May be called again."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write_pcap_header(self, linktype: int, snaplen: int) -> None:
        magic = _PCAP_MAGIC_NANOSECONDS if self._unit_ns == 1 else _PCAP_MAGIC_MICROSECONDS
        self._file.write(struct.pack("<IHHiIII", magic, 2, 4, 0, 0, snaplen, linktype))
        self._snaplens.append(snaplen)

    def _write_record(self, time_ns: int, data: "Buffer", caplen: int, wirelen: int) -> None:
        seconds, rest_ns = divmod(time_ns, 1_000_000_000)
        if not 0 <= seconds < 1 << 32:
            raise ValueError(f"time_ns {time_ns}: pcap holds times from 1970 to 2106 only")
        self._file.write(struct.pack("<IIII", seconds, rest_ns // self._unit_ns, caplen, wirelen))
        self._file.write(data)

    def _write_packet_block(
        self, time_ns: int, data: "Buffer", caplen: int, wirelen: int, interface: int
    ) -> None:
        if not 0 <= time_ns <= MAX_TIME_NS:
            raise ValueError(f"time_ns {time_ns}: must be from 0 (1970) to 2**62 - 1 (2116)")
        high, low = divmod(time_ns // self._unit_ns, 1 << 32)
        packet = struct.pack("<IIIII", interface, high, low, caplen, wirelen)
        self._write_block(_ENHANCED_PACKET_BLOCK, packet + bytes(data) + _padding(caplen))

    def _write_block(self, block_type: int, body: bytes) -> None:
        length = struct.pack("<I", 12 + len(body))
        self._file.write(struct.pack("<I", block_type) + length + body + length)


def _check_interface(linktype: int, snaplen: int) -> None:
    if not 0 <= linktype <= 0xFFFF:
        raise ValueError(f"linktype {linktype}: must be from 0 to 65535")
    if not 1 <= snaplen < 1 << 31:
        raise ValueError(f"snaplen {snaplen}: must be from 1 to 2**31 - 1 bytes")


def _padding(length: int) -> bytes:
    return bytes(-length % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + _padding(len(value))


def _open_target(target: str | os.PathLike[str] | BinaryIO, closing: ExitStack) -> BinaryIO:
    """Open *target* for writing; *closing* gets what to close, in the order opened."""
    if not isinstance(target, str | os.PathLike):
        return target
    file: BinaryIO = closing.enter_context(open(target, "wb"))  # noqa: SIM115
    suffix = os.path.splitext(target)[1]
    if suffix == ".gz":
        # No time and no name in the header, so that the same frames give the same bytes.
        file = cast(BinaryIO, gzip.GzipFile("", "wb", fileobj=file, mtime=0))
    elif suffix == ".zst":
        file = cast(BinaryIO, zstandard.ZstdCompressor().stream_writer(file, closefd=False))
    else:
        return file
    closing.enter_context(file)
    return cast(BinaryIO, closing.enter_context(io.BufferedWriter(cast(io.RawIOBase, file))))
