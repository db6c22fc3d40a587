"""What apps in line decide about packets and flows, and what the ends make of it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import dpkt  # type: ignore[import-untyped]
import pytest
from structlog.testing import capture_logs

import aiomos
from aiomos import (
    CONN_NEW_DATA,
    CONN_SETUP,
    CONN_START,
    CONN_TEARDOWN,
    ERROR,
    FRAME,
    ORPHAN,
    PKT_IN,
    REXMIT,
    App,
    Flow,
    Half,
    Hook,
    MonitorConnection,
    Occurrence,
    Packet,
    Runtime,
    Settings,
    State,
    Timeouts,
)
from aiomos.errors import NotInLineError, StalePacketError
from aiomos.testing.hosts import read_packet, read_segment
from aiomos.testing.packets import (
    checksum,
    ethernet,
    fragment_ipv4,
    fragment_ipv6,
    ipv4,
    ipv6,
    mss,
    pseudo_header,
    tcp,
    tcp_frame,
    udp,
    udp_frame,
    vlan,
)
from aiomos.testing.scenario import Conversation
from aiomos.transport.sim import Link
from tests.events import play
from tests.line import BAD, CLIENT6, SERVER6, STRICT, Back, Crossing, Line, cross, talk

SYN, SYN_ACK = tcp_frame(seq=100), Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 500, 101, "SA"))
ACK = tcp_frame(seq=101, ack=501, flags="A")
OPENING: Line = [SYN, SYN_ACK, ACK]


@pytest.fixture
def app() -> App[None]:
    return App("judge")


def data(at: int, payload: bytes, flags: str = "PA") -> bytes:
    """A segment of the client's, at a stream offset."""
    return tcp_frame(seq=101 + at, ack=501, flags=flags, payload=payload)


def reply(at: int, payload: bytes = b"", *, ack: int = 0, flags: str = "PA") -> Back:
    """A segment of the server's, that acknowledges so many of the client's bytes."""
    return Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 501 + at, 101 + ack, flags, payload))


def watch_everything(app: App[None]) -> list[str]:
    """Wait for all that can happen, changing nothing; the names of what did."""
    noted: list[str] = []
    for event in aiomos.Event:
        for hook in event.hooks:
            app.on(event, hook=hook)(lambda event: noted.append(event.event.value))
    return noted


# --- passing through ----------------------------------------------------------------------------------

BAD_TCP = ethernet(ipv4(tcp()[:12] + b"\x10" + tcp()[13:]))
STRANGE = {
    "ARP": ethernet(bytes(28), ethertype=0x0806),
    "LLDP": ethernet(bytes(40), ethertype=0x88CC),
    "802.3": ethernet(b"\x42\x42\x03" + bytes(40), ethertype=43),
    "empty": ethernet(b"", ethertype=0x0800),
    "short": b"\x02\x00\x00\x00",
    "bad IP": ethernet(ipv4(b"", total_length=9)),
    "cut IP": tcp_frame()[:30],
    "bad TCP": BAD_TCP,
    "cut TCP": tcp_frame()[:40],
    "wrong checksum": tcp_frame(payload=b"x")[:-1] + b"y",
    "orphan": tcp_frame(sport=9, flags="A"),
    "unknown protocol": ethernet(ipv4(b"payload", proto=99)),
    "padded": udp_frame(payload=b"x") + bytes(17),
    "VLAN": vlan(udp_frame(payload=b"x"), 7),
    "two VLANs": vlan(vlan(tcp_frame(sport=11), 7), 8),
    "IPv6": udp_frame("2001:db8::1", "2001:db8::2", payload=b"x"),
    "6in4": ethernet(ipv4(ipv6(tcp(src="::1", dst="::2"), src="::1", dst="::2"), proto=41)),
    "no flags": tcp_frame(sport=12, flags=""),
    "all flags": tcp_frame(sport=13, flags="FSRPAUEC"),
}


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("verify", [False, True])
def test_what_nobody_changes_passes_as_it_is_and_in_order(
    app: App[None], watched: bool, verify: bool
) -> None:
    frames: Line = [*STRANGE.values(), *OPENING, data(0, b"hello"), reply(0, b"hi", ack=5), *STRANGE.values()]
    if watched:
        watch_everything(app)
    settings = attrs.evolve(STRICT, checksums="verify" if verify else "ignore")
    crossing = cross(frames, app, settings=settings)
    assert crossing.there == [frame for frame in frames if isinstance(frame, bytes)]
    assert crossing.back == [frame.frame for frame in frames if isinstance(frame, Back)]
    assert crossing.counters["forwarded"] == crossing.report.frames == len(frames)
    assert crossing.counters["forwarded_bytes"] == sum(map(len, [*crossing.there, *crossing.back]))


def reassembled(frames: list[bytes]) -> dict[int, bytes]:
    """Payload at its offsets, by fragment."""
    found = {}
    for frame in frames:
        packet = dpkt.ethernet.Ethernet(frame).data
        if isinstance(packet, dpkt.ip.IP):
            found[packet.offset] = bytes(packet.data)
        else:
            header = packet.extension_hdrs[dpkt.ip.IP_PROTO_FRAGMENT]
            found[header.frag_off * 8] = bytes(packet.data)
    return found


PIECES = {
    "IPv4": fragment_ipv4(ipv4(udp(bytes(range(256)) * 8), proto=17, ip_id=77), 512),
    "IPv4, backwards": fragment_ipv4(ipv4(udp(bytes(range(256)) * 8), proto=17, ip_id=78), 512)[::-1],
    "TCP": fragment_ipv4(ipv4(tcp(b"x" * 1000, flags="A"), ip_id=79), 256),
    "IPv6": fragment_ipv6(
        ipv6(
            udp(bytes(2000), src="2001:db8::1", dst="2001:db8::2"),
            src="2001:db8::1",
            dst="2001:db8::2",
            proto=17,
        ),
        1200,
    ),
}


@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
def test_fragments_leave_with_the_same_bytes(app: App[None], pieces: list[bytes], tagged: bool) -> None:
    frames = [vlan(ethernet(piece), 5) if tagged else ethernet(piece) for piece in pieces]
    crossing = cross(frames, app)
    assert sorted(crossing.there) == sorted(frames)
    assert crossing.counters["held"] == len(frames) - 1
    assert crossing.counters["refragmented"] == len(frames)


def test_a_packet_of_which_a_fragment_is_missing_does_not_pass(app: App[None]) -> None:
    frames = [ethernet(piece) for piece in PIECES["IPv4"]]
    crossing = cross(frames[:-1], app)
    assert not crossing.there
    assert crossing.counters["held"] == len(frames) - 1


def test_fragments_are_one_packet_to_apps(app: App[None]) -> None:
    seen: list[Any] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def note(pkt: Packet) -> None:
        seen.append((pkt.sport, pkt.payload, pkt.fragment_offset))
        if pkt.dport == 53:
            pkt.set(dport=54)

    frames = [ethernet(piece) for piece in PIECES["IPv4"]]
    crossing = cross(frames, app)
    assert seen == [(1234, bytes(range(256)) * 8, None)]
    whole = b"".join(payload for _, payload in sorted(reassembled(crossing.there).items()))
    assert struct.unpack_from("!HH", whole) == (1234, 54)
    assert checksum(pseudo_header("10.0.0.1", "10.0.0.2", 17, len(whole)) + whole) == 0


def test_dropped_fragments_are_gone(app: App[None]) -> None:
    app.on(PKT_IN, hook=Hook.RAW)(lambda pkt: pkt.drop())
    crossing = cross([ethernet(piece) for piece in PIECES["IPv4"]], app)
    assert not crossing.there
    assert crossing.counters["dropped"] == 1


def test_a_tunnel_passes_as_it_is_though_fragments_are_in_it(app: App[None]) -> None:
    """Its outer headers say how long what is in it is."""
    watch_everything(app)
    frames = [ethernet(ipv4(piece, proto=4, ip_id=n)) for n, piece in enumerate(PIECES["TCP"])]
    assert cross(frames, app, settings=attrs.evolve(STRICT, decapsulate=True)).there == frames


@pytest.mark.parametrize("ends", [None, (CLIENT6, SERVER6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("watched", [False, True])
def test_hosts_do_not_notice_who_only_watches(app: App[None], watched: bool, ends: Any) -> None:
    options = {} if ends is None else {"ends": ends}
    if watched:
        watch_everything(app)
    question, answer = b"question" * 3000, b"answer" * 5000
    talked = talk(app, question=question, answer=answer, link=BAD, seed=3, **options)
    assert talked.closed_cleanly
    assert talked.heard == (question, answer)
    assert (
        talked.frames
        == talk(App("nothing"), question=question, answer=answer, link=BAD, seed=3, **options).frames
    )


# --- drop ---------------------------------------------------------------------------------------------


def test_dropped_at_raw_the_flow_never_sees_it(app: App[None]) -> None:
    noted: list[tuple[str | None, int]] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def refuse(pkt: Packet) -> None:
        if pkt.payload == b"bad":
            pkt.drop()

    @app.on(CONN_TEARDOWN)
    def note(flow: Flow) -> None:
        noted.append((flow.reason, flow.client.packets))

    frames: Line = [*OPENING, data(0, b"bad"), data(0, b"good")]
    crossing = cross(frames, app)
    assert crossing.there == [SYN, ACK, data(0, b"good")]
    assert noted == [("timeout", 3)]
    assert crossing.counters["dropped"] == 1


def test_dropped_at_sender_its_receiver_does_not_get_it(app: App[None]) -> None:
    """The sender has sent it; receiver, streams and what is told of new bytes are as if it had been lost on the way."""
    drops = iter([True])
    told: list[tuple[int, int]] = []
    read: list[bytes] = []
    states: list[tuple[int, int, int]] = []

    @app.on(PKT_IN, hook=Hook.SENDER)
    def lose_once(pkt: Packet) -> None:
        if pkt.payload == b"hello" and next(drops, False):
            pkt.drop()

    @app.on(PKT_IN)
    def note_state(pkt: Packet, flow: Flow) -> None:
        states.append((flow.client.packets, flow.server.packets, pkt.payload_len))

    @app.on(CONN_NEW_DATA)
    def note(event: Occurrence) -> None:
        assert event.offset is not None
        assert event.length is not None
        told.append((event.offset, event.length))

    @app.monitor("server port 80")
    async def reader(conn: MonitorConnection) -> None:
        read.append(await conn.client.read())

    frames: Line = [
        *OPENING,
        data(0, b"hello"),
        data(5, b"world"),
        data(0, b"hello"),
        reply(0, ack=10, flags="A"),
    ]
    crossing = cross(frames, app)
    assert crossing.there == [SYN, ACK, data(5, b"world"), data(0, b"hello")]
    assert read == [b"helloworld"]
    assert told == [(0, 10)]
    assert [length for _, _, length in states] == [0, 0, 0, 5, 5, 0]


def test_an_acknowledgement_dropped_at_sender_does_not_count(app: App[None]) -> None:
    acknowledged: list[int] = []

    @app.on(PKT_IN, hook=Hook.SENDER)
    def drop(pkt: Packet, side: str) -> None:
        if side == "server" and pkt.ack == 106 and not pkt.payload:
            pkt.drop()

    @app.on(PKT_IN)
    def note(flow: Flow) -> None:
        acknowledged.append(flow.client.acked)

    cross([*OPENING, data(0, b"hello"), reply(0, ack=5, flags="A"), data(5, b"x")], app)
    assert acknowledged[-1] == 0


def test_a_reset_dropped_at_sender_leaves_the_flow_open(app: App[None]) -> None:
    states: list[tuple[State, State]] = []
    ends: list[str | None] = []

    @app.on(PKT_IN, hook=Hook.SENDER)
    def drop(pkt: Packet) -> None:
        if pkt.rst:
            pkt.drop()

    @app.on(PKT_IN)
    def note(flow: Flow) -> None:
        states.append((flow.client.state, flow.server.state))

    @app.on(CONN_TEARDOWN)
    def end(flow: Flow) -> None:
        ends.append(flow.reason)

    crossing = cross([*OPENING, data(0, b"", "RA"), reply(0, b"still here")], app)
    assert len(crossing.back) == 2
    assert states[-1][1] is State.ESTABLISHED
    assert ends == ["timeout"]


def test_dropped_segments_are_sent_again_until_they_pass(app: App[None]) -> None:
    seen: set[int] = set()
    streams: list[bytes] = []
    rexmits: list[int] = []

    @app.on(PKT_IN, hook=Hook.SENDER)
    def drop_firsts(pkt: Packet) -> None:
        if pkt.payload and pkt.seq // 1460 % 3 == 0 and pkt.seq not in seen:
            seen.add(pkt.seq)
            pkt.drop()

    @app.monitor("server port 80")
    async def read(conn: MonitorConnection) -> None:
        streams.extend((await conn.client.read(), await conn.server.read()))

    app.on(REXMIT)(lambda time: rexmits.append(time))
    question, answer = b"question" * 2000, b"answer" * 2000
    talked = talk(app, question=question, answer=answer)
    assert talked.closed_cleanly
    assert talked.heard == (question, answer)
    assert streams == [question, answer]
    assert seen


@pytest.mark.parametrize(
    ("event", "hook"),
    [
        (CONN_START, Hook.SENDER),
        (CONN_START, Hook.RECEIVER),
        (PKT_IN, Hook.SENDER),
        (PKT_IN, Hook.RECEIVER),
    ],
)
def test_a_flow_whose_first_packet_is_dropped_is_gone(app: App[None], event: Any, hook: Hook) -> None:
    """So that the next SYN is a first packet again, and may pass."""
    starts: list[int] = []
    ends: list[tuple[str | None, int]] = []

    @app.on(CONN_START)
    def note_start(flow: Flow) -> None:
        starts.append(flow.client.packets)

    @app.on(event, hook=hook)
    def refuse(pkt: Packet) -> None:
        if len(ends) < 2:
            pkt.drop()

    @app.on(CONN_TEARDOWN)
    def note_end(flow: Flow) -> None:
        ends.append((flow.reason, flow.client.packets + flow.server.packets))

    crossing = cross([SYN, SYN, *OPENING, data(0, b"hello")], app)
    assert crossing.there == [SYN, ACK, data(0, b"hello")]
    assert ends == [("dropped", 1), ("dropped", 1), ("timeout", 4)]
    assert starts == [1] * (1 if hook is Hook.SENDER else 3)
    assert crossing.report.counters["flows"] == 3


def test_dropped_as_orphan(app: App[None]) -> None:
    orphan = tcp_frame(sport=99, flags="A")
    app.on(ORPHAN)(lambda pkt: pkt.drop())
    app.on(CONN_SETUP)(lambda: None)
    crossing = cross([orphan, *OPENING], app)
    assert crossing.there == [SYN, ACK]
    assert crossing.report.counters["orphans"] == 1


def test_dropped_as_error_the_receiver_has_not_seen_it(app: App[None]) -> None:
    windows: list[int] = []

    @app.on(ERROR)
    def refuse(pkt: Packet, event: Occurrence) -> None:
        assert event.kind == "out_of_window"
        pkt.drop()

    @app.on(PKT_IN)
    def note(flow: Flow) -> None:
        windows.append(flow.client.packets)

    wild = tcp_frame(seq=101 + (1 << 30), ack=501, flags="PA", payload=b"wild")
    crossing = cross([*OPENING, wild, data(0, b"good")], app)
    assert crossing.there == [SYN, ACK, data(0, b"good")]
    assert len(windows) == 4


def test_dropped_frames_of_any_kind(app: App[None]) -> None:
    app.on(FRAME, hook=Hook.RAW)(lambda pkt: pkt.drop())
    frames = list(STRANGE.values())
    crossing = cross(frames, app, settings=attrs.evolve(STRICT, checksums="verify"))
    kinds = (
        "ARP",
        "LLDP",
        "802.3",
        "empty",
        "short",
        "bad IP",
        "cut IP",
        "bad TCP",
        "cut TCP",
        "wrong checksum",
    )
    assert crossing.there == [frame for name, frame in STRANGE.items() if name not in kinds]


def test_a_drop_is_of_one_packet(app: App[None]) -> None:
    """Nothing of it is left when the next comes, be that watched or not."""
    app.on(PKT_IN, hook=Hook.SENDER, filter="client port 1234")(lambda pkt: pkt.drop())
    others = [
        udp_frame(),
        tcp_frame(sport=4321),
        STRANGE["ARP"],
        tcp_frame(sport=4321, flags="A", seq=1, ack=1),
    ]
    frames = [frame for other in others for frame in (SYN, other)]
    assert cross(frames, app).there == others


# --- set ----------------------------------------------------------------------------------------------

FIELDS: dict[str, tuple[object, Callable[[Any], object]]] = {
    "src": ("10.9.8.7", lambda e: e.data.src),
    "dst": ("10.9.8.6", lambda e: e.data.dst),
    "sport": (4321, lambda e: e.data.data.sport),
    "dport": (8080, lambda e: e.data.data.dport),
    "ttl": (7, lambda e: e.data.ttl),
    "tos": (0xB8, lambda e: e.data.tos),
    "eth_src": ("02:00:00:00:00:99", lambda e: e.src),
    "eth_dst": ("02:00:00:00:00:98", lambda e: e.dst),
    "seq": (0xFFFF_FFFF, lambda e: e.data.data.seq),
    "ack": (0xFFFF_FFFE, lambda e: e.data.data.ack),
    "flags": (0x19, lambda e: e.data.data.flags),
    "window": (12345, lambda e: e.data.data.win),
    "urgent": (3, lambda e: e.data.data.urp),
    "mss": (536, lambda e: struct.unpack("!H", dict(dpkt.tcp.parse_opts(e.data.data.opts))[2])[0]),
}


def check_sums(frame: bytes) -> None:
    """Check the checksums of IP and what it carries."""
    packet = dpkt.ethernet.Ethernet(frame).data
    raw = bytes(packet)
    if isinstance(packet, dpkt.ip.IP):
        assert checksum(raw[:20]) == 0
    payload = bytes(packet.data)
    src, dst = (raw[12:16], raw[16:20]) if raw[0] >> 4 == 4 else (raw[8:24], raw[24:40])
    header = src + dst + struct.pack("!IxxxB", len(payload), packet.p)
    assert checksum(header + payload) == 0


@pytest.mark.parametrize("vid", [None, 5])
@pytest.mark.parametrize("hook", [Hook.RAW, Hook.SENDER, Hook.RECEIVER])
@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_set_and_the_checksums_are_right(
    app: App[None], name: str, hook: Hook, vid: int | None
) -> None:
    value, read = FIELDS[name]
    later: list[object] = []

    @app.on(PKT_IN, hook=hook)
    def change(pkt: Packet) -> None:
        pkt.set(**{name: value})

    @app.on(PKT_IN, hook=hook)
    def look(pkt: Packet) -> None:
        later.append(getattr(pkt, name))
        assert bytes(pkt.dpkt) == pkt.raw

    frame = tcp_frame(seq=7, ack=8, flags="S", payload=b"odd", options=mss(1460), vlan=vid)
    (changed,) = cross([frame], app).there
    check_sums(changed)
    decoded = dpkt.ethernet.Ethernet(changed)
    wire = read(decoded)
    assert later == [value]
    if isinstance(value, str):
        assert isinstance(wire, bytes)
        assert wire == (
            bytes.fromhex(value.replace(":", "")) if ":" in value else bytes(map(int, value.split(".")))
        )
    else:
        assert wire == value
    assert len(changed) == len(frame)


@pytest.mark.parametrize("kind", ["UDP", "UDP over IPv6", "TCP over IPv6", "UDP without checksum"])
def test_addresses_and_ports_of_other_packets(app: App[None], kind: str) -> None:
    six = "IPv6" in kind
    src, dst, new = (
        ("2001:db8::1", "2001:db8::2", "2001:db8::9") if six else ("10.0.0.1", "10.0.0.2", "10.0.0.9")
    )
    frame = (tcp_frame if "TCP" in kind else udp_frame)(src, dst, payload=b"hello")
    if "without" in kind:
        frame = frame[:40] + b"\0\0" + frame[42:]

    @app.on(PKT_IN, hook=Hook.RAW)
    def change(pkt: Packet) -> None:
        pkt.set(src=new, sport=9, ttl=3)

    (changed,) = cross([frame], app).there
    pkt = Packet.decode(changed)
    assert (pkt.src, pkt.dst, pkt.sport, pkt.ttl, pkt.payload) == (new, dst, 9, 3, b"hello")
    if "without" in kind:
        assert changed[40:42] == b"\0\0"
    else:
        check_sums(changed)


def test_set_at_raw_decides_which_flow_it_is(app: App[None]) -> None:
    keys: list[tuple[str, int]] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def move(pkt: Packet) -> None:
        if pkt.dport == 80:
            pkt.set(dst="10.0.0.3", dport=8080)
        elif pkt.sport == 8080:
            pkt.set(src="10.0.0.2", sport=80)

    @app.on(CONN_START)
    def note(flow: Flow) -> None:
        keys.append((flow.server.address, flow.server.port))

    crossing = cross([SYN], app)
    assert keys == [("10.0.0.3", 8080)]
    assert Packet.decode(crossing.there[0]).dst == "10.0.0.3"


def test_set_later_only_says_how_it_leaves(app: App[None]) -> None:
    keys: list[int] = []
    app.on(PKT_IN, hook=Hook.SENDER)(lambda pkt: pkt.set(dport=8080))

    @app.on(CONN_TEARDOWN)
    def note(flow: Flow) -> None:
        keys.extend((flow.server.port, flow.client.packets))

    crossing = cross([SYN, data(0, b"x")], app)
    assert keys == [80, 2]
    assert [Packet.decode(frame).dport for frame in crossing.there] == [8080, 8080]


WRONG: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "name": ({"colour": 1}, TypeError),
    "value": ({"ttl": 256}, ValueError),
    "negative": ({"sport": -1}, ValueError),
    "version": ({"src": "::1"}, ValueError),
    "text": ({"src": "nobody"}, ValueError),
    "link": ({"eth_src": "02:00"}, ValueError),
    "no such option": ({"mss": 500}, ValueError),
}


@pytest.mark.parametrize(("fields", "error"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_set_raises_and_the_packet_passes(
    app: App[None], fields: dict[str, Any], error: type[Exception]
) -> None:
    raised: list[type[Exception]] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def change(pkt: Packet) -> None:
        with pytest.raises(error) as caught:
            pkt.set(**fields)
        raised.append(type(caught.value))

    assert cross([ACK], app).there == [ACK]
    assert raised


def test_datagrams_have_no_tcp_fields(app: App[None]) -> None:
    @app.on(PKT_IN, hook=Hook.RAW)
    def change(pkt: Packet) -> None:
        for name in ("seq", "ack", "flags", "window", "urgent", "mss"):
            with pytest.raises(ValueError, match=name):
                pkt.set(**{name: 1})

    frame = udp_frame(payload=b"x" * 40)
    assert cross([frame], app).there == [frame]


# --- flows --------------------------------------------------------------------------------------------


def refuse_from(where: str, app: App[None], act: Callable[[Flow], None]) -> None:
    """Have something done to a flow once the client has said hello: in a callback, a handler or a timer."""

    @app.on(PKT_IN, hook=Hook.SENDER if where == "sender" else Hook.RECEIVER)
    def on_hello(pkt: Packet, flow: Flow) -> None:
        if not pkt.payload.startswith(b"hello"):
            return
        if where == "timer":
            flow.timer(0.5, act)
        elif where in ("sender", "receiver"):
            act(flow)

    @app.monitor("server port 80", gaps="skip")
    async def handle(conn: MonitorConnection) -> None:
        if where == "handler":
            await conn.client.read(5)
            act(conn.flow)
        elif where == "later":
            await aiomos.sleep(0.7)
            act(conn.flow)
        elif where == "task":
            await conn.client.read(5)
            await asyncio.gather(asyncio.create_task(asyncio.to_thread(int)))
            act(conn.flow)


WHERE = ["sender", "receiver", "handler", "timer", "later"]


@pytest.mark.parametrize("ends", [None, (CLIENT6, SERVER6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("where", WHERE)
def test_reset_ends_the_connection_at_both_ends(app: App[None], where: str, ends: Any) -> None:
    reasons: list[str | None] = []
    refuse_from(where, app, Flow.reset)

    @app.on(CONN_TEARDOWN)
    def note(flow: Flow) -> None:
        reasons.append(flow.reason)

    options = {} if ends is None else {"ends": ends}
    talked = talk(app, question=b"hello" + b"x" * 600_000, answer=b"y", link=Link(delay=0.05), **options)
    assert len(talked.server.received) < 600_000
    assert talked.client.reset
    assert talked.server.reset
    assert reasons == ["rst"]
    assert talked.report.counters["in_line.resets"] >= 2


def test_reset_of_a_connection_that_only_begins(app: App[None]) -> None:
    app.on(CONN_START, hook=Hook.SENDER)(lambda flow: flow.reset())
    talked = talk(app, question=b"hello")
    assert talked.client.reset
    assert not talked.server.received


def test_whoever_goes_on_after_a_reset_is_told_again(app: App[None]) -> None:
    @app.on(PKT_IN)
    def hang_up(pkt: Packet, flow: Flow) -> None:
        if pkt.payload == b"hang up":
            flow.reset()

    crossing = cross([*OPENING, data(0, b"hang up"), data(0, b"hang up"), reply(0, b"what?")], app)
    assert crossing.there[:2] == [SYN, ACK]
    packets = [read_segment(read_packet(frame)) for frame in crossing.back[1:]]  # type: ignore[arg-type]
    assert packets
    assert all(segment is not None and "R" in segment.flags for segment in packets)
    assert packets[-1].seq == 501  # type: ignore[union-attr]
    last = read_segment(read_packet(crossing.there[-1]))  # type: ignore[arg-type]
    assert last is not None
    assert (last.flags, last.seq) == ("R", 101)


@pytest.mark.parametrize(
    ("flags", "payload", "acknowledged"),
    [("P", b"what?", 5), ("F", b"what?", 6), ("F", b"", 1), ("", b"", 0)],
)
def test_what_acknowledges_nothing_is_acknowledged_by_the_reset(
    app: App[None], flags: str, payload: bytes, acknowledged: int
) -> None:
    """RFC 9293 section 3.10.7.1: SEG.SEQ + SEG.LEN, with which its sender believes the RST."""
    app.on(CONN_SETUP)(lambda flow: flow.reset())
    bare = tcp_frame(seq=101, flags=flags, payload=payload)
    crossing = cross([*OPENING, data(0, b"hello"), bare], app)
    assert bare not in crossing.there
    last = read_segment(read_packet(crossing.back[-1]))  # type: ignore[arg-type]
    assert last is not None
    assert (last.flags, last.seq, last.ack) == ("RA", 0, 101 + acknowledged)


def test_a_new_connection_after_a_reset_is_a_new_flow(app: App[None]) -> None:
    starts: list[int] = []

    @app.on(CONN_START)
    def note(flow: Flow) -> None:
        starts.append(flow.client.port)

    @app.on(CONN_SETUP)
    def hang_up(flow: Flow) -> None:
        if len(starts) == 1:
            flow.reset()

    again: Line = [
        tcp_frame(seq=90_100),
        Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 90_500, 90_101, "SA")),
    ]
    crossing = cross([*OPENING, *again], app)
    assert starts == [1234, 1234]
    assert crossing.there[-1] == again[0]
    assert crossing.back[-1] == again[1].frame  # type: ignore[union-attr]


@pytest.mark.parametrize("where", WHERE)
def test_a_dropped_flow_is_silent(app: App[None], where: str) -> None:
    reasons: list[str | None] = []
    refuse_from(where, app, Flow.drop)

    @app.on(CONN_TEARDOWN)
    def note(flow: Flow) -> None:
        reasons.append(flow.reason)

    question = b"hello" + b"x" * 600_000
    settings = Settings(on_error="raise", timeouts=Timeouts(reset=120))
    talked = talk(app, question=question, link=Link(delay=0.05), settings=settings)
    assert talked.client.failed
    assert not talked.client.reset
    assert not talked.server.reset
    assert question.startswith(talked.server.received)
    assert len(talked.server.received) < len(question)
    assert reasons == ["dropped"]
    assert talked.report.counters["in_line.resets"] == 0


def test_streams_of_a_dropped_flow_end_with_a_reset(app: App[None]) -> None:
    raised: list[type[Exception]] = []

    @app.monitor("server port 80")
    async def read(conn: MonitorConnection) -> None:
        assert await conn.client.read(5) == b"hello"
        conn.flow.drop()
        try:
            await conn.client.read()
        except aiomos.errors.ConnectionReset as error:
            raised.append(type(error))

    talk(app, question=b"hello" + b"x" * 200_000)
    assert raised == [aiomos.errors.ConnectionReset]


@pytest.mark.parametrize(("act", "passive"), [(Flow.drop, False), (Flow.reset, False), (Flow.reset, True)])
def test_a_flow_is_cut_where_its_bytes_are_sent_again(
    app: App[None], act: Callable[[Flow], None], passive: bool
) -> None:
    """Its streams have ended before the segment's bytes are looked at."""
    read: list[bytes] = []
    app.on(REXMIT)(lambda flow: act(flow))

    @app.monitor("server port 80")
    async def reader(conn: MonitorConnection) -> None:
        async for chunk in conn.client:
            read.append(bytes(chunk))  # noqa: PERF401 - in the end it raises

    frames: Line = [*OPENING, data(0, b"hello"), data(0, b"hello world"), data(11, b"more")]
    cross(frames, app, in_line=not passive)
    assert b"".join(read) == b"hello"


def test_bypassed_flows_pass_without_the_app(app: App[None]) -> None:
    seen: list[int] = []

    @app.on(PKT_IN)
    def note(pkt: Packet, flow: Flow) -> None:
        seen.append(pkt.payload_len)
        if pkt.payload:
            flow.bypass()

    question, answer = b"hello" * 4000, b"world" * 4000
    talked = talk(app, question=question, answer=answer)
    assert talked.closed_cleanly
    assert talked.heard == (question, answer)
    assert len(seen) == 4


# --- reject -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "hook"), [(PKT_IN, Hook.RAW), (CONN_START, Hook.SENDER), (PKT_IN, Hook.SENDER)]
)
def test_a_rejected_connection_is_refused(app: App[None], event: Any, hook: Hook) -> None:
    app.on(event, hook=hook)(lambda pkt: pkt.reject())
    talked = talk(app, question=b"hello")
    assert talked.client.reset
    assert [name for _, name, _ in talked.frames] == ["client"]
    assert talked.report.counters["in_line.rejected"] == 1


def test_a_rejected_segment_of_a_connection_resets_its_sender(app: App[None]) -> None:
    @app.on(PKT_IN, hook=Hook.SENDER)
    def refuse(pkt: Packet) -> None:
        if pkt.payload:
            pkt.reject()

    talked = talk(app, question=b"hello")
    assert talked.client.reset
    assert not talked.server.received


ICMP_CODES = {
    ("prohibited", False): (3, 13),
    ("port", False): (3, 3),
    ("prohibited", True): (1, 1),
    ("port", True): (1, 4),
}


@pytest.mark.parametrize(("why", "six"), ICMP_CODES)
def test_a_rejected_datagram_is_answered_by_icmp(app: App[None], why: Any, six: bool) -> None:
    @app.on(PKT_IN, hook=Hook.RAW)
    def refuse(pkt: Packet) -> None:
        pkt.reject(why)

    src, dst = ("2001:db8::1", "2001:db8::2") if six else ("10.0.0.1", "10.0.0.2")
    frame = udp_frame(src, dst, payload=b"question")
    crossing = cross([frame], app)
    assert not crossing.there
    (answer,) = crossing.back
    packet = read_packet(answer)
    assert packet is not None
    assert (packet.src, packet.dst) == (dst, src)
    assert tuple(packet.payload[:2]) == ICMP_CODES[why, six]
    assert frame[14:] in packet.payload
    assert (packet.sum() if six else checksum(packet.payload)) == 0


def test_nobody_is_told_of_errors_and_groups(app: App[None]) -> None:
    app.on(PKT_IN, hook=Hook.RAW)(lambda pkt: pkt.reject())
    error = ethernet(ipv4(bytes([3, 1, 0xFC, 0xFE]) + bytes(4), proto=1))
    group = udp_frame(dst="224.0.0.1")
    crossing = cross([error, group, tcp_frame(flags="R")], app)
    assert (crossing.there, crossing.back) == ([], [])
    assert crossing.counters["rejected"] == 0


# --- several apps -------------------------------------------------------------------------------------


def test_apps_see_what_those_before_them_have_set_and_the_other_way_round_back() -> None:
    first, second = App("first"), App("second")
    seen: list[tuple[str, str, int]] = []

    def chain(app: App[None], tos: int) -> None:
        @app.on(PKT_IN, hook=Hook.SENDER)
        def change(pkt: Packet, side: str) -> None:
            seen.append((app.name, side, pkt.tos))
            pkt.set(tos=tos)

    chain(first, 4)
    chain(second, 8)
    crossing = cross(OPENING[:2], first, second)
    assert seen == [
        ("first", "client", 0),
        ("second", "client", 4),
        ("second", "server", 0),
        ("first", "server", 8),
    ]
    assert Packet.decode(crossing.there[0]).tos == 8
    assert Packet.decode(crossing.back[0]).tos == 4


def test_dropped_by_one_app_is_dropped() -> None:
    first, second = App("first"), App("second")
    seen: list[Any] = []
    first.on(PKT_IN, hook=Hook.RAW)(lambda pkt: pkt.drop())
    second.on(PKT_IN, hook=Hook.SENDER)(lambda pkt: seen.append(pkt))
    assert not cross([SYN], first, second).there
    assert not seen


def test_apps_come_and_go_while_packets_pass() -> None:
    network_of: list[Runtime] = []
    lasting, guest = App("lasting"), App("guest")

    @lasting.startup
    async def begin(engine: Runtime) -> None:
        network_of.append(engine)

    @guest.on(PKT_IN, hook=Hook.SENDER)
    def mark(pkt: Packet) -> None:
        pkt.set(tos=0x10)

    @lasting.monitor("server port 80")
    async def change_guests(conn: MonitorConnection) -> None:
        (engine,) = network_of
        await conn.client.read(2)
        await engine.attach(guest)
        await conn.client.read(1)
        await engine.detach(guest)

    frames: Line = [*OPENING, *(data(at, b"%d" % at) for at in range(6))]
    crossing = cross(frames, lasting)
    marks = [Packet.decode(frame).tos for frame in crossing.there]
    assert marks[:4] == [0, 0, 0, 0]
    assert marks[-1] == 0
    assert len(marks) == 8


# --- what goes wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fail", ["open", "closed"])
@pytest.mark.parametrize(
    ("event", "hook"),
    [(PKT_IN, Hook.RAW), (PKT_IN, Hook.SENDER), (PKT_IN, Hook.RECEIVER), (CONN_SETUP, None)],
)
def test_what_becomes_of_packets_whose_callback_raises(
    app: App[None], event: Any, hook: Any, fail: Any
) -> None:
    @app.on(event, **({} if hook is None else {"hook": hook}))
    def broken(pkt: Packet) -> None:
        if pkt.flags == 0x10:
            raise RuntimeError("broken")

    others = [tcp_frame(sport=7), udp_frame()]
    frames: Line = [*OPENING, data(0, b"hello"), *others]
    with capture_logs():
        crossing = cross(frames, app, settings=Settings(fail=fail))
    assert crossing.report.counters["callback_errors"] == 1
    if fail == "open":
        assert crossing.there == [SYN, ACK, data(0, b"hello"), *others]
    elif hook is Hook.RAW:  # it belongs to no flow yet
        assert crossing.there == [SYN, data(0, b"hello"), *others]
    else:
        assert crossing.there == [SYN, *others]


@pytest.mark.parametrize("in_line", [True, False])
def test_verdicts_need_to_be_in_line(app: App[None], in_line: bool) -> None:
    raised: list[str] = []

    @app.on(PKT_IN, hook=Hook.SENDER)
    def judge(pkt: Packet, flow: Flow) -> None:
        for name, act in {
            "drop": pkt.drop,
            "reject": pkt.reject,
            "set": lambda: pkt.set(ttl=3),
            "replace": lambda: pkt.replace(b"x"),
            "session": lambda: pkt.session(idle=9),
            "flow.drop": flow.drop,
        }.items():
            try:
                act()
            except NotInLineError:
                raised.append(name)
            except ValueError:  # a SYN has nothing to replace
                pass

    frames = [SYN]
    crossing = cross(frames, app, in_line=in_line)
    assert raised == ([] if in_line else ["drop", "reject", "set", "replace", "session", "flow.drop"])
    assert crossing.there == ([] if in_line else frames)


def test_offline_there_is_nobody_to_tell(app: App[None]) -> None:
    raised: list[int] = []

    @app.on(CONN_SETUP)
    def judge(pkt: Packet, flow: Flow, engine: Runtime) -> None:
        for act in (pkt.drop, flow.drop, flow.reset, lambda: engine.send(bytes(60))):
            with pytest.raises(NotInLineError):
                act()
            raised.append(1)
        assert pkt.out_interface is None
        assert pkt.interface is None

    play(Conversation().handshake().frames, app)
    assert len(raised) == 4


def test_who_only_watches_can_reset_and_send(app: App[None]) -> None:
    hello = udp_frame(payload=b"from the app")

    @app.on(CONN_SETUP)
    def judge(flow: Flow, engine: Runtime) -> None:
        flow.reset()
        engine.send(hello, 1)

    crossing = cross([*OPENING, data(0, b"x")], app, in_line=False)
    assert hello in crossing.there
    resets = [Packet.decode(frame).rst for frame in (*crossing.there, *crossing.back) if frame != hello]
    assert sum(map(bool, resets)) >= 2
    assert crossing.counters["forwarded"] == 0


def test_a_packet_that_was_kept_is_stale(app: App[None]) -> None:
    kept: list[Packet] = []
    raised: list[str] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def judge(pkt: Packet) -> None:
        for old in kept:
            acts: dict[str, Callable[[], object]] = {
                "drop": old.drop,
                "set": partial(old.set, ttl=3),
                "replace": partial(old.replace, b""),
                "out_interface": partial(getattr, old, "out_interface"),
                "interface": partial(getattr, old, "interface"),
            }
            for name, act in acts.items():
                with pytest.raises(StalePacketError):
                    act()
                raised.append(name)
        kept.append(pkt)

    assert cross([SYN, SYN], app).there == [SYN, SYN]
    assert raised
    with pytest.raises(StalePacketError):
        kept[0].out_interface  # noqa: B018 - it raises


def test_a_copy_decides_nothing(app: App[None]) -> None:
    @app.on(PKT_IN, hook=Hook.RAW)
    def judge(pkt: Packet) -> None:
        with pytest.raises(NotInLineError):
            pkt.copy().drop()
        assert pkt.copy().out_interface is None

    assert cross([SYN], app).there == [SYN]


def test_a_syn_that_is_recalled_has_left(app: App[None]) -> None:
    """In a live connection a SYN is doubted; what confirms it begins a flow whose first packet is not in hand."""
    raised: list[bool] = []
    passed: list[bool] = []

    @app.on(CONN_START, hook=Hook.SENDER)
    def judge(pkt: Packet) -> None:
        try:
            pkt.set(ttl=9)
            passed.append(True)
        except NotInLineError:
            raised.append(True)

    again = tcp_frame(seq=5000)
    confirmed = Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 9000, 5001, "SA"))
    crossing = cross([*OPENING, data(0, b"x"), reply(0, b"y", ack=1), again, confirmed], app)
    assert (len(passed), len(raised)) == (1, 1)
    assert crossing.there[-1] == again
    assert crossing.back[-1] == confirmed.frame


@pytest.mark.parametrize("act", [Flow.drop, Flow.reset])
def test_a_flow_that_is_cut_with_a_recalled_syn(app: App[None], act: Callable[[Flow], None]) -> None:
    starts: list[int] = []

    @app.on(CONN_START, hook=Hook.SENDER)
    def cut_second(flow: Flow) -> None:
        starts.append(1)
        if len(starts) == 2:
            act(flow)

    confirmed = Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 9000, 5001, "SA"))
    frames: Line = [*OPENING, data(0, b"x"), reply(0, b"y", ack=1), tcp_frame(seq=5000), confirmed]
    crossing = cross(frames, app)
    assert len(starts) == 2
    assert confirmed.frame not in crossing.back


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_a_callback_that_fails_at_a_recalled_syn_ends_its_flow_if_failing_closed(
    app: App[None], fail: Any
) -> None:
    """The SYN has passed, but what confirms it does not: its opener tries again, and that is a new flow."""
    starts: list[int] = []
    ends: list[str | None] = []

    @app.on(CONN_START, hook=Hook.SENDER)
    def fail_at_second() -> None:
        starts.append(1)
        if len(starts) == 2:
            raise RuntimeError("broken")

    app.on(CONN_TEARDOWN)(lambda flow: ends.append(flow.reason))
    told: list[int] = []
    app.on(PKT_IN)(lambda pkt: told.append(pkt.seq) if pkt.syn and pkt.ack_flag else None)
    confirmed = Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 9000, 5001, "SA"))
    again = tcp_frame(seq=5000)
    frames: Line = [*OPENING, data(0, b"x"), reply(0, b"y", ack=1), again, confirmed, again, confirmed]
    with capture_logs():
        crossing = cross(frames, app, settings=Settings(fail=fail))
    passed = 2 if fail == "open" else 1
    assert len(starts) == (2 if fail == "open" else 3)
    assert told.count(9000) == passed
    assert crossing.back.count(confirmed.frame) == passed
    assert crossing.there.count(again) == 2
    assert crossing.counters["dropped"] == 2 - passed
    assert ends == ["timeout", *(["dropped"] if fail == "closed" else []), "timeout"]


@pytest.mark.parametrize("hook", [Hook.SENDER, Hook.RECEIVER])
@pytest.mark.parametrize("zero", ["time_wait", "reset", "neither"])
def test_a_flow_may_end_within_its_own_callbacks(app: App[None], hook: Hook, zero: str) -> None:
    """With time-outs of nothing it ends with its last segment, which still passes."""
    timeouts = Timeouts() if zero == "neither" else Timeouts(**{zero: 0})
    ends: list[str | None] = []
    app.on(PKT_IN, hook=hook)(lambda: None)
    app.on(CONN_TEARDOWN)(lambda flow: ends.append(flow.reason))
    question = b"question" * 300
    talked = talk(app, question=question, settings=Settings(on_error="raise", timeouts=timeouts), lasts=90.0)
    assert talked.closed_cleanly
    assert ends == ["fin"]
    crossing = cross(
        [*OPENING, data(0, b"", "RA")], app, settings=Settings(on_error="raise", timeouts=timeouts)
    )
    assert crossing.there[-1] == data(0, b"", "RA")
    assert ends[1] == "rst"


# --- sending and time ---------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["startup", "callback", "handler", "timer", "shutdown"])
def test_frames_of_an_apps_own(app: App[None], where: str) -> None:
    own = udp_frame(payload=where.encode())

    @app.startup
    async def begin(engine: Runtime) -> None:
        if where == "startup":
            engine.send(own, "sim1")

    @app.shutdown
    async def end(engine: Runtime) -> None:
        if where == "shutdown":
            engine.send(own, 1)

    @app.on(CONN_SETUP)
    def talk_back(flow: Flow, engine: Runtime) -> None:
        if where == "callback":
            engine.send(own, "sim1")
        elif where == "timer":
            flow.timer(0.25, lambda _: engine.send(own, 1))

    @app.monitor("server port 80")
    async def handle(conn: MonitorConnection) -> None:
        if where == "handler":
            await conn.client.read(1)
            runtimes[0].send(own, 1)

    runtimes: list[Runtime] = []
    frames: Line = [*OPENING, data(0, b"hello"), 1.0, data(5, b"later")]
    crossing = cross(frames, app, started=runtimes.append)
    sent = [frame for frame in frames if isinstance(frame, bytes)]
    place = {"startup": 0, "callback": 1, "handler": 3, "timer": 3, "shutdown": 4}[where]
    assert crossing.there == [*sent[:place], own, *sent[place:]]
    assert crossing.counters["originated"] == (where != "shutdown")  # the report is older


def test_only_to_interfaces_that_there_are(app: App[None]) -> None:
    raised: list[object] = []

    @app.startup
    async def begin(engine: Runtime) -> None:
        for interface in (2, -1, "eth0", 70000):
            with pytest.raises(ValueError, match=str(interface)):
                engine.send(bytes(60), interface)
            raised.append(interface)
        with pytest.raises(ValueError, match="empty"):
            engine.send(b"")

    crossing = cross([SYN], app)
    assert len(raised) == 4
    assert crossing.there == [SYN]


def test_timers_run_out_in_virtual_time(app: App[None]) -> None:
    told: list[float] = []

    @app.on(CONN_START)
    def begin(flow: Flow, engine: Runtime) -> None:
        started = engine.now
        for delay in (2.5, 0.5, 1.0):
            flow.timer(delay, lambda _: told.append(round(engine.now - started, 6)))

    cross([SYN, 3.0, SYN], app)
    assert told == [0.5, 1.0, 2.5]


def test_interfaces_have_names(app: App[None]) -> None:
    seen: list[tuple[Any, ...]] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def note(pkt: Packet) -> None:
        seen.append((pkt.interface, pkt.out_interface, pkt.copy().interface))

    app.on(FRAME, hook=Hook.RAW)(note.function)
    cross([SYN, SYN_ACK, STRANGE["ARP"]], app)
    assert seen == [("sim0", "sim1", "sim0"), ("sim1", "sim0", "sim1"), ("sim0", "sim1", "sim0")]


# --- the same again -----------------------------------------------------------------------------------


def judge_at_random(app: App[None], seed: int) -> None:
    """Make verdicts that follow from the packet alone."""

    @app.on(PKT_IN, hook=Hook.SENDER)
    def judge(pkt: Packet, flow: Flow) -> None:
        what = (pkt.seq ^ seed) % 23
        if what == 0 and flow.client.packets > 3:
            pkt.drop()
        elif what < 4:
            pkt.set(ttl=what + 1, tos=4 * what)
        elif what < 7 and pkt.payload:
            pkt.replace(pkt.payload.upper() + b"!" * what)


@pytest.mark.parametrize("seed", range(3))
def test_the_same_network_does_the_same_to_the_byte(seed: int) -> None:
    def once() -> list[Any]:
        app: App[None] = App("random")
        judge_at_random(app, seed)
        talked = talk(app, question=b"question" * 3000, answer=b"answer" * 2000, link=BAD, seed=seed)
        counters = {name: n for name, n in talked.report.counters.items() if name.startswith("in_line.")}
        return [talked.frames, counters, talked.network.now_ns]

    assert once() == once()


def test_every_frame_is_accounted_for(app: App[None]) -> None:
    @app.on(PKT_IN, hook=Hook.RAW)
    def judge(pkt: Packet) -> None:
        if pkt.length % 3 == 0:
            pkt.drop()

    frames = [*STRANGE.values(), *(udp_frame(payload=bytes(n)) for n in range(20)), *OPENING]
    crossing: Crossing = cross(frames, app)
    counters = crossing.counters
    assert counters["forwarded"] + counters["dropped"] == len(frames)
    assert counters["dropped"] > 3
    assert len(crossing.there) + len(crossing.back) == counters["forwarded"]
    assert crossing.report.counters["transport.sent"] == counters["forwarded"] + counters["originated"]


def test_half_state(app: App[None]) -> None:
    """What is asked of a half at SENDER after an earlier callback has dropped the packet is still there."""
    seen: list[int] = []

    @app.on(PKT_IN, hook=Hook.SENDER)
    def drop(pkt: Packet) -> None:
        pkt.drop()

    @app.on(PKT_IN, hook=Hook.SENDER)
    def look(half: Half) -> None:
        seen.append(half.packets)

    cross([SYN], app)
    assert seen == [1]


def pppoe(frame: bytes) -> bytes:
    """Put what an Ethernet frame carries into a PPPoE session (RFC 2516)."""
    packet = frame[14:]
    return frame[:12] + struct.pack("!HBBHHH", 0x8864, 0x11, 0, 1, len(packet) + 2, 0x0021) + packet


WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "VLAN": lambda frame: vlan(frame, 7),
    "two VLANs": lambda frame: vlan(vlan(frame, 7), 8),
    "PPPoE": pppoe,
}


@pytest.mark.parametrize("act", ["reset", "reject"])
@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_answers_travel_as_their_flow_does(app: App[None], wrap: Callable[[bytes], bytes], act: str) -> None:
    """With its tags, and lengths of their own in the link layer, too."""

    @app.on(PKT_IN, hook=Hook.SENDER)
    def hang_up(pkt: Packet, flow: Flow) -> None:
        if pkt.payload and act == "reset":
            flow.reset()
        elif pkt.payload:
            pkt.reject()

    long = Back(wrap(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 501, 101, "A", b"x" * 900)))
    frames: Line = [wrap(SYN), Back(wrap(SYN_ACK.frame)), wrap(ACK), long]
    crossing = cross(frames, app)
    told = [*crossing.there[2:], *crossing.back[1:]]
    assert told
    for frame in told:
        packet = Packet.decode(frame)
        assert packet.rst
        assert packet.raw is not None
        at = frame.index(packet.raw)
        assert (len(packet.raw), len(frame) - at) == (40, 40)
        if wrap is pppoe:
            assert struct.unpack_from("!H", frame, 18) == (42,)
        else:
            assert frame[12:at] == frames[0][12:at]  # type: ignore[index]


@pytest.mark.parametrize(("wait", "passed"), [(49.0, 1), (53.0, 2)])
def test_a_dropped_flow_is_remembered_for_as_long_as_one_that_closes(
    app: App[None], wait: float, passed: int
) -> None:
    """Longer than its ends wait before they try again, and not as briefly as one that has ended well."""

    @app.on(CONN_SETUP)
    def cut(flow: Flow) -> None:
        flow.drop()

    timeouts = Timeouts(closing=50, time_wait=5, reset=5, established=5, half_open=5)
    frames: Line = [SYN, SYN_ACK, ACK, wait, data(0, b"hello")]
    crossing = cross(frames, app, settings=Settings(on_error="raise", timeouts=timeouts))
    assert len(crossing.there) == passed
