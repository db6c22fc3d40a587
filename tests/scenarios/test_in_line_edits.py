"""Payloads replaced while both ends talk on: the receiver gets the edited stream, and neither end notices."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos import (
    CONN_TEARDOWN,
    PKT_IN,
    App,
    Budgets,
    Flow,
    Hook,
    MonitorConnection,
    Packet,
    Runtime,
    Settings,
    Timeouts,
)
from aiomos.testing.hosts import read_packet, read_segment
from aiomos.testing.packets import (
    ethernet,
    fragment_ipv4,
    ipv4,
    tcp,
    tcp_frame,
    timestamps,
    udp,
    udp_frame,
)
from aiomos.transport.sim import Link
from tests.line import BAD, CLIENT6, SERVER6, Back, Line, cross, talk

Edit = Callable[[bytes], bytes]

EDITS: dict[str, Edit] = {
    "same": lambda payload: payload,
    "same length": bytes.upper,
    "longer": lambda payload: b"<" + payload + b">" * 40,
    "much longer": lambda payload: payload * 3,
    "shorter": lambda payload: payload[::2],
    "nothing": lambda _: b"",
    "one byte": lambda _: b"?",
    "some": lambda payload: payload if payload[0] % 2 else payload[:-7] + b"#" * 11,
    "nothing of some": lambda payload: b"" if payload[0] % 3 == 0 else payload,
}


def numbered(length: int, key: int) -> bytes:
    """Bytes that tell where they are."""
    return b"".join(b"%d:%d," % (key, at) for at in range(length // 6 + 1))[:length]


class Editor:
    """An app that edits both halves, and keeps what each was and is to become, by offset as sent."""

    def __init__(self, client: Edit | None, server: Edit | None, hook: Hook = Hook.SENDER) -> None:
        self.app: App[None] = App("editor")
        self.edits = {"client": client, "server": server}
        self.made: dict[str, dict[int, tuple[int, bytes]]] = {"client": {}, "server": {}}
        self.streams: list[bytes] = []
        self.app.on(PKT_IN, hook=hook)(self.edit)
        self.app.monitor("server port 80")(self.read)

    def edit(self, pkt: Packet, flow: Flow, side: str) -> None:
        edit = self.edits[side]
        if edit is None or not pkt.payload or pkt.syn:
            return
        payload = edit(pkt.payload)
        if pkt.replace(payload):
            half = flow.half(side)
            assert half.iss is not None
            at = (pkt.seq - half.iss - 1) % 2**32
            before = [end for _, (end, _) in self.made[side].items() if end > at]
            assert len(before) <= 1  # what is partly known already is only repeated
            if not before:
                self.made[side][at] = at + len(pkt.payload), payload

    async def read(self, conn: MonitorConnection) -> None:
        self.streams += [await conn.client.read(), await conn.server.read()]

    def edited(self, side: str, sent: bytes) -> bytes:
        """What is to arrive of a stream."""
        out, at = b"", 0
        for start, (end, payload) in sorted(self.made[side].items()):
            assert start >= at
            out += sent[at:start] + payload
            at = end
        return out + sent[at:]


def check(editor: Editor, question: bytes, answer: bytes, **options: Any) -> None:
    talked = talk(editor.app, question=question, answer=answer, **options)
    assert talked.closed_cleanly
    assert talked.server.received == editor.edited("client", question)
    assert talked.client.received == editor.edited("server", answer)
    assert editor.streams == [question, answer]
    assert talked.report.counters["in_line.edited"] == 0
    assert talked.client.ignored == talked.server.ignored == 0


@pytest.mark.parametrize("ends", [None, (CLIENT6, SERVER6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("hook", [Hook.SENDER, Hook.RECEIVER])
@pytest.mark.parametrize("name", EDITS)
def test_the_receiver_gets_the_edited_stream(name: str, hook: Hook, ends: Any) -> None:
    """Without losses every segment is edited once; the last comes with its FIN."""
    edit = EDITS[name]
    editor = Editor(edit, edit, hook)
    question, answer = numbered(20_000, 1), numbered(30_000, 2)
    options = {} if ends is None else {"ends": ends}
    check(editor, question, answer, **options)
    assert sum(end - start for start, (end, _) in editor.made["client"].items()) == len(question)


PATIENT = Settings(on_error="raise", timeouts=Timeouts(gap_age=7000, closing=7000, time_wait=7000))
"""Hosts that back off after losses wait for minutes, and their flow must not be forgotten meanwhile."""

LINKS = st.builds(
    Link,
    delay=st.sampled_from([0.0, 0.01]),
    jitter=st.sampled_from([0.0, 0.02]),
    loss=st.sampled_from([0.0, 0.02, 0.15]),
    reorder=st.sampled_from([0.0, 0.1]),
    duplicate=st.sampled_from([0.0, 0.1]),
    bandwidth=st.sampled_from([None, 10e6]),
)


@settings(max_examples=60)
@given(
    client=st.sampled_from([None, *EDITS.values()]),
    server=st.sampled_from([None, *EDITS.values()]),
    link=LINKS,
    seed=st.integers(0, 1 << 16),
    length=st.sampled_from([0, 1, 1460, 30_000]),
    hook=st.sampled_from([Hook.SENDER, Hook.RECEIVER]),
)
def test_over_bad_links_too(
    client: Edit | None, server: Edit | None, link: Link, seed: int, length: int, hook: Hook
) -> None:
    editor = Editor(client, server, hook)
    check(editor, numbered(length, 1), numbered(2 * length + 1, 2), link=link, seed=seed, settings=PATIENT)


@pytest.mark.parametrize("hook", [Hook.RAW])
def test_before_the_flow_is_known_it_cannot_be_done(hook: Hook) -> None:
    app: App[None] = App("too early")
    raised: list[bool] = []

    @app.on(PKT_IN, hook=hook)
    def edit(pkt: Packet) -> None:
        with pytest.raises(ValueError, match="SENDER"):
            pkt.replace(b"x")
        raised.append(True)

    segment = tcp_frame(flags="A", payload=b"hello")
    assert cross([segment], app).there == [segment]
    assert raised


def test_edits_that_do_not_fit_are_refused_and_the_bytes_pass() -> None:
    app: App[None] = App("greedy")
    refused: list[int] = []

    @app.on(PKT_IN, hook=Hook.SENDER)
    def edit(pkt: Packet) -> None:
        if pkt.payload:
            try:
                pkt.replace(pkt.payload + b"!" * 3000)
            except BufferError:
                refused.append(pkt.payload_len)

    question = numbered(20_000, 1)
    budgets = Settings(on_error="raise", budgets=Budgets(edited_bytes_half=5000))
    talked = talk(app, question=question, settings=budgets)
    assert talked.closed_cleanly
    assert refused
    assert talked.server.received.replace(b"!", b"") == question
    assert len(talked.server.received) > len(question)


@pytest.mark.parametrize("where", ["callback", "handler", "timer"])
def test_a_flow_that_is_edited_is_reset_in_either_ends_numbers(where: str) -> None:
    """Also what is said in answer to what they go on to send."""
    editor = Editor(EDITS["longer"], EDITS["shorter"])

    @editor.app.on(PKT_IN)
    def count(flow: Flow) -> None:
        if flow.client.packets == 60 and where == "callback":
            flow.reset()
        elif flow.client.packets == 60 and where == "timer":
            flow.timer(0.0605, Flow.reset)

    @editor.app.monitor("server port 80")
    async def handle(conn: MonitorConnection) -> None:
        if where == "handler":
            await conn.client.readexactly(60_000)
            conn.flow.reset()

    editor.app.monitors.pop(0)
    talked = talk(editor.app, question=numbered(500_000, 1), link=Link(delay=0.05))
    assert talked.client.reset
    assert talked.server.reset


@pytest.mark.parametrize("timeouts", [Timeouts(time_wait=0, reset=0), Timeouts()])
@pytest.mark.parametrize("name", ["longer", "shorter"])
def test_the_last_segments_of_a_flow_leave_in_the_receivers_numbers(name: str, timeouts: Timeouts) -> None:
    """Though the flow ends with them."""
    app: App[None] = App("brief")

    @app.on(PKT_IN, hook=Hook.SENDER)
    def edit(pkt: Packet) -> None:
        if pkt.payload:
            pkt.replace(EDITS[name](pkt.payload))

    settings_ = Settings(on_error="raise", timeouts=timeouts)
    talked = talk(app, question=b"question", answer=b"answer", settings=settings_)
    assert talked.closed_cleanly
    opening: Line = [
        tcp_frame(seq=100),
        Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 500, 101, "SA")),
        tcp_frame(seq=101, ack=501, flags="PA", payload=b"question"),
    ]
    crossing = cross([*opening, tcp_frame(seq=109, ack=501, flags="RA")], app, settings=settings_)
    edited, reset = (read_segment(read_packet(frame)) for frame in crossing.there[1:])  # type: ignore[arg-type]
    assert edited is not None
    assert reset is not None
    assert reset.seq == edited.seq + len(edited.payload)


def test_dropped_after_it_was_replaced_it_is_replaced_when_it_comes_again() -> None:
    first, second = App("edits"), App("drops")
    drops: list[int] = []

    @first.on(PKT_IN, hook=Hook.SENDER)
    def edit(pkt: Packet, side: str) -> None:
        if pkt.payload and side == "client":
            pkt.replace(pkt.payload.upper() + b"!")

    @second.on(PKT_IN, hook=Hook.SENDER)
    def drop(pkt: Packet) -> None:
        if pkt.payload and len(drops) < 5:
            drops.append(pkt.seq)
            pkt.drop()

    talked = talk(first, second, question=b"abc" * 1000, answer=b"x" * 5000)
    assert talked.closed_cleanly
    assert talked.server.received.replace(b"!", b"") == b"ABC" * 1000
    assert len(drops) == 5


@pytest.mark.parametrize("stamped", [False, True])
@pytest.mark.parametrize(
    "ends", [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")], ids=["IPv4", "IPv6"]
)
def test_deleted_data_is_acknowledged_in_its_receivers_name(ends: tuple[str, str], *, stamped: bool) -> None:
    app: App[None] = App("deletes")

    @app.on(PKT_IN, hook=Hook.SENDER)
    def delete(pkt: Packet) -> None:
        if pkt.payload:
            assert pkt.replace(b"")

    def stamps(val: int, ecr: int) -> bytes:
        return timestamps(val, ecr) if stamped else b""

    client, server = ends
    question = tcp_frame(
        client, server, seq=101, ack=501, flags="PA", payload=b"question", options=stamps(3, 70)
    )
    opening: Line = [
        tcp_frame(client, server, seq=100, options=stamps(1, 0)),
        Back(tcp_frame(server, client, 80, 1234, 500, 101, "SA", options=stamps(70, 1))),
        tcp_frame(client, server, seq=101, ack=501, flags="A", options=stamps(2, 70)),
    ]
    crossing = cross([*opening, question], app)
    assert question not in crossing.there
    packet = read_packet(crossing.back[1])
    assert packet is not None
    segment = read_segment(packet)
    assert segment is not None
    assert (segment.seq, segment.ack, segment.flags, segment.payload) == (501, 109, "A", b"")
    assert packet.payload[20:] == (b"\1\1\x08\x0a" + struct.pack("!II", 70, 3) if stamped else b"")


def test_the_sender_is_told_of_a_window_that_leaves_room_for_what_is_added() -> None:
    """While it has not been acknowledged; the sums are right."""
    app: App[None] = App("adds")

    @app.on(PKT_IN, hook=Hook.SENDER)
    def add(pkt: Packet) -> None:
        if pkt.payload:
            assert pkt.replace(pkt.payload + bytes(100))

    def told(ack: int, window: int) -> Back:
        return Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 501, ack, "A", window=window))

    frames: Line = [
        tcp_frame(seq=100),
        Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 500, 101, "SA")),
        tcp_frame(seq=101, ack=501, flags="A"),
        tcp_frame(seq=101, ack=501, flags="PA", payload=b"question"),
        *(told(ack, window) for ack, window in ((101, 1000), (101, 99), (209, 1000))),
    ]
    segments = [read_segment(read_packet(frame)) for frame in cross(frames, app).back[1:4]]  # type: ignore[arg-type]
    assert [(segment.ack, segment.window) for segment in segments if segment] == [
        (101, 900),
        (101, 0),
        (109, 1000),
    ]


@pytest.mark.parametrize("anew", [5000, 2**32 - 5000])
def test_a_client_that_begins_anew_is_edited_from_its_new_beginning(anew: int) -> None:
    """A segment that means nothing has come before; then it tries again with another number."""
    app: App[None] = App("edits")

    @app.on(PKT_IN, hook=Hook.SENDER)
    def edit(pkt: Packet) -> None:
        if pkt.payload:
            assert pkt.replace(pkt.payload + b"!!")

    frames: Line = [
        tcp_frame(seq=100),
        tcp_frame(seq=101, flags="P"),
        tcp_frame(seq=anew),
        Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 500, anew + 1, "SA")),
        tcp_frame(seq=anew + 1, ack=501, flags="A"),
        tcp_frame(seq=anew + 1, ack=501, flags="PA", payload=b"question"),
        tcp_frame(seq=anew + 9, ack=501, flags="PA", payload=b"more"),
    ]
    edited = [read_segment(read_packet(frame)) for frame in cross(frames, app).there[4:6]]  # type: ignore[arg-type]
    assert [(segment.seq - anew, segment.payload) for segment in edited if segment] == [
        (1, b"question!!"),
        (11, b"more!!"),
    ]


@pytest.mark.parametrize("payload", [b"", b"longer than it was " * 20, b"x"])
@pytest.mark.parametrize("kind", ["UDP", "UDP over IPv6", "fragments"])
def test_datagrams_are_replaced(kind: str, payload: bytes) -> None:
    app: App[None] = App("datagrams")
    later: list[bytes] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def edit(pkt: Packet) -> None:
        assert pkt.replace(payload)

    @app.on(PKT_IN, hook=Hook.RAW)
    def look(pkt: Packet) -> None:
        later.append(pkt.payload)
        pkt.set(ttl=9)

    src, dst = ("2001:db8::1", "2001:db8::2") if "6" in kind else ("10.0.0.1", "10.0.0.2")
    frames = [udp_frame(src, dst, payload=b"question")]
    if kind == "fragments":
        frames = [ethernet(piece) for piece in fragment_ipv4(ipv4(udp(b"q" * 100), proto=17, ip_id=5), 64)]
    crossing = cross(frames, app)
    assert later == [payload]
    if kind == "fragments":
        assert crossing.there
        assert all(len(frame) <= len(frames[0]) for frame in crossing.there)
        return
    (changed,) = crossing.there
    packet = read_packet(changed)
    assert packet is not None
    assert packet.sum() == 0
    assert packet.payload[8:] == payload
    assert Packet.decode(changed).ttl == 9


def test_a_packet_of_fragments_is_edited_as_a_whole() -> None:
    app: App[None] = App("fragments")

    @app.on(PKT_IN, hook=Hook.SENDER)
    def edit(pkt: Packet) -> None:
        if pkt.payload:
            pkt.replace(pkt.payload[::-1] + b"!")

    segment = tcp(bytes(range(200)), seq=101, ack=501, flags="PA")
    pieces = [ethernet(piece) for piece in fragment_ipv4(ipv4(segment, ip_id=4), 64)]
    opening: Line = [
        tcp_frame(seq=100, options=b"\2\4\5\xb4"),
        Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 500, 101, "SA", options=b"\2\4\5\xb4")),
        tcp_frame(seq=101, ack=501, flags="A"),
    ]
    edited = cross([*opening, *pieces], app).there[2]
    packet = read_packet(edited)
    assert packet is not None
    assert packet.sum() == 0
    assert packet.payload[20:] == bytes(range(200))[::-1] + b"!"


def test_runs_are_the_same_again() -> None:
    def once() -> Any:
        editor = Editor(EDITS["some"], EDITS["much longer"])
        talked = talk(editor.app, question=numbered(50_000, 1), answer=numbered(9000, 2), link=BAD, seed=9)
        return talked.frames, talked.report.counters["in_line.altered"]

    assert once() == once()


@pytest.mark.parametrize("act", ["reject", "hole"])
def test_answers_continue_in_the_numbers_that_their_end_knows(act: str) -> None:
    """A segment of the server's is answered, by RST or by an ACK, while what the client has sent was made longer."""
    app: App[None] = App("answers")

    @app.on(PKT_IN, hook=Hook.SENDER)
    def edit(pkt: Packet) -> None:
        if pkt.payload == b"question":
            pkt.replace(b"a longer question")
        elif pkt.payload == b"answer":
            pkt.replace(b"none")
        elif pkt.payload == b"refused":
            pkt.reject()

    def server(at: int, payload: bytes = b"", flags: str = "PA") -> Back:
        acked = 101 + len(b"a longer question")
        return Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 501 + at, acked, flags, payload))

    frames: Line = [
        tcp_frame(seq=100),
        Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 500, 101, "SA")),
        tcp_frame(seq=101, ack=501, flags="PA", payload=b"question"),
        server(0, b"answer"),
        server(6, b"refused") if act == "reject" else server(16, b"beyond a hole"),
    ]
    answer = read_segment(read_packet(cross(frames, app).there[2]))  # type: ignore[arg-type]
    assert answer is not None
    assert answer.seq == 101 + len(b"a longer question")
    assert answer.flags == ("R" if act == "reject" else "A")
    assert answer.ack == (0 if act == "reject" else 501)


@pytest.mark.parametrize("why", ["timeout", "evicted"])
def test_a_connection_whose_edits_are_forgotten_is_reset(why: str) -> None:
    """Its ends number its bytes differently, and would never agree again."""
    app: App[None] = App("forgetful")
    ends: list[str | None] = []

    @app.on(PKT_IN, hook=Hook.SENDER)
    def edit(pkt: Packet) -> None:
        if pkt.payload:
            pkt.replace(pkt.payload + b"!")

    app.on(CONN_TEARDOWN)(lambda flow: ends.append(flow.reason))
    frames: Line = [
        tcp_frame(seq=100),
        Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 500, 101, "SA")),
        tcp_frame(seq=101, ack=501, flags="PA", payload=b"question"),
        Back(tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 501, 110, "A")),
        100.0,
        tcp_frame(sport=4321),
    ]
    limits: dict[str, Any] = (
        {"timeouts": Timeouts(established=50)} if why == "timeout" else {"budgets": Budgets(flows=1)}
    )
    crossing = cross(frames, app, settings=Settings(on_error="raise", **limits))
    assert ends[0] == why
    resets = [
        [(segment.seq, segment.ack) for segment in map(read, frames) if segment.flags == "RA"]
        for frames in (crossing.there, crossing.back)
    ]
    assert resets == [[(110, 501)], [(501, 109)]]


def read(frame: bytes) -> Any:
    """Read a segment of a frame."""
    packet = read_packet(frame)
    assert packet is not None
    return read_segment(packet)


@pytest.mark.parametrize("how", ["bypass", "detach"])
def test_numbers_stay_right_when_the_app_has_gone(how: str) -> None:
    app: App[None] = App("leaves")
    runtimes: list[Runtime] = []

    @app.on(PKT_IN, hook=Hook.SENDER)
    def edit(pkt: Packet, flow: Flow) -> None:
        if pkt.payload:
            pkt.replace(b"changed: " + pkt.payload)
            if how == "bypass":
                flow.bypass()

    @app.monitor("server port 80")
    async def leave(conn: MonitorConnection) -> None:
        await conn.client.read(1)
        if how == "detach":
            await runtimes[0].detach(app)

    question, answer = numbered(30_000, 1), numbered(20_000, 2)
    talked = talk(app, question=question, answer=answer, link=BAD, seed=6, started=runtimes.append)
    assert talked.closed_cleanly
    assert talked.heard[0].replace(b"changed: ", b"") == question
    assert talked.heard[1] == answer
    assert 9 <= len(talked.heard[0]) - len(question) <= 9 * 10
