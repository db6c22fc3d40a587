"""Flows that may be edited: no byte gets past the app, whatever the order in which its sender has numbers pass."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos import (
    CONN_START,
    PKT_IN,
    REXMIT,
    App,
    Budgets,
    Flow,
    Hook,
    MonitorConnection,
    Packet,
    Session,
    SessionError,
    Settings,
)
from aiomos.testing.hosts import TcpHost, read_packet, read_segment
from aiomos.testing.packets import (
    ethernet,
    fastopen,
    fragment_ipv4,
    ipv4,
    ipv6,
    ipv6_extension,
    mss,
    tcp,
    tcp_frame,
    timestamps,
)
from aiomos.transport.sim import Link, Network, Node
from tests.fuzz.quotes import WRITTEN_ANEW
from tests.line import STRICT, Back, Line, cross, run, talk
from tests.tunnels import TUNNELS
from tests.wrappings import TAGS

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
ISN, SERVER_ISN = 2**32 - 12, 500
MP_CAPABLE = b"\x1e\x04\x01\x81"
MP_JOIN = b"\x1e\x0c\x10\x01" + bytes(8)
MD5 = b"\x13\x12" + bytes(16)
AO = b"\x1d\x10\x01\x01" + bytes(12)
EXPERIMENTAL_FASTOPEN = b"\xfe\x04\xf9\x89"
OTHER_EXPERIMENT = b"\xfe\x06\x01\x02\xaa\xbb"


def sent(at: int, payload: bytes = b"", flags: str = "A", **options: Any) -> bytes:
    """A segment of the client's, at a stream offset."""
    return tcp_frame(seq=(ISN + 1 + at) % 2**32, ack=SERVER_ISN + 1, flags=flags, payload=payload, **options)


def said(at: int, payload: bytes = b"", *, ack: int = 0, flags: str = "A", **options: Any) -> Back:
    """A segment of the server's, that acknowledges so many of the client's bytes."""
    numbers = SERVER_ISN + 1 + at, (ISN + 1 + ack) % 2**32
    return Back(tcp_frame(SERVER, CLIENT, 80, 1234, *numbers, flags, payload, **options))


OPENING: Line = [
    tcp_frame(seq=ISN),
    Back(tcp_frame(SERVER, CLIENT, 80, 1234, SERVER_ISN, ISN + 1, "SA")),
    sent(0),
]


def segment_of(frame: bytes) -> Any:
    packet = read_packet(frame)
    assert packet is not None
    assert packet.sum() == 0
    return read_segment(packet)


def stream_of(frames: Iterable[bytes], isn: int = ISN) -> bytes:
    """The client's stream as it arrives; no byte of it may come as two different ones."""
    found: dict[int, int] = {}
    for frame in frames:
        segment = segment_of(frame)
        start = (segment.seq - isn - 1 + 2**31) % 2**32 - 2**31
        for at, byte in enumerate(segment.payload, start):
            if "S" not in segment.flags:
                assert found.setdefault(at, byte) == byte
    return bytes(found[at] for at in sorted(found)) if sorted(found) == list(range(len(found))) else b"holes"


class Rewriter:
    """An app that edits what it is given, by a function."""

    def __init__(self, edit: Callable[[bytes], bytes], **options: Any) -> None:
        self.app: App[None] = App("rewriter")
        self.edit = edit
        self.answers: list[bool | str] = []
        self.app.on(PKT_IN, hook=Hook.SENDER, **options)(self.on_packet)

    def on_packet(self, pkt: Packet) -> None:
        if pkt.payload:
            try:
                self.answers.append(pkt.replace(self.edit(pkt.payload)))
            except (ValueError, BufferError) as error:
                self.answers.append(str(error))


def good_news(payload: bytes) -> bytes:
    return payload.replace(b"secret", b"good news")


# --- order ------------------------------------------------------------------------------------------


PIECES = [(0, b"the secret is "), (14, b"out of order"), (26, b".")]
AWAY = 27
BARE = [(AWAY, b""), (14, b"")]


@pytest.mark.parametrize("order", [*itertools.permutations([*PIECES, *BARE])])
def test_every_order_arrives_edited(order: tuple[tuple[int, bytes], ...]) -> None:
    """Each segment once, as nobody sends anything again; bare ones of any number between them."""
    rewriter = Rewriter(good_news)
    crossing = cross([*OPENING, *(sent(at, payload) for at, payload in order)], rewriter.app)
    assert stream_of(crossing.there) == b"the good news is out of order."
    assert rewriter.answers == [True, True, True]
    assert crossing.counters["waiting_bytes"] == crossing.counters["given_up"] == 0
    bare = [
        frame for frame in crossing.there if segment_of(frame).flags == "A" and not segment_of(frame).payload
    ]
    assert len(bare) == 1 + len(BARE)


def test_the_fin_waits_with_the_rest() -> None:
    rewriter = Rewriter(good_news)
    frames = [sent(14, b"out.", "FA"), sent(0, b"the secret is ")]
    there = cross([*OPENING, *frames], rewriter.app).there
    assert [(segment_of(frame).payload, segment_of(frame).flags) for frame in there[2:4]] == [
        (b"the good news is ", "A"),
        (b"out.", "FA"),
    ]
    assert segment_of(there[3]).seq == (ISN + 1 + 17) % 2**32


def test_what_waited_is_new_to_apps_when_it_has_its_turn() -> None:
    """Nothing was retransmitted, and no stream has a hole: it was aiomos that was out of order."""
    rewriter = Rewriter(good_news)
    seen: list[tuple[int, float]] = []
    streams: list[bytes] = []
    rewriter.app.on(PKT_IN)(lambda pkt, time: seen.append((pkt.payload_len, time)))
    rewriter.app.on(REXMIT)(lambda flow: pytest.fail(f"{flow}: nothing was sent again"))

    @rewriter.app.monitor()
    async def read(conn: MonitorConnection) -> None:
        streams.append(await conn.client.read())

    frames = [sent(14, b"out"), sent(17, b" of order.", "FA"), sent(0, b"the secret is ")]
    cross([*OPENING, *frames], rewriter.app)
    assert streams == [b"the secret is out of order."]
    assert [size for size, _ in seen] == [0, 0, 0, 14, 3, 10]
    assert [time for _, time in seen] == sorted(time for _, time in seen)


def test_a_sender_is_told_that_something_is_missing() -> None:
    rewriter = Rewriter(good_news)
    crossing = cross([*OPENING, sent(14, b"out"), sent(17, b" of order.")], rewriter.app)
    assert [(s.seq, s.ack, s.payload) for s in map(segment_of, crossing.back[1:3])] == [
        (SERVER_ISN + 1, (ISN + 1) % 2**32, b"")
    ] * 2
    assert crossing.counters["held"] == 2
    assert crossing.counters["given_up"] == 2  # when the run ended
    assert len(crossing.there) == 2


def test_memory_is_bounded() -> None:
    """Beyond it segments are dropped, and come again."""
    rewriter = Rewriter(bytes.upper)
    piece = bytes(range(97, 107)) * 10
    frames = [sent(100 * at, piece) for at in range(1, 50)]
    tight = Settings(on_error="raise", budgets=Budgets(held_bytes_half=5000))
    crossing = cross([*OPENING, *frames, sent(0, piece), *frames], rewriter.app, settings=tight)
    assert 5 < crossing.counters["held"] < 20
    assert crossing.counters["held"] + crossing.counters["dropped"] == len(frames)
    assert stream_of(crossing.there) == piece.upper() * 50


def test_segments_from_beyond_any_window_do_not_pass() -> None:
    rewriter = Rewriter(bytes.upper)
    far = [sent(distance, b"far") for distance in (1 << 28, (1 << 28) + 1, 1 << 30, (1 << 31) - 1)]
    crossing = cross([*OPENING, *far, sent(0, b"near")], rewriter.app)
    assert stream_of(crossing.there) == b"NEAR"
    assert crossing.counters["dropped"] + crossing.counters["held"] == len(far)


@pytest.mark.parametrize("distance", [1 << bit for bit in range(3, 32)])
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_one_segment_from_elsewhere_is_looked_at_once(distance: int, off: int) -> None:
    """Half the space of numbers away it lies before the next byte and behind it as well."""
    rewriter = Rewriter(bytes.upper)
    far = sent(1 + distance + off, b"far", flags="PA")
    crossing = cross([*OPENING, sent(0, b"n"), far, sent(1), sent(1, b"ear"), sent(4)], rewriter.app)
    looks = crossing.counters["held"] + crossing.counters["dropped"]
    assert looks <= 2  # when it came, and when it had its turn
    assert crossing.counters["originated"] <= 2  # its sender is told where the receiver is
    # Still farther is old, and no receiver takes it.
    old = distance + off > 1 << 31
    assert stream_of(frame for frame in crossing.there if not (old and b"far" in frame)) == b"NEAR"


def test_what_waited_has_a_timestamp_that_its_receiver_takes() -> None:
    """It leaves behind what was sent later, which PAWS would hold against it (RFC 7323 section 5.3)."""
    stamps = partial(timestamps, ecr=9)
    rewriter = Rewriter(good_news)
    opening: Line = [
        tcp_frame(seq=ISN, options=timestamps(1, 0)),
        Back(tcp_frame(SERVER, CLIENT, 80, 1234, SERVER_ISN, ISN + 1, "SA", options=timestamps(9, 1))),
        sent(0, options=stamps(2)),
    ]
    frames = [
        sent(14, b"out", options=stamps(10)),
        sent(17, b" of", options=stamps(11)),
        sent(0, b"the secret is ", options=stamps(500)),
        sent(20, b" order.", options=stamps(501)),
    ]
    crossing = cross([*opening, *frames], rewriter.app)
    assert stream_of(crossing.there) == b"the good news is out of order."
    values = [Packet.decode(frame).tsval for frame in crossing.there[:6]]
    assert values == [1, 2, 500, 500, 500, 501]
    assert rewriter.answers == [True] * 4


UNBELIEVED = {
    "an old timestamp": sent(0, b"the harmless is", options=timestamps(0, 9)),
    "a wrong acknowledgement": tcp_frame(
        seq=ISN + 1, ack=2**31, flags="A", payload=b"the harmless is", options=timestamps(3, 9)
    ),
    "no acknowledgement": tcp_frame(
        seq=ISN + 1, flags="P", payload=b"the harmless is", options=timestamps(3, 9)
    ),
}


@pytest.mark.parametrize("name", UNBELIEVED)
def test_what_a_receiver_does_not_take_does_not_count(name: str) -> None:
    """Bytes in a segment that is not believed, and others in one that is: the app sees to the latter."""
    rewriter = Rewriter(good_news)
    opening: Line = [
        tcp_frame(seq=ISN, options=timestamps(1, 0)),
        Back(tcp_frame(SERVER, CLIENT, 80, 1234, SERVER_ISN, ISN + 1, "SA", options=timestamps(9, 1))),
        sent(0, options=timestamps(2, 9)),
    ]
    frames = [UNBELIEVED[name], sent(0, b"the secret is ", options=timestamps(4, 9))]
    crossing = cross([*opening, *frames], rewriter.app)
    assert stream_of(crossing.there) == b"the good news is "
    assert rewriter.answers == [False, True]
    assert crossing.counters["doubted"] == crossing.counters["dropped"] == 1


def edit_bytes(payload: bytes) -> bytes:
    """An edit that is the same however its input is cut."""
    return b"".join(b"" if byte % 5 == 0 else bytes([byte]) * (1 + byte % 3) for byte in payload)


class Scripted(Node):
    """A client that says what it is told to, in that order, and then what is not acknowledged, until all is."""

    def __init__(self, stream: bytes, script: list[tuple[int, int]], cuts: list[int]) -> None:
        self.stream = stream
        self.script = script
        self.cuts = cuts
        self.una = 0
        self.server_isn: int | None = None

    def frame(self, at: int, payload: bytes, flags: str = "A") -> bytes:
        assert self.server_isn is not None
        seq = (ISN + 1 + at) % 2**32
        return tcp_frame(CLIENT, SERVER, 40000, 80, seq, self.server_isn + 1, flags, payload)

    def begin(self) -> None:
        self.send(tcp_frame(CLIENT, SERVER, 40000, 80, ISN, 0, "S", options=mss(1460)))

    def receive(self, frame: bytes, now_ns: int) -> None:  # noqa: ARG002
        segment = segment_of(frame)
        if "S" in segment.flags:
            self.server_isn = segment.seq
            self.send(self.frame(0, b""))
            for at, (start, end) in enumerate(self.script):
                self.call_later(0.01 * (at + 1), partial(self.say, start, end))
            self.call_later(0.01 * (len(self.script) + 5), self.go_on)
        elif "A" in segment.flags:
            acked = (segment.ack - ISN - 1 + 2**31) % 2**32 - 2**31
            assert acked <= len(self.stream) + 1
            self.una = max(self.una, acked)

    def say(self, start: int, end: int) -> None:
        self.send(self.frame(start, self.stream[start:end]))

    def go_on(self) -> None:
        if self.una > len(self.stream):
            return
        size = self.cuts.pop() if self.cuts else len(self.stream)
        end = min(self.una + size, len(self.stream))
        self.send(self.frame(self.una, self.stream[self.una : end], "FA" if end == len(self.stream) else "A"))
        self.call_later(0.05, self.go_on)


@settings(max_examples=150)
@given(
    data=st.data(),
    stream=st.binary(min_size=1, max_size=60),
    hook=st.sampled_from([Hook.SENDER, Hook.RECEIVER]),
)
def test_any_segments_in_any_order(data: st.DataObject, stream: bytes, hook: Hook) -> None:
    """Cut, repeated, overlapping and reordered at will, with bare ones of any number between."""
    ranges = st.tuples(st.integers(0, len(stream)), st.integers(0, len(stream))).map(sorted).map(tuple)
    script: list[tuple[int, int]] = data.draw(st.lists(ranges, max_size=12))  # type: ignore[arg-type]
    cuts = data.draw(st.lists(st.integers(1, 20), max_size=8))
    app: App[None] = App("bytes")
    calls = []

    @app.on(PKT_IN, hook=hook)
    def edit(pkt: Packet, side: str) -> None:
        if side == "client" and pkt.payload:
            calls.append(pkt.replace(edit_bytes(pkt.payload)))

    network = Network(seed=1)
    client = Scripted(stream, script, cuts)
    server = TcpHost(SERVER, 80, iss=0xFFFF_FE00)
    middlebox = network.middlebox(client, server, Link(delay=0.001), Link(delay=0.001))
    client.call_later(0, client.begin)
    run(app, transport=middlebox)
    assert bytes(server.received) == edit_bytes(stream)
    assert client.una == len(stream) + 1
    assert True in calls


# --- what waits, of every kind ------------------------------------------------------------------------


def test_what_waits_of_a_session_leaves_translated() -> None:
    """There and back, counted once."""
    rewriter = Rewriter(bytes.upper)
    sessions = []

    @rewriter.app.on(PKT_IN, hook=Hook.RAW)
    def translate(pkt: Packet) -> None:
        if not pkt.known and pkt.syn:
            sessions.append(pkt.session(idle=30, src="192.0.2.1", sport=9000))

    def replied(at: int, payload: bytes = b"", flags: str = "A") -> Back:
        return Back(
            tcp_frame(SERVER, "192.0.2.1", 80, 9000, SERVER_ISN + at, (ISN + 1) % 2**32, flags, payload)
        )

    frames: Line = [
        tcp_frame(seq=ISN),
        replied(0, flags="SA"),
        sent(0),
        sent(5, b"world"),
        replied(4, b"def"),
        sent(0, b"hello"),
        replied(1, b"abc"),
    ]
    crossing = cross(frames, rewriter.app)
    assert stream_of(crossing.there) == b"HELLOWORLD"
    assert all(read_packet(frame).src == "192.0.2.1" for frame in crossing.there)  # type: ignore[union-attr]
    told = [read_packet(frame) for frame in crossing.back]
    assert all(packet is not None and packet.dst == CLIENT for packet in told)
    assert stream_of([f for f in crossing.back if segment_of(f).payload], SERVER_ISN) == b"ABCDEF"
    (session,) = sessions
    assert session.packets == (len(crossing.there), 3)  # RSTs at the end of the run among them


def test_what_waited_is_no_reply_of_a_session_that_has_ended() -> None:
    rewriter = Rewriter(bytes.upper)
    sessions: list[Session] = []
    errors: list[str] = []

    @rewriter.app.on(PKT_IN, hook=Hook.RAW)
    def translate(pkt: Packet) -> None:
        if not pkt.known and pkt.syn:
            sessions.append(pkt.session(idle=30, src="192.0.2.1", sport=9000))
        elif pkt.payload == b"over":
            sessions[0].close()

    @rewriter.app.on(PKT_IN)
    def ask(pkt: Packet) -> None:
        if pkt.payload == b"def":
            try:
                sessions.append(pkt.session(idle=30))
            except SessionError as error:
                errors.append(str(error))

    def replied(at: int, payload: bytes = b"", flags: str = "A") -> Back:
        return Back(
            tcp_frame(SERVER, "192.0.2.1", 80, 9000, SERVER_ISN + at, (ISN + 1) % 2**32, flags, payload)
        )

    frames: Line = [
        tcp_frame(seq=ISN),
        replied(0, flags="SA"),
        sent(0),
        replied(4, b"def"),
        sent(0, b"over"),
        sent(4),
        Back(tcp_frame(SERVER, CLIENT, 80, 1234, SERVER_ISN + 1, (ISN + 1) % 2**32, "A", b"abc")),
    ]
    crossing = cross(frames, rewriter.app)
    assert stream_of([f for f in crossing.back if segment_of(f).payload], SERVER_ISN) == b"ABCDEF"
    assert (len(sessions), errors) == (2, [])


def test_fragments_wait_as_a_whole_and_leave_in_fragments() -> None:
    rewriter = Rewriter(lambda payload: payload[::-1])
    payload = bytes(range(200))
    late = tcp(payload, seq=ISN + 1 + 4, ack=SERVER_ISN + 1, flags="A")
    pieces = [ethernet(piece) for piece in fragment_ipv4(ipv4(late, ip_id=4), 64)]
    crossing = cross([*OPENING, *pieces, sent(0, b"abcd")], rewriter.app)
    assert segment_of(crossing.there[2]).payload == b"dcba"
    assert segment_of(crossing.there[3]).payload == payload[::-1]


@pytest.mark.parametrize("name", WRITTEN_ANEW)
def test_fragments_wait_behind_every_link_layer_that_states_a_length(name: str) -> None:
    """That of the whole is not the last fragment's; a frame as `pkt.frame` has it reads as the packet in hand."""
    wrap = TAGS[name].wrap
    rewriter = Rewriter(lambda payload: payload[::-1])
    read: list[bool] = []

    @rewriter.app.on(PKT_IN)
    def read_again(pkt: Packet) -> None:
        if pkt.payload:
            read.append(Packet.decode(pkt.frame or b"").raw == pkt.raw)

    def behind(frame: bytes | Back | float) -> bytes | Back:
        assert not isinstance(frame, float)
        return Back(wrap(frame.frame[14:])) if isinstance(frame, Back) else wrap(frame[14:])

    payload = bytes(range(200))
    late = tcp(payload, seq=ISN + 1 + 4, ack=SERVER_ISN + 1, flags="A")
    pieces = [wrap(piece) for piece in fragment_ipv4(ipv4(late, ip_id=4), 64)]
    frames: Line = [*(behind(frame) for frame in OPENING), *pieces, behind(sent(0, b"abcd"))]
    crossing = cross(frames, rewriter.app)
    arrived = [Packet.decode(frame).payload for frame in crossing.there]
    assert arrived == [b"", b"", b"dcba", payload[::-1]]
    assert read == [True, True]
    assert rewriter.answers == [True, True]


def test_what_no_802_3_frame_holds_does_not_wait() -> None:
    """Its length could not be stated; it comes again."""
    wrap = TAGS["SNAP"].wrap
    rewriter = Rewriter(bytes.upper)
    late = tcp(b"x" * 3000, seq=ISN + 1 + 4, ack=SERVER_ISN + 1, flags="A")
    pieces = [wrap(piece) for piece in fragment_ipv4(ipv4(late, ip_id=4), 1400)]
    crossing = cross([*OPENING, *pieces, sent(0, b"abcd"), sent(4, b"efgh")], rewriter.app)
    assert rewriter.answers == [True, True]
    assert stream_of(crossing.there) == b"ABCDEFGH"
    assert (crossing.counters["dropped"], crossing.counters["held"]) == (1, 2)


def test_what_was_put_together_in_a_tunnel_does_not_wait() -> None:
    """Only its last fragment is left in hand; that is neither kept nor read as the segment."""
    rewriter = Rewriter(bytes.upper)
    seen: list[bytes | None] = []
    rewriter.app.on(PKT_IN)(lambda pkt: seen.append(pkt.payload) if pkt.payload else None)
    late = tcp(b"x" * 200, seq=ISN + 1 + 4, ack=SERVER_ISN + 1, flags="A")
    pieces = [TUNNELS["GRE"](ethernet(piece), True) for piece in fragment_ipv4(ipv4(late, ip_id=4), 64)]
    frames: Line = [*OPENING, *pieces, sent(0, b"abcd"), sent(4, b"efgh")]
    crossing = cross(frames, rewriter.app, settings=Settings(on_error="raise", decapsulate=True))
    assert seen == [b"abcd", b"efgh"]
    assert rewriter.answers == [True, True]
    assert [segment_of(frame).payload for frame in crossing.there[-2:]] == [b"ABCD", b"EFGH"]
    assert (crossing.counters["dropped"], crossing.counters["given_up"]) == (1, 0)


@pytest.mark.parametrize(("instead", "passes"), [(b"ABCD", True), (b"longer", False)])
def test_what_was_put_together_in_a_tunnel_passes_in_the_numbers_of_its_receiver(
    *, instead: bytes, passes: bool
) -> None:
    """Or not at all: its first fragments have left as they came."""
    app: App[None] = App("edits")

    @app.on(PKT_IN, hook=Hook.SENDER)
    def change(pkt: Packet) -> None:
        if pkt.payload == b"abcd":
            assert pkt.replace(instead)

    segment = tcp(b"x" * 200, seq=ISN + 1 + 4, ack=SERVER_ISN + 1, flags="A")
    pieces = [TUNNELS["GRE"](ethernet(piece), True) for piece in fragment_ipv4(ipv4(segment), 64)]
    frames: Line = [*OPENING, sent(0, b"abcd"), *pieces]
    crossing = cross(frames, app, settings=Settings(on_error="raise", decapsulate=True))
    assert [frame for frame in crossing.there if frame in pieces] == (pieces if passes else pieces[:-1])
    assert crossing.counters["dropped"] == (not passes)


@pytest.mark.parametrize("field", ["ttl", "tos", "seq", "dport", "eth_src"])
def test_of_what_was_put_together_in_a_tunnel_only_the_link_layer_is_set(field: str) -> None:
    """Its last fragment, of which a callback may have been told before, is not the packet that is in hand now."""
    app: App[None] = App("sets")
    told: list[str] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def touch(pkt: Packet) -> None:
        pkt.set(ttl=9)

    @app.on(PKT_IN, hook=Hook.SENDER)
    def change(pkt: Packet) -> None:
        if pkt.payload:
            try:
                pkt.set(**{field: "02:00:00:00:00:09" if field == "eth_src" else 7})
            except ValueError as error:
                told.append(str(error))

    segment = tcp(b"x" * 200, seq=ISN + 1, ack=SERVER_ISN + 1, flags="A")
    pieces = [TUNNELS["GRE"](ethernet(piece), True) for piece in fragment_ipv4(ipv4(segment), 216)]
    assert len(pieces) == 2
    crossing = cross([*OPENING, *pieces], app, settings=Settings(on_error="raise", decapsulate=True))
    settable = field == "eth_src"
    assert (
        told == []
        if settable
        else [f"pkt.set({field}=...): this packet has no such field, or not all of it was captured"]
    )
    last = crossing.there[3]
    expected = bytearray(pieces[1])
    expected[14 + 20 + 4 + 8] = 9  # the time to live, and the checksum that goes with it
    expected[14 + 20 + 4 + 10 : 14 + 20 + 4 + 12] = last[14 + 20 + 4 + 10 : 14 + 20 + 4 + 12]
    if settable:
        expected[6:12] = b"\x02\0\0\0\0\x09"
    assert last == expected


def test_what_waits_has_a_sum_that_its_card_takes() -> None:
    """One that was left to the network card is none once the address under it has changed; it is not verified again."""
    rewriter = Rewriter(bytes.upper)

    @rewriter.app.on(PKT_IN, hook=Hook.RAW)
    def translate(pkt: Packet) -> None:
        if not pkt.known and pkt.syn:
            pkt.session(idle=30, src="192.0.2.1", sport=9000)

    def replied(at: int, payload: bytes = b"", flags: str = "A") -> bytes:
        return tcp_frame(SERVER, "192.0.2.1", 80, 9000, SERVER_ISN + at, (ISN + 1) % 2**32, flags, payload)

    late = replied(4, b"def")
    unsummed = late[:24] + b"\0\0" + late[26:50] + b"\0\0" + late[52:]
    frames: Line = [
        tcp_frame(seq=ISN),
        Back(replied(0, flags="SA")),
        sent(0),
        Back(unsummed),
        Back(replied(1, b"abc")),
    ]
    verifying = Settings(on_error="raise", checksums="verify")
    crossing = cross(frames, rewriter.app, settings=verifying)
    payloads = [packet.payload[20:] for packet in map(read_packet, crossing.back) if packet is not None]
    assert payloads == [b"", b"ABC", b"DEF"]
    assert rewriter.answers == [True, True]


def test_a_packet_of_fragments_behind_an_edit_leaves_in_fragments() -> None:
    """With the number that its receiver expects, and its own bytes."""
    rewriter = Rewriter(lambda payload: payload.replace(b"secret", b"good news"))
    payload = bytes(range(100, 200))
    later = tcp(payload, seq=(ISN + 1 + 6) % 2**32, ack=SERVER_ISN + 1, flags="A")
    pieces = [ethernet(piece) for piece in fragment_ipv4(ipv4(later, ip_id=4), 64)]
    crossing = cross([*OPENING, sent(0, b"secret"), *pieces], rewriter.app)
    assert segment_of(crossing.there[2]).payload == b"good news"
    fragments = crossing.there[3:-2]  # the rest are RSTs: nothing was acknowledged
    assert [len(frame) for frame in fragments] == [len(frame) for frame in pieces]
    segment = segment_of(ethernet(ipv4(b"".join(frame[34:] for frame in fragments))))
    assert (segment.seq, segment.payload) == ((ISN + 1 + 9) % 2**32, payload)
    assert (crossing.counters["refragmented"], crossing.counters["altered"]) == (len(pieces), 1)


def test_an_urgent_pointer_reaches_over_an_edit() -> None:
    """A segment sent again as it is may point to where others lie by now."""
    rewriter = Rewriter(lambda payload: payload.replace(b"secret", b"good news"))
    again = [sent(0, b"my", "UA", urgent=urgent) for urgent in (2, 8, 11)]
    crossing = cross([*OPENING, sent(0, b"my"), sent(2, b"secret"), sent(8, b"ends"), *again], rewriter.app)
    frames = crossing.there[5:8]
    assert [segment_of(frame).payload for frame in frames] == [b"my"] * 3
    assert [struct.unpack_from("!H", frame, 14 + 20 + 18)[0] for frame in frames] == [2, 11, 14]
    assert stream_of(crossing.there[:8]) == b"mygood newsends"


def test_a_flow_that_ends_gives_up_what_waits() -> None:
    rewriter = Rewriter(bytes.upper)
    reset = tcp_frame(seq=ISN + 1, ack=SERVER_ISN + 1, flags="RA")
    crossing = cross([*OPENING, sent(9, b"late"), reset, 300.0, tcp_frame(sport=9)], rewriter.app)
    assert crossing.counters["given_up"] == 1
    assert crossing.counters["waiting_bytes"] == 0
    assert [segment_of(frame).payload for frame in crossing.there] == [b""] * 4


@pytest.mark.parametrize("end", [Flow.drop, Flow.reset])
def test_what_waits_does_not_pass_once_the_flow_was_cut_off(end: Callable[[Flow], None]) -> None:
    rewriter = Rewriter(bytes.upper)

    @rewriter.app.on(PKT_IN)
    def cut(pkt: Packet, flow: Flow) -> None:
        if pkt.payload == b"hello":
            end(flow)

    crossing = cross([*OPENING, sent(5, b"world"), sent(0, b"hello")], rewriter.app)
    assert b"WORLD" not in b"".join(crossing.there)


def test_mid_stream_what_passed_before_is_not_waited_for() -> None:
    """Its receiver acknowledges bytes that came by before aiomos was there; nobody sends them again."""
    rewriter = Rewriter(bytes.upper, midstream=True)
    frames: Line = [
        said(0),  # acknowledges nothing of what is on its way
        sent(10, b"late"),
        said(0, ack=10),
        sent(14, b"later"),
        sent(10, b"late"),
    ]
    crossing = cross(frames, rewriter.app)
    assert [segment_of(frame).payload for frame in crossing.there[:3]] == [b"LATE", b"LATER", b"LATE"]
    assert rewriter.answers == [True, True, False]


# --- which flows those are ----------------------------------------------------------------------------


def overtaken(**options: Any) -> tuple[list[bool], Any]:
    """Run an app on a flow whose second segment comes first; what replace() said, and what came of it."""
    app: App[None] = App("edits")
    said_: list[bool] = []
    hidden = {"how": Packet.replace}

    @app.on(PKT_IN, hook=Hook.SENDER, **options)
    def edit(pkt: Packet) -> None:
        if pkt.payload:
            said_.append(hidden["how"](pkt, pkt.payload + b"!"))

    second = [
        tcp_frame(sport=99, seq=ISN),
        Back(tcp_frame(SERVER, CLIENT, 80, 99, SERVER_ISN, ISN + 1, "SA")),
        sent(0, sport=99),
        sent(2, b"cd", sport=99),
        sent(0, b"ab", sport=99),
    ]
    return said_, cross([*OPENING, sent(2, b"cd"), sent(0, b"ab"), *second], app)


def test_an_app_may_say_that_it_edits() -> None:
    answers, crossing = overtaken(edits=True)
    assert answers == [True] * 4
    assert crossing.counters["unprepared_edits"] == 0


def test_one_that_has_not_is_known_once_it_has() -> None:
    answers, crossing = overtaken()
    assert answers == [False, True, True, True]
    assert crossing.counters["unprepared_edits"] == 2


def test_one_that_says_it_does_not_is_taken_at_its_word() -> None:
    answers, crossing = overtaken(edits=False)
    assert answers == [False, True] * 2
    assert crossing.counters["unprepared_edits"] == 4


@pytest.mark.parametrize("hook", [Hook.SENDER, Hook.RECEIVER])
def test_flows_that_nobody_edits_keep_their_order(hook: Hook) -> None:
    app: App[None] = App("watches")
    app.on(PKT_IN, hook=hook)(lambda pkt: pkt.payload)
    frames = [
        tcp_frame(seq=ISN, options=MP_CAPABLE + fastopen(), payload=b"early"),
        sent(10, b"late"),
        sent(0, b"first"),
    ]
    assert cross(frames, app).there == frames


def test_a_callback_of_one_connection_counts_too() -> None:
    app: App[None] = App("later")

    @app.on(CONN_START)
    def begin(flow: Flow) -> None:
        flow.record()

    @app.monitor("server port 80")
    async def handle(conn: MonitorConnection) -> None:
        conn.on(PKT_IN, edit, hook=Hook.SENDER)
        await conn.client.read()

    def edit(pkt: Packet) -> None:
        if pkt.payload:
            pkt.replace(pkt.payload.upper())

    frames: Line = [*OPENING, sent(0, b"begin."), 1.0, sent(8, b"later"), sent(6, b"ab")]
    assert stream_of(cross(frames, app).there) == b"begin.ABLATER"


# --- what would not bear it ---------------------------------------------------------------------------

UNBEARABLE = {
    "MP_CAPABLE": MP_CAPABLE,
    "MP_JOIN": MP_JOIN,
    "Fast Open's cookie request": fastopen(),
    "Fast Open's cookie": fastopen(bytes(8)),
    "experimental Fast Open": EXPERIMENTAL_FASTOPEN,
    "all of them": MP_CAPABLE + fastopen(bytes(6)) + EXPERIMENTAL_FASTOPEN + b"\x01\x01",
}


@pytest.mark.parametrize("name", UNBEARABLE)
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_syn_leaves_without_what_would_not_bear_edits(name: str, side: str) -> None:
    option = UNBEARABLE[name]
    option += b"\x01" * (-len(option) % 4)
    before, after = mss(1400), OTHER_EXPERIMENT + b"\x01\x01" + timestamps(1, 0)
    if name == "all of them":
        after = b""
    options = before + option + after
    plain = before + b"\x01" * len(option) + after
    syn = partial(tcp_frame, seq=ISN)
    synack = partial(tcp_frame, SERVER, CLIENT, 80, 1234, SERVER_ISN, ISN + 1, "SA")
    rewriter = Rewriter(bytes.upper)
    if side == "client":
        crossing = cross([syn(options=options)], rewriter.app)
        assert crossing.there == [syn(options=plain)]
    else:
        crossing = cross([syn(), Back(synack(options=options))], rewriter.app)
        assert crossing.back == [synack(options=plain)]
    assert crossing.counters["plain_syns"] == 1


def test_data_in_a_syn_comes_again() -> None:
    rewriter = Rewriter(bytes.upper)
    seen: list[bytes] = []
    rewriter.app.on(PKT_IN)(lambda pkt: seen.append(pkt.payload))
    early = tcp_frame(seq=ISN, options=fastopen(bytes(8)) + b"\x01\x01", payload=b"early")
    frames = [early, *OPENING[1:], sent(0, b"early")]
    crossing = cross(frames, rewriter.app)
    assert crossing.there[0] == tcp_frame(seq=ISN, options=b"\x01" * 12)
    assert stream_of(crossing.there) == b"EARLY"
    assert seen == [b"", b"", b"", b"early"]
    assert crossing.counters["bare_syns"] == crossing.counters["plain_syns"] == 1


def test_a_syn_that_was_tried_again_with_another_number_counts() -> None:
    rewriter = Rewriter(good_news)
    first = tcp_frame(seq=7777)
    crossing = cross([first, *OPENING, sent(14, b"out"), sent(0, b"the secret is ")], rewriter.app)
    assert stream_of([f for f in crossing.there if segment_of(f).seq != 7777]) == b"the good news is out"


@pytest.mark.parametrize("option", [MD5 + b"\x01\x01", AO], ids=["MD5", "AO"])
@pytest.mark.parametrize("fail", ["open", "closed"])
def test_signed_flows_are_not_edited(option: bytes, fail: Any) -> None:
    rewriter = Rewriter(bytes.upper)
    frames: Line = [
        tcp_frame(seq=ISN, options=option + MP_CAPABLE),
        Back(tcp_frame(SERVER, CLIENT, 80, 1234, SERVER_ISN, ISN + 1, "SA", options=option)),
        sent(0, options=option),
        sent(5, b"world", options=option),
        sent(0, b"hello", options=option),
    ]
    crossing = cross(frames, rewriter.app, settings=Settings(on_error="raise", fail=fail))
    passes = [frame for frame in frames if isinstance(frame, bytes)]
    assert crossing.there == (passes if fail == "open" else passes[:2])
    assert all("signed" in str(answer) for answer in rewriter.answers)
    assert crossing.counters["edits_refused.signed"] == len(rewriter.answers) == 2
    assert crossing.counters["altered"] == 0


def test_a_signature_on_one_segment_does_not_get_it_past_the_app() -> None:
    """Its flow has none: its receiver may as well ignore it as not take the segment."""
    rewriter = Rewriter(good_news)
    frames = [sent(0, b"the secret", options=MD5 + b"\x01\x01"), sent(0, b"the secret")]
    crossing = cross([*OPENING, *frames], rewriter.app)
    assert stream_of(crossing.there) == b"the good news"
    assert rewriter.answers == [False, True]
    assert (crossing.counters["doubted"], crossing.counters["edits_refused.signed"]) == (1, 0)


def test_an_authentication_header_is_not_edited() -> None:
    ends: dict[str, Any] = {"src": "2001:db8::1", "dst": "2001:db8::2"}
    authentication = struct.pack("!BBHIII", 6, 2, 0, 5, 1, 0)

    def frame(segment: bytes) -> bytes:
        return ethernet(ipv6(ipv6_extension(authentication + segment, proto=51), proto=60, **ends))

    rewriter = Rewriter(bytes.upper)
    frames = [frame(tcp(seq=ISN, flags="S", **ends)), frame(tcp(b"hello", seq=ISN + 1, flags="A", **ends))]
    crossing = cross(frames, rewriter.app)
    assert crossing.there == frames
    assert rewriter.answers
    assert crossing.counters["edits_refused.signed"] == 1


def test_multipath_that_was_agreed_on_before_is_not_edited() -> None:
    rewriter = Rewriter(bytes.upper, midstream=True)
    dss = b"\x1e\x08\x20\x01\0\0\0\1"
    frames = [sent(0, b"hello", options=dss), sent(5, b"world")]
    crossing = cross(frames, rewriter.app)
    assert crossing.there == frames
    assert crossing.counters["edits_refused.mptcp"] == 2


def test_a_lonely_multipath_option_does_not_keep_a_segment_from_being_edited() -> None:
    rewriter = Rewriter(bytes.upper)
    dss = b"\x1e\x08\x20\x01\0\0\0\1"
    opening = [tcp_frame(seq=ISN, options=MP_CAPABLE), *OPENING[1:]]
    crossing = cross([*opening, sent(0, b"hello", options=dss)], rewriter.app)
    assert stream_of(crossing.there) == b"HELLO"


def test_in_a_tunnel_payload_stays() -> None:
    rewriter = Rewriter(bytes.upper)

    def inside(frame: bytes) -> bytes:
        return ethernet(ipv4(frame[14:], proto=4))

    frames = [
        inside(tcp_frame(seq=ISN, payload=b"early")),
        inside(sent(9, b"late")),
        inside(sent(0, b"hello")),
    ]
    crossing = cross(frames, rewriter.app, settings=Settings(on_error="raise", decapsulate=True))
    assert crossing.there == frames
    assert crossing.counters["edits_refused.tunnel"] == 2
    assert crossing.counters["edits_refused.no_payload"] == 1


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["syn", "bare", "reset", "too long", "raw"])
def test_a_refusal_changes_nothing(at: str) -> None:
    """The app catches it, and both ends get what the other has sent."""
    app: App[None] = App("refused")
    refusals: list[str] = []
    hook = Hook.RAW if at == "raw" else Hook.SENDER

    @app.on(PKT_IN, hook=hook, edits=None)
    def edit(pkt: Packet) -> None:
        picks = {
            "syn": pkt.syn,
            "bare": not pkt.payload,
            "reset": pkt.rst,
            "too long": bool(pkt.payload),
            "raw": True,
        }
        if picks[at]:
            try:
                pkt.replace(bytes(2_000_000 if at == "too long" else 3))
            except (ValueError, BufferError) as error:
                refusals.append(str(error))

    talked = talk(app, question=b"a question", answer=b"an answer", settings=STRICT)
    assert talked.closed_cleanly
    assert talked.heard == (b"a question", b"an answer")
    counters = talked.report.counters
    why = {"too long": "budget", "raw": "hook"}.get(at, "no_payload")
    assert counters[f"in_line.edits_refused.{why}"] == len(refusals)
    assert bool(refusals) == (at != "reset")
    assert counters["in_line.altered"] == counters["in_line.edited"] == 0


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_what_is_refused_for_want_of_memory_is_held_back_if_failing_closed(fail: Any) -> None:
    """A peer that acknowledges nothing would have everything pass else."""
    rewriter = Rewriter(lambda payload: payload.replace(b"x", b"yy" * 30))
    tight = Settings(on_error="raise", fail=fail, budgets=Budgets(edited_bytes_half=2000))
    segments = [sent(10 * at, b"x" * 10) for at in range(10)]
    crossing = cross([*OPENING, *segments, 1.0], rewriter.app, settings=tight)
    refused = crossing.counters["edits_refused.budget"]
    assert refused == (8 if fail == "open" else 1)
    passed = sum(segment_of(frame).payload == b"x" * 10 for frame in crossing.there)
    if fail == "open":
        assert passed == refused
        return
    assert passed == 0
    assert (crossing.counters["dropped"], crossing.counters["held"]) == (1, 7)
    edited = stream_of(crossing.there)
    done = len(edited) // 600
    again: Line = [
        *OPENING,
        *segments,
        said(0, ack=len(edited)),
        *segments[done:],
    ]
    crossing = cross(again, Rewriter(rewriter.edit).app, settings=tight)
    assert len(stream_of(crossing.there)) > len(edited)
    assert b"x" not in stream_of(crossing.there)


SETS: dict[str, dict[str, Any]] = {
    "a value": {"ttl": 5, "sport": 7, "src": "10.9.9.9", "dport": 70000},
    "a type": {"window": 5, "tos": 8, "dst": None},
    "a name": {"eth_src": "02:00:00:00:00:99", "seq": 5, "nothing": 1},
    "a field": {"ack": 5, "flags": 1, "urgent": 9, "mss": 1400},
    "a version": {"sport": 1, "dst": "::1"},
}


@pytest.mark.parametrize("hook", [Hook.RAW, Hook.SENDER, Hook.RECEIVER])
@pytest.mark.parametrize("name", SETS)
def test_fields_are_set_all_or_none(name: str, hook: Hook) -> None:
    app: App[None] = App("half")
    before: list[bool] = []

    @app.on(PKT_IN, hook=hook)
    def change(pkt: Packet) -> None:
        frame, text = pkt.frame, repr(pkt)
        with pytest.raises((ValueError, TypeError)):
            pkt.set(**SETS[name])
        before.append(pkt.frame == frame and repr(pkt) == text)

    frame = tcp_frame(payload=b"payload", flags="A")
    crossing = cross([frame], app)
    assert crossing.there == [frame]
    assert crossing.counters["altered"] == 0
    assert before in ([True], [])  # a segment without a SYN is of no flow
    assert before or hook is not Hook.RAW


@pytest.mark.parametrize(
    "wanted",
    [
        {"src": "192.0.2.1", "sport": 9000},  # taken
        {"src": "::1"},
        {"sport": 70000},
        {"src": "192.0.2.1", "eth_src": "nonsense"},
        {"src": "192.0.2.2", "transitory": -1},
    ],
    ids=str,
)
def test_a_session_that_cannot_be_translated_stays_as_it_is(wanted: dict[str, Any]) -> None:
    app: App[None] = App("sessions")
    made: list[Any] = []
    refused: list[Exception] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        if pkt.sport == 1:
            pkt.session(idle=30, src="192.0.2.1", sport=9000)
        elif pkt.sport == 2 and not pkt.known:
            made.append(pkt.session(idle=30))
            try:
                pkt.session(**{"idle": 1.0} | wanted)
            except Exception as error:
                refused.append(error)
            made.append(made[0].open)

    frame = tcp_frame(sport=2)
    crossing = cross([tcp_frame(sport=1), frame, frame], app)
    session, still = made
    assert refused
    assert still
    assert session.packets == (2, 0)
    assert crossing.there[1:] == [frame, frame]
