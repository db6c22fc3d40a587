"""What the kernel runs to share frames out: the hash of `aiomos.wire.sharding`, for a group of sockets.

Of fragments only the first has ports, so the hash cannot tell whose they are. Every worker hears them all, by sockets
outside of the group: another program tells fragments from the rest, for either kind of socket.
"""

from collections.abc import Sequence

from aiomos.transport.bpf import Alu, Ancillary, Assembler, Jump, Label, Program, Size
from aiomos.wire.numbers import ETHERNET_HEADER, ICMP_HEADER
from aiomos.wire.sharding import Mix

__all__ = ["fanout_program", "fragments_only", "without_fragments"]

# Memory of the program.
BASE, SPORT, DPORT, NEXT, SUM, FIRST_END, END = range(7)

OUTGOING = 4  # PACKET_OUTGOING of linux/if_packet.h
ARPHRD_ETHER = 1
ARPHRD_LOOPBACK = 772  # has an Ethernet header, too
IPV4 = 0x0800
IPV6 = 0x86DD
TAGS = {
    4: (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300),  # VLAN
    6: (0x8926, 0x892F, 0xF1C1),  # VN-Tag, HSR, R-TAG
    8: (0x893F,),  # E-Tag
}
"""EtherTypes of tags by their size, at whose end is the type of what follows."""
PPPOE = 0x8864
PPPOE_SESSION = 0x1100  # version 1, type 1, code 0
PPP_IPV4 = 0x0021
PPP_IPV6 = 0x0057
MAX_TAGS = 4  # beside the VLAN tag that the kernel takes out
MAX_EXTENSIONS = 8  # as in aiomos.wire.wire
ICMP = 1
TCP = 6
UDP = 17
ICMPV6 = 58
ICMP_ERRORS = (3, 4, 5, 11, 12)  # RFC 792; of ICMPv6 all below 128, RFC 4443 section 2.1
FRAGMENT = 44
AUTHENTICATION = 51
OPTION_HEADERS = (0, 43, 60, 135, 139, 140)  # extension headers whose second byte counts 8 bytes each
KEEP = 0xFFFF_FFFF  # so many bytes of a frame: all


def fanout_program() -> Program:
    """Build the hash as a program for a group of sockets (PACKET_FANOUT_CBPF).

    Bytes are counted from where the kernel has the frame: from the network header if it was received, from the link
    header if it is going out. Loads that count from the network header itself (SKF_NET_OFF) fail on older kernels
    where the headers are not in the linear part of the buffer, as is so with frames sent from a PACKET_TX_RING.
    """
    code = Assembler()
    ipv4, ipv6, icmpv4, icmpv6, ports, ipv4_ends, ipv6_ends = (Label() for _ in range(7))
    code.load_constant(0)
    code.store(SPORT)
    code.store(DPORT)
    find_network(code)
    find_ip(code, ipv4, ipv6)
    code.result(0)
    read_ipv4(code, ipv4, ports, icmpv4, ipv4_ends)
    read_ipv6(code, ipv6, ports, icmpv6, ipv6_ends)
    quoted_ipv4(code, icmpv4, ports, ipv4_ends)
    quoted_ipv6(code, icmpv6, ports, ipv6_ends)
    read_ports(code, ports)
    code.load_index_memory(BASE)
    code.load(Size.BYTE, 0, indexed=True)
    code.compute(Alu.SHIFT_RIGHT, 4)
    code.jump_if(Jump.EQUAL, 4, no=ipv6_ends)
    hash_ends(code, ipv4_ends, [12], [16])
    hash_ends(code, ipv6_ends, range(8, 24, 4), range(24, 40, 4))
    return code.program()


def fragments_only() -> Program:
    """Build a filter of a socket that keeps fragments of IPv4 and IPv6 packets, and nothing else."""
    code, whole = fragments(keep=KEEP)
    code.bind(whole)
    code.result(0)
    return code.program()


def without_fragments(program: Program | None = None) -> Program:
    """Build its opposite: each frame is kept by one of both.

    Args:
        program: A filter for what are no fragments; None to keep them all.
    """
    code, whole = fragments(keep=0)
    code.bind(whole)
    if program is None:
        code.result(KEEP)
        return code.program()
    return code.program() + program


def fragments(*, keep: int) -> tuple[Assembler, Label]:
    """Build a program that ends with a number of bytes for a fragment, else at a label that is still to be bound.

    It never loads from beyond the frame, which would end it with 0.
    """
    code = Assembler()
    ipv4, ipv6, ipv4_fragment, whole, start = (Label() for _ in range(5))
    code.load_index_length()
    code.store_index(END)
    code.load_index(0)
    skip_ethernet(code, start)
    code.bind(start)
    find_ip(code, ipv4, ipv6, cut=whole)
    code.jump(whole)
    code.bind(ipv4)
    within(code, 20, whole)
    code.load(Size.HALF, 6, indexed=True)
    code.jump_if(Jump.ANY_BIT, 0x3FFF, no=whole)
    code.bind(ipv4_fragment)
    code.result(keep)
    code.bind(ipv6)
    within(code, 40, whole)
    is_fragment = Label()
    code.load(Size.BYTE, 6, indexed=True)
    code.store(NEXT)
    code.load_constant(40)
    for _ in range(MAX_EXTENSIONS):
        enter_header(code)
        walk_extension(code, other=whole, cut=whole, fragment=is_fragment, fragment_bits=0xFFF9)
    code.jump(whole)
    code.bind(is_fragment)
    code.result(keep)
    return code, whole


def find_network(code: Assembler) -> None:
    """Move X to where the kernel's frame has its network header: at once, or behind the header of one that goes out."""
    start = Label()
    code.load_index(0)
    code.load_ancillary(Ancillary.PACKET_TYPE)
    code.jump_if(Jump.EQUAL, OUTGOING, no=start)
    skip_ethernet(code, start)
    code.bind(start)


def skip_ethernet(code: Assembler, start: Label) -> None:
    """Move X, which is 0, behind an Ethernet header; jump to *start*, bound next, where the interface has none."""
    has_header = Label()
    code.load_ancillary(Ancillary.HARDWARE_TYPE)
    code.jump_if(Jump.EQUAL, ARPHRD_ETHER, yes=has_header)
    code.jump_if(Jump.EQUAL, ARPHRD_LOOPBACK, no=start)
    code.bind(has_header)
    code.load_index(ETHERNET_HEADER)


def find_ip(code: Assembler, ipv4: Label, ipv6: Label, cut: Label | None = None) -> None:
    """Jump to *ipv4* or *ipv6* with X at the header; fall through where there is neither.

    X is at the network header. Where a header would reach beyond END, jump to *cut*, if that is given.
    """
    pppoe, other = Label(), Label()
    code.load_ancillary(Ancillary.PROTOCOL)
    for _ in range(MAX_TAGS):
        code.jump_if(Jump.EQUAL, IPV4, yes=ipv4)
        code.jump_if(Jump.EQUAL, IPV6, yes=ipv6)
        tags, passed = {size: Label() for size in TAGS}, Label()
        for size, kinds in TAGS.items():
            for kind in kinds:
                code.jump_if(Jump.EQUAL, kind, yes=tags[size])
        code.jump_if(Jump.EQUAL, PPPOE, yes=pppoe, no=other)
        for size, tag in tags.items():
            code.bind(tag)
            step_over(code, size, cut)
            code.jump(passed)
        code.bind(passed)
    code.jump_if(Jump.EQUAL, IPV4, yes=ipv4)
    code.jump_if(Jump.EQUAL, IPV6, yes=ipv6)
    code.jump_if(Jump.EQUAL, PPPOE, no=other)
    code.bind(pppoe)
    if cut is not None:
        within(code, 2, cut)
    code.load(Size.HALF, 0, indexed=True)
    code.jump_if(Jump.EQUAL, PPPOE_SESSION, no=other)
    step_over(code, 8, cut)
    code.jump_if(Jump.EQUAL, PPP_IPV4, yes=ipv4)
    code.jump_if(Jump.EQUAL, PPP_IPV6, yes=ipv6)
    code.bind(other)


def within(code: Assembler, size: int, cut: Label) -> None:
    """Jump to *cut* unless so many bytes from X on lie before END; X stays."""
    code.get_index()
    code.compute(Alu.ADD, size)
    code.load_index_memory(END)
    code.jump_if(Jump.GREATER, None, yes=cut)
    code.compute(Alu.SUBTRACT, size)
    code.set_index()


def step_over(code: Assembler, size: int, cut: Label | None) -> None:
    """Move X past a header, and load the type of what follows, its last two bytes."""
    if cut is not None:
        within(code, size, cut)
    code.load(Size.HALF, size - 2, indexed=True)
    code.store(NEXT)
    code.get_index()
    code.compute(Alu.ADD, size)
    code.set_index()
    code.load_memory(NEXT)


def read_ipv4(code: Assembler, ipv4: Label, ports: Label, icmp: Label, ends: Label) -> None:
    """Jump to *ports* with X at them, to *icmp* with X at the IP header, or to *ends*."""
    has_ports = Label()
    code.bind(ipv4)
    code.store_index(BASE)
    code.load(Size.HALF, 6, indexed=True)
    code.jump_if(Jump.ANY_BIT, 0x3FFF, yes=ends)  # a fragment: more of them, or an offset
    code.load(Size.BYTE, 9, indexed=True)
    code.jump_if(Jump.EQUAL, TCP, yes=has_ports)
    code.jump_if(Jump.EQUAL, ICMP, yes=icmp)
    code.jump_if(Jump.EQUAL, UDP, no=ends)
    code.bind(has_ports)
    skip_ipv4(code)
    code.jump(ports)


def skip_ipv4(code: Assembler) -> None:
    """Move X past the IPv4 header."""
    code.load(Size.BYTE, 0, indexed=True)
    code.compute(Alu.AND, 0x0F)
    code.compute(Alu.SHIFT_LEFT, 2)
    code.compute(Alu.ADD)
    code.set_index()


def read_ipv6(code: Assembler, ipv6: Label, ports: Label, icmp: Label, ends: Label) -> None:
    """Walk the extension headers; jump to *ports* with X at them, to *icmp* with X at its header, or to *ends*."""
    code.bind(ipv6)
    code.store_index(BASE)
    code.load(Size.BYTE, 6, indexed=True)
    code.store(NEXT)
    code.load_constant(40)
    other = Label()
    for _ in range(MAX_EXTENSIONS):
        enter_header(code)
        code.jump_if(Jump.EQUAL, TCP, yes=ports)
        code.jump_if(Jump.EQUAL, UDP, yes=ports)
        walk_extension(
            code, other=other, cut=None, fragment=ends, fragment_bits=0xFFF9
        )  # or atomic: RFC 6946
    enter_header(code)
    code.jump_if(Jump.EQUAL, TCP, yes=ports)
    code.jump_if(Jump.EQUAL, UDP, yes=ports)
    code.bind(other)
    code.jump_if(Jump.EQUAL, ICMPV6, yes=icmp, no=ends)


def walk_extension(
    code: Assembler, *, other: Label, cut: Label | None, fragment: Label, fragment_bits: int
) -> None:
    """Load the size of the extension header at X whose number is loaded, and note what follows it.

    Args:
        code: Where to.
        other: Jumped to where it is none, with its number still loaded.
        cut: Jumped to where it would reach beyond END; None to load it nevertheless.
        fragment: Jumped to where it is that of a fragment,
        fragment_bits: that has one of these bits of offset and flags.
    """
    known, by_8, by_4, passed, is_fragment = (Label() for _ in range(5))
    for kind in (*OPTION_HEADERS, FRAGMENT):
        code.jump_if(Jump.EQUAL, kind, yes=known)
    code.jump_if(Jump.EQUAL, AUTHENTICATION, no=other)
    code.bind(known)
    if cut is not None:
        within(code, 8, cut)
        code.load_memory(NEXT)
    code.jump_if(Jump.EQUAL, FRAGMENT, yes=is_fragment)
    code.jump_if(Jump.EQUAL, AUTHENTICATION, yes=by_4, no=by_8)
    code.bind(by_4)
    measure_header(code, 2, 2)  # RFC 4302 section 2.2
    code.jump(passed)
    code.bind(is_fragment)
    code.load(Size.HALF, 2, indexed=True)
    code.jump_if(Jump.ANY_BIT, fragment_bits, yes=fragment)
    code.load(Size.BYTE, 0, indexed=True)
    code.store(NEXT)
    code.load_constant(8)
    code.jump(passed)
    code.bind(by_8)
    measure_header(code, 1, 3)
    code.bind(passed)


def quoted_ipv4(code: Assembler, icmp: Label, ports: Label, ends: Label) -> None:
    """Of an ICMP error, X at its IP header, make BASE that of the packet it quotes, and go on as with that one."""
    error, has_ports = Label(), Label()
    code.bind(icmp)
    code.load(Size.HALF, 2, indexed=True)
    code.compute(Alu.ADD)
    code.store(END)
    skip_ipv4(code)
    within(code, ICMP_HEADER + 20, ends)
    code.load(Size.BYTE, 0, indexed=True)
    for kind in ICMP_ERRORS[:-1]:
        code.jump_if(Jump.EQUAL, kind, yes=error)
    code.jump_if(Jump.EQUAL, ICMP_ERRORS[-1], no=ends)
    code.bind(error)
    code.load(Size.BYTE, ICMP_HEADER, indexed=True)
    code.jump_if(Jump.GREATER, 0x4F, yes=ends)
    code.jump_if(Jump.AT_LEAST, 0x45, no=ends)
    enter_quote(code)
    code.load(Size.HALF, 6, indexed=True)
    code.jump_if(Jump.ANY_BIT, 0x1FFF, yes=ends)  # only the first fragment has ports
    code.load(Size.BYTE, 9, indexed=True)
    code.jump_if(Jump.EQUAL, TCP, yes=has_ports)
    code.jump_if(Jump.EQUAL, UDP, no=ends)
    code.bind(has_ports)
    skip_ipv4(code)
    within(code, 4, ends)
    code.jump(ports)


def quoted_ipv6(code: Assembler, icmp: Label, ports: Label, ends: Label) -> None:
    """Do the same with ICMPv6, X at its header."""
    has_ports, other = Label(), Label()
    code.bind(icmp)
    code.store_index(SUM)
    code.load_index_memory(BASE)
    code.load(Size.HALF, 4, indexed=True)
    code.compute(Alu.ADD)
    code.compute(Alu.ADD, 40)
    code.store(END)
    code.load_index_memory(SUM)
    within(code, ICMP_HEADER + 40, ends)
    code.load(Size.BYTE, 0, indexed=True)
    code.jump_if(Jump.AT_LEAST, 128, yes=ends)
    code.load(Size.BYTE, ICMP_HEADER, indexed=True)
    code.compute(Alu.SHIFT_RIGHT, 4)
    code.jump_if(Jump.EQUAL, 6, no=ends)
    enter_quote(code)
    code.load(Size.BYTE, 6, indexed=True)
    code.store(NEXT)
    code.load_constant(40)
    for _ in range(MAX_EXTENSIONS):
        enter_header(code)
        walk_extension(code, other=other, cut=ends, fragment=ends, fragment_bits=0xFFF8)
    enter_header(code)
    code.bind(other)
    code.jump_if(Jump.EQUAL, TCP, yes=has_ports)
    code.jump_if(Jump.EQUAL, UDP, no=ends)
    code.bind(has_ports)
    within(code, 4, ends)
    code.jump(ports)


def enter_quote(code: Assembler) -> None:
    """Move X from an ICMP header to the IP header behind it, and make that BASE."""
    code.get_index()
    code.compute(Alu.ADD, ICMP_HEADER)
    code.set_index()
    code.store_index(BASE)


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
