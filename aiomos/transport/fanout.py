"""The hash of `aiomos.transport.sharding` as a program that the kernel runs for a group of sockets."""

from collections.abc import Sequence

from aiomos.transport.bpf import Alu, Ancillary, Assembler, Jump, Label, Program, Size
from aiomos.transport.sharding import Mix

__all__ = ["fanout_program"]

# Memory of the program.
BASE, SPORT, DPORT, NEXT, SUM, FIRST_END = range(6)

OUTGOING = 4  # PACKET_OUTGOING of linux/if_packet.h
ARPHRD_ETHER = 1
ARPHRD_LOOPBACK = 772  # has an Ethernet header, too
ETHERNET_HEADER = 14
IPV4 = 0x0800
IPV6 = 0x86DD
VLANS = (0x8100, 0x88A8, 0x9100)
PPPOE = 0x8864
PPPOE_SESSION = 0x1100  # version 1, type 1, code 0
PPP_IPV4 = 0x0021
PPP_IPV6 = 0x0057
MAX_TAGS = 4  # VLAN tags beside the one that the kernel takes out
MAX_EXTENSIONS = 8  # as in aiomos.tcp.wire
TCP = 6
UDP = 17
FRAGMENT = 44
AUTHENTICATION = 51
OPTION_HEADERS = (0, 43, 60, 135, 139, 140)  # extension headers whose second byte counts 8 bytes each


def fanout_program() -> Program:
    """Build the hash as a program for a group of sockets (PACKET_FANOUT_CBPF).

    Bytes are counted from where the kernel has the frame: from the network header if it was received, from the link
    header if it is going out. Loads that count from the network header itself (SKF_NET_OFF) fail on older kernels
    where the headers are not in the linear part of the buffer, as is so with frames sent from a PACKET_TX_RING.
    """
    code = Assembler()
    ipv4, ipv6, ports, ipv4_ends, ipv6_ends = (Label() for _ in range(5))
    code.load_constant(0)
    code.store(SPORT)
    code.store(DPORT)
    find_ip(code, ipv4, ipv6)
    code.result(0)
    read_ipv4(code, ipv4, ports, ipv4_ends)
    read_ipv6(code, ipv6, ports, ipv6_ends)
    read_ports(code, ports)
    code.load_index_memory(BASE)
    code.load(Size.BYTE, 0, indexed=True)
    code.compute(Alu.SHIFT_RIGHT, 4)
    code.jump_if(Jump.EQUAL, 4, no=ipv6_ends)
    hash_ends(code, ipv4_ends, [12], [16])
    hash_ends(code, ipv6_ends, range(8, 24, 4), range(24, 40, 4))
    return code.program()


def find_ip(code: Assembler, ipv4: Label, ipv6: Label) -> None:
    """Jump to *ipv4* or *ipv6* with X at the header; fall through where there is neither."""
    has_header, start, pppoe, other = Label(), Label(), Label(), Label()
    code.load_index(0)
    code.load_ancillary(Ancillary.PACKET_TYPE)
    code.jump_if(Jump.EQUAL, OUTGOING, no=start)
    code.load_ancillary(Ancillary.HARDWARE_TYPE)
    code.jump_if(Jump.EQUAL, ARPHRD_ETHER, yes=has_header)
    code.jump_if(Jump.EQUAL, ARPHRD_LOOPBACK, no=start)
    code.bind(has_header)
    code.load_index(ETHERNET_HEADER)
    code.bind(start)
    code.load_ancillary(Ancillary.PROTOCOL)
    for _ in range(MAX_TAGS):
        code.jump_if(Jump.EQUAL, IPV4, yes=ipv4)
        code.jump_if(Jump.EQUAL, IPV6, yes=ipv6)
        tag = Label()
        for kind in VLANS:
            code.jump_if(Jump.EQUAL, kind, yes=tag)
        code.jump_if(Jump.EQUAL, PPPOE, yes=pppoe, no=other)
        code.bind(tag)
        step_over(code, 4)
    code.jump_if(Jump.EQUAL, IPV4, yes=ipv4)
    code.jump_if(Jump.EQUAL, IPV6, yes=ipv6)
    code.jump_if(Jump.EQUAL, PPPOE, no=other)
    code.bind(pppoe)
    code.load(Size.HALF, 0, indexed=True)
    code.jump_if(Jump.EQUAL, PPPOE_SESSION, no=other)
    step_over(code, 8)
    code.jump_if(Jump.EQUAL, PPP_IPV4, yes=ipv4)
    code.jump_if(Jump.EQUAL, PPP_IPV6, yes=ipv6)
    code.bind(other)


def step_over(code: Assembler, size: int) -> None:
    """Move X past a header, and load the type of what follows, its last two bytes."""
    code.load(Size.HALF, size - 2, indexed=True)
    code.store(NEXT)
    code.get_index()
    code.compute(Alu.ADD, size)
    code.set_index()
    code.load_memory(NEXT)


def read_ipv4(code: Assembler, ipv4: Label, ports: Label, ends: Label) -> None:
    """Jump to *ports* with X at them, or to *ends*."""
    has_ports = Label()
    code.bind(ipv4)
    code.store_index(BASE)
    code.load(Size.HALF, 6, indexed=True)
    code.jump_if(Jump.ANY_BIT, 0x3FFF, yes=ends)  # a fragment: more of them, or an offset
    code.load(Size.BYTE, 9, indexed=True)
    code.jump_if(Jump.EQUAL, TCP, yes=has_ports)
    code.jump_if(Jump.EQUAL, UDP, no=ends)
    code.bind(has_ports)
    code.load(Size.BYTE, 0, indexed=True)
    code.compute(Alu.AND, 0x0F)
    code.compute(Alu.SHIFT_LEFT, 2)
    code.compute(Alu.ADD)
    code.set_index()
    code.jump(ports)


def read_ipv6(code: Assembler, ipv6: Label, ports: Label, ends: Label) -> None:
    """Walk the extension headers; jump to *ports* with X at them, or to *ends*."""
    code.bind(ipv6)
    code.store_index(BASE)
    code.load(Size.BYTE, 6, indexed=True)
    code.store(NEXT)
    code.load_constant(40)
    for _ in range(MAX_EXTENSIONS):
        by_8, passed, fragment = Label(), Label(), Label()
        enter_header(code)
        code.jump_if(Jump.EQUAL, TCP, yes=ports)
        code.jump_if(Jump.EQUAL, UDP, yes=ports)
        for kind in OPTION_HEADERS:
            code.jump_if(Jump.EQUAL, kind, yes=by_8)
        code.jump_if(Jump.EQUAL, FRAGMENT, yes=fragment)
        code.jump_if(Jump.EQUAL, AUTHENTICATION, no=ends)
        measure_header(code, 2, 2)  # RFC 4302 section 2.2
        code.jump(passed)
        code.bind(fragment)
        code.load(Size.HALF, 2, indexed=True)
        code.jump_if(Jump.ANY_BIT, 0xFFF9, yes=ends)  # else atomic: RFC 6946
        code.load(Size.BYTE, 0, indexed=True)
        code.store(NEXT)
        code.load_constant(8)
        code.jump(passed)
        code.bind(by_8)
        measure_header(code, 1, 3)
        code.bind(passed)
    enter_header(code)
    code.jump_if(Jump.EQUAL, TCP, yes=ports)
    code.jump_if(Jump.EQUAL, UDP, yes=ports, no=ends)


def enter_header(code: Assembler) -> None:
    """Move X on by the accumulator, and load the number of the header there."""
    code.compute(Alu.ADD)
    code.set_index()
    code.load_memory(NEXT)


def measure_header(code: Assembler, more: int, shift: int) -> None:
    """Note what follows the extension header at X, and load its size."""
    code.load(Size.BYTE, 0, indexed=True)
    code.store(NEXT)
    code.load(Size.BYTE, 1, indexed=True)
    code.compute(Alu.ADD, more)
    code.compute(Alu.SHIFT_LEFT, shift)


def read_ports(code: Assembler, ports: Label) -> None:
    """Keep the ports at X."""
    code.bind(ports)
    code.load(Size.HALF, 0, indexed=True)
    code.store(SPORT)
    code.load(Size.HALF, 2, indexed=True)
    code.store(DPORT)


def hash_ends(code: Assembler, label: Label, source: Sequence[int], destination: Sequence[int]) -> None:
    """End the program with what `ends_hash` gives; the words of the addresses lie at these places of the IP header."""
    code.bind(label)
    hash_end(code, source, SPORT)
    code.store(FIRST_END)
    hash_end(code, destination, DPORT)
    code.load_index_memory(FIRST_END)
    code.compute(Alu.ADD)
    mix(code, 16)
    code.compute(Alu.MULTIPLY, Mix.MIX_ENDS)
    mix(code, 15)
    code.result_is_accumulator()


def hash_end(code: Assembler, words: Sequence[int], port: int) -> None:
    """Load what `end_hash` gives."""
    first, *others = words
    code.load_index_memory(BASE)
    code.load(Size.WORD, first, indexed=True)
    for at in others:
        code.compute(Alu.MULTIPLY, Mix.MIX_WORD)
        code.store(SUM)
        code.load(Size.WORD, at, indexed=True)
        code.load_index_memory(SUM)
        code.compute(Alu.ADD)
        code.load_index_memory(BASE)
    code.compute(Alu.MULTIPLY, Mix.MIX_WORD)
    code.load_index_memory(port)
    code.compute(Alu.ADD)
    mix(code, 16)
    code.compute(Alu.MULTIPLY, Mix.MIX_END)


def mix(code: Assembler, shift: int) -> None:
    """Fold the upper bits into the lower ones."""
    code.store(SUM)
    code.compute(Alu.SHIFT_RIGHT, shift)
    code.load_index_memory(SUM)
    code.compute(Alu.XOR)
