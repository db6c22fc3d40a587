"""Messages of neighbour discovery: which are believed, and what they say."""

import json
import shutil
import struct
import subprocess
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

from aiomos.testing.packets import ethernet, ipv6, ipv6_extension, ipv6_fragment, mac_bytes, with_checksum

probe = pytest.importorskip("tests.native._probe_messages", reason="needs the native test probes")

OURS, THEIRS = "02:00:00:00:00:01", "02:00:00:00:00:02"
A, B, ROUTER, ANY = "2001:db8::1:a", "2001:db8::2:b", "fe80::1", "::"
GROUP_OF_A, ALL_NODES = "ff02::1:ff01:a", "ff02::1"
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, SOLICITATION, ADVERTISEMENT = 133, 134, 135, 136


def option(kind: int, value: bytes) -> bytes:
    return bytes([kind, (len(value) + 2 + 7) // 8]) + value


SOURCE_MAC, TARGET_MAC = option(1, mac_bytes(THEIRS)), option(2, mac_bytes(THEIRS))
MTU = option(5, struct.pack("!HI", 0, 1400))


def address(text: str) -> bytes:
    return IPv6Address(text).packed


def message(
    kind: int, body: bytes, *, src: str = B, dst: str = A, hop_limit: int = 255, code: int = 0, wrong: int = 0
) -> bytes:
    """A frame with a message, of a right checksum but for *wrong*."""
    icmp = with_checksum(struct.pack("!BBH", kind, code, 0) + body, 2, src, dst, 58)
    icmp = icmp[:2] + struct.pack("!H", struct.unpack("!H", icmp[2:4])[0] ^ wrong) + icmp[4:]
    return ethernet(ipv6(icmp, src=src, dst=dst, proto=58, hop_limit=hop_limit))


def solicitation(options: bytes = SOURCE_MAC, *, target: str = A, **how: Any) -> bytes:
    return message(SOLICITATION, bytes(4) + address(target) + options, **({"dst": GROUP_OF_A} | how))


def advertisement(flags: int = 0x60, options: bytes = TARGET_MAC, *, target: str = B, **how: Any) -> bytes:
    return message(ADVERTISEMENT, bytes([flags, 0, 0, 0]) + address(target) + options, **how)


def router(options: bytes = SOURCE_MAC + MTU, **how: Any) -> bytes:
    body = struct.pack("!BBHII", 64, 0, 1800, 30_000, 1_000) + options
    return message(ROUTER_ADVERTISEMENT, body, **({"src": ROUTER, "dst": ALL_NODES} | how))


def read(frame: bytes) -> dict[str, Any] | None:
    return probe.read_ndp(frame)


def test_a_solicitation_is_read() -> None:
    assert read(solicitation()) == {
        "type": SOLICITATION, "src": B, "dst": GROUP_OF_A, "target": A, "flags": 0, "mac": THEIRS,
        "router": (0, 0, 0, 0, 0),
    }  # fmt: skip


@pytest.mark.parametrize("flags", [0, 0x20, 0x40, 0x60, 0xE0])
def test_an_advertisement_is_read(flags: int) -> None:
    found = read(advertisement(flags | 0x1F))
    assert found is not None
    assert (found["flags"], found["target"], found["mac"]) == (flags, B, THEIRS)


def test_an_advertisement_may_tell_no_mac_address() -> None:
    found = read(advertisement(options=SOURCE_MAC))  # of the source: means nothing here
    assert found is not None
    assert found["mac"] is None


def test_a_router_is_read() -> None:
    found = read(router())
    assert found is not None
    assert (found["router"], found["mac"]) == ((64, 1800, 30_000, 1_000, 1400), THEIRS)
    asked = read(message(ROUTER_SOLICITATION, bytes(4) + SOURCE_MAC, dst="ff02::2"))
    assert asked is not None
    assert (asked["src"], asked["mac"]) == (B, THEIRS)


def test_who_tries_an_address_has_none_yet() -> None:
    """RFC 4862 section 5.4.2."""
    found = read(solicitation(b"", src=ANY))
    assert found is not None
    assert (found["src"], found["target"], found["mac"]) == (ANY, A, None)


@pytest.mark.parametrize(
    "frame",
    [
        solicitation(hop_limit=254),
        solicitation(code=1),
        solicitation(wrong=1),
        solicitation(target="ff02::1"),
        solicitation(src=ANY),  # with a source address option
        solicitation(b"", src=ANY, dst=A),  # not to the group
        solicitation(src="ff02::5"),
        advertisement(hop_limit=64),
        advertisement(wrong=0x8000),
        advertisement(0x40, dst=ALL_NODES),  # an answer to all
        advertisement(src=ANY),
        router(src="2001:db8::1"),
        router(src=ANY),
        router(option(1, bytes(14))),
        router(option(5, bytes(14))),
        message(ROUTER_SOLICITATION, bytes(4) + SOURCE_MAC, src=ANY),
        message(137, bytes(4) + address(A) + address(B)),
        message(128, bytes(4) + address(A)),
    ],
)
def test_what_the_standard_forbids_is_not_believed(frame: bytes) -> None:
    """RFC 4861 sections 6.1.1, 6.1.2, 7.1.1, 7.1.2."""
    assert read(frame) is None


@pytest.mark.parametrize(
    "options",
    [
        SOURCE_MAC + b"\x01",  # a byte of an option
        SOURCE_MAC + b"\x01\x00" + bytes(6),  # without a length
        SOURCE_MAC + b"\x0e\x02" + bytes(6),  # beyond the end
        option(1, bytes(14)),  # of an address that is not Ethernet's
        option(14, bytes(6)) * 33,  # more than anybody sends
    ],
)
def test_broken_options_break_the_message(options: bytes) -> None:
    assert read(solicitation(options)) is None


def test_unknown_options_are_passed_over() -> None:
    found = read(solicitation(option(14, bytes(6)) * 31 + SOURCE_MAC))
    assert found is not None
    assert found["mac"] == THEIRS


@pytest.mark.parametrize("whole", [solicitation(), advertisement(), router()])
def test_a_message_cut_anywhere_is_not_read(whole: bytes) -> None:
    assert [size for size in range(len(whole) + 1) if read(whole[:size]) is not None] == [len(whole)]


def test_a_message_ended_anywhere_is_read_only_where_an_option_ends() -> None:
    bodies = (bytes(4) + address(A) + SOURCE_MAC, struct.pack("!BBHII", 64, 0, 1800, 0, 0) + SOURCE_MAC)
    believed = [
        [size for size in range(len(body) + 1) if read(message(kind, body[:size], src=ROUTER, dst=dst))]
        for kind, body, dst in ((SOLICITATION, bodies[0], A), (ROUTER_ADVERTISEMENT, bodies[1], ALL_NODES))
    ]
    assert believed == [[20, 28], [12, 20]]


def test_nothing_is_believed_behind_extension_headers() -> None:
    """RFC 6980: above all no fragment, also one that holds all of it."""
    icmp = solicitation()[54:]
    for header, extended in ((44, ipv6_fragment(icmp, proto=58)), (0, ipv6_extension(icmp, proto=58))):
        packet = ipv6(extended, src=B, dst=GROUP_OF_A, proto=header, hop_limit=255)
        assert read(ethernet(packet)) is None


def test_groups_are_those_of_the_last_three_bytes() -> None:
    """RFC 4291 section 2.7.1 and RFC 2464 section 7."""
    assert probe.group_of("4037::01:800:200E:8C6C") == ("ff02::1:ff0e:8c6c", "33:33:ff:0e:8c:6c")


@pytest.mark.parametrize("tells", [True, False])
def test_what_is_written_is_read(tells: bool) -> None:
    group, mac = probe.group_of(A)
    asked = probe.write_ndp(SOLICITATION, B, group, A, mac_bytes(THEIRS), mac_bytes(mac), tells_mac=tells)
    assert asked[:12] == mac_bytes(mac) + mac_bytes(THEIRS)
    found = read(asked)
    assert found is not None
    assert (found["src"], found["dst"], found["target"]) == (B, group, A)
    assert found["mac"] == (THEIRS if tells else None)
    told = read(probe.write_ndp(ADVERTISEMENT, A, B, A, mac_bytes(OURS), mac_bytes(THEIRS), flags=0x60))
    assert told is not None
    assert (told["target"], told["flags"], told["mac"]) == (A, 0x60, OURS)
    routers = read(probe.write_ndp(ROUTER_SOLICITATION, B, "ff02::2", ANY, mac_bytes(OURS), mac_bytes(mac)))
    assert routers is not None
    assert routers["mac"] == OURS


@pytest.mark.parametrize(("tells", "size"), [(True, 86), (False, 78)])
def test_nothing_is_written_without_room(tells: bool, size: int) -> None:
    for room in (size - 1, size):
        written = probe.write_ndp(
            SOLICITATION, B, A, A, mac_bytes(OURS), mac_bytes(THEIRS), tells_mac=tells, room=room
        )
        assert len(written) == (size if room == size else 0)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
def test_tshark_reads_what_is_written(tmp_path: Path) -> None:
    group, mac = probe.group_of(A)
    frames = [
        probe.write_ndp(SOLICITATION, B, group, A, mac_bytes(OURS), mac_bytes(mac)),
        probe.write_ndp(ADVERTISEMENT, A, B, A, mac_bytes(OURS), mac_bytes(THEIRS), flags=0x60),
        probe.write_ndp(ROUTER_SOLICITATION, B, "ff02::2", ANY, mac_bytes(OURS), mac_bytes(mac)),
        probe.write_arp(1, mac_bytes(OURS), "192.0.2.1", bytes(6), "192.0.2.2", b"\xff" * 6),
    ]
    capture = tmp_path / "written.pcap"
    capture.write_bytes(
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
        + b"".join(struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame for frame in frames)
    )
    told = subprocess.run(
        ["tshark", "-r", capture, "-T", "json"],
        capture_output=True,
        check=True,
    )
    layers = [packet["_source"]["layers"] for packet in json.loads(told.stdout)]
    assert [packet.get("icmpv6", {}).get("icmpv6.checksum.status") for packet in layers] == ["1"] * 3 + [None]
    assert layers[0]["icmpv6"]["icmpv6.nd.ns.target_address"] == A
    assert layers[1]["icmpv6"]["icmpv6.nd.na.target_address"] == A
    assert "_ws.malformed" not in json.dumps(layers)
    assert layers[3]["arp"]["arp.dst.proto_ipv4"] == "192.0.2.2"
