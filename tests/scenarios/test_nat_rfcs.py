"""The NAT in virtual time: what leaves as what, what finds its way back, for how long; by the RFCs' demands."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

import aiomos
from aiomos import Budgets, OptionError, Settings
from aiomos.apps import nat
from aiomos.apps.nat.settings import mac_of
from aiomos.testing.hosts import read_packet
from aiomos.testing.packets import (
    checksum,
    ethernet,
    fragment_ipv4,
    ipv4,
    mac_bytes,
    tcp,
    tcp_frame,
    udp,
    udp_frame,
)
from aiomos.transport.sim import Link
from tests.line import BAD, STRICT, Back, Crossing, cross, talk

HOST, OTHER, EXTERNAL, PEER, STRANGER = "10.0.0.1", "10.0.0.3", "192.0.2.10", "198.51.100.7", "203.0.113.9"
SECOND = "192.0.2.11"
GATEWAY, ROUTER = "10.0.0.254", "192.0.2.1"
HOST_MAC, ROUTER_MAC, OTHER_MAC = "02:00:00:00:00:11", "02:00:00:00:00:99", "02:00:00:00:00:13"
NAT_MAC = mac_of(EXTERNAL)
ARP_REQUEST, ARP_REPLY = 1, 2

LEAST = f'outside = "sim1"\ninside = "10.0.0.0/24"\nexternal = "{EXTERNAL}"\n'
FORWARD = f'[[forward]]\nproto = ["tcp", "udp"]\nport = 80\nto = "{HOST}"\nto_port = 8080\n'

Configure = Callable[..., None]
Translate = Callable[..., Crossing]


class Seen(NamedTuple):
    """A frame that has arrived."""

    eth_src: str
    eth_dst: str
    src: str
    dst: str
    sport: int
    dport: int


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Write a configuration, and have the translator go by it."""

    def configure(text: str = LEAST) -> None:
        path = tmp_path / "nat.toml"
        path.write_text(text)
        nat.app.options = nat.Options(config=path)

    return configure


@pytest.fixture
def translate(configure: Configure) -> Translate:
    """Have frames cross the translator."""

    def translate(*frames: bytes | Back | float, config: str = LEAST) -> Crossing:
        configure(config)
        return cross(frames, nat.app)

    return translate


def datagram(
    src: str = HOST,
    dst: str = PEER,
    sport: int = 5000,
    dport: int = 53,
    *,
    eth_src: str = HOST_MAC,
    eth_dst: str = ROUTER_MAC,
) -> bytes:
    packet = ipv4(udp(b"data", src=src, dst=dst, sport=sport, dport=dport), src=src, dst=dst, proto=17)
    return ethernet(packet, src=eth_src, dst=eth_dst)


def answer(src: str = PEER, sport: int = 53, dport: int = 5000, *, eth_src: str = ROUTER_MAC) -> Back:
    packet = ipv4(
        udp(b"back", src=src, dst=EXTERNAL, sport=sport, dport=dport), src=src, dst=EXTERNAL, proto=17
    )
    return Back(ethernet(packet, src=eth_src, dst=NAT_MAC))


def segment(
    flags: str, *, src: str = HOST, dst: str = PEER, sport: int = 5000, dport: int = 80, **more: Any
) -> bytes:
    return tcp_frame(src, dst, sport, dport, flags=flags, **more)


def arp(op: int, sender: str, mac: str, target: str, target_mac: str = "00:00:00:00:00:00") -> bytes:
    ends = mac_bytes(mac) + IPv4Address(sender).packed + mac_bytes(target_mac) + IPv4Address(target).packed
    message = struct.pack("!HHBBH", 1, 0x0800, 6, 4, op) + ends
    return ethernet(message, src=mac, dst="ff:ff:ff:ff:ff:ff", ethertype=0x0806)


def echo(kind: int, identifier: int, src: str, dst: str) -> bytes:
    message = struct.pack("!BBHHH", kind, 0, 0, identifier, 1)
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    return ethernet(ipv4(message, src=src, dst=dst, proto=1), src=HOST_MAC, dst=ROUTER_MAC)


def seen(frames: list[bytes]) -> list[Seen]:
    """Read what has arrived of IP; checksums must be right."""
    found = []
    for frame in frames:
        packet = read_packet(frame)
        if packet is None:
            continue
        if packet.proto == 1:
            assert checksum(packet.payload) == 0
            ports = struct.unpack("!H", packet.payload[4:6]) * 2
        else:
            assert packet.sum() == 0
            ports = struct.unpack("!HH", packet.payload[:4])
        macs = (frame[at : at + 6].hex(":") for at in (6, 0))
        found.append(Seen(*macs, packet.src, packet.dst, *ports))
    return found


def of_ip(frames: list[bytes]) -> list[bytes]:
    """Leave out ARP: the announcement of the external address comes first of all."""
    return [frame for frame in frames if frame[12:14] != b"\x08\x06"]


def arps(frames: list[bytes]) -> list[tuple[int, str, str]]:
    """List the ARP messages: operation, sender's address, target's address."""
    return [
        (int.from_bytes(frame[20:22]), str(IPv4Address(frame[28:32])), str(IPv4Address(frame[38:42])))
        for frame in frames
        if frame[12:14] == b"\x08\x06"
    ]


# --- out and back -------------------------------------------------------------------------------------


def test_datagram_and_its_answer(translate: Translate) -> None:
    crossing = translate(datagram(), answer())
    assert seen(crossing.there) == [Seen(NAT_MAC, ROUTER_MAC, EXTERNAL, PEER, 5000, 53)]
    assert seen(crossing.back) == [Seen(ROUTER_MAC, HOST_MAC, PEER, HOST, 53, 5000)]


@pytest.mark.parametrize("link", [Link(delay=0.01), BAD], ids=["good", "bad"])
def test_connections(configure: Configure, link: Link) -> None:
    configure(LEAST.replace("10.0.0.0/24", HOST))
    talked = talk(nat.app, question=b"q" * 50_000, answer=b"a" * 80_000, link=link, seed=3)
    assert talked.closed_cleanly
    assert talked.server.peer == (EXTERNAL, 40000)
    assert (len(talked.server.received), len(talked.client.received)) == (50_000, 80_000)


def test_two_hosts_with_one_port(translate: Translate) -> None:
    crossing = translate(datagram(), datagram(OTHER, eth_src=OTHER_MAC))
    first, second = seen(crossing.there)
    assert (first.src, first.sport) == (EXTERNAL, 5000)
    assert second.src == EXTERNAL
    assert second.sport != 5000
    crossing = translate(datagram(), datagram(OTHER, eth_src=OTHER_MAC), answer())
    assert [(packet.dst, packet.eth_dst) for packet in seen(crossing.back)] == [(HOST, HOST_MAC)]


def test_echoes_have_identifiers_for_ports(translate: Translate) -> None:
    """RFC 5508 REQ-1, and two hosts with one identifier."""
    crossing = translate(echo(8, 7, HOST, PEER), echo(8, 7, OTHER, PEER))
    first, second = seen(crossing.there)
    assert {first.src, second.src} == {EXTERNAL}
    assert first.sport != second.sport
    crossing = translate(echo(8, 2000, HOST, PEER), Back(echo(0, 2000, PEER, EXTERNAL)))
    assert [(packet.dst, packet.sport) for packet in seen(crossing.back)] == [(HOST, 2000)]


def test_fragments_become_whole_and_leave_as_fragments(translate: Translate) -> None:
    """RFC 4787 REQ-14, in any order."""
    packet = ipv4(udp(b"x" * 1000, src=HOST, dst=PEER, sport=5000, dport=53), src=HOST, dst=PEER, proto=17)
    first, second, third = (
        ethernet(part, src=HOST_MAC, dst=ROUTER_MAC) for part in fragment_ipv4(packet, 400)
    )
    crossing = translate(third, first, second)
    left = of_ip(crossing.there)
    assert len(left) == 3
    assert {str(IPv4Address(frame[26:30])) for frame in left} == {EXTERNAL}


def test_what_stays_inside_is_left_alone(translate: Translate) -> None:
    local = [
        datagram(dst="10.0.0.254"),
        datagram(dst="255.255.255.255"),
        datagram(dst="10.0.0.255"),
        datagram(dst="224.0.0.251"),
        datagram(src="0.0.0.0", dst="255.255.255.255"),
        udp_frame("2001:db8::1", "2001:db8::2"),
        arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY),
    ]
    assert translate(*local).there[1:] == local


def test_other_protocols_do_not_get_out(translate: Translate) -> None:
    with capture_logs() as log:
        crossing = translate(ethernet(ipv4(b"x" * 20, src=HOST, dst=PEER, proto=47)))
    assert not of_ip(crossing.there)
    assert log[-1]["refused"] == {"untranslatable": 1}


@pytest.mark.parametrize(
    ("limit", "more"),
    [("ports", {"sport": 5002}), ("sessions", {"dst": STRANGER})],
    ids=["ports", "sessions"],
)
def test_rfc_6888_req_4_a_host_has_its_share_and_others_theirs(
    translate: Translate, limit: str, more: dict[str, Any]
) -> None:
    """Two of each; when one has ended there may be another."""
    config = f"host_{limit} = 2\n{LEAST}[idle]\nudp = 10\n"
    first = [datagram(), datagram(sport=5001)]
    with capture_logs() as log:
        crossing = translate(
            *first,
            datagram(**more),
            datagram(**more),
            datagram(src=OTHER, eth_src=OTHER_MAC),
            *first,
            20.0,
            datagram(**more),
            config=config,
        )
    out = seen(crossing.there)
    assert len(out) == 6
    assert sum(frame[23] == 1 for frame in crossing.back) == 2  # ICMP to the host
    (told,) = [line for line in log if line["event"] == "host_limit"]
    assert (told["host"], told["what"], told["limit"]) == (HOST, limit, 2)
    assert log[-1]["refused"] == {f"host_{limit}": 2}


@pytest.mark.parametrize("size", range(8))
def test_datagrams_too_short_for_a_header_do_not_get_out(translate: Translate, size: int) -> None:
    with capture_logs() as log:
        crossing = translate(ethernet(ipv4(b"x" * size, src=HOST, dst=PEER, proto=17)))
    assert not of_ip(crossing.there)
    assert log[-1]["refused"] == {"untranslatable": 1}


# --- in -----------------------------------------------------------------------------------------------


def test_rfc_5382_req_4_unsolicited_syn_is_dropped_in_silence(translate: Translate) -> None:
    crossing = translate(Back(segment("S", src=PEER, dst=EXTERNAL)), 10.0)
    assert not crossing.back
    assert not of_ip(crossing.there)


def test_rfc_5382_req_2_simultaneous_open(translate: Translate) -> None:
    """Both ends send a SYN; the one from outside is not what an answer looks like, and comes in."""
    syn = segment("S", seq=100)
    theirs = Back(segment("S", src=PEER, dst=EXTERNAL, sport=80, dport=5000, seq=500))
    crossing = translate(syn, theirs)
    assert [(packet.dst, packet.dport) for packet in seen(crossing.back)] == [(HOST, 5000)]


@pytest.mark.parametrize(
    ("filtering", "from_peer", "from_stranger"),
    [
        ("endpoint-independent", True, True),
        ("address-dependent", True, False),
        ("address-and-port-dependent", False, False),
    ],
)
def test_rfc_4787_req_8_filtering(
    translate: Translate, filtering: str, from_peer: bool, from_stranger: bool
) -> None:
    config = LEAST + f'filtering = "{filtering}"\n'
    learnt = arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY)
    for frame, comes in ((answer(sport=54), from_peer), (answer(STRANGER), from_stranger)):
        assert bool(seen(translate(learnt, datagram(), frame, config=config).back)) == comes


def test_forwarded_ports(translate: Translate) -> None:
    """The host inside is asked for at the start; what comes before its answer is lost."""
    question = Back(datagram(PEER, EXTERNAL, 4000, 80, eth_src=ROUTER_MAC, eth_dst=NAT_MAC))
    reply = arp(ARP_REPLY, HOST, HOST_MAC, "0.0.0.0", NAT_MAC)
    back = datagram(HOST, PEER, 8080, 4000)
    crossing = translate(question, reply, question, back, config=LEAST + FORWARD)
    assert (ARP_REQUEST, "0.0.0.0", HOST) in arps(crossing.back)
    (came,) = seen(crossing.back)
    assert (came.eth_dst, came.src, came.sport, came.dst, came.dport) == (HOST_MAC, PEER, 4000, HOST, 8080)
    assert seen(crossing.there) == [Seen(NAT_MAC, ROUTER_MAC, EXTERNAL, PEER, 80, 4000)]
    assert [message[0] for message in arps(crossing.there)] == [ARP_REQUEST]  # the reply does not go on


def test_packets_from_outside_to_inside_addresses_are_refused(translate: Translate) -> None:
    crossing = translate(Back(datagram(PEER, HOST)), Back(datagram("10.0.0.254", HOST)))
    assert [packet.src for packet in seen(crossing.back)] == ["10.0.0.254"]


# --- floods -------------------------------------------------------------------------------------------

FEW_SESSIONS = Settings(on_error="raise", budgets=Budgets(sessions=40))


def knock(number: int, *, flags: str = "S", **more: Any) -> Back:
    """One of many strangers, at the port that leads to a host."""
    frame = tcp_frame(f"203.0.113.{number}", EXTERNAL, 4000, 80, flags=flags, **more)
    return Back(ethernet(frame[14:], src=ROUTER_MAC, dst=NAT_MAC))


def served(number: int, flags: str) -> bytes:
    """What the host inside says to one of them."""
    return tcp_frame(HOST, f"203.0.113.{number}", 8080, 4000, flags=flags)


def test_a_flood_of_syns_through_a_port_leaves_room_for_hosts_inside(configure: Configure) -> None:
    """And for who means it: those that are half open for longest make way, whether the host has answered or not."""
    configure(LEAST + FORWARD)
    learnt = arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY)
    opened = [knock(1), served(1, "SA"), knock(1, flags="A")]
    flood: list[bytes | Back] = [learnt, *opened]
    for number in range(2, 200):
        flood += [knock(number), served(number, "SA")]
    last = [datagram(sport=port) for port in range(5000, 5010)]
    meant = [knock(200), served(200, "SA"), knock(200, flags="A"), knock(200, flags="PA", payload=b"hello")]
    with capture_logs() as log:
        crossing = cross(
            [*flood, *last, *meant, knock(1, flags="PA", payload=b"still")], nat.app, settings=FEW_SESSIONS
        )
    assert log[-1]["refused"] == {}
    assert [packet.sport for packet in seen(crossing.there[-11:])] == [*range(5000, 5010), 80]
    assert crossing.back[-1].endswith(b"still")
    assert crossing.back[-2].endswith(b"hello")
    assert sum(frame[47] == 2 for frame in of_ip(crossing.back)) == 200  # each SYN got there


def test_a_flood_of_questions_that_are_answered_leaves_room_for_hosts_inside(configure: Configure) -> None:
    configure(LEAST + FORWARD)
    flood: list[bytes | Back] = [arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY)]
    for number in range(1, 200):
        question = datagram(f"203.0.113.{number}", EXTERNAL, 4000, 80, eth_src=ROUTER_MAC, eth_dst=NAT_MAC)
        flood.append(Back(question))
        if number <= 20:  # others do not come to it
            flood.append(datagram(HOST, f"203.0.113.{number}", 8080, 4000))
    asked = [datagram(sport=port) for port in range(5000, 5010)]
    with capture_logs() as log:
        crossing = cross([*flood, *asked], nat.app, settings=FEW_SESSIONS)
    assert [packet.sport for packet in seen(crossing.there[-10:])] == [*range(5000, 5010)]
    assert len(seen(crossing.back)) == 20  # half of them
    assert log[-1]["refused"]["outside_sessions"] == 199 - 20


def test_a_session_that_is_half_open_makes_way_however_many_were_answered_before_it(
    configure: Configure,
) -> None:
    configure("outside_sessions = 201\n" + LEAST + FORWARD)
    answered: list[bytes | Back] = []
    for number in range(1, 201):
        answered += [knock(number), served(number, "SA"), knock(number, flags="A")]
    with capture_logs() as log:
        crossing = cross(
            [
                arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY),
                *answered,
                *(knock(number) for number in range(201, 256)),
            ],
            nat.app,
            settings=Settings(on_error="raise", budgets=Budgets(sessions=1000)),
        )
    assert log[-1]["refused"] == {}
    assert crossing.counters["sessions_evicted"] == 54
    assert sum(frame[47] == 2 for frame in of_ip(crossing.back)) == 255


def test_outside_sessions_are_as_many_as_configured(configure: Configure) -> None:
    """Those that only pass, as they are, are among them."""
    configure("outside_sessions = 3\n" + LEAST + FORWARD)
    flood: list[bytes | Back] = [arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY)]
    for number in range(1, 10):
        question = datagram(f"203.0.113.{number}", "203.0.113.99", 4000, 80)
        flood += [Back(question), datagram("203.0.113.99", f"203.0.113.{number}", 80, 4000)]
    with capture_logs() as log:
        crossing = cross(flood, nat.app, settings=FEW_SESSIONS)
    assert len(seen(crossing.back)) == 3
    assert log[-1]["refused"]["outside_sessions"] >= 6


# --- time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("silence", "comes"), [(290.0, True), (310.0, False)])
def test_rfc_4787_req_5_udp_lives_for_five_minutes(translate: Translate, silence: float, comes: bool) -> None:
    assert bool(seen(translate(datagram(), silence, answer()).back)) == comes


def test_rfc_4787_req_6_packets_from_inside_refresh(translate: Translate) -> None:
    frames = [datagram(), *[200.0, datagram()] * 5, 200.0, answer()]
    assert len(seen(translate(*frames).back)) == 1


@pytest.mark.parametrize(("silence", "comes"), [(55.0, True), (65.0, False)])
def test_rfc_5508_req_2_queries_live_for_a_minute(translate: Translate, silence: float, comes: bool) -> None:
    frames = echo(8, 2000, HOST, PEER), silence, Back(echo(0, 2000, PEER, EXTERNAL))
    assert bool(seen(translate(*frames).back)) == comes


def handshake() -> tuple[bytes | Back, ...]:
    back = {"src": PEER, "dst": EXTERNAL, "sport": 80, "dport": 5000}
    return (
        segment("S", seq=100),
        Back(segment("SA", **back, seq=500, ack=101)),
        segment("A", seq=101, ack=501),
    )


@pytest.mark.parametrize(
    ("frames", "silence", "comes"),
    [
        (handshake(), 7400.0, True),
        (handshake(), 7500.0, False),
        (handshake()[:1], 230.0, True),
        (handshake()[:1], 250.0, False),
        ((*handshake(), segment("R", seq=101)), 250.0, False),
    ],
    ids=["established", "established for too long", "half open", "half open for too long", "reset"],
)
def test_rfc_5382_req_5_tcp_time_outs(
    translate: Translate, frames: tuple[bytes | Back, ...], silence: float, comes: bool
) -> None:
    late = Back(segment("A", src=PEER, dst=EXTERNAL, sport=80, dport=5000, seq=501, ack=101, payload=b"late"))
    crossing = translate(*frames, silence, late)
    assert any(frame.endswith(b"late") for frame in crossing.back) == comes


def test_port_is_given_back_with_the_last_session(translate: Translate) -> None:
    config = LEAST + 'ports = "6000"\n[idle]\nudp = 10\n'
    one, two = datagram(sport=1111), datagram(OTHER, sport=2222)
    crossing = translate(one, two, 5.0, one, 8.0, two, 20.0, two, config=config)
    assert [(packet.src, packet.sport) for packet in seen(crossing.there)] == [(EXTERNAL, 6000)] * 3
    refusals = [frame for frame in crossing.back if frame[23] == 1]
    assert [frame[34:36] for frame in refusals] == [b"\x03\x0d"] * 2  # administratively prohibited


def test_segments_of_no_connection_are_reset(translate: Translate) -> None:
    crossing = translate(segment("A", seq=1, ack=1))
    assert not of_ip(crossing.there)
    (reset,) = crossing.back
    assert reset[14 + 20 + 13] & 4


# --- hairpin ------------------------------------------------------------------------------------------


def test_rfc_4787_req_9_hairpin(translate: Translate) -> None:
    """The one inside sees the external endpoint of the other, and both answers come back the same way."""
    learnt = arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY)
    question = datagram(OTHER, EXTERNAL, 7000, 80, eth_src=OTHER_MAC)
    reply = datagram(HOST, EXTERNAL, 8080, 7000, eth_src=HOST_MAC)
    crossing = translate(learnt, question, reply, config=LEAST + FORWARD)
    assert not seen(crossing.there)
    there, back = seen(crossing.back)
    assert there == Seen(NAT_MAC, HOST_MAC, EXTERNAL, HOST, 7000, 8080)
    assert (back.eth_dst, back.src, back.dst, back.sport, back.dport) == (
        OTHER_MAC,
        EXTERNAL,
        OTHER,
        80,
        7000,
    )


def test_hairpin_is_filtered_too(translate: Translate) -> None:
    """The mapping that was made for it is gone again."""
    learnt = arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY)
    config = LEAST + 'filtering = "address-and-port-dependent"\nports = "5000-5001"\n'
    question = datagram(OTHER, EXTERNAL, 5001, 5000, eth_src=OTHER_MAC)
    last = datagram("10.0.0.4", PEER, 5001)
    crossing = translate(learnt, datagram(), question, last, config=config)
    assert not [packet for packet in seen(crossing.back) if packet.dst == HOST]
    assert [packet.sport for packet in seen(crossing.there)] == [5000, 5001]


def test_hairpin_lets_in_whom_the_host_has_talked_to(translate: Translate) -> None:
    """RFC 4787 REQ-8: by the address that it was talked to at, not by the one inside."""
    config = (
        LEAST.replace(f'"{EXTERNAL}"', f'["{EXTERNAL}", "{SECOND}"]') + 'filtering = "address-dependent"\n'
    )
    learnt = arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY), arp(ARP_REQUEST, OTHER, OTHER_MAC, GATEWAY)
    first = datagram("10.0.0.4", PEER, 6000)  # has the first address, so that the next one has the second
    question = datagram(OTHER, EXTERNAL, 7000, 80, eth_src=OTHER_MAC)
    answered = datagram(HOST, SECOND, 9000, 7000, eth_src=HOST_MAC)
    stranger = datagram("10.0.0.5", SECOND, 9000, 7000)  # has the second address
    crossing = translate(*learnt, first, question, answered, stranger, config=config + FORWARD)
    came = [(packet.src, packet.sport, packet.dst, packet.dport) for packet in seen(crossing.back)]
    assert came == [(SECOND, 7000, HOST, 8080), (EXTERNAL, 9000, OTHER, 7000)]


def test_both_ends_of_a_hairpin_know_each_other_by_external_addresses(configure: Configure) -> None:
    config = LEAST.replace(f'"{EXTERNAL}"', f'["{EXTERNAL}", "{SECOND}"]')
    configure(config + FORWARD)
    learnt = arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY)
    first = datagram("10.0.0.4", PEER, 6000)
    question = datagram(OTHER, EXTERNAL, 7000, 80, eth_src=OTHER_MAC)
    left = what_is_left(learnt, first, question)
    assert left.peers == {
        ("10.0.0.4", 6000): {PEER: 1},
        (OTHER, 7000): {EXTERNAL: 1},
        (HOST, 8080): {SECOND: 1},
    }
    assert left.sessions == {"10.0.0.4": 1, OTHER: 1}


# --- what is refused has taken nothing ------------------------------------------------------------


@attrs.frozen
class Left:
    """What is in use: peers by inside endpoint, sessions and ports of hosts, hosts of addresses, free ports."""

    peers: dict[tuple[str, int], dict[str, int]]
    sessions: dict[str, int]
    ports: dict[str, dict[str, int]]
    sharing: dict[str, int]
    free: dict[tuple[str, str], int]
    refused: dict[str, int]


def what_is_left(*frames: bytes | Back | float, settings: Settings = STRICT) -> Left:
    """Have frames cross, and look at the translator's tables before it ends."""
    looked: list[Left] = []
    look = aiomos.App("look")

    @look.shutdown
    def take() -> None:
        ((running, _),) = nat._running
        made = running.mappings
        hosts = made._hosts
        looked.append(
            Left(
                {
                    mapped.inside[1:]: dict(mapped.peers)
                    for mapped in made._by_external.values()
                    if mapped.peers
                },
                {address: host.sessions for address, host in hosts.items()},
                {address: dict(+host.ports) for address, host in hosts.items()},
                dict(+made._sharing),
                {key: len(pool) for key, pool in made._pools.items()},
                dict(running.refused),
            )
        )

    cross(frames, nat.app, look, settings=settings)
    (left,) = looked
    return left


ONE_SESSION = Settings(on_error="raise", budgets=Budgets(sessions=1))
REFUSED: dict[str, tuple[str, tuple[bytes | Back, ...], tuple[bytes, ...]]] = {
    # reason: configuration, what is in use, what is refused
    "unresolved": (f'gateway = "{GATEWAY}"\nrouter = "{ROUTER}"\n', (), (datagram(), datagram(OTHER))),
    "unresolved, hairpin": (
        FORWARD,
        (),
        (datagram(OTHER, EXTERNAL, 7000, 80), datagram("10.0.0.4", EXTERNAL, 7000, 80)),
    ),
    "filtered": (
        'filtering = "address-and-port-dependent"\n',
        (arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY), datagram()),
        (datagram(OTHER, EXTERNAL, 7000, 5000), datagram("10.0.0.4", EXTERNAL, 7000, 5000)),
    ),
    "no_session": ("", (datagram(), answer()), (datagram(OTHER), datagram("10.0.0.4", sport=7000))),
    "no_session, hairpin": (
        FORWARD,
        (arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY), datagram(), answer()),
        (datagram(OTHER, EXTERNAL, 7000, 80), datagram("10.0.0.4", EXTERNAL, 7000, 80)),
    ),
    "exhausted": ('ports = "6000"\n', (datagram(),), (datagram(OTHER), datagram("10.0.0.4", sport=7000))),
    "host_ports": ("host_ports = 1\n", (datagram(),), (datagram(sport=7000), datagram(sport=7001))),
    "host_sessions": ("host_sessions = 1\n", (datagram(),), (datagram(dst=STRANGER), datagram(sport=7001))),
    "no_connection": ("", (), (segment("A"), segment("F", src=OTHER))),
    "unsolicited": (
        "",
        (datagram(),),
        (datagram(OTHER, EXTERNAL, 7000, 81), datagram(OTHER, EXTERNAL, 7000, 82)),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_has_taken_nothing(configure: Configure, case: str) -> None:
    """No port, no session, no host: each kind of refusal, of two, twice."""
    more, used, refused = REFUSED[case]
    reason = case.partition(",")[0]
    tables = more if more.startswith("[[") else ""
    configure(LEAST + ("" if tables else more) + "[idle]\nudp = 10\n" + tables)
    settings = ONE_SESSION if reason == "no_session" else STRICT
    before = what_is_left(*used, settings=settings)
    after = what_is_left(*used, *refused, *refused, settings=settings)
    assert after.refused == {reason: 2 * len(refused)}
    pools = {key: count for key, count in after.free.items() if key in before.free}
    assert attrs.evolve(after, refused={}, free=pools) == before
    full = len(range(1024, 65536)) if 'ports = "' not in more else 1
    at_end = what_is_left(*used, *refused, 20.0, settings=settings)
    assert (at_end.peers, at_end.sessions, at_end.ports, at_end.sharing) == ({}, {}, {}, {})
    assert {*at_end.free.values()} <= {full}


# --- in place of the router ---------------------------------------------------------------------------

GATEWAY_CONFIG = LEAST + f'gateway = "{GATEWAY}"\nrouter = "{ROUTER}"\n'


def test_as_the_gateway(translate: Translate) -> None:
    is_router = Back(arp(ARP_REPLY, ROUTER, ROUTER_MAC, EXTERNAL, NAT_MAC))
    asks = arp(ARP_REQUEST, HOST, HOST_MAC, GATEWAY)
    crossing = translate(asks, is_router, datagram(), answer(), config=GATEWAY_CONFIG)
    assert (ARP_REPLY, GATEWAY, HOST) in arps(crossing.back)
    assert arps(crossing.there) == [(ARP_REQUEST, EXTERNAL, EXTERNAL), (ARP_REQUEST, EXTERNAL, ROUTER)]
    assert seen(crossing.there) == [Seen(NAT_MAC, ROUTER_MAC, EXTERNAL, PEER, 5000, 53)]
    (back,) = seen(crossing.back)
    assert (back.eth_dst, back.src, back.dst) == (HOST_MAC, PEER, HOST)


def test_links_are_apart_behind_a_gateway(translate: Translate) -> None:
    local = [
        datagram(dst="255.255.255.255"),
        datagram(dst="10.0.0.9"),
        arp(ARP_REQUEST, HOST, HOST_MAC, OTHER),
    ]
    crossing = translate(*local, config=GATEWAY_CONFIG)
    assert not seen(crossing.there)
    assert {message[1] for message in arps(crossing.there)} == {EXTERNAL}


# --- the run ------------------------------------------------------------------------------------------


def test_external_addresses_are_announced_and_answered_for(translate: Translate) -> None:
    crossing = translate(
        Back(arp(ARP_REQUEST, ROUTER, ROUTER_MAC, EXTERNAL)), arp(ARP_REQUEST, HOST, HOST_MAC, EXTERNAL)
    )
    assert arps(crossing.there) == [(ARP_REQUEST, EXTERNAL, EXTERNAL), (ARP_REPLY, EXTERNAL, ROUTER)]
    assert arps(crossing.back) == [(ARP_REPLY, EXTERNAL, HOST)]


def test_malformed_packets_are_refused(translate: Translate) -> None:
    cut = ethernet(ipv4(tcp(src=HOST, dst=PEER)[:10], src=HOST, dst=PEER))
    with capture_logs() as log:
        assert not seen(translate(cut).there)
    assert log[-1]["refused"] == {"malformed": 1}


def test_outside_must_be_an_interface(translate: Translate) -> None:
    with pytest.raises(OptionError, match="sim0, sim1"):
        translate(config=LEAST.replace("sim1", "eth1"))


def test_counters_for_prometheus(configure: Configure) -> None:
    configure()
    found: list[float | None] = []
    app = aiomos.App("scrape")

    @app.shutdown
    def scrape() -> None:
        found.append(REGISTRY.get_sample_value("aiomos_nat_mappings"))
        found.append(REGISTRY.get_sample_value("aiomos_nat_refused_total", {"reason": "unsolicited"}))

    cross([datagram(), answer(sport=1, dport=2)], nat.app, app)
    assert found == [1, 1]
