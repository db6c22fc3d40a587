"""Sessions: packets that pass natively from the first on, with other addresses, and their replies turned back."""

from __future__ import annotations

import struct
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from aiomos import (
    CONN_SETUP,
    CONN_TEARDOWN,
    FRAME,
    PKT_IN,
    App,
    Budgets,
    Flow,
    Hook,
    MonitorConnection,
    Packet,
    Settings,
)
from aiomos.errors import SessionError
from aiomos.line.translation import Session, SessionShare
from aiomos.testing.hosts import DatagramHost, read_packet, read_segment
from aiomos.testing.packets import checksum, ethernet, fragment_ipv4, ip, ipv4, tcp_frame, udp, udp_frame
from aiomos.transport.sim import Link, Network
from tests.line import BAD, Back, cross, run, talk

PUBLIC = "192.0.2.1"
INSIDE, OUTSIDE = "10.0.0.1", "10.0.0.2"


class Translator:
    """Gives what comes from inside another address and port, at its first packet."""

    def __init__(self, **options: Any) -> None:
        self.app: App[None] = App("translator")
        self.options: dict[str, Any] = {"idle": 30.0, "src": PUBLIC} | options
        self.firsts: list[str | None] = []
        self.sessions: list[Session] = []
        self.ended: list[tuple[tuple[int, int], tuple[int, int]]] = []
        self.seen: list[tuple[str, str]] = []
        self.app.on(PKT_IN, hook=Hook.RAW)(self.first)

    def first(self, pkt: Packet) -> None:
        assert pkt.src is not None
        assert pkt.dst is not None
        self.seen.append((pkt.src, pkt.dst))
        if not pkt.known and pkt.interface == "sim0":
            self.firsts.append(pkt.src)
            self.sessions.append(pkt.session(on_end=self.note_end, **self.options))

    def note_end(self, session: Session) -> None:
        assert not session.open
        self.ended.append((session.packets, session.bytes))


@pytest.mark.parametrize("link", [Link(delay=0.01), BAD], ids=["good", "bad"])
def test_connections_are_translated_both_ways(link: Link) -> None:
    """Both ends close cleanly, and flows are as the client sees them."""
    translator = Translator(sport=50_000)
    streams: list[Any] = []

    @translator.app.monitor("server port 80")
    async def read(conn: MonitorConnection) -> None:
        streams.extend((conn.flow.client.address, await conn.client.read(), await conn.server.read()))

    question, answer = b"question" * 2000, b"answer" * 3000
    talked = talk(translator.app, question=question, answer=answer, link=link, seed=5)
    assert talked.closed_cleanly
    assert talked.heard == (question, answer)
    assert talked.server.peer == (PUBLIC, 50_000)
    assert streams == [INSIDE, question, answer]
    assert len(translator.firsts) == 1
    assert {*translator.seen} == {(INSIDE, OUTSIDE), (OUTSIDE, INSIDE)}
    (session,) = translator.sessions
    assert sum(session.packets) == talked.report.counters["in_line.forwarded"]


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_sessions_tell_whether_they_are_open_both_ways(proto: str) -> None:
    app: App[None] = App("sessions")
    sessions: list[Session] = []
    told: list[bool] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        if not pkt.known:
            sessions.append(pkt.session(idle=30.0))
        told.append(sessions[0].transitory)

    if proto == "udp":
        there, back = udp_frame(INSIDE, OUTSIDE, 1234, 80), Back(udp_frame(OUTSIDE, INSIDE, 80, 1234))
        cross([there, there, back, there], app)
        assert told == [
            True,
            True,
            False,
            False,
        ]  # a reply is counted when it has come, others when they leave
        return
    opening = [tcp_frame(INSIDE, OUTSIDE, flags="S"), Back(tcp_frame(OUTSIDE, INSIDE, 80, 1234, flags="SA"))]
    rest = [tcp_frame(INSIDE, OUTSIDE, flags=flags) for flags in ("A", "A", "RA", "A")]
    cross([*opening, *rest], app)
    assert told == [True, True, True, False, False, True]


def test_a_destination_is_translated() -> None:
    translator = Translator(src=None, dst=OUTSIDE, dport=80)
    talked = talk(translator.app, question=b"question", answer=b"answer", peer=("192.0.2.9", 8080))
    assert talked.closed_cleanly
    assert talked.client.received == b"answer"
    assert talked.server.received == b"question"


def test_translated_and_edited() -> None:
    """Also what is acknowledged on behalf of a receiver that gets nothing goes to the addresses that its end knows."""
    translator = Translator(sport=50_000, idle=7440.0)

    @translator.app.on(PKT_IN, hook=Hook.SENDER)
    def edit(pkt: Packet) -> None:
        if pkt.payload and pkt.seq % 3:
            pkt.replace(b"" if pkt.seq % 3 == 1 else pkt.payload + b"!")

    for seed in range(4):
        talked = talk(translator.app, question=b"q" * 30_000, answer=b"a" * 30_000, link=BAD, seed=seed)
        assert talked.closed_cleanly
        assert talked.client.ignored == talked.server.ignored == 0
        assert set(talked.server.received) <= set(b"q!")
        assert set(talked.client.received) <= set(b"a!")


@pytest.mark.parametrize("turn", ["client", "server"])
def test_translated_and_rejected(turn: str) -> None:
    """Whoever is refused is told under the addresses that it knows."""
    translator = Translator(sport=50_000)

    @translator.app.on(PKT_IN, hook=Hook.SENDER)
    def refuse(pkt: Packet, side: str) -> None:
        if pkt.payload and side == turn:
            pkt.reject()

    talked = talk(translator.app, question=b"question", answer=b"answer")
    assert (talked.client.reset, talked.server.reset) == (turn == "client", turn == "server")
    assert talked.client.ignored == talked.server.ignored == 0


def test_translated_and_reset() -> None:
    translator = Translator(sport=50_000)

    @translator.app.on(CONN_SETUP)
    def hang_up(flow: Flow) -> None:
        flow.timer(0.5, Flow.reset)

    talked = talk(translator.app, question=b"q" * 600_000, link=Link(delay=0.05))
    assert talked.client.reset
    assert talked.server.reset
    assert talked.client.ignored == talked.server.ignored == 0


def datagrams(app: App[Any], act: Any, inside: str = INSIDE, outside: str = OUTSIDE, **options: Any) -> Any:
    network = Network()
    client, server = DatagramHost(inside), DatagramHost(outside, echo=True)
    middlebox = network.middlebox(client, server, Link(delay=0.01), Link(delay=0.01))
    act(client)
    report = run(app, transport=middlebox, **options)
    assert client.ignored == server.ignored == 0
    return client, server, report


@pytest.mark.parametrize("six", [False, True])
def test_datagrams_and_echoes_are_translated_both_ways(six: bool) -> None:
    inside, outside, public = (
        ("2001:db8::1", "2001:db8::2", "2001:db8::9") if six else (INSIDE, OUTSIDE, PUBLIC)
    )
    translator = Translator(src=public)

    def act(client: DatagramHost) -> None:
        for number in range(3):
            client.send_datagram(b"%d" % number, (outside, 7), sport=4000)
            client.ping(outside, identifier=9, sequence=number, data=b"ping")

    client, server, _report = datagrams(translator.app, act, inside, outside)
    assert {packet.src for packet in server.received} == {public}
    assert [packet.data for packet in client.received if packet.kind == "udp"] == [b"0", b"1", b"2"]
    assert [(p.sport, p.dport, p.data) for p in client.received if p.kind == "reply"] == [
        (9, number, b"ping") for number in range(3)
    ]
    assert len(translator.firsts) == 2
    assert [session.packets for session in translator.sessions] == [(3, 3), (3, 3)]


def test_ports_are_translated() -> None:
    translator = Translator(sport=9000)
    client, server, _ = datagrams(translator.app, lambda c: c.send_datagram(b"x", (OUTSIDE, 7), sport=4000))
    assert [(p.src, p.sport) for p in server.received] == [(PUBLIC, 9000)]
    assert [(p.src, p.dport, p.data) for p in client.received] == [(OUTSIDE, 4000, b"x")]


def echo(kind: int, identifier: int) -> bytes:
    message = struct.pack("!BBHHH", kind, 0, 0, identifier, 1) + b"data"
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def test_an_echo_leaves_with_another_identifier() -> None:
    translator = Translator(sport=77, dport=77)
    request = ethernet(ip(echo(8, 5), src=INSIDE, dst=OUTSIDE, proto=1))
    reply = ethernet(ip(echo(0, 77), src=OUTSIDE, dst=PUBLIC, proto=1))
    crossing = cross([request, Back(reply)], translator.app)
    there, back = read_packet(crossing.there[0]), read_packet(crossing.back[0])
    assert there is not None
    assert back is not None
    assert (there.src, there.dst, there.payload) == (PUBLIC, OUTSIDE, echo(8, 77))
    assert (back.src, back.dst, back.payload) == (OUTSIDE, INSIDE, echo(0, 5))


def icmp_error(quoted: bytes, src: str, dst: str) -> bytes:
    message = struct.pack("!BBHI", 3, 3, 0, 0) + quoted
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    return ethernet(ipv4(message, src=src, dst=dst, proto=1))


def test_errors_about_a_session_are_translated_with_what_they_quote() -> None:
    translator = Translator(sport=9000)
    frame = udp_frame(INSIDE, OUTSIDE, sport=4000, dport=7, payload=b"question")
    quoted = ipv4(
        udp(b"question", src=PUBLIC, dst=OUTSIDE, sport=9000, dport=7), src=PUBLIC, dst=OUTSIDE, proto=17
    )
    crossing = cross([frame, Back(icmp_error(quoted, "192.0.2.77", PUBLIC))], translator.app)
    (error,) = crossing.back
    packet = read_packet(error)
    assert packet is not None
    assert packet.dst == INSIDE
    assert checksum(packet.payload) == 0
    assert packet.payload[8:] == frame[14:]
    assert [session.packets for session in translator.sessions] == [(1, 0)]


def test_errors_about_flows_and_sessions_are_known() -> None:
    app: App[None] = App("knows")
    known: list[bool] = []
    app.on(CONN_SETUP)(lambda: None)

    @app.on(PKT_IN, hook=Hook.RAW)
    def note(pkt: Packet) -> None:
        if pkt.proto == 1:
            known.append(pkt.known)

    opening = tcp_frame(INSIDE, OUTSIDE)
    about = Back(icmp_error(opening[14:], "192.0.2.77", INSIDE))
    stranger = Back(icmp_error(tcp_frame(INSIDE, OUTSIDE, sport=99)[14:], "192.0.2.77", INSIDE))
    cross([opening, about, stranger], app)
    assert known == [True, False]


def test_errors_that_quote_too_little_pass() -> None:
    """With sessions and flows to compare with, over IPv4 and IPv6; the shortest quotes a bare IP header."""
    translator = Translator(sport=9000)
    translator.app.on(CONN_SETUP)(lambda: None)
    opening, opening6 = tcp_frame(INSIDE, OUTSIDE), tcp_frame("2001:db8::1", "2001:db8::2")
    errors = []
    for whole, headers in ((opening[14:], 20), (opening6[14:], 40)):
        for length in range(headers + 8):
            body = struct.pack("!BBHI", 3 if headers == 20 else 1, 1, 0, 0) + whole[:length]
            six = headers == 40
            src, dst = ("2001:db8::2", "2001:db8::1") if six else (OUTSIDE, PUBLIC)
            errors.append(ethernet(ip(body, src=src, dst=dst, proto=58 if six else 1)))
    first = udp_frame(INSIDE, OUTSIDE, sport=4000, dport=7, payload=b"question")
    crossing = cross([first, opening, *map(Back, errors)], translator.app)
    assert len(translator.sessions) == 2
    assert crossing.back == errors
    assert crossing.report.counters["icmp"] == len(errors) == 76


ABOUT_A_REPLY = icmp_error(
    ipv4(udp(b"answer", src=OUTSIDE, dst=INSIDE, sport=7, dport=4000), src=OUTSIDE, dst=INSIDE, proto=17),
    INSIDE,
    OUTSIDE,
)
"""What an inside host says of an answer that it got."""


@pytest.mark.parametrize(
    ("kept", "leaves"),
    [(8 + 28 + 6, True), (8 + 28, True), (8 + 27, False), (8, False)],
    ids=["whole", "ports", "less", "nothing"],
)
def test_an_error_that_quotes_otherwise_now_is_matched_anew(*, kept: int, leaves: bool) -> None:
    """What an app leaves of the quote is translated; where the session is not to be told any more, nothing leaves."""
    translator = Translator(sport=9000)

    @translator.app.on(PKT_IN, hook=Hook.RAW)
    def shorten(pkt: Packet) -> None:
        if pkt.proto == 1:
            pkt.replace(pkt.payload[:kept])

    first = udp_frame(INSIDE, OUTSIDE, sport=4000, dport=7, payload=b"question")
    crossing = cross([first, ABOUT_A_REPLY], translator.app)
    errors = [frame for frame in map(read_packet, crossing.there[1:]) if frame is not None]
    assert len(errors) == leaves
    assert crossing.report.counters.get("in_line.refused", 0) == (not leaves)
    for error in errors:
        assert (error.src, checksum(error.payload)) == (PUBLIC, 0)
        whole = udp(b"answer", src=OUTSIDE, dst=PUBLIC, sport=7, dport=9000)
        assert error.payload[8:] == ipv4(whole, src=OUTSIDE, dst=PUBLIC, proto=17)[: kept - 8]


def test_an_error_that_quotes_nothing_of_a_session_any_more_is_of_none() -> None:
    translator = Translator(sport=9000)
    told: list[str] = []

    @translator.app.on(PKT_IN, hook=Hook.RAW)
    def ask(pkt: Packet) -> None:
        if pkt.proto == 1:
            pkt.replace(pkt.payload[:8])
            for options in ({}, {"sport": 9001}):
                with pytest.raises(SessionError) as caught:
                    pkt.session(idle=30, **options)
                told.append(str(caught.value))

    first = udp_frame(INSIDE, OUTSIDE, sport=4000, dport=7, payload=b"question")
    crossing = cross([first, ABOUT_A_REPLY], translator.app)
    assert told == ["the packet is a reply, or an error, of a session"] * 2
    assert len(crossing.there) == 1


def test_what_no_802_3_frame_holds_is_not_built() -> None:
    """Its length would be read as a type (IEEE 802.3 section 3.2.6), and the packet as none."""
    translator = Translator(sport=9000)
    told: list[str] = []

    @translator.app.on(PKT_IN, hook=Hook.RAW)
    def replace(pkt: Packet) -> None:
        try:
            pkt.replace(pkt.payload)
        except ValueError as error:
            told.append(str(error))

    def snap(packet: bytes) -> bytes:
        body = b"\xaa\xaa\x03\0\0\0\x08\x00" + packet
        return ethernet(body, ethertype=len(body))

    whole = ipv4(udp(bytes(3000), src=INSIDE, dst=OUTSIDE), src=INSIDE, dst=OUTSIDE, proto=17)
    fitting = ipv4(udp(bytes(1464), src=INSIDE, dst=OUTSIDE), src=INSIDE, dst=OUTSIDE, proto=17)
    crossing = cross([snap(part) for part in (*fragment_ipv4(whole, 1400), fitting)], translator.app)
    assert told == ["pkt.replace(): this packet cannot carry that, or was not captured whole"]
    assert [len(frame) for frame in crossing.there] == [1442, 1442, 250, 22 + 1492]


# --- the end ------------------------------------------------------------------------------------------


def test_a_session_ends_when_it_is_idle() -> None:
    translator = Translator(src=None, idle=5.0)
    frame = udp_frame(payload=b"x")
    crossing = cross([frame, frame, 3.0, frame, 10.0, frame, 10.0], translator.app)
    assert len(crossing.there) == 4
    assert len(translator.firsts) == 2
    assert [packets for packets, _ in translator.ended] == [(3, 0), (1, 0)]
    assert translator.ended[0][1] == (3 * (len(frame) - 14), 0)
    assert crossing.counters["sessions"] == 0
    (first, second) = translator.sessions
    assert (first.open, second.open) == (False, False)
    assert second.last > first.last


@pytest.mark.parametrize("where", ["same packet", "next packet", "timer", "handler"])
def test_a_session_is_closed(where: str) -> None:
    translator = Translator(src=None)

    @translator.app.on(PKT_IN, hook=Hook.RAW)
    def close(pkt: Packet) -> None:
        if pkt.proto == 17 and (where == "same packet" or (where == "next packet" and pkt.known)):
            session = translator.sessions[-1]
            assert session.open
            session.close()
            session.close()
            assert not session.open

    @translator.app.on(CONN_SETUP)
    def later(flow: Flow) -> None:
        if where == "timer":
            flow.timer(0.5, lambda _: translator.sessions[1].close())

    @translator.app.monitor("server port 80")
    async def handle(conn: MonitorConnection) -> None:
        await conn.client.read(1)
        if where == "handler":
            translator.sessions[1].close()

    opening = [
        tcp_frame(seq=100),
        Back(tcp_frame(OUTSIDE, INSIDE, 80, 1234, 500, 101, "SA")),
        tcp_frame(seq=101, ack=501, flags="A"),
    ]
    frame, hello = udp_frame(payload=b"x"), tcp_frame(seq=101, ack=501, flags="PA", payload=b"hello")
    frames: list[Any] = [*opening, frame, hello, 1.0, frame, 1.0]
    crossing = cross(frames, translator.app)
    assert crossing.there.count(frame) == 2
    assert len(translator.ended) == {"same packet": 2, "next packet": 1, "timer": 1, "handler": 1}[where]
    with pytest.raises(SessionError):
        _ = translator.sessions[1].idle


def test_idle_may_be_set_and_the_smaller_counts() -> None:
    app: App[None] = App("idle")
    sessions: list[Session] = []
    ended: list[float] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        session = pkt.session(idle=100)
        if not pkt.known:
            sessions.append(session)
            assert pkt.session(idle=50, on_end=lambda s: ended.append(s.last)) is session
            assert session.idle == 50
            session.idle = 2
        assert session is sessions[0]

    crossing = cross([udp_frame(), 1.0, udp_frame(), 5.0], app)
    assert len(crossing.there) == 2
    assert len(ended) == 1


def test_a_listener_that_raises_does_not_keep_others_from_being_told() -> None:
    app: App[None] = App("loud")
    told: list[int] = []

    def broken(_: Session) -> None:
        raise RuntimeError("broken")

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        if not pkt.known:
            pkt.session(idle=1, on_end=broken)
            pkt.session(idle=1, on_end=lambda _: told.append(1))

    with capture_logs():
        crossing = cross([udp_frame(), udp_frame(sport=5), 5.0], app, settings=Settings())
    assert told == [1, 1]
    assert crossing.report.counters["callback_errors"] == 2


class Exit(BaseException):
    """No Exception."""


@pytest.mark.parametrize(("error", "on_error"), [(LookupError, "raise"), (Exit, "log")])
def test_what_ends_a_run_in_a_listener_is_raised_once_others_are_told(
    error: type[BaseException], on_error: Any
) -> None:
    app: App[None] = App("strict")
    told: list[int] = []

    def broken(_: Session) -> None:
        raise error("broken")

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        session = pkt.session(idle=1, on_end=broken)
        assert pkt.session(idle=1, on_end=lambda _: told.append(1)) is session

    with pytest.raises(error, match="broken"):
        cross([udp_frame(), 5.0, udp_frame(sport=5), 5.0], app, settings=Settings(on_error=on_error))
    assert told == [1]


# --- what cannot be -----------------------------------------------------------------------------------


def test_a_reply_begins_no_session() -> None:
    app: App[None] = App("late")
    refused: list[str] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        if not pkt.known:
            pkt.session(idle=9, src=PUBLIC)
            return
        with pytest.raises(SessionError) as error:
            pkt.session(idle=9, src="192.0.2.2")
        refused.append(str(error.value))

    crossing = cross([udp_frame(INSIDE, OUTSIDE, 1, 2), Back(udp_frame(OUTSIDE, PUBLIC, 2, 1))], app)
    assert refused == ["the packet is a reply, or an error, of a session"]
    assert [Packet.decode(frame).dst for frame in crossing.back] == [INSIDE]


def test_a_packet_whose_session_is_closed_may_begin_another() -> None:
    app: App[None] = App("ends")
    sessions: list[Session] = []
    shown: list[str] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def begin(pkt: Packet) -> None:
        if pkt.payload == b"end":
            shown.append(repr(sessions[-1]))
            sessions[-1].close()
            shown.append(repr(sessions[-1]))
        if pkt.payload == b"end" or not pkt.known:
            sessions.append(pkt.session(idle=9, src=f"192.0.2.{len(sessions) + 1}"))

    frames = [udp_frame(INSIDE, OUTSIDE, 1, 2, payload=payload) for payload in (b"a", b"end", b"b")]
    crossing = cross(frames, app)
    assert [Packet.decode(frame).src for frame in crossing.there] == ["192.0.2.1", "192.0.2.2", "192.0.2.2"]
    assert [session.packets for session in sessions] == [(1, 0), (2, 0)]
    assert shown == ["<Session open packets=(1, 0)>", "<Session ended packets=(1, 0)>"]


def test_a_translation_is_laid_over_a_session_that_only_passes() -> None:
    app: App[None] = App("two")
    ended: list[str] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        if pkt.known:
            return
        session = pkt.session(idle=5, on_end=lambda _: ended.append("first"))
        assert pkt.session(idle=9, src=PUBLIC, on_end=lambda _: ended.append("second")) is session
        with pytest.raises(SessionError, match="already"):
            pkt.session(idle=9, src="192.0.2.2")

        assert session.idle == 5

    frame = udp_frame(INSIDE, OUTSIDE, payload=b"x")
    crossing = cross([frame, frame, 20.0, frame, 20.0], app)
    assert {Packet.decode(frame).src for frame in crossing.there} == {PUBLIC}
    assert ended == ["first", "second"] * 2
    assert crossing.counters["sessions"] == 0


@pytest.mark.parametrize("wrong", [{"src": "::1"}, {"src": "nobody"}, {"sport": 70_000}])
def test_wrong_addresses_leave_a_session_as_it_is(wrong: dict[str, Any]) -> None:
    app: App[None] = App("wrong")
    sessions: list[Session] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        if pkt.known:
            return
        with pytest.raises(ValueError, match=str(*wrong.values())):
            pkt.session(idle=5, **wrong)
        sessions.append(pkt.session(idle=5))
        with pytest.raises(ValueError, match=str(*wrong.values())):
            pkt.session(idle=5, **wrong)
        assert sessions[-1].open

    crossing = cross([udp_frame(), udp_frame(), 2.0], app)
    assert len(crossing.there) == 2
    assert len(sessions) == 1
    assert sessions[0].packets == (2, 0)


def test_conflicts_are_refused_and_what_was_there_stays() -> None:
    app: App[None] = App("conflict")
    ended: list[Session] = []
    sessions: list[Session] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        if pkt.known:
            return
        if pkt.sport == 1:
            pkt.session(idle=50, src=PUBLIC, sport=9000)
            return
        with pytest.raises(SessionError, match="another port"):
            pkt.session(idle=50, src=PUBLIC, sport=9000)
        sessions.append(pkt.session(idle=50, on_end=ended.append))
        with pytest.raises(SessionError, match="another port"):
            pkt.session(idle=50, src=PUBLIC, sport=9000)
        assert sessions[-1].open
        assert ended == []
        assert pkt.session(idle=50) is sessions[0]
        pkt.session(idle=50, src=PUBLIC, sport=9001)

    crossing = cross([udp_frame(sport=1), udp_frame(sport=2), udp_frame(sport=2)], app)
    assert len(crossing.there) == 3
    assert len(sessions) == 1
    assert ended == []
    assert sessions[0].open
    assert sessions[0].packets == (2, 0)
    assert crossing.there[2] == udp_frame(PUBLIC, sport=9001)


def test_the_budget_of_sessions() -> None:
    app: App[None] = App("many")
    refused: list[int | None] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        if pkt.known:
            return
        try:
            pkt.session(idle=2)
        except SessionError:
            refused.append(pkt.sport)

    frames = [*answered(1), *answered(2), udp_frame(sport=3)]
    crossing = cross([*frames, 10.0, *frames, 10.0], app, settings=TWO)
    assert refused == [3, 3]
    assert len(crossing.there) == 6


TWO = Settings(on_error="raise", budgets=Budgets(sessions=2))


def answered(port: int) -> tuple[bytes, Back]:
    return udp_frame(sport=port), Back(udp_frame(OUTSIDE, INSIDE, sport=53, dport=port))


class Sharer:
    """Lets first packets pass, and notes by their ports which are refused, and whose sessions end when."""

    def __init__(self, shares: dict[int, SessionShare] | None = None, **options: Any) -> None:
        self.app: App[None] = App("sharer")
        self.shares = shares or {}
        self.options = options
        self.told: list[str] = []
        self.counts: list[tuple[int, bool]] = []
        self.app.on(PKT_IN, hook=Hook.RAW)(self.first)

    def first(self, pkt: Packet) -> None:
        if pkt.known:
            return
        assert pkt.sport is not None
        share = self.shares.get(pkt.sport // 100)
        try:
            pkt.session(
                idle=1000, share=share, on_end=partial(self.note, f"{pkt.sport} ended"), **self.options
            )
        except SessionError as error:
            self.told.append(f"{pkt.sport} refused: {error}")
        if share is not None:
            self.counts.append((len(share), share.full))

    def note(self, text: str, session: Session) -> None:
        assert not session.open
        self.told.append(text)


def test_the_oldest_session_that_was_not_answered_makes_way() -> None:
    sharer = Sharer()
    crossing = cross(
        [*answered(1), udp_frame(sport=2), udp_frame(sport=3), udp_frame(sport=4)], sharer.app, settings=TWO
    )
    assert sharer.told[:2] == ["2 ended", "3 ended"]
    assert (crossing.counters["sessions"], crossing.counters["sessions_evicted"]) == (2, 2)
    assert len(crossing.there) == 4


def test_so_does_the_oldest_connection_that_was_not_opened() -> None:
    sharer = Sharer()
    syns = [tcp_frame(INSIDE, OUTSIDE, port, 80, flags="S") for port in (1, 2, 3)]
    opened = [
        Back(tcp_frame(OUTSIDE, INSIDE, 80, 1, flags="SA")),
        tcp_frame(INSIDE, OUTSIDE, 1, 80, flags="A"),
    ]
    crossing = cross([syns[0], *opened, *syns[1:]], sharer.app, settings=TWO)
    assert sharer.told[0] == "2 ended"
    assert crossing.counters["sessions_evicted"] == 1


def test_none_is_ended_for_what_can_be_no_session() -> None:
    """The replies of which would be those of another."""
    sharer = Sharer(src=PUBLIC, sport=9000)
    cross([udp_frame(sport=1), udp_frame(sport=2)], sharer.app, settings=TWO)
    assert sharer.told[0].startswith("2 refused: the replies")


def test_a_share_of_sessions() -> None:
    """Its sessions make way for one another, and for no others; those of no share are not counted."""
    share = SessionShare(2)
    assert (len(share), share.full, share.limit, repr(share)) == (0, False, 2, "<SessionShare 0 of 2>")
    sharer = Sharer({1: share})
    frames: list[bytes | Back] = [
        udp_frame(sport=1),
        *answered(101),
        udp_frame(sport=102),
        udp_frame(sport=103),
    ]
    crossing = cross(
        [*frames, *(Back(udp_frame(OUTSIDE, INSIDE, 53, 103)), udp_frame(sport=104))], sharer.app
    )
    assert sharer.counts == [(1, False), (2, False), (2, False), (2, True)]
    assert sharer.told[:2] == ["102 ended", "104 refused: all 2 sessions of the share are open"]
    assert crossing.counters["sessions"] == 3


def test_shares_are_of_one_run_and_few() -> None:
    shares = {number: SessionShare(1) for number in range(1, 20)}
    sharer = Sharer(shares)
    cross([udp_frame(sport=100 * number) for number in range(1, 17)], sharer.app)
    assert sharer.told[0] == "1600 refused: a run has room for 15 shares of sessions"
    other = Sharer({1: shares[1]})
    cross([udp_frame(sport=100)], other.app)
    assert other.told == ["100 refused: the share is of another run"]
    with pytest.raises(ValueError, match="at least"):
        SessionShare(0)


def test_shares_that_nobody_has_any_more_make_room_for_others() -> None:
    app: App[None] = App("many shares")
    made: list[int] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        session = pkt.session(idle=1, share=SessionShare(1))
        made.append(len(made))
        session.close()

    cross([udp_frame(sport=port) for port in range(1, 50)], app)
    assert len(made) == 49


@pytest.mark.parametrize("shared", [False, True])
def test_a_translation_is_laid_over_in_a_full_table(shared: bool) -> None:
    app: App[None] = App("two")
    share = SessionShare(1)
    ended: list[str] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        if pkt.known:
            return
        session = pkt.session(idle=500, on_end=lambda _, port=pkt.sport: ended.append(f"{port}"))
        if pkt.sport == 2:
            assert pkt.session(idle=500, src=PUBLIC, share=share if shared else None) is session
            assert session.open

    crossing = cross([udp_frame(sport=1), udp_frame(sport=2), udp_frame(sport=2)], app, settings=TWO)

    assert {Packet.decode(frame).src for frame in crossing.there[1:]} == {PUBLIC}
    assert crossing.counters["sessions"] == 1
    assert ended == ["1"]


def test_only_packets_that_have_replies() -> None:
    app: App[None] = App("others")
    raised: list[int] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        with pytest.raises(SessionError):
            pkt.session(idle=9)
        raised.append(1)

    app.on(FRAME, hook=Hook.RAW)(first.function)
    frames = [
        ethernet(bytes(28), ethertype=0x0806),
        ethernet(ipv4(b"payload", proto=99)),
        icmp_error(tcp_frame()[14:], INSIDE, OUTSIDE),
        udp_frame("10.0.0.1", "10.0.0.1", sport=5, dport=5),
    ]
    assert cross(frames, app).there == frames
    assert len(raised) == 4


@pytest.mark.parametrize("idle", [0, -1, 1e10, float("nan")])
def test_spans_of_time_that_cannot_be(idle: float) -> None:
    app: App[None] = App("spans")
    raised: list[int] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        with pytest.raises(ValueError, match="idle"):
            pkt.session(idle=idle)
        raised.append(1)

    assert len(cross([udp_frame()], app).there) == 1
    assert raised


# --- links --------------------------------------------------------------------------------------------


def test_link_addresses_and_back() -> None:
    translator = Translator(src=None, eth_src="02:00:00:00:00:aa", eth_dst="02:00:00:00:00:bb")
    frame = udp_frame(INSIDE, OUTSIDE, sport=1, dport=2)
    reply = ethernet(
        udp_frame(OUTSIDE, INSIDE, sport=2, dport=1)[14:], src="02:00:00:00:00:bb", dst="02:00:00:00:00:aa"
    )
    crossing = cross([frame, Back(reply)], translator.app)
    there, back = Packet.decode(crossing.there[0]), Packet.decode(crossing.back[0])
    assert (there.eth_src, there.eth_dst) == ("02:00:00:00:00:aa", "02:00:00:00:00:bb")
    assert (back.eth_src, back.eth_dst) == ("02:00:00:00:00:02", "02:00:00:00:00:01")


def test_a_reset_goes_to_the_link_addresses_of_the_session() -> None:
    link = {"eth_src": "02:00:00:00:00:aa", "eth_dst": "02:00:00:00:00:bb"}
    translator = Translator(src=PUBLIC, **link)
    translator.app.on(CONN_SETUP)(lambda flow: flow.reset())
    answer = tcp_frame(OUTSIDE, PUBLIC, 80, 1234, 500, 101, "SA")
    reply = Back(ethernet(answer[14:], src=link["eth_dst"], dst=link["eth_src"]))
    opening = [tcp_frame(INSIDE, OUTSIDE, seq=100), reply]
    crossing = cross([*opening, tcp_frame(INSIDE, OUTSIDE, seq=101, ack=501, flags="A")], translator.app)
    there = [Packet.decode(frame) for frame in crossing.there]
    assert [(pkt.rst, pkt.src, pkt.eth_src, pkt.eth_dst) for pkt in there] == [
        (False, PUBLIC, *link.values()),
        (True, PUBLIC, *link.values()),
    ]
    back = Packet.decode(crossing.back[-1])
    assert (back.rst, back.dst, back.eth_dst) == (True, INSIDE, "02:00:00:00:00:01")


def test_packets_may_be_turned_back() -> None:
    translator = Translator(src=PUBLIC, dst="10.0.0.7", turn_back=True)
    crossing = cross([udp_frame(INSIDE, OUTSIDE)], translator.app)
    assert not crossing.there
    (turned,) = crossing.back
    assert (Packet.decode(turned).src, Packet.decode(turned).dst) == (PUBLIC, "10.0.0.7")


def test_a_session_of_a_connection_ends_soon_after_it() -> None:
    """A transitory one is idle for less (RFC 5382 section 5)."""
    translator = Translator(idle=7440.0, transitory=10.0)
    talked = talk(translator.app, question=b"question", answer=b"answer", lasts=60.0)
    assert talked.closed_cleanly
    assert len(translator.ended) == 1


def test_fragments_are_translated_as_one_packet() -> None:
    translator = Translator(sport=9000)
    whole = ipv4(
        udp(bytes(1000), src=INSIDE, dst=OUTSIDE, sport=1, dport=2),
        src=INSIDE,
        dst=OUTSIDE,
        proto=17,
        ip_id=3,
    )
    crossing = cross([ethernet(piece) for piece in fragment_ipv4(whole, 256)], translator.app)
    assert len(crossing.there) == 4
    assert {frame[26:30] for frame in crossing.there} == {bytes([192, 0, 2, 1])}
    assert translator.sessions[0].packets == (1, 0)


def test_a_flow_tells_of_the_addresses_inside() -> None:
    translator = Translator()
    told: list[tuple[str, str]] = []

    @translator.app.on(CONN_TEARDOWN)
    def note(flow: Flow) -> None:
        told.append((flow.client.address, flow.server.address))

    talked = talk(translator.app, question=b"x")
    assert talked.closed_cleanly
    assert told == [(INSIDE, OUTSIDE)]
    assert all(
        read_segment(packet) is not None for _, _, frame in talked.frames if (packet := read_packet(frame))
    )
