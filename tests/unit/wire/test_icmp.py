"""ICMP errors made and read, echo requests answered."""

import struct

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.testing.packets import checksum, ethernet, fragment_ipv4, ipv4, ipv6, tcp, udp, with_checksum

probe = pytest.importorskip("tests.native._probe_rewriting", reason="needs the native test probes")

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
A4, B4, A6, B6 = "10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"
ENDS = [(A4, B4), (A6, B6)]
SEQ = 2**32 - 5


def packet(payload: bytes, proto: int, src: str = A4, dst: str = B4) -> bytes:
    if ":" in src:
        return ipv6(payload, src=src, dst=dst, proto=proto)
    return ipv4(payload, src=src, dst=dst, proto=proto, dont_fragment=True)


def answer(packet: bytes) -> bytes:
    return ethernet(packet, src=B, dst=A)


def icmp(kind: int, code: int, word: int, about: bytes, src: str = B4, dst: str = A4) -> bytes:
    """An ICMP message in its packet."""
    body = struct.pack("!BBHI", kind, code, 0, word) + about
    if ":" in src:
        return packet(with_checksum(body, 2, src, dst, 58), 58, src, dst)
    return packet(body[:2] + struct.pack("!H", checksum(body)) + body[4:], 1, src, dst)


# --- errors made ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("why", "code"), [("port", 3), ("prohibited", 13), ("host", 1)])
@pytest.mark.parametrize("size", [0, 9, 2000])
def test_unreachable_quotes_what_fits_in_576_bytes(why: str, code: int, size: int) -> None:
    offender = packet(udp(bytes(size), src=A4, dst=B4), 17)
    body = struct.pack("!BBHI", 3, code, 0, 0) + offender[:548]
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    assert probe.Writable(ethernet(offender)).unreachable(why) == answer(packet(body, 1, B4, A4))


@pytest.mark.parametrize(("why", "code"), [("port", 4), ("prohibited", 1), ("host", 3)])
@pytest.mark.parametrize("size", [0, 2000])
def test_icmpv6_unreachable_quotes_what_fits_in_1280_bytes(why: str, code: int, size: int) -> None:
    offender = packet(udp(bytes(size), src=A6, dst=B6), 17, A6, B6)
    body = with_checksum(struct.pack("!BBHI", 1, code, 0, 0) + offender[:1232], 2, B6, A6, 58)
    assert probe.Writable(ethernet(offender)).unreachable(why) == answer(packet(body, 58, B6, A6))


SILENT = {
    "an ICMP error": packet(struct.pack("!BBHI", 3, 1, 0, 0) + packet(udp(), 17), 1),
    "a fragment": ipv4(udp(), proto=17, fragment_offset=8),
    "to a group": packet(udp(), 17, A4, "224.0.0.251"),
    "to all": packet(udp(), 17, A4, "255.255.255.255"),
    "from nobody": packet(udp(), 17, "0.0.0.0", B4),
    "from a group": packet(udp(), 17, "239.1.1.1", B4),
    "to an IPv6 group": packet(udp(src=A6, dst="ff02::1"), 17, A6, "ff02::1"),
    "from the unspecified": packet(udp(src="::", dst=B6), 17, "::", B6),
    "no IP": b"\x45",
    "an ICMPv6 error of an unknown kind": packet(b"\x7f" + bytes(7), 58, A6, B6),
    "an ICMPv6 redirect": packet(b"\x89" + bytes(39), 58, A6, B6),
    "an ICMP redirect": packet(b"\x05" + bytes(7), 1),
    "an ICMP error cut short": packet(b"\x03", 1),
    "ICMP without anything": packet(b"", 1),
    "the first fragment of an ICMP error": ipv4(b"\x0b" + bytes(15), proto=1, more_fragments=True),
}


@pytest.mark.parametrize("what", sorted(SILENT))
def test_nothing_answers(what: str) -> None:
    """RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)."""
    assert probe.Writable(ethernet(SILENT[what])).unreachable("port") == b""


def test_a_broadcast_on_the_link_is_not_answered() -> None:
    assert probe.Writable(ethernet(packet(udp(), 17), dst="ff:ff:ff:ff:ff:ff")).unreachable("port") == b""


def test_an_echo_may_be_refused() -> None:
    """ICMP, but not an error."""
    ping = packet(struct.pack("!BBHHH", 8, 0, 0xFFFF - 0x0800 - 9, 9, 0), 1)
    refused = probe.Writable(ethernet(ping)).unreachable("prohibited")
    assert refused.endswith(ping)
    assert dpkt.ethernet.Ethernet(refused).data.icmp.code == 13


CODES = {
    "port": ((3, 3), (1, 4)), "prohibited": ((3, 13), (1, 1)), "host": ((3, 1), (1, 3)), "network": ((3, 0), (1, 0)),
    "protocol": ((3, 2), (4, 1)), "too_big": ((3, 4), (2, 0)), "hops": ((11, 0), (3, 0)),
    "reassembly": ((11, 1), (3, 1)), "parameter": ((12, 0), (4, 0)),
}  # fmt: skip
WORDS = {"too_big": (1400, 1400), "parameter": (9 << 24, 9), "protocol": (0, 9)}


@pytest.mark.parametrize("what", sorted(CODES))
@pytest.mark.parametrize("v6", [False, True])
def test_each_error_has_its_numbers_and_its_word(what: str, v6: bool) -> None:
    src, dst = ENDS[v6]
    offender = packet(udp(b"data", src=src, dst=dst), 17, src, dst)
    kind, code = CODES[what][v6]
    expected = icmp(kind, code, WORDS.get(what, (0, 0))[v6], offender, dst, src)
    word = 1400 if what == "too_big" else 9
    assert probe.Writable(ethernet(offender)).unreachable(what, word=word) == answer(expected)


def test_a_large_mtu_is_told_as_what_the_field_holds() -> None:
    offender = packet(udp(), 17)
    made = probe.Writable(ethernet(offender)).unreachable("too_big", word=70_000)
    assert made == answer(icmp(3, 4, 0xFFFF, offender))


@pytest.mark.parametrize("v6", [False, True])
def test_a_router_speaks_for_itself(v6: bool) -> None:
    src, dst = ENDS[v6]
    router = "2001:db8::77" if v6 else "192.0.2.77"
    offender = packet(udp(src=src, dst=dst), 17, src, dst)
    made = probe.Writable(ethernet(offender)).unreachable("hops", source=router)
    assert made == answer(icmp(*CODES["hops"][v6], 0, offender, router, src))


def test_the_first_fragment_is_answered() -> None:
    first = fragment_ipv4(ipv4(udp(bytes(100)), src=A4, dst=B4, proto=17), 64)[0]
    assert probe.Writable(ethernet(first)).unreachable("host") == answer(icmp(3, 1, 0, first))


def test_no_error_is_made_without_room() -> None:
    writable = probe.Writable(ethernet(packet(udp(), 17)))
    size = len(writable.unreachable("port"))
    assert size == 14 + 20 + 8 + 28
    assert [len(writable.unreachable("port", room)) for room in (size - 1, size)] == [0, size]


# --- errors read ------------------------------------------------------------------------------------------

SEGMENT = {"sport": 1234, "dport": 80, "seq": SEQ}
MEANINGS = {
    False: {
        (3, 0): "network", (3, 1): "host", (3, 2): "protocol", (3, 3): "port", (3, 4): "too_big", (3, 5): "network",
        (3, 6): "network", (3, 7): "host", (3, 8): "host", (3, 9): "prohibited", (3, 10): "prohibited",
        (3, 11): "network", (3, 12): "host", (3, 13): "prohibited", (3, 14): "prohibited", (3, 15): "prohibited",
        (11, 0): "hops", (11, 1): "reassembly", (12, 0): "parameter", (12, 1): "parameter",
    },
    True: {
        (1, 0): "network", (1, 1): "prohibited", (1, 2): "network", (1, 3): "host", (1, 4): "port",
        (1, 5): "prohibited", (1, 6): "prohibited", (2, 0): "too_big", (2, 9): "too_big", (3, 0): "hops",
        (3, 1): "reassembly", (4, 0): "parameter", (4, 1): "protocol", (4, 2): "parameter",
    },
}  # fmt: skip


@pytest.mark.parametrize("v6", [False, True])
def test_errors_mean_what_they_mean_to_an_end(v6: bool) -> None:
    """RFC 1122 section 3.2.2.1, RFC 4443 section 3; all else tells an end nothing (RFC 6633: source quench)."""
    src, dst = ENDS[v6]
    about = packet(tcp(b"data", src=src, dst=dst, **SEGMENT), 6, src, dst)
    read = {}
    for kind in range(256):
        for code in range(17):
            notice = probe.Writable(ethernet(icmp(kind, code, 0, about, dst, src))).notice()
            if notice is not None:
                assert notice[3:] == (len(about), (1234, 80), SEQ)
                read[kind, code] = notice[0]
    more = {(2, code): "too_big" for code in range(17)} | {(4, code): "parameter" for code in range(3, 17)}
    more = more if v6 else {(12, code): "parameter" for code in range(17)}
    assert read == more | MEANINGS[v6]


@pytest.mark.parametrize(
    ("v6", "kind", "code", "word", "told"),
    [
        (False, 3, 4, 0xABCD_0578, (1400, 0)),
        (False, 3, 4, 0, (0, 0)),
        (False, 12, 0, 0x09FF_FFFF, (0, 9)),
        (True, 2, 0, 0x0001_0000, (65_536, 0)),
        (True, 4, 0, 40, (0, 40)),
        (False, 3, 1, 1400, (0, 0)),
    ],
)
def test_mtu_and_pointer(v6: bool, kind: int, code: int, word: int, told: tuple[int, int]) -> None:
    src, dst = ENDS[v6]
    about = packet(udp(b"data", src=src, dst=dst, sport=5, dport=6), 17, src, dst)
    notice = probe.Writable(ethernet(icmp(kind, code, word, about, dst, src))).notice()
    assert notice[1:] == (*told, len(about), (5, 6), None)


def test_an_error_that_is_cut_or_changed_is_not_believed() -> None:
    whole = ethernet(icmp(3, 1, 0, packet(udp(), 17)))
    assert [size for size in range(len(whole) + 1) if probe.Writable(whole[:size]).notice()] == [len(whole)]
    for at in range(34, len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0x10
        assert probe.Writable(bytes(changed)).notice() is None


@pytest.mark.parametrize("quoted", range(36))
def test_eight_bytes_of_the_segment_are_needed(quoted: int) -> None:
    about = packet(tcp(b"data", **SEGMENT), 6)
    notice = probe.Writable(ethernet(icmp(3, 1, 0, about[:quoted]))).notice()
    assert (notice is not None) == (quoted >= 28)
    if notice is not None:
        assert notice == ("host", 0, 0, len(about), (1234, 80), SEQ)


@given(st.binary(max_size=120))
def test_any_bytes_may_come(body: bytes) -> None:
    for src, dst, proto in ((A4, B4, 1), (A6, B6, 58)):
        writable = probe.Writable(ethernet(packet(body, proto, src, dst)))
        writable.notice()
        assert len(writable.unreachable("host")) <= 14 + 1280
        assert len(writable.echo_reply()) in (0, len(ethernet(packet(body, proto, src, dst))))


# --- echo -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("size", [0, 1, 56, 1472, 65_000])
def test_an_echo_is_answered_with_the_same_bytes(v6: bool, size: int) -> None:
    src, dst = ENDS[v6]
    payload = bytes(number & 0xFF for number in range(size))
    request, reply = (128, 129) if v6 else (8, 0)
    writable = probe.Writable(ethernet(icmp(request, 0, 0x1234_0001, payload, src, dst)))
    assert writable.echo_reply() == answer(icmp(reply, 0, 0x1234_0001, payload, dst, src))
    length = len(writable.frame)
    assert [len(writable.echo_reply(room)) for room in (length - 1, length)] == [0, length]
    if not v6:
        assert dpkt.ethernet.Ethernet(writable.echo_reply()).data.icmp.type == 0


@pytest.mark.parametrize(
    "frame",
    [
        ethernet(icmp(0, 0, 1, b"", A4, B4)),
        ethernet(icmp(8, 1, 1, b"", A4, B4)),
        ethernet(icmp(13, 0, 1, b"", A4, B4)),
        ethernet(icmp(129, 0, 1, b"", A6, B6)),
        ethernet(icmp(8, 0, 1, b"", A4, "10.0.0.2"), dst="ff:ff:ff:ff:ff:ff"),
        ethernet(icmp(8, 0, 1, b"", A4, "224.0.0.1")),
        ethernet(icmp(8, 0, 1, b"", "0.0.0.0", B4)),
        ethernet(packet(b"\x08\0\0\0" + bytes(4), 1)),
        ethernet(icmp(8, 0, 1, b"1234", A4, B4))[:-1],
        ethernet(packet(b"\x08\0\xf7\xff", 1)),
    ],
)
def test_nothing_else_is_answered_as_an_echo(frame: bytes) -> None:
    assert probe.Writable(frame).echo_reply() == b""
