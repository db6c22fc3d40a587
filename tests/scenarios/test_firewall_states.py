"""The firewall in virtual time: what passes from either side, in which state, for how long."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

import aiomos
from aiomos import Budgets, NotInLineError, OptionError, Settings, Timeouts
from aiomos.apps import firewall
from aiomos.testing.packets import ethernet, fragment_ipv4, ipv4, ipv6, tcp_frame, udp_frame
from aiomos.transport.sim import Link
from tests.line import BAD, Back, Crossing, cross, talk

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
CLIENT6, SERVER6 = "2001:db8::1", "2001:db8::2"
DATA = Path(__file__).parents[1] / "data"
ZONES = '[zone.inside]\ninterface = "sim0"\n[zone.outside]\ninterface = "sim1"\n'
OUTWARDS = ZONES + '[[default]]\nfrom = "inside"\nto = "outside"\naction = "accept"\n'
MARK = ethernet(b"mark" * 20, ethertype=0x88B5)

Set = Callable[..., None]
Judge = Callable[..., Crossing]


@pytest.fixture
def configure(tmp_path: Path) -> Set:
    """Write rules, and have the firewall go by them."""

    def configure(rules: str, **options: Any) -> None:
        path = tmp_path / "firewall.toml"
        path.write_text(rules)
        firewall.app.options = firewall.Options(rules=path, watch=0, **options)

    return configure


@pytest.fixture
def judge(configure: Set) -> Judge:
    """Have frames cross the firewall."""

    def judge(rules: str, *frames: bytes | Back | float, settings: Settings | None = None) -> Crossing:
        configure(rules)
        return cross(frames, firewall.app, settings=settings or Settings(on_error="raise"))

    return judge


def opening(sport: int = 1234, dport: int = 80) -> tuple[bytes | Back, ...]:
    """A handshake; the client is at 101, the server at 501."""
    return (
        tcp_frame(CLIENT, SERVER, sport, dport, seq=100, flags="S"),
        Back(tcp_frame(SERVER, CLIENT, dport, sport, seq=500, ack=101, flags="SA")),
        tcp_frame(CLIENT, SERVER, sport, dport, seq=101, ack=501, flags="A"),
    )


def from_server(
    seq: int = 501, ack: int = 101, flags: str = "A", payload: bytes = b"", sport: int = 80
) -> Back:
    return Back(tcp_frame(SERVER, CLIENT, sport, 1234, seq=seq, ack=ack, flags=flags, payload=payload))


def icmp(kind: int, code: int = 0, quoted: bytes = b"", *, src: str = SERVER, dst: str = CLIENT) -> bytes:
    message = struct.pack("!BBHHH", kind, code, 0, 7, 1) + quoted
    return ethernet(ipv4(message, src=src, dst=dst, proto=1))


def test_a_flood_of_datagrams_keeps_nobody_from_a_service(judge: Judge) -> None:
    """Through a rule that accepts: what was not answered makes way, the oldest first, and what was goes on."""
    question, answer = udp_frame(CLIENT, SERVER, 5000, 53), Back(udp_frame(SERVER, CLIENT, 53, 5000))
    flood = [udp_frame(f"10.1.{number // 250}.{number % 250}", SERVER, 4000, 53) for number in range(1000)]
    late, reply = udp_frame(CLIENT, SERVER, 5001, 53), Back(udp_frame(SERVER, CLIENT, 53, 5001))
    few = Settings(on_error="raise", budgets=Budgets(sessions=40))
    crossing = judge(OUTWARDS, question, answer, *flood, late, reply, answer, reply, settings=few)
    assert [frame[34:38] for frame in crossing.back] == [frame.frame[34:38] for frame in (answer, reply) * 2]
    assert len(crossing.there) == 1002
    assert crossing.counters["sessions_evicted"] == 1002 - 40
    assert crossing.counters["sessions"] == 40


# --- TCP ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [Link(delay=0.01), BAD], ids=["good", "bad"])
@pytest.mark.parametrize("bytes_counted", [False, True])
def test_connection_goes_through(configure: Set, link: Link, bytes_counted: bool) -> None:
    configure(OUTWARDS, bytes=bytes_counted)
    with capture_logs() as log:
        talked = talk(firewall.app, question=b"q" * 50_000, answer=b"a" * 80_000, link=link, seed=3)
    assert talked.closed_cleanly
    (tally,) = [line for line in log if line.get("rule") == "default 1"]
    assert tally["connections"] == 1
    assert tally["packets"] > 100
    assert (tally["bytes"] >= 130_000) == bytes_counted


def test_packets_of_what_was_accepted_are_not_judged(judge: Judge) -> None:
    """Only the first is."""
    with capture_logs() as log:
        crossing = judge(
            OUTWARDS + '[[rule]]\nlog = true\naction = "accept"\n',
            *opening(),
            *(tcp_frame(CLIENT, SERVER, seq=101 + n, ack=501, flags="A", payload=b"x") for n in range(10)),
        )
    assert len(crossing.there) == 12
    assert [line["event"] for line in log if "src" in line] == ["accepted"]


def test_refused_syn_leaves_nothing_behind(judge: Judge) -> None:
    """What follows it is refused as well: neither its retransmissions nor an ACK find a connection."""
    syn = tcp_frame(CLIENT, SERVER, seq=100)
    ack = tcp_frame(CLIENT, SERVER, seq=101, ack=1, flags="A", payload=b"data")
    crossing = judge(ZONES, syn, 1.0, syn, ack, Back(tcp_frame(SERVER, CLIENT, 80, 1234, 1, 101, "SA")))
    assert not crossing.there
    assert not crossing.back
    assert crossing.report.counters["open"] == 0


def test_rejected_syn_is_answered_each_time(judge: Judge) -> None:
    syn = tcp_frame(CLIENT, SERVER, seq=100)
    crossing = judge('[[rule]]\naction = "reject"', syn, 1.0, syn)
    assert not crossing.there
    assert len(crossing.back) == 2


@pytest.mark.parametrize(
    "segment",
    [
        from_server(flags="R", seq=999_999),
        from_server(seq=999_999, payload=b"forged"),
        from_server(ack=999_999, payload=b"forged"),
        from_server(flags=""),
        from_server(flags="SF"),
    ],
    ids=["reset out of window", "data out of window", "bad ack", "null", "syn and fin"],
)
def test_segments_that_are_not_believed_do_not_pass(judge: Judge, segment: Back) -> None:
    crossing = judge(OUTWARDS, *opening(), segment, from_server(payload=b"genuine"))
    assert segment.frame not in crossing.back
    assert len(crossing.back) == 2
    accepted = judge('invalid = "accept"\n' + OUTWARDS, *opening(), segment)
    assert accepted.back[-1] == segment.frame


def test_syn_of_a_client_that_was_restarted_passes(judge: Judge) -> None:
    """The server answers it by an ACK of the old connection, and the client gives that up by a RST (RFC 5961)."""
    again = tcp_frame(CLIENT, SERVER, seq=777_777)
    challenge = from_server()
    reset = tcp_frame(CLIENT, SERVER, seq=101, flags="R")
    crossing = judge(OUTWARDS, *opening(), from_server(payload=b"x"), 100.0, again, challenge, reset)
    assert crossing.there[-2:] == [again, reset]
    assert crossing.back[-1] == challenge.frame


@pytest.mark.parametrize("flags", ["A", "SA", "FA", "R", "PA", ""])
def test_segments_of_no_connection_do_not_pass(judge: Judge, flags: str) -> None:
    crossing = judge(
        '[[rule]]\naction = "accept"', Back(tcp_frame(SERVER, CLIENT, 80, flags=flags, seq=1, ack=1))
    )
    assert not crossing.back
    assert not crossing.there


def test_connection_is_refused_after_its_time(judge: Judge) -> None:
    settings = Settings(on_error="raise", timeouts=Timeouts(established=100))
    late = from_server(payload=b"late")
    assert late.frame in judge(OUTWARDS, *opening(), 90.0, late, settings=settings).back
    assert late.frame not in judge(OUTWARDS, *opening(), 110.0, late, settings=settings).back


@pytest.mark.parametrize(("at", "passes"), [(0.0, True), (5.0, True), (20.0, False)])
def test_midstream_for_some_seconds_from_the_start(judge: Judge, at: float, passes: bool) -> None:
    segment = tcp_frame(CLIENT, SERVER, seq=1000, ack=2000, flags="A", payload=b"old")
    first = udp_frame(CLIENT, SERVER)
    crossing = judge("midstream = 10\n" + OUTWARDS, first, at, segment, segment)
    assert (segment in crossing.there) == passes


def test_midstream_connection_is_judged_from_its_clients_side(judge: Judge) -> None:
    """Whichever of its packets comes first; who is client is told by the ports."""
    answer = Back(tcp_frame(SERVER, CLIENT, 80, 50_000, seq=2000, ack=1000, flags="A", payload=b"old"))
    inwards = Back(tcp_frame(SERVER, CLIENT, 50_000, 80, seq=2000, ack=1000, flags="A", payload=b"old"))
    crossing = judge("midstream = true\n" + OUTWARDS, answer, inwards)
    assert crossing.back == [answer.frame]


# --- UDP and ICMP -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [(CLIENT, SERVER), (CLIENT6, SERVER6)])
def test_datagrams_are_let_in_as_replies_and_for_a_while(judge: Judge, ends: tuple[str, str]) -> None:
    question = udp_frame(*ends, sport=5000, dport=53)
    answer = Back(udp_frame(*reversed(ends), sport=53, dport=5000))
    other = Back(udp_frame(*reversed(ends), sport=54, dport=5000))
    crossing = judge(OUTWARDS, answer, question, answer, other, 100.0, answer, 130.0, answer)
    assert crossing.there == [question]
    assert crossing.back == [answer.frame] * 2


def test_idle_times_of_the_file(judge: Judge) -> None:
    question, answer = udp_frame(CLIENT, SERVER, 5000, 53), Back(udp_frame(SERVER, CLIENT, 53, 5000))
    request, reply = icmp(8, src=CLIENT, dst=SERVER), Back(icmp(0))
    rules = "udp_idle = 10\nicmp_idle = 5\n" + OUTWARDS
    frames = (question, request, 3.0, answer, reply, 7.0, answer, reply, 15.0, answer)
    assert judge(rules, *frames).back == [answer.frame, reply.frame, answer.frame]


def test_pings_and_their_replies(judge: Judge) -> None:
    request, reply = icmp(8, src=CLIENT, dst=SERVER), Back(icmp(0))
    crossing = judge(OUTWARDS, reply, request, reply)
    assert crossing.there == [request]
    assert crossing.back == [reply.frame]


def test_request_from_the_other_end_is_no_reply(judge: Judge) -> None:
    """Even with the identifier of one that was let out."""
    assert not judge(OUTWARDS, icmp(8, src=CLIENT, dst=SERVER), Back(icmp(8))).back


def test_errors_about_what_was_accepted_pass(judge: Judge) -> None:
    datagram, syn = udp_frame(CLIENT, SERVER, 5000, 53), tcp_frame(CLIENT, SERVER, seq=100)
    about = [Back(icmp(3, 3, frame[14:])) for frame in (datagram, syn)]
    assert not judge(OUTWARDS, *about).back
    assert judge(OUTWARDS, datagram, syn, *about).back == [error.frame for error in about]


def test_errors_about_what_was_refused_do_not(judge: Judge) -> None:
    syn = tcp_frame(CLIENT, SERVER, seq=100)
    assert not judge(ZONES, syn, Back(icmp(3, 3, syn[14:]))).back


def test_other_protocols_need_a_rule_for_each_direction(judge: Judge) -> None:
    there, back = (
        ethernet(ipv4(b"x" * 30, proto=47)),
        Back(ethernet(ipv4(b"x" * 30, src=SERVER, dst=CLIENT, proto=47))),
    )
    crossing = judge(OUTWARDS, there, back, there)
    assert crossing.there == [there, there]
    assert not crossing.back


def test_fragments_are_judged_as_the_packet_they_make_up(judge: Judge) -> None:
    """The second has no ports to be judged by."""
    rules = '[[rule]]\nproto = "udp"\nport = 53\naction = "accept"'
    for port, passes in ((53, True), (54, False)):
        packet = udp_frame(CLIENT, SERVER, 5000, port, payload=b"x" * 100)[14:]
        crossing = judge(rules, *map(ethernet, fragment_ipv4(packet, 64)))
        assert bool(crossing.there) == passes


# --- what is no connection ----------------------------------------------------------------------------


def test_what_is_no_ip_passes(judge: Judge) -> None:
    arp = ethernet(bytes(28), ethertype=0x0806)
    crossing = judge("", arp, MARK, Back(arp))
    assert crossing.there == [arp, MARK]
    assert crossing.back == [arp]


@pytest.mark.parametrize("hop_limit", [1, 2, 64, 254, 255])
def test_what_ipv6_needs_on_a_link_passes(judge: Judge, hop_limit: int) -> None:
    """RFC 4890 section 4.4.1: neighbours and routers are discovered, groups joined; it crosses no router."""

    def message(kind: int) -> bytes:
        body = struct.pack("!BBHI", kind, 0, 0, 0) + bytes(16)
        return ethernet(ipv6(body, src=CLIENT6, dst=SERVER6, proto=58, hop_limit=hop_limit))

    passed = judge("", *map(message, range(128, 256))).there
    needed = [130, 131, 132, 133, 134, 135, 136, 141, 142, 143, 148, 149]
    assert passed == [message(kind) for kind in needed if hop_limit in (1, 255)]


@pytest.mark.parametrize(
    "frame",
    [
        ethernet(ipv4(b"", proto=6)[:15], ethertype=0x0800),
        tcp_frame(CLIENT, SERVER)[:-10],
        ethernet(ipv4(bytes(12) + b"\x10" + bytes(7), proto=6)),
    ],
    ids=["ip header cut", "tcp header cut", "data offset impossible"],
)
def test_malformed_packets_do_not_pass(judge: Judge, frame: bytes) -> None:
    crossing = judge('[[rule]]\naction = "accept"', frame, MARK)
    assert crossing.there == [MARK]


# --- the run ------------------------------------------------------------------------------------------


def test_it_stands_in_line(configure: Set) -> None:
    configure("")
    with pytest.raises(NotInLineError):
        aiomos.run(firewall.app, pcap=[DATA / "http.pcap"])


def test_broken_file_stops_the_start(configure: Set) -> None:
    configure("rule = 7")
    with pytest.raises(OptionError, match="rule = 7"):
        cross([], firewall.app)


def test_counters_for_prometheus(configure: Set) -> None:
    configure(OUTWARDS)
    seen: list[float | None] = []
    app = aiomos.App("scrape")

    @app.shutdown
    def scrape() -> None:
        seen.extend(
            REGISTRY.get_sample_value(f"aiomos_firewall_{name}_total", {"rule": "default 1"})
            for name in ("connections", "packets")
        )

    cross([*opening(), udp_frame(CLIENT, SERVER)], firewall.app, app)
    assert seen == [2, 4]


def test_what_is_only_noted_is_counted_and_goes_on_to_the_next_rule(configure: Set) -> None:
    configure(
        '[[rule]]\nname = "seen"\naction = "log"\nproto = "udp"\n'
        '[[rule]]\nname = "low"\naction = "drop"\nproto = "udp"\nport = "1-1023"\n'
    )
    seen: dict[str, list[float | None]] = {}
    app = aiomos.App("scrape")

    @app.shutdown
    def scrape() -> None:
        for rule in ("seen", "low"):
            seen[rule] = [
                REGISTRY.get_sample_value(f"aiomos_firewall_{name}_total", {"rule": rule})
                for name in ("connections", "packets", "bytes")
            ]

    with capture_logs() as log:
        cross([udp_frame(CLIENT, SERVER, 9999, dport) for dport in (53, 67, 5353)], firewall.app, app)
    assert [line["rule"] for line in log if line["event"] == "noted"] == ["seen"] * 3
    assert seen["seen"] == [0, 3, 0]
    assert seen["low"] == [0, 2, 0]


def test_log_lines_are_limited(configure: Set) -> None:
    configure('[[rule]]\nname = "all"\nlog = true\naction = "drop"', log_rate=2)
    with capture_logs() as log:
        cross(
            [*(udp_frame(CLIENT, SERVER, sport) for sport in range(1, 101)), 5.0, udp_frame()], firewall.app
        )
    lines = [line for line in log if line["event"] == "dropped"]
    assert len(lines) == 3
    assert sum(line.get("held_back", 0) for line in lines) == 98
    assert {line["rule"] for line in lines} == {"all"}
