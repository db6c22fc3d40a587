"""Frames and packets built from their fields, with right lengths and checksums.

Pure Python and independent of the engine's own reader, so tests can compare the two::

    tcp_frame(dport=80, flags="S", options=mss(1460) + sack_ok())
    ethernet(ipv4(udp(b"query", dport=53)), vlan=7)

Each builder takes the bytes it carries first and returns the bytes with its header in front.
Addresses are dotted or colon text; a builder that needs the IP version takes it from them.
"""

import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_VLAN = 0x8100

PROTO_ICMP = 1
PROTO_TCP = 6
PROTO_UDP = 17
PROTO_IPV6_FRAGMENT = 44

FLAG_LETTERS = "FSRPAUEC"
"""TCP flag letters from bit 0 up: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR."""

DEFAULT_SRC = "10.0.0.1"
DEFAULT_DST = "10.0.0.2"


def checksum(data: bytes, initial: int = 0) -> int:
    """Compute the Internet checksum (RFC 1071).

    Args:
        data: Bytes to sum; an odd last byte is padded with zero.
        initial: A sum to start from, such as a pseudo-header's.

    Returns:
        The 16-bit complement, as it is written into a header.
    """
    if len(data) % 2:
        data += b"\0"
    total: int = initial + sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(src: str, dst: str, proto: int, length: int) -> bytes:
    """Build the pseudo-header that TCP and UDP checksums cover (RFC 9293 §3.1, RFC 8200 §8.1).

    The length always takes 32 bits, as in IPv6: the sum is the same, and super-frames have one too.
    """
    return ip_address(src).packed + ip_address(dst).packed + struct.pack("!IxxxB", length, proto)


def flag_bits(flags: str) -> int:
    """Turn flag letters of ``FSRPAUEC`` into the bits of the TCP header.

    Raises:
        ValueError: A letter is not a TCP flag.
    """
    bits = 0
    for letter in flags:
        if letter not in FLAG_LETTERS:
            raise ValueError(f"flags {flags!r}: {letter!r} is not a TCP flag; use letters of {FLAG_LETTERS}")
        bits |= 1 << FLAG_LETTERS.index(letter)
    return bits


# --- link layer -----------------------------------------------------------------------------------


def ethernet(
    payload: bytes,
    *,
    src: str = "02:00:00:00:00:01",
    dst: str = "02:00:00:00:00:02",
    ethertype: int | None = None,
    vlan: int | Sequence[int] | None = None,
) -> bytes:
    """Put an Ethernet header in front of *payload*.

    Args:
        payload: What the frame carries.
        src: Source MAC address.
        dst: Destination MAC address.
        ethertype: Type of the payload; by default taken from its IP version.
        vlan: VLAN id, or ids from the outermost inwards.
    """
    kind = ip_ethertype(payload) if ethertype is None else ethertype
    body = payload
    for tag in reversed([vlan] if isinstance(vlan, int) else vlan or []):
        body = struct.pack("!HH", tag, kind) + body
        kind = ETHERTYPE_VLAN
    return mac_bytes(dst) + mac_bytes(src) + struct.pack("!H", kind) + body


def vlan(frame: bytes, vid: int, *, ethertype: int = ETHERTYPE_VLAN, priority: int = 0) -> bytes:
    """Insert an 802.1Q tag (802.1ad with *ethertype* 0x88A8) as the outermost of an Ethernet frame."""
    return frame[:12] + struct.pack("!HH", ethertype, priority << 13 | vid) + frame[12:]


def ip_ethertype(packet: bytes) -> int:
    """Tell the EtherType of an IP packet by its version."""
    return ETHERTYPE_IPV6 if packet and packet[0] >> 4 == 6 else ETHERTYPE_IPV4


def mac_bytes(text: str) -> bytes:
    """Turn ``02:00:00:00:00:01`` into six bytes."""
    return bytes.fromhex(text.replace(":", ""))


# --- IP -------------------------------------------------------------------------------------------


def ipv4(
    payload: bytes,
    *,
    src: str = DEFAULT_SRC,
    dst: str = DEFAULT_DST,
    proto: int = PROTO_TCP,
    ttl: int = 64,
    tos: int = 0,
    ip_id: int = 0,
    fragment_offset: int = 0,
    more_fragments: bool = False,
    dont_fragment: bool = False,
    options: bytes = b"",
    total_length: int | None = None,
) -> bytes:
    """Put an IPv4 header in front of *payload*.

    Args:
        payload: What the packet carries.
        src: Source address.
        dst: Destination address.
        proto: Protocol number of the payload.
        ttl: Time to live.
        tos: The DSCP and ECN byte.
        ip_id: Identification, which joins fragments.
        fragment_offset: Offset in bytes, a multiple of 8.
        more_fragments: Set MF.
        dont_fragment: Set DF.
        options: Header options; padded to a multiple of 4.
        total_length: Overrides the right total length, which is 0 where the field is too small for
            it, as in super-frames of segmentation offload.
    """
    options = pad(options)
    size = 20 + len(options)
    length = fit_length(size + len(payload)) if total_length is None else total_length
    flags = fragment_offset // 8 | more_fragments << 13 | dont_fragment << 14
    fixed = struct.pack("!BBHHHBBH", 0x40 | size // 4, tos, length, ip_id, flags, ttl, proto, 0)
    header = fixed + IPv4Address(src).packed + IPv4Address(dst).packed + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ipv6(
    payload: bytes,
    *,
    src: str = "2001:db8::1",
    dst: str = "2001:db8::2",
    proto: int = PROTO_TCP,
    hop_limit: int = 64,
    traffic_class: int = 0,
    flow_label: int = 0,
    payload_length: int | None = None,
) -> bytes:
    """Put an IPv6 header in front of *payload*.

    Args:
        payload: Extension headers, if any, and what the packet carries.
        src: Source address.
        dst: Destination address.
        proto: Number of the first header of the payload.
        hop_limit: Hop limit.
        traffic_class: The DSCP and ECN byte.
        flow_label: 20-bit flow label.
        payload_length: Overrides the right payload length, which is 0 where the field is too small for
            it, as in super-frames of segmentation offload.
    """
    length = fit_length(len(payload)) if payload_length is None else payload_length
    header = struct.pack("!IHBB", 6 << 28 | traffic_class << 20 | flow_label, length, proto, hop_limit)
    return header + IPv6Address(src).packed + IPv6Address(dst).packed + payload


def fit_length(length: int) -> int:
    """Give what a 16-bit length field says of *length*: itself, or 0 when it does not fit."""
    return length if length <= 0xFFFF else 0


def ipv6_extension(payload: bytes, *, proto: int = PROTO_TCP, body: bytes = b"\x01\x04\0\0\0\0") -> bytes:
    """Put an IPv6 extension header of the common form in front of *payload* (RFC 8200 §4.3).

    Args:
        payload: What follows the header.
        proto: Number of the header that follows.
        body: Bytes after the length field: 6 more than a multiple of 8 (default: padding only).
    """
    return bytes([proto, len(body) // 8]) + body + payload


def ip(payload: bytes, *, src: str, dst: str, proto: int, ttl: int = 64, ip_id: int = 0) -> bytes:
    """Put the IP header that *src* and *dst* call for in front of *payload*."""
    if ip_address(src).version == 4:
        return ipv4(payload, src=src, dst=dst, proto=proto, ttl=ttl, ip_id=ip_id)
    return ipv6(payload, src=src, dst=dst, proto=proto, hop_limit=ttl)


def fragment_ipv4(packet: bytes, size: int) -> list[bytes]:
    """Cut an IPv4 packet without options into fragments.

    Args:
        packet: A whole packet.
        size: Payload bytes of each fragment but the last; a multiple of 8.
    """
    fixed, payload = packet[:20], packet[20:]
    return [
        ipv4(
            payload[at : at + size],
            src=str(IPv4Address(fixed[12:16])),
            dst=str(IPv4Address(fixed[16:20])),
            proto=fixed[9],
            ttl=fixed[8],
            tos=fixed[1],
            ip_id=int.from_bytes(fixed[4:6]),
            fragment_offset=at,
            more_fragments=at + size < len(payload),
        )
        for at in range(0, len(payload), size)
    ]


def fragment_ipv6(packet: bytes, size: int, *, ip_id: int = 1) -> list[bytes]:
    """Cut an IPv6 packet into fragments, all that follows the fixed header being fragmentable.

    Args:
        packet: A whole packet.
        size: Payload bytes of each fragment but the last; a multiple of 8.
        ip_id: Identification, which joins fragments.
    """
    header, payload = packet[:40], packet[40:]
    return [
        ipv6(
            ipv6_fragment(
                payload[at : at + size],
                proto=header[6],
                offset=at,
                more_fragments=at + size < len(payload),
                ip_id=ip_id,
            ),
            src=str(IPv6Address(header[8:24])),
            dst=str(IPv6Address(header[24:40])),
            proto=PROTO_IPV6_FRAGMENT,
            hop_limit=header[7],
            traffic_class=int.from_bytes(header[:4]) >> 20 & 0xFF,
            flow_label=int.from_bytes(header[:4]) & 0xFFFFF,
        )
        for at in range(0, len(payload), size)
    ]


def ipv6_fragment(
    payload: bytes, *, proto: int = PROTO_TCP, offset: int = 0, more_fragments: bool = False, ip_id: int = 1
) -> bytes:
    """Put an IPv6 fragment header in front of *payload* (RFC 8200 §4.5); *offset* in bytes."""
    return struct.pack("!BxHI", proto, offset | more_fragments, ip_id) + payload


# --- TCP, UDP and their options -------------------------------------------------------------------


def tcp(
    payload: bytes = b"",
    *,
    src: str = DEFAULT_SRC,
    dst: str = DEFAULT_DST,
    sport: int = 1234,
    dport: int = 80,
    seq: int = 0,
    ack: int = 0,
    flags: str = "S",
    window: int = 65535,
    urgent: int = 0,
    options: bytes = b"",
    accurate_ecn: bool = False,
) -> bytes:
    """Build a TCP segment without its IP header.

    Args:
        payload: Bytes after the header.
        src: Source address, for the checksum.
        dst: Destination address, for the checksum.
        sport: Source port.
        dport: Destination port.
        seq: Sequence number; taken modulo 2**32.
        ack: Acknowledgement number; taken modulo 2**32.
        flags: Letters of ``FSRPAUEC``.
        window: Window as sent, unscaled.
        urgent: Urgent pointer.
        options: Header options, such as ``mss(1460) + sack_ok()``; padded to a multiple of 4.
        accurate_ecn: Set AE (RFC 9768), the flag beyond the eight with letters.
    """
    options = pad(options)
    size = 20 + len(options)
    bits = size // 4 << 12 | accurate_ecn << 8 | flag_bits(flags)
    fixed = struct.pack(
        "!HHIIHHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, bits, window, 0, urgent
    )
    return with_checksum(fixed + options + payload, 16, src, dst, PROTO_TCP)


def udp(
    payload: bytes = b"",
    *,
    src: str = DEFAULT_SRC,
    dst: str = DEFAULT_DST,
    sport: int = 1234,
    dport: int = 53,
) -> bytes:
    """Build a UDP datagram without its IP header."""
    header = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0)
    return with_checksum(header + payload, 6, src, dst, PROTO_UDP)


def with_checksum(data: bytes, at: int, src: str, dst: str, proto: int) -> bytes:
    """Write the transport checksum of *data* at offset *at*, where there are zeros."""
    value = checksum(pseudo_header(src, dst, proto, len(data)) + data)
    if proto == PROTO_UDP:
        value = value or 0xFFFF  # RFC 768: zero would mean "no checksum"
    return data[:at] + struct.pack("!H", value) + data[at + 2 :]


def pad(options: bytes) -> bytes:
    """Fill header options with zeros (end of list) to a multiple of 4 bytes."""
    return options + bytes(-len(options) % 4)


def mss(size: int) -> bytes:
    """Build the maximum segment size option."""
    return struct.pack("!BBH", 2, 4, size)


def wscale(shift: int) -> bytes:
    """Build the window scale option."""
    return struct.pack("!BBB", 3, 3, shift)


def sack_ok() -> bytes:
    """Build the SACK-permitted option."""
    return b"\x04\x02"


def sack(blocks: Iterable[tuple[int, int]]) -> bytes:
    """Build a SACK option from (left, right) edges."""
    body = b"".join(struct.pack("!II", left, right) for left, right in blocks)
    return struct.pack("!BB", 5, 2 + len(body)) + body


def timestamps(val: int, ecr: int = 0) -> bytes:
    """Build the timestamps option with the two NOPs that usually align it."""
    return struct.pack("!BBBBII", 1, 1, 8, 10, val, ecr)


def fastopen(cookie: bytes = b"") -> bytes:
    """Build the Fast Open option; without a cookie it asks for one (RFC 7413)."""
    return struct.pack("!BB", 34, 2 + len(cookie)) + cookie


# --- whole frames ---------------------------------------------------------------------------------


def tcp_frame(
    src: str = DEFAULT_SRC,
    dst: str = DEFAULT_DST,
    sport: int = 1234,
    dport: int = 80,
    seq: int = 0,
    ack: int = 0,
    flags: str = "S",
    payload: bytes = b"",
    window: int = 65535,
    options: bytes = b"",
    ttl: int = 64,
    vlan: int | None = None,
    ip_id: int = 0,
    urgent: int = 0,
) -> bytes:
    """Build an Ethernet frame with a TCP segment, over IPv4 or IPv6 as the addresses say.

    Args:
        src: Source address.
        dst: Destination address.
        sport: Source port.
        dport: Destination port.
        seq: Sequence number; taken modulo 2**32.
        ack: Acknowledgement number; taken modulo 2**32.
        flags: Letters of ``FSRPAUEC``.
        payload: Bytes after the TCP header.
        window: Window as sent, unscaled.
        options: TCP options, such as ``mss(1460) + sack_ok()``.
        ttl: Time to live or hop limit.
        vlan: VLAN id of an 802.1Q tag, or None for no tag.
        ip_id: IPv4 identification.
        urgent: Urgent pointer.
    """
    segment = tcp(
        payload,
        src=src,
        dst=dst,
        sport=sport,
        dport=dport,
        seq=seq,
        ack=ack,
        flags=flags,
        window=window,
        urgent=urgent,
        options=options,
    )
    return ethernet(ip(segment, src=src, dst=dst, proto=PROTO_TCP, ttl=ttl, ip_id=ip_id), vlan=vlan)


def udp_frame(
    src: str = DEFAULT_SRC,
    dst: str = DEFAULT_DST,
    sport: int = 1234,
    dport: int = 53,
    payload: bytes = b"",
    ttl: int = 64,
    vlan: int | None = None,
    ip_id: int = 0,
) -> bytes:
    """Build an Ethernet frame with a UDP datagram, over IPv4 or IPv6 as the addresses say."""
    datagram = udp(payload, src=src, dst=dst, sport=sport, dport=dport)
    return ethernet(ip(datagram, src=src, dst=dst, proto=PROTO_UDP, ttl=ttl, ip_id=ip_id), vlan=vlan)
