"""What callbacks see at the moment of an event: both ends, bytes, counters, and the event's own facts."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from aiomos import (
    CONN_NEW_DATA,
    CONN_SETUP,
    CONN_START,
    CONN_TEARDOWN,
    ERROR,
    ORPHAN,
    PKT_IN,
    PKT_OUT,
    REXMIT,
    STATE_CHANGE,
    TIMEOUT,
    App,
    Budgets,
    ErrorKind,
    Event,
    Flow,
    Hook,
    Level,
    Occurrence,
    Packet,
    RexmitKind,
    Settings,
    Timeouts,
)
from aiomos.testing.packets import mss, timestamps
from aiomos.testing.scenario import START, Conversation, Frame, merge
from aiomos.ude.instructions import Limit
from tests.events import PLACES, Moment, everything, flags_of, look, play, sets_timers

Ends = tuple[str, str]


def opened(**options: bytes) -> Conversation:
    return Conversation().handshake(**options)


def ends(moment: Moment) -> Ends:
    """States of client and server."""
    return moment.flow.client.state.name, moment.flow.server.state.name


# --- states ----------------------------------------------------------------------------------------------

WALK: list[tuple[str, Ends, Ends]] = [
    ("S", ("SYN_SENT", "LISTEN"), ("SYN_SENT", "SYN_RECEIVED")),
    ("SA", ("SYN_SENT", "SYN_RECEIVED"), ("ESTABLISHED", "SYN_RECEIVED")),
    ("A", ("ESTABLISHED", "SYN_RECEIVED"), ("ESTABLISHED", "ESTABLISHED")),
    ("FA", ("FIN_WAIT_1", "ESTABLISHED"), ("FIN_WAIT_1", "CLOSE_WAIT")),
    ("A", ("FIN_WAIT_1", "CLOSE_WAIT"), ("FIN_WAIT_2", "CLOSE_WAIT")),
    ("FA", ("FIN_WAIT_2", "LAST_ACK"), ("TIME_WAIT", "LAST_ACK")),
    ("A", ("TIME_WAIT", "LAST_ACK"), ("TIME_WAIT", "CLOSED")),
]
"""Flags, states at SENDER and states at RECEIVER of each segment: mOS's walk (paper, section 4.2.1)."""


@pytest.mark.parametrize("hook", [Hook.SENDER, Hook.RECEIVER])
@pytest.mark.parametrize("batch", [1, None])
def test_each_end_moves_when_it_knows(hook: Hook, batch: int | None) -> None:
    """The sender has moved at SENDER, its receiver only at RECEIVER."""
    told = look(opened().close().frames, PKT_IN, lambda m: (flags_of(m.pkt), ends(m)), hook=hook, batch=batch)
    assert told == [(flags, sent if hook is Hook.SENDER else received) for flags, sent, received in WALK]


def test_a_reset_closes_its_sender_first() -> None:
    """And nothing of the flow says more at SENDER than its sender knows."""
    frames = opened().server("R", seq=1).frames

    def told(moment: Moment) -> tuple[Any, ...]:
        return *ends(moment), moment.flow.closed, moment.flow.reason, moment.flow.reset_by

    assert look(frames, PKT_IN, told, hook=Hook.SENDER)[-1] == ("ESTABLISHED", "CLOSED", False, None, None)
    *states, closed, reason, by = look(frames, PKT_IN, told)[-1]
    assert (states, closed, reason, by.name) == (["CLOSED", "CLOSED"], True, "rst", "server")


def test_at_sender_the_receiver_is_as_it_was() -> None:
    """All that is known of it, not its state alone."""
    c = opened().client("PA", b"hello", window=1000).server("PA", b"yes", window=2000).client("A")
    names = ("state", "snd_una", "snd_nxt", "acked", "packets", "fin_seen", "mss", "window")
    before: dict[str, tuple[Any, ...]] = {}

    def check(moment: Moment) -> None:
        peer = moment.half.peer
        values = tuple(getattr(peer, name) for name in names)
        assert before.get(peer.name, values) == values

    def remember(moment: Moment) -> None:
        for half in (moment.flow.client, moment.flow.server):
            before[half.name] = tuple(getattr(half, name) for name in names)

    app: App[None] = App("look")
    app.on(PKT_IN, hook=Hook.SENDER)(
        lambda pkt, flow, half, side, time, event: check(Moment(pkt, flow, half, side, time, event))
    )
    app.on(PKT_OUT)(
        lambda pkt, flow, half, side, time, event: remember(Moment(pkt, flow, half, side, time, event))
    )
    play(c.frames, app)
    assert before.keys() == {"client", "server"}


def test_acknowledgement_counts_at_the_receiver() -> None:
    """The sender of an ACK knows of it; whom it acknowledges does not yet."""
    frames = opened().client("PA", b"hello").server("A").frames

    def told(moment: Moment) -> tuple[str, int]:
        return moment.side, moment.flow.client.acked

    assert look(frames, PKT_IN, told, hook=Hook.SENDER, level=Level.BYTES)[-1] == ("server", 0)
    assert look(frames, PKT_IN, told, level=Level.BYTES)[-1] == ("server", 5)


def test_a_change_of_state_is_what_ends_show_before_and_after() -> None:
    """Each change joins the one before it, at both hooks."""
    for script, end, count, at_sender in (
        (opened().close(), {"client": "TIME_WAIT", "server": "CLOSED"}, 10, 3),
        (opened().close("server"), {"client": "CLOSED", "server": "TIME_WAIT"}, 10, 3),
        (
            opened().client("FA").server("FA", ack=1).client("A").server("A"),
            {"client": "TIME_WAIT", "server": "TIME_WAIT"},
            10,
            3,
        ),
        (
            Conversation().client("S").server("S").server("SA", seq=0).client("SA", seq=0),
            {"client": "ESTABLISHED", "server": "ESTABLISHED"},
            5,
            1,
        ),
        (opened().client("R"), {"client": "CLOSED", "server": "CLOSED"}, 6, 2),
    ):
        state = {"client": "LISTEN", "server": "LISTEN"}
        changes = look(script.frames, STATE_CHANGE, lambda m: (m.side, m.event, m.half.state))
        for side, event, now in changes:
            assert event.before is not None
            assert event.after is not None
            assert event.before.name == state[side]
            assert event.after is now is not event.before
            state[side] = now.name
        assert (state, len(changes)) == (end, count)
        senders = look(
            script.frames, STATE_CHANGE, lambda m: (m.side, m.event.before, m.event.after), hook=Hook.SENDER
        )
        again = iter((side, event.before, event.after) for side, event, _ in changes)
        assert len(senders) == at_sender
        assert all(change in again for change in senders), "told at SENDER and not at RECEIVER"


def test_setup_comes_before_the_payload_of_its_packet() -> None:
    frames = Conversation().client("S").server("SA").client("PA", b"hello").frames
    app: App[None] = App("look")
    order: list[Any] = []
    app.on(CONN_SETUP)(
        lambda flow: order.append((flow.established, flow.client.state.name, flow.server.state.name))
    )
    app.on(CONN_NEW_DATA)(lambda: order.append("data"))
    play(frames, app)
    assert order == [(True, "ESTABLISHED", "ESTABLISHED"), "data"]


def test_where_there_is_no_flow() -> None:
    frames = Conversation().client("A").frames
    for options in ({"event": PKT_IN, "hook": Hook.RAW}, {"event": ORPHAN}):
        ((flow, half, side, time, event, flags),) = look(
            frames, what=lambda m: (m.flow, m.half, m.side, m.time, m.event, flags_of(m.pkt)), **options
        )
        assert (flow, half, side, time, flags) == (None, None, "client", START, "A")
        assert (event.flow, event.half, event.side, event.time) == (None, None, "client", START)


def test_where_there_is_no_packet() -> None:
    frames = opened().client("PA", b"a").frames
    assert look(frames, CONN_NEW_DATA, lambda m: m.pkt) == [None]
    assert look(frames, CONN_TEARDOWN, lambda m: m.pkt) == [None]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0].name}-{place[1].name}")
def test_names_of_sides_halves_and_times_agree(place: tuple[Event, Hook]) -> None:
    event, hook = place

    def check(moment: Moment) -> None:
        assert moment.event.event is event
        assert moment.event.name == event.value
        assert moment.event.packet is None
        assert (moment.event.side, moment.event.time, moment.event.flow) == (
            moment.side,
            moment.time,
            moment.flow,
        )
        if moment.flow is not None:
            assert moment.half == moment.flow.half(moment.side) == moment.event.half
        if moment.pkt is not None:
            assert moment.pkt.time == moment.time
            if moment.flow is not None and event is not STATE_CHANGE:
                assert (moment.pkt.src, moment.pkt.sport) == (moment.half.address, moment.half.port)

    seen = look(everything(), event, check, hook=hook, level=Level.BYTES, prepare=sets_timers)
    assert len(seen) >= 2


def test_a_syn_that_is_told_of_late_is_that_syn() -> None:
    """Once its SYN-ACK shows that it began a connection: all of it that was kept, and nothing of the SYN-ACK."""
    again = Conversation(client_isn=5000, server_isn=9000, start=START + 1).client(
        "S", options=mss(1300), window=77
    )
    frames = [*opened().frames, *again.server("SA", ttl=9).client("A").frames]

    def told(moment: Moment) -> tuple[Any, ...]:
        pkt, copy = moment.pkt, moment.pkt.copy()
        assert (pkt.ip_version, pkt.dont_fragment, pkt.ttl) == (copy.ip_version, copy.dont_fragment, copy.ttl)
        assert pkt.ttl != 9
        return (
            moment.side,
            pkt.time,
            pkt.src,
            pkt.sport,
            pkt.dst,
            pkt.dport,
            pkt.seq,
            flags_of(pkt),
            pkt.mss,
            pkt.window,
        )

    for hook in (Hook.SENDER, Hook.RECEIVER):
        assert look(frames, CONN_START, told, hook=hook)[1] == (
            *("client", START + 1, "10.0.0.1", 40000, "10.0.0.2", 80, 5000, "S", 1300, 77),
        )


# --- bytes -----------------------------------------------------------------------------------------------


def test_a_retransmission_is_told_before_it_is_merged() -> None:
    """With the bytes held for its place, its own, and counters as they were."""
    c = (
        opened()
        .client("PA", b"hello")
        .wait(1)
        .client("PA", b"heXXo", seq=1)
        .wait(1)
        .client("PA", b"loNEW", seq=4)
    )
    told = look(
        c.frames,
        REXMIT,
        lambda m: (
            m.event.kind,
            m.event.offset,
            m.event.old,
            m.event.new,
            m.half.retransmits,
            m.half.stream_bytes,
        ),
        level=Level.STREAM,
    )
    assert told == [("rto", 0, b"hello", b"heXXo", 0, 5), ("rto", 3, b"lo", b"loNEW", 1, 5)]


def test_without_its_bytes_a_retransmission_has_no_old_ones() -> None:
    c = opened().client("PA", b"hello").wait(1).client("PA", b"hello", seq=1)
    (told,) = look(c.frames, REXMIT, lambda m: (m.event.offset, m.event.length, m.event.old, m.event.new))
    assert told == (0, 5, None, b"hello")


@pytest.mark.parametrize("batch", [1, 4, None])
def test_bytes_that_wait_behind_a_hole_are_old_bytes_too(batch: int | None) -> None:
    c = (
        opened()
        .client("PA", b"lost", captured=False)
        .client("PA", b"here")
        .wait(1)
        .client("PA", b"hERe", seq=5)
    )
    (told,) = look(
        c.frames,
        REXMIT,
        lambda m: (m.event.offset, m.event.old, m.event.new),
        level=Level.STREAM,
        batch=batch,
    )
    assert told == (4, b"here", b"hERe")


def test_a_conflict_has_both_versions() -> None:
    c = opened().client("PA", b"hello").wait(1).client("PA", b"heXXo", seq=1)
    told = look(
        c.frames,
        ERROR,
        lambda m: (m.event.kind, m.event.offset, m.event.length, m.event.old, m.event.new, m.half.conflicts),
        level=Level.STREAM,
    )
    assert told == [("conflict", 2, 2, b"ll", b"XX", 0)]


def test_of_two_syn_acks_the_first_is_the_one_whose_data_is_acknowledged() -> None:
    """The acknowledgement that completed the handshake was not captured."""
    c = Conversation(server_isn=9).client("S").server("SA").server("SA", seq=777, ack=1, forged=True)
    c.client("A", captured=False).server("PA", b"hello").client("A").server("PA", b"!").client("A")
    numbers = look(
        c.frames, PKT_OUT, lambda m: (m.flow.server.iss, m.flow.server.snd_una), level=Level.STREAM
    )
    assert numbers[-5:] == [(9, 9), (9, 9), (9, 15), (9, 15), (9, 16)]


def test_where_the_bytes_are_is_not_known_at_level_state() -> None:
    """Whatever the numbers are that the flow is at."""
    app: App[None] = App("looks")
    seen: set[tuple[int, int, int]] = set()

    @app.on(PKT_OUT)
    def look(flow: Flow) -> None:
        seen.update(
            (half.acked, half.stream_offset, half.stream_bytes) for half in (flow.client, flow.server)
        )

    c = Conversation(client_isn=0x10, server_isn=0x20000000).handshake().client("PA", b"question").server("A")
    play(c.server("PA", b"an answer").client("A").frames, app)
    assert seen == {(0, 0, 0)}


@pytest.mark.parametrize("together", [Limit.SCRATCH - 1, Limit.SCRATCH, Limit.SCRATCH + 1, 5000])
def test_a_native_event_finds_what_lies_in_pieces_however_much_that_is(together: int) -> None:
    """More than the machine has room for is for the predicate itself to look at."""
    app: App[None] = App("finds")
    found: list[tuple[int, int]] = []
    native = app.ude(CONN_NEW_DATA, native=True)(
        lambda half: half.peek(0, 6000)[-6:] == b"needle" and half.peek(0, 6000)[:4] == b"HEAD"
    )
    twice = app.ude(CONN_NEW_DATA, native=True)(
        lambda half: half.peek(1, 600)[:3] == b"EAD" and half.peek(2, 600)[:2] == b"AD"
    )
    app.on(native)(lambda half: found.append((1, half.stream_offset)))
    app.on(twice)(lambda half: found.append((2, half.stream_offset)))
    c = opened().client("PA", b"HEAD" + bytes(500))
    c.client("PA", bytes(together - 504 - 6) + b"needle").client("PA", b"more")
    play(c.close().frames, app)
    assert found == [(2, 504), (1, together), (2, together), (2, together + 4)]


@pytest.mark.parametrize("batch", [1, 2, 3, 7, None])
def test_new_data_is_what_peek_reads(batch: int | None) -> None:
    """Pieced together, all of the stream, each byte once."""
    c = opened()
    sent = {"client": bytearray(), "server": bytearray()}
    for turn in range(20):
        side = "client" if turn % 3 else "server"
        data = bytes([turn]) * (turn + 1)
        sent[side] += data
        c.send(side, "PA", data)
    seen = {"client": bytearray(), "server": bytearray()}

    def take(moment: Moment) -> None:
        offset, length = moment.event.offset, moment.event.length
        assert offset is not None
        assert length is not None
        assert offset == len(seen[moment.side])
        seen[moment.side] += moment.half.peek(offset, length)
        assert moment.half.peek(offset + length, 1) == b""
        assert moment.half.stream_bytes == offset + length

    look(c.frames, CONN_NEW_DATA, take, batch=batch)
    assert seen == sent


@pytest.mark.parametrize("batch", [1, None])
def test_new_data_before_and_behind_a_gap_are_two_events(batch: int | None) -> None:
    """So that peek reads all of each."""
    c = (
        opened()
        .client("PA", b"ab")
        .client("PA", b"lost", captured=False)
        .client("PA", b"cd")
        .server("A")
        .wait(1)
    )
    told = look(
        c.client("A").frames,
        CONN_NEW_DATA,
        lambda m: (m.event.offset, m.half.peek(m.event.offset or 0, m.event.length or 0)),
        batch=batch,
    )
    assert told == [(0, b"ab"), (6, b"cd")]


def test_a_segment_can_be_looked_at_once_it_is_merged() -> None:
    """At SENDER its bytes are only in the packet, at RECEIVER in the half, out of order or not."""
    c = opened().client("PA", b"ab").client("PA", b"lost", captured=False).client("PA", b"cd")
    for hook, held in ((Hook.SENDER, [(), ((0, 2),)]), (Hook.RECEIVER, [((0, 2),), ((0, 2), (6, 8))])):
        told = look(c.frames, PKT_IN, lambda m: m.half.held, hook=hook, level=Level.STREAM, batch=None)
        assert told[3:] == held
    assert look(c.frames, PKT_IN, lambda m: m.half.peek(6, 10), level=Level.STREAM)[-1] == b"cd"
    assert look(c.frames, PKT_IN, lambda m: m.half.peek(2, 10), level=Level.STREAM)[-1] == b""


# --- the end ---------------------------------------------------------------------------------------------


def test_at_the_end_counters_are_final() -> None:
    c = opened(client_options=mss(1400)).client("PA", b"hello").wait(1).client("PA", b"hello", seq=1).close()
    (record,) = look(c.frames, CONN_TEARDOWN, lambda m: m.flow.record(), level=Level.BYTES)
    assert {name: record[name] for name in ("reason", "client_packets", "server_packets")} == {
        "reason": "fin",
        "client_packets": 6,
        "server_packets": 3,
    }
    assert (record["client_bytes"], record["client_stream_bytes"], record["client_retransmits"]) == (10, 5, 1)


ENDS = [
    ("fin", opened().close().frames, Settings()),
    ("rst", opened().client("R").frames, Settings()),
    ("end_of_capture", opened().frames, Settings()),
    (
        "timeout",
        merge(opened(), Conversation("10.0.0.1:2", start=START + 9000).client("S")),
        Settings(timeouts=Timeouts(established=100)),
    ),
    (
        "evicted",
        merge(opened(), Conversation("10.0.0.1:2", start=START + 1).client("S")),
        Settings(budgets=Budgets(flows=1)),
    ),
]


@pytest.mark.parametrize(("reason", "frames", "settings"), ENDS, ids=[reason for reason, _, _ in ENDS])
def test_every_end_has_its_reason_at_the_moment_of_the_end(
    reason: str, frames: list[Frame], settings: Settings
) -> None:
    kept: list[Flow] = []

    def take(moment: Moment) -> tuple[str | None, bool]:
        kept.append(moment.flow)
        return moment.flow.reason, moment.flow.client.port == 40000

    settings = attrs.evolve(settings, on_error="raise")
    assert (reason, True) in look(frames, CONN_TEARDOWN, take, settings=settings)
    assert kept[0].reason == reason, "its last values are kept"
    assert kept[0].client.address == "10.0.0.1"


# --- errors ----------------------------------------------------------------------------------------------

STAMPS = {"client_options": timestamps(1000), "server_options": timestamps(1000)}
MD5 = bytes([19, 18]) + bytes(16)
VERIFY = Settings(checksums="verify")


def hole(captured: bytes = b"here") -> Conversation:
    return opened().client("PA", b"lost", captured=False).client("PA", captured)


def damaged(frame: bytes) -> bytes:
    return frame[:-1] + bytes([frame[-1] ^ 1])


def broken_header(frame: bytes) -> bytes:
    """Data offset 1: a TCP header of four bytes."""
    return frame[:46] + b"\x10" + frame[47:]


@attrs.frozen
class Mistake:
    """What raises one kind of error."""

    kind: ErrorKind
    frames: list[Frame]
    settings: Settings = attrs.field(factory=Settings)
    side: str = "client"
    level: Level | None = None


MISTAKES = [
    Mistake(ErrorKind.NO_ACK, opened().client("P", b"a").frames),
    Mistake(ErrorKind.BAD_FLAGS, opened().client("SF").frames),
    Mistake(ErrorKind.OUT_OF_WINDOW, opened().client("PA", b"evil", seq=1_000_000, forged=True).frames),
    Mistake(ErrorKind.BAD_ACK, opened().client("A", ack=-1_000_000).frames),
    Mistake(ErrorKind.BAD_RESET, opened().client("R", seq=5000, forged=True).frames),
    Mistake(ErrorKind.SYN_IN_CONNECTION, opened().client("S", seq=500, forged=True).frames),
    Mistake(
        ErrorKind.BEFORE_SYNACK, Conversation().client("S").server("A", seq=5, ack=1).frames, side="server"
    ),
    Mistake(ErrorKind.BAD_SYNACK, Conversation().client("S").server("SA", ack=77).frames, side="server"),
    Mistake(
        ErrorKind.PAWS,
        opened(**STAMPS)
        .client("PA", b"a", options=timestamps(9000))
        .client("PA", b"b", options=timestamps(5))
        .frames,
    ),
    Mistake(ErrorKind.AFTER_FIN, opened().client("FA").client("PA", b"more").frames),
    Mistake(ErrorKind.UNSIGNED, opened(client_options=MD5, server_options=MD5).frames),
    Mistake(ErrorKind.BAD_OPTIONS, opened().client("PA", b"x", options=b"\x02\0\0\0").frames),
    Mistake(ErrorKind.ACK_UNSEEN, opened().server("A", ack=200).frames, side="server"),
    Mistake(ErrorKind.GAP_LOST, hole().server("A").wait(1).client("A").frames, level=Level.BYTES),
    Mistake(ErrorKind.GAP_AGE, hole().wait(40).client("A").frames, level=Level.BYTES),
    Mistake(
        ErrorKind.GAP_BUDGET,
        hole(bytes(4096)).client("PA", bytes(4096)).frames,
        Settings(budgets=Budgets(held_bytes_half=4096)),
        level=Level.STREAM,
    ),
    Mistake(ErrorKind.GAP_SNAPLEN, opened().client("PA", b"abcdef", snaplen=57).frames, level=Level.STREAM),
    Mistake(ErrorKind.GAP_END, hole().client("R").frames, level=Level.BYTES),
    Mistake(
        ErrorKind.CONFLICT, opened().client("PA", b"ab").client("PA", b"cd", seq=1).frames, level=Level.STREAM
    ),
    Mistake(
        ErrorKind.EVICTED,
        merge(opened(), Conversation("10.0.0.1:2", start=START + 1).client("S")),
        Settings(budgets=Budgets(flows=1)),
    ),
    Mistake(ErrorKind.MALFORMED_TCP, opened().client("PA", b"x", change=broken_header).frames),
    Mistake(ErrorKind.MALFORMED_TCP_CUT, opened().client("PA", b"abc", snaplen=40).frames),
    Mistake(ErrorKind.MALFORMED_CHECKSUM, opened().client("PA", b"abc", change=damaged).frames, VERIFY),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.kind)
def test_each_error_says_what_it_is(mistake: Mistake) -> None:
    """Once, of the right kind, and of the half it is about; a packet where a packet is to blame."""
    settings = attrs.evolve(mistake.settings, on_error="raise")
    told = look(
        mistake.frames,
        ERROR,
        lambda m: (m.event.kind, m.side),
        settings=settings,
        level=mistake.level,
    )
    assert [kind for kind, _ in told].count(mistake.kind) == 1, told
    assert (mistake.kind, mistake.side) in told


def test_every_kind_of_error_is_told_here() -> None:
    """All but what went by before anybody took it, which takes an app that comes late."""
    assert {mistake.kind for mistake in MISTAKES} == set(ErrorKind) - {ErrorKind.GAP_UNREAD}


def test_kinds_of_retransmissions() -> None:
    c = Conversation().client("S").wait(1).client("S", seq=0).server("SA").client("A")
    c.client("PA", b"aa").wait(1).client("PA", b"aa", seq=1).server("A").wait(0.1).client("PA", b"aa", seq=1)
    c.client("PA", b"bb").client("PA", b"cc").server("A", ack=3).server("A", ack=3).server("A", ack=3)
    c.client("PA", b"bb", seq=3).server("A").client("FA").wait(1).client("FA", seq=7)
    kinds = look(c.frames, REXMIT, lambda m: m.event.kind)
    assert kinds == ["syn", "rto", "spurious", "fast", "fin"]
    assert set(kinds) == set(RexmitKind)


def test_two_mistakes_of_one_segment_are_two_errors() -> None:
    frames = opened().server("A", ack=200, options=b"\x02\0\0\0").frames
    assert set(look(frames, ERROR, lambda m: m.event.kind)) == {"ack_unseen", "bad_options"}


def test_a_refused_segment_has_changed_nothing() -> None:
    frames = opened().client("PA", b"evil", seq=1_000_000, forged=True).frames
    (told,) = look(
        frames, ERROR, lambda m: (m.half.stream_offset, m.half.snd_nxt, m.half.packets), level=Level.BYTES
    )
    assert told[0] == 0
    assert told[2] == 3


# --- who is told first -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", [Hook.SENDER, Hook.RECEIVER])
def test_apps_are_a_chain_on_the_wire(hook: Hook) -> None:
    """From client to server in the order of the apps, back the other way round; each app's callbacks in order."""
    order: list[tuple[str, str]] = []
    apps: list[App[None]] = [App("first"), App("second"), App("third")]
    for app in apps:
        for number in (1, 2):
            app.on(PKT_IN, hook=hook)(noter(order, f"{app.name} {number}"))
    play(opened().frames, *apps)
    names = [f"{name} {number}" for name in ("first", "second", "third") for number in (1, 2)]
    back = [f"{name} {number}" for name in ("third", "second", "first") for number in (1, 2)]
    assert [name for side, name in order[:6]] == names
    assert [name for side, name in order[6:12]] == back
    assert [name for side, name in order[12:]] == names


def noter(order: list[tuple[str, str]], name: str) -> Any:
    def note(side: str) -> None:
        order.append((side, name))

    return note


def test_one_packet_is_one_object_for_all_who_ask() -> None:
    app: App[None] = App("look")
    seen: list[Packet] = []
    app.on(PKT_IN)(lambda pkt: seen.append(pkt))
    app.on(PKT_IN)(lambda pkt: seen.append(pkt))
    play(Conversation().client("S").frames, app)
    assert seen[0] is seen[1]


# --- time ------------------------------------------------------------------------------------------------


def test_a_timer_runs_out_before_the_first_packet_that_is_later() -> None:
    app: App[None] = App("look")
    order: list[Any] = []

    @app.on(CONN_START)
    def begin(flow: Flow) -> None:
        flow.timer(0.5)

    @app.on(TIMEOUT)
    def out(flow: Flow, side: str, time: float, event: Occurrence) -> None:
        order.append(("timeout", round(time - START, 6), side, event.name, flow.server.packets))

    app.on(PKT_IN)(lambda time: order.append(round(time - START, 6)))
    play(Conversation().client("S").wait(1).server("SA").client("A").frames, app)
    assert order == [0.0, ("timeout", 0.5, "client", "timeout", 0), 1.001, 1.002]
