"""What is known of the interface that frames were taken from: by the header of a capture, live by the kernel."""

import fcntl
import os
import socket
import struct
from contextlib import suppress

import attrs

MAX_INTERFACES = 1 << 16
"""A frame holds the index of its interface in 16 bits."""

# linux/sockios.h, linux/if_arp.h, linux/ethtool.h
SIOCGIFMTU, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCETHTOOL = 0x8921, 0x8927, 0x8933, 0x8946
ARPHRD_ETHER = 1
OFFLOADS = {"tx_checksum": 0x16, "tso": 0x1E, "gso": 0x23, "gro": 0x2B}
"""Whether each is on is asked by a command of the ethtool interface."""

IFREQ = "16s24x"


@attrs.frozen
class Interface:
    """One interface; a frame refers to it by its place in `FrameSource.interfaces`.

    Attributes:
        path: The capture it belongs to; ``-`` for standard input; empty of a live one.
        name: Its name where the capture tells it, else empty.
        linktype: LINKTYPE_ number of its frames.
        snaplen: Bytes kept of each frame at most; 0 for no limit.
        index: Number by which the kernel knows it; 0 where it does not.
        mac: MAC address, ``02:00:00:00:00:01``; empty where there is none, or it is not known.
        mtu: Longest IP packet, bytes; 0 where it is not known.
        offloads: What its network card, or the kernel in its place, takes over: some of ``tx_checksum``, ``tso``,
            ``gso`` and ``gro``.
    """

    path: str
    name: str
    linktype: int
    snaplen: int
    index: int = 0
    mac: str = ""
    mtu: int = 0
    offloads: frozenset[str] = frozenset()


def live_interface(name: str, linktype: int) -> Interface:
    """Ask the kernel what it knows of an interface of this network namespace; what it does not tell is left empty."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        family, mac = _ask(asked, SIOCGIFHWADDR, name, "H6s")
        return Interface(
            path="",
            name=name,
            linktype=linktype,
            snaplen=0,
            index=_ask(asked, SIOCGIFINDEX, name, "i")[0],
            mac=mac.hex(":") if family == ARPHRD_ETHER else "",
            mtu=_ask(asked, SIOCGIFMTU, name, "i")[0],
            offloads=frozenset(what for what, command in OFFLOADS.items() if _is_on(asked, name, command)),
        )


def _ask(asked: socket.socket, request: int, name: str, answer: str) -> tuple[int, bytes]:
    """Return the fields of an answer, zeros without one."""
    data = bytes(40)
    with suppress(OSError):
        data = fcntl.ioctl(asked, request, struct.pack(IFREQ, os.fsencode(name)))
    first, *more = struct.unpack_from(answer, data, 16)
    return first, more[0] if more else b""


def _is_on(asked: socket.socket, name: str, command: int) -> bool:
    value = bytearray(struct.pack("II", command, 0))
    address = _address_of(value)
    with suppress(OSError):
        fcntl.ioctl(asked, SIOCETHTOOL, struct.pack("16sQ16x", os.fsencode(name), address))
    return bool(struct.unpack("II", value)[1])


def _address_of(buffer: bytearray) -> int:
    """Return where in memory a buffer lies: the kernel writes its answer there."""
    from ctypes import addressof, c_char

    return addressof((c_char * len(buffer)).from_buffer(buffer))
