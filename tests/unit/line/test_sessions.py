"""Sessions: translated either way, errors about them too; refused where they would clash; ended when idle."""

import struct

import pytest

from aiomos.testing.packets import checksum, ethernet, ipv4, ipv6, tcp, tcp_frame, udp, vlan, with_checksum

probe = pytest.importorskip("tests.native._probe_sessions", reason="needs the native test probes")
wire = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")

INSIDE, OUTSIDE, SERVER, ROUTER = "10.0.0.5", "192.0.2.1", "198.51.100.9", "203.0.113.77"
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
FORTH, BACK = 0, 1


def udp_frame(src: str, sport: int, dst: str, dport: int, payload: bytes = b"data", ttl: int = 64) -> bytes:
    return ethernet(
        ipv4(udp(payload, src=src, dst=dst, sport=sport, dport=dport), src=src, dst=dst, proto=UDP, ttl=ttl)
    )


def echo(src: str, dst: str, identifier: int, kind: int = 8, payload: bytes = b"ping") -> bytes:
    body = struct.pack("!BBHHH", kind, 0, 0, identifier, 1) + payload
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return ethernet(ipv4(body, src=src, dst=dst, proto=ICMP))


def echo6(src: str, dst: str, identifier: int, kind: int = 128) -> bytes:
    body = with_checksum(struct.pack("!BBHHH", kind, 0, 0, identifier, 1), 2, src, dst, ICMPV6)
    return ethernet(ipv6(body, src=src, dst=dst, proto=ICMPV6))


def error(src: str, dst: str, about: bytes, quoted: int = 28) -> bytes:
    """An ICMP error about an Ethernet frame."""
    body = struct.pack("!BBHI", 3, 1, 0, 0) + about[14 : 14 + quoted]
    return ethernet(
        ipv4(body[:2] + struct.pack("!H", checksum(body)) + body[4:], src=src, dst=dst, proto=ICMP)
    )


class Nat:
    """A table with one session that hides an inside end."""

    def __init__(self, proto: int = UDP, **settings: float) -> None:
        self.table = probe.Table()
        inside = (INSIDE, 5000, SERVER, 53 if proto != ICMP else 5000, proto)
        outside = (OUTSIDE, 6000, SERVER, 53 if proto != ICMP else 6000, proto)
        result, self.index = self.table.insert(inside, outside, **settings)
        assert result == "made"


def test_udp_is_translated_both_ways() -> None:
    nat = Nat()
    out = nat.table.packet(udp_frame(INSIDE, 5000, SERVER, 53), 1)
    assert out == (nat.index, FORTH, False, udp_frame(OUTSIDE, 6000, SERVER, 53))
    back = nat.table.packet(udp_frame(SERVER, 53, OUTSIDE, 6000, b"answer"), 2)
    assert back == (nat.index, BACK, False, udp_frame(SERVER, 53, INSIDE, 5000, b"answer"))
    nat.table.end(nat.index)
    assert nat.table.expire(2) == [(nat.index, (1, 1), (32, 34), 2.0, False)]
    assert nat.table.in_use == (0, 0)


def test_tcp_is_translated_below_tags() -> None:
    nat = Nat(TCP)
    before = tcp_frame(INSIDE, SERVER, 5000, 53, 7, 8, "A", b"x", vlan=5)
    after = tcp_frame(OUTSIDE, SERVER, 6000, 53, 7, 8, "A", b"x", vlan=5)
    assert nat.table.packet(before) == (nat.index, FORTH, False, after)


def test_echo_is_told_by_its_identifier() -> None:
    nat = Nat(ICMP)
    assert nat.table.packet(echo(INSIDE, SERVER, 5000))[3] == echo(OUTSIDE, SERVER, 6000)
    assert nat.table.packet(echo(SERVER, OUTSIDE, 6000, 0))[3] == echo(SERVER, INSIDE, 5000, 0)
    assert nat.table.packet(echo(SERVER, OUTSIDE, 6001, 0)) is None


def test_echo_over_ipv6() -> None:
    table = probe.Table()
    inside = ("fd00::1", 5, "2001:db8::1", 5, ICMPV6)
    assert table.insert(inside, ("2001:db8::2", 6, "2001:db8::1", 6, ICMPV6))[0] == "made"
    assert table.packet(echo6("fd00::1", "2001:db8::1", 5))[3] == echo6("2001:db8::2", "2001:db8::1", 6)


def test_a_session_that_changes_nothing_only_counts() -> None:
    table = probe.Table()
    _, index = table.insert((INSIDE, 1, SERVER, 2, UDP))
    frames = [vlan(udp_frame(INSIDE, 1, SERVER, 2), 9), vlan(udp_frame(SERVER, 2, INSIDE, 1), 9)]
    assert [table.packet(frame) for frame in frames] == [
        (index, direction, False, frame) for direction, frame in enumerate(frames)
    ]
    assert table.packet(udp_frame(INSIDE, 1, SERVER, 3)) is None


def test_port_forwarding_hides_the_server() -> None:
    table = probe.Table()
    table.insert((SERVER, 4000, OUTSIDE, 80, TCP), (SERVER, 4000, INSIDE, 8080, TCP))
    forth = tcp_frame(SERVER, OUTSIDE, 4000, 80, 1, 0, "S")
    assert table.packet(forth)[3] == tcp_frame(SERVER, INSIDE, 4000, 8080, 1, 0, "S")
    back = tcp_frame(INSIDE, SERVER, 8080, 4000, 1, 2, "SA")
    assert table.packet(back)[3] == tcp_frame(OUTSIDE, SERVER, 80, 4000, 1, 2, "SA")


@pytest.mark.parametrize("source", [ROUTER, SERVER])
def test_an_error_from_outside_reaches_the_end_inside(source: str) -> None:
    nat = Nat()
    sent = udp_frame(OUTSIDE, 6000, SERVER, 53)
    index, direction, quoted, frame = nat.table.packet(error(source, OUTSIDE, sent), 50)
    assert (index, direction, quoted) == (nat.index, BACK, True)
    assert frame == error(source, INSIDE, udp_frame(INSIDE, 5000, SERVER, 53))
    assert nat.table.expire(61) == [(nat.index, (0, 0), (0, 0), 0.0, True)], "errors keep nothing alive"


def test_an_error_from_inside_hides_who_sent_it() -> None:
    nat = Nat()
    answer = udp_frame(SERVER, 53, INSIDE, 5000)
    for source in (INSIDE, "10.0.0.1"):
        match = nat.table.packet(error(source, SERVER, answer))
        assert match == (
            nat.index,
            FORTH,
            True,
            error(OUTSIDE, SERVER, udp_frame(SERVER, 53, OUTSIDE, 6000)),
        )


def test_errors_about_echoes_are_translated() -> None:
    nat = Nat(ICMP)
    match = nat.table.packet(error(ROUTER, OUTSIDE, echo(OUTSIDE, SERVER, 6000)))
    assert match[3] == error(ROUTER, INSIDE, echo(INSIDE, SERVER, 5000))


def test_an_error_about_a_packet_of_somebody_else_is_none_of_ours() -> None:
    nat = Nat()
    sent = udp_frame(OUTSIDE, 6000, SERVER, 53)
    assert nat.table.packet(error(ROUTER, "192.0.2.99", sent)) is None
    assert nat.table.packet(error(ROUTER, OUTSIDE, udp_frame(OUTSIDE, 6001, SERVER, 53))) is None
    assert nat.table.packet(error(ROUTER, OUTSIDE, error(OUTSIDE, SERVER, sent), 60)) is None


def test_what_would_clash_is_refused() -> None:
    nat = Nat()
    inside, taken = (INSIDE, 5000, SERVER, 53, UDP), (OUTSIDE, 6000, SERVER, 53, UDP)
    assert nat.table.insert(inside, (OUTSIDE, 6001, SERVER, 53, UDP)) == ("exists", 0)
    assert nat.table.insert(("10.0.0.6", 5000, SERVER, 53, UDP), taken) == ("conflict", 0)
    # The same address and port outside serve another peer: endpoint-independent mapping (RFC 4787 section 4.1).
    assert nat.table.insert((INSIDE, 5000, SERVER, 54, UDP), (OUTSIDE, 6000, SERVER, 54, UDP))[0] == "made"
    nat.table.end(nat.index)
    assert nat.table.insert(("10.0.0.6", 5000, SERVER, 53, UDP), taken)[0] == "made"


@pytest.mark.parametrize(
    ("arrives", "leaves"),
    [
        ((INSIDE, 1, SERVER, 2, 132), None),
        ((INSIDE, 1, SERVER, 2, ICMPV6), None),
        ((INSIDE, 1, SERVER, 2, ICMP), None),
        ((INSIDE, 1, SERVER, 2, UDP), (INSIDE, 1, SERVER, 2, TCP)),
        ((INSIDE, 1, SERVER, 2, UDP), ("::1", 1, "::2", 2, UDP)),
        ((INSIDE, 1, INSIDE, 1, UDP), None),
    ],
)
def test_what_makes_no_session_is_refused(arrives: tuple[object, ...], leaves: tuple[object, ...]) -> None:
    assert probe.Table().insert(arrives, leaves) == ("bad", 0)


def test_the_budget_holds() -> None:
    table = probe.Table(2)
    assert [table.insert((INSIDE, port, SERVER, 2, UDP))[0] for port in range(3)] == [
        "made",
        "made",
        "budget",
    ]


def test_idle_sessions_end_and_live_ones_do_not() -> None:
    table = probe.Table()
    ports = range(300)
    indices = [table.insert((INSIDE, port, SERVER, 2, UDP), now=0.5, idle=30)[1] for port in ports]
    for port in ports[::3]:
        assert table.packet(udp_frame(INSIDE, port, SERVER, 2), 20)
    assert table.expire(30) == []
    ended = {index for index, *_ in table.expire(31)}
    assert ended == {index for port, index in zip(ports, indices, strict=True) if port % 3}
    assert len(table.expire(51)) == 100
    assert table.in_use == (0, 0)


@pytest.mark.parametrize("idle", [5000, 1023, 1024, 1025, 2047])
def test_long_deadlines_are_kept(idle: int) -> None:
    """Farther than the wheel reaches, in steps of any size."""
    for step in (1, 700, 1024, 1025, 3000):
        table = probe.Table()
        table.insert((INSIDE, 1, SERVER, 2, UDP), now=100, idle=idle)
        now = 100
        while not table.expire(now):
            assert now < 100 + idle, (step, now)
            now += step
        assert now >= 100 + idle


def test_a_shorter_idle_time_counts_at_once() -> None:
    table = probe.Table()
    index = table.insert((INSIDE, 1, SERVER, 2, UDP), idle=500)[1]
    table.set_idle(index, 3)
    assert table.expire(2) == []
    assert [ended[0] for ended in table.expire(3)] == [index]


def test_only_packets_forth_may_keep_it_alive() -> None:
    table = probe.Table()
    table.insert((INSIDE, 1, SERVER, 2, UDP), idle=10, forth_only=True)
    table.packet(udp_frame(SERVER, 2, INSIDE, 1), 8)
    assert len(table.expire(10)) == 1


def tcp_session(*flags: tuple[int, str]) -> "probe.Table":
    """A TCP session with an idle time of 1000 s, of 100 s while transitory, after packets at 0 s."""
    table = probe.Table()
    table.insert((INSIDE, 1, SERVER, 2, TCP), idle=1000, transitory=100)
    for direction, letters in flags:
        ends = (INSIDE, SERVER, 1, 2) if direction == FORTH else (SERVER, INSIDE, 2, 1)
        assert table.packet(tcp_frame(*ends, 5, 6, letters), 0)
    return table


@pytest.mark.parametrize(
    ("flags", "ends_at"),
    [
        ([(FORTH, "S")], 100),
        ([(FORTH, "S"), (BACK, "SA")], 100),
        ([(FORTH, "S"), (BACK, "SA"), (FORTH, "A")], 1000),
        ([(FORTH, "S"), (BACK, "SA"), (FORTH, "A"), (BACK, "FA")], 1000),
        ([(FORTH, "S"), (BACK, "SA"), (FORTH, "A"), (BACK, "FA"), (FORTH, "FA")], 100),
        ([(FORTH, "S"), (BACK, "SA"), (FORTH, "A"), (BACK, "R")], 100),
    ],
)
def test_tcp_is_transitory_before_and_after(flags: list[tuple[int, str]], ends_at: int) -> None:
    table = tcp_session(*flags)
    assert table.expire(ends_at - 1) == []
    assert len(table.expire(ends_at)) == 1


def test_a_packet_that_cannot_be_rewritten_is_told() -> None:
    """The payload of a cut error stays as it is; of a segment without its header nothing is found."""
    nat = Nat(TCP)
    segment = tcp(b"", src=INSIDE, dst=SERVER, sport=5000, dport=53)[:12]
    assert nat.table.packet(ethernet(ipv4(segment, src=INSIDE, dst=SERVER))) is None


# --- who makes way ------------------------------------------------------------------------------------


def test_the_oldest_that_is_half_open() -> None:
    """Of UDP until it is answered, of TCP until both ends have acknowledged, or until it ends."""
    table = probe.Table()
    ends = [(INSIDE, 5000 + n, SERVER, 53, TCP if n == 2 else UDP) for n in range(4)]
    made = [table.insert(end, now=n, share=n % 2)[1] for n, end in enumerate(ends)]
    assert table.oldest == (made[0], {0: (2, made[0]), 1: (2, made[1])})
    table.packet(udp_frame(INSIDE, 5000, SERVER, 53), 5)
    assert table.oldest[0] == made[0]
    table.packet(udp_frame(SERVER, 53, INSIDE, 5000), 5)
    assert table.oldest == (made[1], {0: (2, made[2]), 1: (2, made[1])})
    table.end(made[1])
    assert table.oldest == (made[2], {0: (2, made[2]), 1: (1, made[3])})
    table.packet(tcp_frame(INSIDE, SERVER, 5002, 53, 7, 0, "S"), 6)
    table.packet(tcp_frame(SERVER, INSIDE, 53, 5002, 7, 8, "SA"), 6)
    assert table.oldest[0] == made[2]
    table.packet(tcp_frame(INSIDE, SERVER, 5002, 53, 8, 8, "A"), 6)
    assert table.oldest == (made[3], {0: (2, 0), 1: (1, made[3])})
    table.packet(tcp_frame(INSIDE, SERVER, 5002, 53, 8, 8, "R"), 6)  # it closes: that is no opening
    assert table.oldest[0] == made[3]
    table.expire(1000)
    assert table.oldest == (0, {})
