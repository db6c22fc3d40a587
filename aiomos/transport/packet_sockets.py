"""Packet sockets: open one on an interface, with its ring, filter and place in a fanout group; see packet(7).

What is set here belongs to the socket, not to the process: a supervisor can open it and hand it to one worker after
the other, and frames that come in between wait in its ring. All of it ends when the last descriptor is closed.
"""

import errno
import resource
import socket
import struct
from collections.abc import Callable, Sequence

import attrs

from aiomos.errors import TransportError
from aiomos.transport.bpf import Instruction, Program, attach_fanout, attach_filter
from aiomos.transport.rights import how_to_get

# linux/if_packet.h; Python's socket module has few of them.
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP = 1
PACKET_RX_RING = 5
PACKET_STATISTICS = 6
PACKET_VERSION = 10
PACKET_RESERVE = 12
PACKET_FANOUT = 18
PACKET_MR_PROMISC = 1
PACKET_FANOUT_HASH = 0
PACKET_FANOUT_CBPF = 6
PACKET_FANOUT_FLAG_DEFRAG = 0x8000
TPACKET_V3 = 2
ETH_P_ALL = 3
# asm-generic/socket.h
SO_BUSY_POLL = 46

VLAN_TAG_BYTES = 4
"""Room before each frame, where the tag that the kernel took out is put back."""

ARPHRD_LOOPBACK = 772
LINKTYPES = {
    1: 1,  # ARPHRD_ETHER
    ARPHRD_LOOPBACK: 1,  # its Ethernet addresses are zero
    512: 101,  # ARPHRD_PPP: the kernel takes its header off
    519: 101,  # ARPHRD_RAWIP, of mobile modems
    0xFFFE: 101,  # ARPHRD_NONE: tun, WireGuard
}
"""LINKTYPE_ number of the frames of a kind of interface, by its ARPHRD_ number."""

ACCEPT_ALL: Program = (Instruction(0x06, 0, 0, 0xFFFFFFFF),)  # ret #-1
ACCEPT_NONE: Program = (Instruction(0x06, 0, 0, 0),)  # ret #0
NOT_OUTGOING: Program = (
    Instruction(0x20, 0, 0, 0xFFFFF004),  # ld #pkttype
    Instruction(0x15, 0, 1, 4),  # jne #PACKET_OUTGOING, over the next
    *ACCEPT_NONE,
)

DEFAULT_BLOCK_SIZE = 1 << 20
"""Holds the longest super-segment that Linux makes, of 512 KiB."""
DEFAULT_BLOCKS = 64
DEFAULT_RETIRE_MS = 10


@attrs.frozen(kw_only=True)
class Fanout:
    """A group of sockets on one interface, each of which gets a part of the frames.

    Attributes:
        group: Number of the group, 0 to 65,535, of those in the network namespace; of the first interface where a
            transport has several, the next ones have the numbers after it.
        program: Classic BPF that returns the member's place in the group, which is that of its joining, modulo
            their number; None for the kernel's own hash of the flow, which is the same for both directions.
        defragment: Whether IPv4 packets are put together before they are shared out.
    """

    group: int = attrs.field(validator=[attrs.validators.ge(0), attrs.validators.le(0xFFFF)])
    program: Program | None = None
    defragment: bool = False

    def for_interface(self, place: int) -> "Fanout":
        """Return the group to join on one of several interfaces."""
        return attrs.evolve(self, group=(self.group + place) & 0xFFFF)


def refuse_repeats(interfaces: Sequence[str]) -> None:
    """Refuse an interface that is named twice, be it by another of its names: each of its frames would come twice.

    Raises:
        TransportError: there is one.
    """
    named: dict[str | int, str] = {}
    for interface in interfaces:
        try:
            known: str | int = socket.if_nametoindex(interface)
        except OSError:  # it is for who opens it to say so
            known = interface
        if known in named:
            other = named[known]
            twice = "named twice" if other == interface else f"the same interface as {other}"
            raise TransportError(
                f"{interface}: {twice}, so that each frame would be seen twice; name it once"
            )
        named[known] = interface


def open_packet_socket(
    interface: str,
    *,
    block_size: int = DEFAULT_BLOCK_SIZE,
    blocks: int = DEFAULT_BLOCKS,
    retire_ms: int = DEFAULT_RETIRE_MS,
    promiscuous: bool = True,
    busy_poll: int = 0,
    prefilter: Program | None = None,
    fanout: Fanout | None = None,
) -> socket.socket:
    """Open a packet socket with a TPACKET_V3 ring on an interface; frames collect in it from now on.

    Args:
        interface: Its name.
        block_size: Bytes of a block of the ring, a multiple of the page size; no frame can be longer.
        blocks: How many blocks, at least 2.
        retire_ms: Milliseconds after which the kernel hands over a block that is not full.
        promiscuous: Whether frames to other stations are taken, too; for as long as the socket is open.
        busy_poll: Microseconds to poll the network card for when nothing waits (SO_BUSY_POLL); 0 for none.
        prefilter: Classic BPF that the kernel runs on each frame: it returns the bytes to keep, 0 for none.
        fanout: The group to join.

    Raises:
        TransportError: no such interface, no permission, no memory for the ring.
        ValueError: a size is out of range.
    """
    _check_sizes(block_size, blocks, retire_ms)

    def make_ring(sock: socket.socket) -> None:
        _make_ring(sock, interface, block_size, blocks, retire_ms)

    return open_bound_socket(
        interface,
        make_ring,
        promiscuous=promiscuous,
        busy_poll=busy_poll,
        prefilter=prefilter,
        fanout=fanout,
    )


def open_bound_socket(
    interface: str,
    set_up: Callable[[socket.socket], None],
    *,
    promiscuous: bool = True,
    busy_poll: int = 0,
    prefilter: Program | None = None,
    fanout: Fanout | None = None,
) -> socket.socket:
    """Open a packet socket on an interface with a ring of the caller's own kind.

    Args:
        interface: Its name.
        set_up: Makes the ring, and sets what has to be set before.
        promiscuous: Whether frames to other stations are taken, too; for as long as the socket is open.
        busy_poll: Microseconds to poll the network card for when nothing waits (SO_BUSY_POLL); 0 for none.
        prefilter: Classic BPF that the kernel runs on each frame: it returns the bytes to keep, 0 for none.
        fanout: The group to join.

    Raises:
        TransportError: no such interface, no permission, or what *set_up* raises.
    """
    index = _index_of(interface)
    try:
        sock = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
        )
    except PermissionError as error:
        raise TransportError(
            f"{interface}: packet sockets need the capability CAP_NET_RAW: {how_to_get('CAP_NET_RAW')}"
        ) from error
    try:
        set_up(sock)
        _set_busy_poll(sock, interface, busy_poll)
        # Until it is in its group a socket would take what is for others.
        attach_filter(sock, ACCEPT_NONE)
        sock.bind((interface, ETH_P_ALL))
        linktype_of(sock)
        if promiscuous:
            membership = struct.pack("iHH8x", index, PACKET_MR_PROMISC, 0)
            sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
        if fanout is not None:
            _join(sock, interface, fanout)
        set_prefilter(sock, prefilter)
    except OSError as error:
        sock.close()
        if isinstance(error, TransportError):
            raise
        raise TransportError(f"{interface}: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
    return sock


def set_prefilter(sock: socket.socket, prefilter: Program | None) -> None:
    """Have the kernel run another program on each frame that comes from now on.

    Args:
        sock: A bound packet socket.
        prefilter: Classic BPF; None to keep all.

    Raises:
        TransportError: the kernel refuses the program.
    """
    program = ACCEPT_ALL if prefilter is None else prefilter
    if is_loopback(sock):
        # A frame passes lo twice, out and in.
        program = NOT_OUTGOING + program
    try:
        attach_filter(sock, program)
    except OSError as error:
        raise TransportError(
            f"{name_of(sock)}: the kernel refuses the prefilter: {error.strerror}"
        ) from error


def name_of(sock: socket.socket) -> str:
    """Return the name of the interface that a packet socket is bound to; empty once that is removed."""
    name: str = sock.getsockname()[0]
    return name


def is_loopback(sock: socket.socket) -> bool:
    """Tell whether a packet socket is bound to lo."""
    return bool(sock.getsockname()[3] == ARPHRD_LOOPBACK)


def linktype_of(sock: socket.socket) -> int:
    """Return the LINKTYPE_ number of the frames of a bound packet socket.

    Raises:
        TransportError: the interface is of a kind that aiomos does not read.
    """
    name, _, _, kind, _ = sock.getsockname()
    linktype = LINKTYPES.get(kind)
    if linktype is None:
        raise TransportError(
            f"{name}: its link layer, ARPHRD_ number {kind}, is neither Ethernet nor plain IP"
        )
    return linktype


def _index_of(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        there = ", ".join(name for _, name in socket.if_nameindex())
        raise TransportError(f"{interface}: no such interface; there are {there}") from error


def _check_sizes(block_size: int, blocks: int, retire_ms: int) -> None:
    page = resource.getpagesize()
    if block_size < page or block_size % page or block_size > 1 << 30:
        raise ValueError(f"block_size {block_size}: must be a multiple of the page size, {page}, up to 1 GiB")
    if blocks < 2:
        raise ValueError(f"blocks {blocks}: must be at least 2, one to fill while another is read")
    if not 0 < retire_ms < 1 << 16:
        raise ValueError(f"retire_ms {retire_ms}: must be 1 to 65535 milliseconds")


def _make_ring(sock: socket.socket, interface: str, block_size: int, blocks: int, retire_ms: int) -> None:
    sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
    sock.setsockopt(SOL_PACKET, PACKET_RESERVE, VLAN_TAG_BYTES)
    # TPACKET_V3 packs frames one behind the other; the size and count of frames only have to add up.
    request = struct.pack("7I", block_size, blocks, block_size, blocks, retire_ms, 0, 0)
    try:
        sock.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
    except OSError as error:
        if error.errno not in (errno.ENOMEM, errno.EINVAL):
            raise
        raise TransportError(
            f"{interface}: the kernel refuses a ring of {blocks} blocks of {block_size} bytes: {error.strerror}; "
            "lower blocks or block_size"
        ) from error


def _set_busy_poll(sock: socket.socket, interface: str, busy_poll: int) -> None:
    if busy_poll == 0:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_BUSY_POLL, busy_poll)
    except PermissionError as error:
        raise TransportError(
            f"{interface}: busy polling longer than net.core.busy_read needs the capability CAP_NET_ADMIN"
        ) from error


def _join(sock: socket.socket, interface: str, fanout: Fanout) -> None:
    kind = PACKET_FANOUT_HASH if fanout.program is None else PACKET_FANOUT_CBPF
    if fanout.defragment:
        kind |= PACKET_FANOUT_FLAG_DEFRAG
    try:
        sock.setsockopt(SOL_PACKET, PACKET_FANOUT, struct.pack("I", kind << 16 | fanout.group))
        if fanout.program is not None:
            attach_fanout(sock, fanout.program)
    except OSError as error:
        raise TransportError(
            f"{interface}: cannot join fanout group {fanout.group}: {error.strerror}; its members have one "
            "interface and one way of sharing, and are of one user"
        ) from error
