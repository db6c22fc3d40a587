"""Flow and Half: what they tell between two batches, what each level knows, what stays when the flow has ended."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aiomos
from aiomos import (
    PKT_IN,
    App,
    Filter,
    Flow,
    Half,
    Hook,
    Level,
    MonitorConnection,
    Settings,
    State,
    Timeouts,
)
from aiomos.engine.engine import Engine
from aiomos.face.pressure import Pressure
from aiomos.testing.batches import feed_frames
from aiomos.testing.packets import mss, sack_ok, timestamps, wscale
from aiomos.testing.scenario import Conversation
from tests.traffic import ISN, START_NS, Connection, Traffic, fail

ATTRIBUTES = sorted(
    name
    for name in dir(Half)
    if not name.startswith("_") and name not in ("peek", "held", "held_within", "peer")
)
COUNTERS = (
    "bytes",
    "stream_bytes",
    "retransmits",
    "out_of_order",
    "copies",
    "copied_bytes",
    "lost",
    "gaps",
    "gap_bytes",
    "late_bytes",
    "conflicts",
)
START = START_NS / 1e9


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def conn(traffic: Traffic) -> Connection:
    return traffic.connection()


def values(half: Half) -> dict[str, Any]:
    return {name: getattr(half, name) for name in ATTRIBUTES}


def batches(
    frames: list[Any],
    level: Level = Level.STREAM,
    *,
    midstream: bool = False,
    timeouts: Timeouts | None = None,
) -> Iterator[Flow]:
    """The flow as it is after each batch that has something of it, and after its end."""
    engine = Engine(Settings(timeouts=timeouts or Timeouts()), bytes(16), fail)
    opened: list[MonitorConnection] = []

    def opener(flow: Flow) -> MonitorConnection:
        pressure = Pressure(1 << 20, 1 << 30)
        opened.append(MonitorConnection(flow, pressure, lambda *_: None, "mark", level is Level.STREAM))
        return opened[-1]

    rule = engine.add_rule(Filter("").program, level, opener=opener, midstream=midstream)
    flows: list[Flow] = []
    engine.add_call(rule, PKT_IN, Hook.RECEIVER, flows.append, ("flow",))  # also where nothing comes of it
    for batch in frames:
        feed_frames(engine, batch)
        if flows:
            yield flows[0]
    while engine.finish():
        pass
    yield flows[0]


def last(frames: list[Any], level: Level = Level.STREAM, **options: Any) -> Flow:
    """The flow after its end."""
    *_, flow = batches(frames, level, **options)
    return flow


# --- sequence numbers -----------------------------------------------------------------------------


def test_a_half_is_read_as_it_is_at_the_moment_of_asking(traffic: Traffic, conn: Connection) -> None:
    """One Half, taken at the beginning, tells what has become of it since."""
    first = ISN["client"] + 1
    traffic.cut()
    conn.client(b"hello")
    traffic.cut()
    conn.client(b"xyz", at=10)
    traffic.cut()
    conn.server(ack=5)
    traffic.cut()
    conn.client(b"world", at=5)
    conn.server(ack=13)
    traffic.cut()
    conn.close()
    names = ("snd_nxt", "snd_una", "in_flight", "acked", "stream_offset", "stream_bytes", "fin_seen")
    steps = batches(traffic.batches, Level.BYTES)
    half = next(steps).client
    seen = [tuple(getattr(half, name) for name in names)]
    seen += [tuple(getattr(half, name) for name in names) for _ in steps]

    def at(nxt: int, una: int, *rest: object) -> tuple[object, ...]:
        return ((first + nxt) % 2**32, (first + una) % 2**32, nxt - una, *rest)

    assert seen == [
        at(0, 0, 0, 0, 0, False),
        at(5, 0, 0, 5, 5, False),
        at(13, 0, 0, 5, 8, False),
        at(13, 5, 5, 5, 8, False),
        at(13, 13, 13, 13, 13, False),
        at(14, 14, 13, 13, 13, True),
        at(14, 14, 13, 13, 13, True),
    ]


def test_inside_a_callback_a_half_is_as_tcp_processing_has_made_it(
    traffic: Traffic, conn: Connection
) -> None:
    """All of one batch; the bytes of the packet at hand are there, those of the next are not."""
    conn.client(b"hello")
    conn.client(b"xyz", at=10)
    conn.client(b"world", at=5)
    conn.server(ack=13)
    app = App("looks")
    seen: list[tuple[Any, ...]] = []
    within: list[tuple[tuple[int, int], ...]] = []

    @app.on(PKT_IN, level=Level.STREAM)
    def look(flow: Flow) -> None:
        half = flow.client
        seen.append((half.in_flight, half.acked, half.stream_offset, half.held, half.peek(8, 5)))
        within.append(half.held_within(3, 8))
        assert half.held_within(0, (1 << 63) - 1) == half.held
        with pytest.raises(ValueError, match="from 0 on"):
            half.held_within(-1, 5)

    aiomos.run(app, source=traffic.source(), settings=Settings(on_error="raise"))
    assert seen[3:] == [
        (5, 0, 5, ((0, 5),), b""),
        (13, 0, 5, ((0, 5), (10, 13)), b""),
        (13, 0, 13, ((0, 13),), b"ldxyz"),
        (0, 13, 13, ((0, 13),), b"ldxyz"),
    ]
    assert within[3:] == [((3, 5),), ((3, 5), (10, 11)), ((3, 11),), ((3, 11),)]


def test_syn_and_fin_are_in_flight_as_they_have_sequence_numbers() -> None:
    c = Conversation(client_isn=5, server_isn=9).client("S")
    half = next(batches([c.frames], Level.BYTES)).client
    assert (half.iss, half.snd_una, half.snd_nxt, half.in_flight, half.state) == (5, 5, 6, 1, State.SYN_SENT)
    c.server("SA").client("A").client("FA")
    half = next(batches([c.frames], Level.BYTES)).client
    assert (half.snd_una, half.snd_nxt, half.in_flight, half.fin_seen) == (6, 7, 1, True)
    assert half.facts == {"syn_sent", "syn_acked", "syn_received", "fin_sent"}
    assert half.peer.facts == {"syn_sent", "syn_acked", "syn_received", "fin_received", "passive_close"}


def test_what_was_not_captured_is_none(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"hello")
    flow = next(batches([traffic.frames[3:]], Level.BYTES, midstream=True))
    half = flow.client
    assert (half.iss, half.mss, half.window_scale, half.rtt, half.min_rtt, half.rttvar) == (None,) * 6
    assert (half.snd_nxt, half.in_flight) == ((ISN["client"] + 6) % 2**32, 5)
    assert flow.handshake_rtt is None


def test_before_it_sent_anything_a_half_has_no_numbers() -> None:
    c = Conversation(client_isn=5).client("S")
    half = next(batches([c.frames], Level.BYTES)).server
    assert (half.iss, half.snd_nxt, half.snd_una, half.in_flight, half.window, half.max_window) == (None,) * 6
    assert (half.last_data, half.ts_recent, half.state, half.packets) == (None, None, State.SYN_RECEIVED, 0)


def test_duplicate_acknowledgements_are_counted_until_more_is_acknowledged(
    traffic: Traffic, conn: Connection
) -> None:
    conn.client(b"12345")
    conn.client(b"abcde", at=10)
    for _ in range(3):
        conn.server(ack=5)
    traffic.cut()
    conn.client(b"67890", at=5)
    conn.server(ack=15)
    steps = batches(traffic.batches, Level.BYTES)
    assert next(steps).client.dup_acks == 2
    assert next(steps).client.dup_acks == 0


# --- options, windows and times -------------------------------------------------------------------


def test_options_and_windows() -> None:
    options = mss(1460) + sack_ok() + timestamps(100) + wscale(7)
    c = (
        Conversation()
        .client("S", options=options, window=64000)
        .server("SA", options=mss(1400) + timestamps(7, 100))
    )
    c.client("A", options=timestamps(101, 7), window=500).client(
        "PA", b"x", options=timestamps(102, 7), window=400
    )
    flow = last([c.frames], Level.BYTES)
    client, server = flow.client, flow.server
    assert (client.mss, client.window_scale, client.sack_permitted, client.timestamps) == (
        1460,
        7,
        True,
        True,
    )
    assert (server.mss, server.window_scale, server.sack_permitted, server.timestamps) == (
        1400,
        None,
        False,
        True,
    )
    assert (client.window, client.max_window) == (400, 64000)
    assert (client.ts_recent, server.ts_recent) == (102, 7)


def test_times(traffic: Traffic) -> None:
    conn = traffic.connection(opened=False)
    conn.segment("client", at=-1, flags="S")
    traffic.wait(0.029)
    conn.segment("server", at=-1, flags="SA")
    traffic.wait(0.009)
    conn.client()
    conn.client(b"hello")
    traffic.wait(0.009)
    conn.server()
    conn.client(b"hello", at=0)
    flow = last([traffic.frames], Level.BYTES)
    assert flow.handshake_rtt == pytest.approx(0.04)
    assert flow.client.min_rtt == pytest.approx(0.01)
    assert flow.client.rtt == pytest.approx(0.03 + (0.01 - 0.03) / 8)
    assert flow.client.rttvar == pytest.approx(0.015 + (0.02 - 0.015) / 4)
    assert (flow.server.rtt, flow.server.rttvar) == (pytest.approx(0.01), pytest.approx(0.005))
    assert flow.client.last_data == pytest.approx(START + 0.041, abs=1e-6)
    assert flow.server.last_data == pytest.approx(START + 0.03, abs=1e-6)


# --- levels ---------------------------------------------------------------------------------------


def test_without_byte_context_its_numbers_are_0_and_times_none(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"hello")
    conn.server(b"hi")
    flow = next(batches([traffic.frames], Level.STATE))
    half = flow.client
    assert half.level is Level.STATE
    assert [getattr(half, name) for name in (*COUNTERS, "acked", "stream_offset", "dup_acks")] == [0] * 14
    assert (half.rtt, half.min_rtt, half.rttvar, half.last_data, flow.handshake_rtt) == (None,) * 5
    assert (half.peek(0, 5), half.held) == (b"", ())
    assert (half.packets, half.iss, half.in_flight, half.window) == (3, ISN["client"], 0, 65535)


def test_each_half_has_its_peer(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"hello")
    flow = next(batches([traffic.frames]))
    assert flow.client.peer == flow.server != flow.client == flow.server.peer
    assert flow.client.level is Level.STREAM


# --- bytes ----------------------------------------------------------------------------------------


def test_peek_reads_beyond_a_hole(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"01234")
    conn.client(b"abc", at=10)
    conn.client(b"def", at=13)
    conn.client(b"z", at=20)
    half = next(batches([traffic.frames])).client
    assert half.held == ((0, 5), (10, 16), (20, 21))
    assert half.peek(0, 100) == b"01234"
    assert half.peek(1, 3) == b"123"
    assert half.peek(10, 100) == b"abcdef"
    assert half.peek(12, 3) == b"cde"
    assert half.peek(20, 1 << 62) == b"z"
    assert [half.peek(at, 1) for at in (5, 9, 16, 21, 1 << 62)] == [b""] * 5
    assert half.peek(0, 0) == b""
    assert half.stream_offset == 5


def test_peek_does_not_take_bytes(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"01234")
    flow = next(batches([traffic.frames]))
    assert [flow.client.peek(0, 5) for _ in range(2)] == [b"01234"] * 2
    assert flow.server.peek(0, 5) == b""


def test_every_held_range_can_be_peeked_at(traffic: Traffic, conn: Connection) -> None:
    """More ranges than are usual, both read whole."""
    for at in range(0, 400, 2):
        conn.client(bytes([at % 256]), at=at)
    half = next(batches([traffic.frames])).client
    assert half.held == tuple((at, at + 1) for at in range(0, 400, 2))
    assert all(half.peek(start, 9) == bytes([start % 256]) for start, _ in half.held)


@pytest.mark.parametrize(("offset", "n"), [(-1, 1), (0, -1)])
def test_peek_refuses_negative_numbers(traffic: Traffic, conn: Connection, offset: int, n: int) -> None:
    conn.client(b"hello")
    half = next(batches([traffic.frames])).client
    with pytest.raises(ValueError, match=f"not {offset} and {n}"):
        half.peek(offset, n)


def test_without_payload_there_is_nothing_to_peek_at(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"hello")
    conn.client(b"abc", at=10)
    half = next(batches([traffic.frames], Level.BYTES)).client
    assert (half.peek(0, 5), half.peek(10, 3), half.held) == (b"", b"", ())


# --- gaps, and the end ----------------------------------------------------------------------------


def test_gaps_and_what_comes_late(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"x" * 10, at=20)
    conn.server(ack=30)
    traffic.cut()
    traffic.tick(5)
    traffic.cut()
    conn.client(b"y" * 15, at=0)
    steps = batches(traffic.batches, Level.BYTES, timeouts=Timeouts(gap_hold=1))
    half = next(steps).client
    assert (half.gaps, half.gap_bytes, half.late_bytes, half.lost) == (0, 0, 0, 0)
    next(steps)
    assert (half.gaps, half.gap_bytes, half.late_bytes, half.lost) == (1, 20, 0, 20)
    next(steps)
    assert (half.gaps, half.gap_bytes, half.late_bytes, half.lost) == (1, 5, 15, 5)


@pytest.mark.parametrize("level", list(Level))
def test_the_last_values_stay(traffic: Traffic, conn: Connection, level: Level) -> None:
    conn.client(b"hello")
    conn.client(b"abc", at=10)
    conn.server(b"reply", ack=13)
    conn.client()
    conn.server(ack=13)
    conn.client(b"56789", at=5)
    conn.close()
    flow = next(steps := batches([traffic.frames], level))
    before = values(flow.client), values(flow.server), flow.handshake_rtt
    next(steps)
    assert (values(flow.client), values(flow.server), flow.handshake_rtt) == before
    assert (flow.client.peek(0, 5), flow.client.held) == (b"", ())


def test_a_flow_that_has_not_ended_outlives_its_engine(traffic: Traffic, conn: Connection) -> None:
    """A run may stop in the middle."""
    conn.client(b"hello")
    steps = batches([traffic.frames])
    flow = next(steps)
    del steps
    gc.collect()
    assert (flow.client.bytes, flow.client.state, flow.client.peek(0, 5)) == (5, State.ESTABLISHED, b"hello")


# --- struct tcp_info ------------------------------------------------------------------------------

TCP_INFO = """
state ca_state retransmits probes backoff options snd_wscale rcv_wscale delivery_rate_app_limited fastopen_client_fail
rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent last_data_recv last_ack_recv
pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans pacing_rate
max_pacing_rate bytes_acked bytes_received segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out
delivery_rate busy_time rwnd_limited sndbuf_limited delivered delivered_ce bytes_sent bytes_retrans dsack_dups
reord_seen rcv_ooopack snd_wnd rcv_wnd rehash total_rto total_rto_recoveries total_rto_time received_ce
delivered_e1_bytes delivered_e0_bytes delivered_ce_bytes received_e1_bytes received_e0_bytes received_ce_bytes
accecn_fail_mode accecn_opt_seen ecn_mode options2
""".split()  # noqa: SIM905


def test_the_reference_has_every_member_of_tcp_info() -> None:
    """As of Linux 7.0, include/uapi/linux/tcp.h."""
    page = (Path(__file__).parents[3] / "docs" / "reference" / "flows.md").read_text()
    assert not [name for name in TCP_INFO if f"`tcpi_{name}`" not in page]


def test_what_the_reference_says_of_tcp_info_exists() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "flows.md").read_text()
    named = set(re.findall(r"`[^`]*?\b[hp]\.(\w+)", page))
    assert len(named) > 20
    assert not {name for name in named if not hasattr(Half, name)}
