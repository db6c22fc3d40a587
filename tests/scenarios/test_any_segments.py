"""Whatever anyone sends: nothing crashes, nothing is miscounted, and states only move forward."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos.face.views import State
from aiomos.levels import Level
from aiomos.settings import Budgets, Settings, Timeouts
from aiomos.testing.packets import fastopen, mss, timestamps, wscale
from aiomos.testing.scenario import Conversation, Watched, Watcher, merge, watch, watch_in_batches
from tests.scenarios.diagram import reachable

MD5 = bytes([19, 18]) + bytes(16)
FLAGS = ["S", "SA", "A", "PA", "FA", "R", "RA", "F", "", "SF", "SR", "FPU", "PAU", "SEC", "FSRPAUEC"]
NUMBERS = st.one_of(
    st.none(),
    st.integers(-3, 40),
    st.sampled_from([65_535, 131_071, 200_000, 1 << 30, 1 << 31, -(1 << 31), -100_000]),
)
SEGMENTS = st.fixed_dictionaries({
    "side": st.sampled_from(["client", "server"]),
    "flags": st.sampled_from(FLAGS + ["A", "PA"] * 6),
    "payload": st.integers(0, 12).map(lambda size: bytes(range(size))),
    "seq": NUMBERS,
    "ack": NUMBERS,
    "window": st.sampled_from([0, 1, 1000, 65_535]),
    "options": st.one_of(st.just(b""), st.sampled_from([
        mss(1460), wscale(3), mss(1460) + wscale(14), fastopen(b"12345678"), MD5, b"\x02\x00", b"\x08\x0a\x00"
    ]), st.integers(0, 5).map(timestamps)),
    "snaplen": st.sampled_from([None, None, None, 54, 58, 60]),
    "captured": st.sampled_from([True, True, True, False]),
    "wait": st.sampled_from([0, 0, 0.0001, 0.3, 1, 12, 700, -5]),
})  # fmt: skip
SCRIPTS = st.lists(SEGMENTS, max_size=25)
TIMEOUTS = Timeouts(half_open=10, established=600, closing=60, time_wait=5, reset=0)


def play(script: list[dict[str, Any]], *, handshake: bool, client: str = "10.0.0.1:40000") -> Conversation:
    c = Conversation(client)
    if handshake:
        c.handshake()
    for segment in script:
        fields = dict(segment)
        wait = fields.pop("wait")
        c.send(**fields).wait(wait)
    return c


def assert_counters_agree(seen: Watched) -> None:
    """Every segment is one of a reported flow, an orphan, or of a connection that no rule wants."""
    statistics = seen.statistics
    packets = sum(record["client_packets"] + record["server_packets"] for record in seen.records)
    assert statistics["tcp"] == packets + statistics["orphans"] + statistics["unwatched"]
    assert statistics["flows"] == len(seen.records)
    assert statistics["midstream"] == sum(record["midstream"] for record in seen.records)
    for record in seen.records:
        assert record["end"] >= record["start"]
        for half in ("client", "server"):
            assert record[f"{half}_stream_bytes"] <= record[f"{half}_bytes"]
            assert record[f"{half}_retransmits"] + record[f"{half}_out_of_order"] <= record[f"{half}_packets"]
            assert record[f"{half}_rtt"] is None or record[f"{half}_rtt"] >= 0


@settings(max_examples=400)
@given(script=SCRIPTS, handshake=st.booleans(), level=st.sampled_from(list(Level)), midstream=st.booleans())
def test_any_segments_are_survived_and_seen_alike_in_any_batch(
    script: list[dict[str, Any]], handshake: bool, level: Level, midstream: bool
) -> None:
    """Nothing is held at the end, and frame by frame gives what one batch gives."""
    c = play(script, handshake=handshake)
    seen = watch_in_batches(c.frames, level=level, midstream=midstream, settings=Settings(timeouts=TIMEOUTS))
    assert_counters_agree(seen)
    assert seen.statistics["frames"] == len(c.frames)
    if handshake:  # the connection is there, whatever came after
        assert seen.setups >= 1
        first = seen.records[0]
        assert (first["client_port"], first["midstream"], first["start"]) == (
            40000,
            False,
            c.frames[0][0] / 1e9,
        )


@settings(max_examples=400)
@given(script=SCRIPTS, handshake=st.booleans(), level=st.sampled_from([Level.BYTES, Level.STREAM]))
def test_counters_of_any_segments_agree(script: list[dict[str, Any]], handshake: bool, level: Level) -> None:
    """With pick-up, every TCP frame shows in a record or a counter."""
    c = play(script, handshake=handshake)
    assert_counters_agree(watch(c.frames, level=level, midstream=True, settings=Settings(timeouts=TIMEOUTS)))


@settings(max_examples=300)
@given(script=SCRIPTS, handshake=st.booleans())
def test_counters_agree_without_pick_up(script: list[dict[str, Any]], handshake: bool) -> None:
    """Without pick-up what belongs to no connection is an orphan, and still counted."""
    c = play(script, handshake=handshake)
    assert_counters_agree(watch(c.frames, settings=Settings(timeouts=TIMEOUTS)))


@settings(max_examples=100)
@given(
    scripts=st.lists(SCRIPTS, min_size=2, max_size=6), flows=st.integers(1, 4), half_open=st.integers(1, 3)
)
def test_counters_agree_at_the_budget(
    scripts: list[list[dict[str, Any]]], flows: int, half_open: int
) -> None:
    """Evictions lose no count and leave nothing held."""
    all_of_them = [
        play(script, handshake=True, client=f"10.0.0.1:{i + 1}") for i, script in enumerate(scripts)
    ]
    limits = Settings(
        budgets=Budgets(flows=flows, half_open=half_open, held_bytes_half=8192), timeouts=TIMEOUTS
    )
    assert_counters_agree(watch(merge(*all_of_them), level=Level.STREAM, midstream=True, settings=limits))


@settings(max_examples=300)
@given(script=SCRIPTS, level=st.sampled_from(list(Level)))
def test_level_does_not_change_what_is_believed(script: list[dict[str, Any]], level: Level) -> None:
    """States, reasons, packets and anomalies come from the monitor alone."""
    frames = play(script, handshake=True).frames
    names = ["client_state", "server_state", "reason", "client_packets", "server_packets", "start", "end"]
    rows = []
    for each in (Level.STATE, level):
        seen = watch(frames, level=each, midstream=True, settings=Settings(timeouts=TIMEOUTS))
        rows.append(
            ([[record[name] for name in names] for record in seen.records], seen.anomalies, seen.setups)
        )
    assert rows[0] == rows[1]


TAKEN_BACK = {
    State.FIN_WAIT_1: {State.ESTABLISHED, State.SYN_RECEIVED, State.SYN_SENT},
    State.CLOSING: {State.CLOSE_WAIT},
    State.LAST_ACK: {State.CLOSE_WAIT},
}
"""Steps back: a FIN that nobody took is refuted by data beyond it (monitor.pyx, on_segment)."""


@settings(max_examples=400)
@given(script=SCRIPTS, handshake=st.booleans())
def test_states_follow_the_diagram(script: list[dict[str, Any]], handshake: bool) -> None:
    """RFC 9293 figure 5, with steps that the capture did not show left out."""
    watcher = Watcher(level=Level.STATE, midstream=True, settings=Settings(timeouts=TIMEOUTS))
    flow = None
    before = (State.LISTEN, State.LISTEN)
    for frame in play(script, handshake=handshake).frames:
        watcher.feed([frame])
        if watcher.flow is not flow:
            flow, before = watcher.flow, (State.LISTEN, State.LISTEN)
        if flow is None:
            assert not handshake
            continue
        after = (flow.client.state, flow.server.state)
        for old, new in zip(before, after, strict=True):
            assert new in reachable(old) | TAKEN_BACK.get(old, set()), f"{old.name} to {new.name}"
        before = after
    watcher.finish()


FORGERIES = st.fixed_dictionaries({
    "side": st.sampled_from(["client", "server"]),
    "flags": st.sampled_from(["A", "PA", "FA", "FPA", "R", "RA", "S", "SA", "", "F", "FSRPAU"]),
    "payload": st.sampled_from([b"", b"E", b"EVIL"]),
    "seq": st.one_of(st.integers(-(1 << 30), -300_000), st.integers(300_000, 1 << 30)),
    "ack": st.one_of(st.none(), st.integers(-100_000, 100_000), st.integers(-(1 << 31), 1 << 31)),
    "window": st.sampled_from([0, 1, 65_535]),
    "options": st.sampled_from([b"", mss(1), wscale(14), MD5, timestamps(0), timestamps(1 << 30)]),
})  # fmt: skip


@settings(max_examples=400)
@given(
    forgeries=st.lists(st.tuples(st.integers(0, 8), FORGERIES), min_size=1, max_size=6), stamped=st.booleans()
)
def test_blind_forgeries_change_nothing(forgeries: list[tuple[int, dict[str, Any]]], stamped: bool) -> None:
    """RFC 9293 section 3.10.7.4, first check: whoever does not know the sequence numbers has no say in anything."""
    options = timestamps(1000) if stamped else b""
    c = Conversation().handshake(client_options=options, server_options=options)
    for turn in range(8):
        for when, forgery in forgeries:
            if when == turn:
                c.send(**forgery, forged=True)
        c.client("PA", bytes([turn]) * 3, options=options).server("PA", bytes([turn]) * 5, options=options)
    seen = watch(c.client("A", options=options).close().frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert client.data == b"".join(bytes([turn]) * 3 for turn in range(8))
    assert server.data == b"".join(bytes([turn]) * 5 for turn in range(8))
    assert (client.gaps, server.gaps, seen.record["reason"]) == ((), (), "fin")
    assert (seen.record["client_lost"], seen.record["server_lost"]) == (0, 0)


@settings(max_examples=200)
@given(
    cuts=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
    isn=st.integers(0xFFFFFF00, 0xFFFFFFFF),
    repeats=st.integers(1, 3),
)
def test_any_segmentation_order_and_duplication_gives_the_same_stream(
    cuts: list[int], order: Any, isn: int, repeats: int
) -> None:
    """The stream, its length and the close do not depend on how it was carried."""
    c = Conversation(client_isn=isn, step=0.0001).handshake()
    data = bytes(range(256)) * 2
    data, at, segments = data[: sum(cuts)], 1, []
    for size in cuts:
        segments += [(at, data[at - 1 : at - 1 + size])] * repeats
        at += size
    order.shuffle(segments)
    for seq, payload in segments:
        c.client("A", payload, seq=seq)
    seen = watch_in_batches(c.server("A").close().frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.streams[0][0].gaps) == (data, ())
    assert (seen.record["client_stream_bytes"], seen.record["client_lost"]) == (len(data), 0)
    assert (seen.record["client_bytes"], seen.record["reason"]) == (len(data) * repeats, "fin")
