"""Retransmissions that say something else than the original (FIELD section 4: overlap, differing content)."""

import random

import pytest

import aiomos.engine.engine
from aiomos.face.pressure import Pressure
from aiomos.face.streams import MonitorConnection
from aiomos.levels import Level
from aiomos.testing.batches import feed_frames
from aiomos.testing.scenario import Conversation, Frame, watch_in_batches
from aiomos.testing.scenario import watch as watch_at_once
from tests.traffic import Traffic, follow, watch


@pytest.mark.parametrize("batch_size", [1, 1000])
@pytest.mark.parametrize(
    ("again", "at", "conflicts"),
    [
        (b"abcdef", 0, 0),
        (b"abXdef", 0, 1),
        (b"X", 5, 1),
        (b"fgh", 5, 0),  # partly new
        (b"Xgh", 5, 1),
    ],
)
def test_a_retransmission_is_compared_with_what_was_delivered(
    again: bytes, at: int, conflicts: int, batch_size: int
) -> None:
    """Whether the original was delivered in the same batch or in one before."""
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"abcdef", at=0)
    conn.client(again, at=at)
    seen = follow(traffic.frames, batch_size=batch_size)
    assert b"".join(seen.client)[:6] == b"abcdef"
    assert (seen.flow.client.conflicts, seen.counters["conflicts"]) == (conflicts, conflicts)


def test_delivered_bytes_are_kept_within_a_bound() -> None:
    """What is no longer kept is not compared, and nothing breaks: 20 MiB go by on another connection."""
    traffic = Traffic()
    conn, other = traffic.connection(), traffic.connection(2000)
    conn.client(b"abcdef", at=0)
    traffic.cut()
    for at in range(0, 20 << 20, 60_000):
        other.client(bytes(60_000), at=at)
        other.server(ack=at + 60_000)
        traffic.cut()
    conn.client(b"XXXXXX", at=0)

    async def read(conn: aiomos.MonitorConnection) -> None:
        async for _ in conn:
            pass

    assert watch(read, traffic).counters["conflicts"] == 0


@pytest.mark.parametrize("acked", [True, False])
@pytest.mark.parametrize("sent", [2, 3, 8])
def test_what_was_delivered_some_segments_ago_is_compared(sent: int, *, acked: bool) -> None:
    """However frames fall into batches: each segment of a conversation is said again, otherwise."""
    for at in range(sent):
        c = Conversation().handshake()
        for _ in range(sent):
            c.client("PA", b"hello")
            if acked:
                c.server("A")
        c.client("PA", b"EVIL", seq=1 + 5 * at, forged=True)
        for batch in (1, 2, 3, None):
            seen = watch_at_once(c.frames, level=Level.STREAM, batch=batch)
            assert (at, batch, seen.statistics["conflicts"]) == (at, batch, 1)


def retold(seed: int) -> list[Frame]:
    """Both ends send, and send stretches of what they sent again, every other time otherwise."""
    some = random.Random(seed)
    c = Conversation().handshake()
    sent = {"client": b"", "server": b""}
    for _ in range(some.randrange(10, 60)):
        side = some.choice(("client", "server"))
        if sent[side] and some.random() < 0.4:
            at = some.randrange(len(sent[side]))
            again = bytearray(sent[side][at : at + some.randrange(1, 40)])
            if some.random() < 0.5:
                again[some.randrange(len(again))] ^= 1
            c.send(side, "PA", bytes(again), seq=1 + at, forged=True)
        elif some.random() < 0.1:
            c.send(side, "PA", b"missing", captured=False)
            sent[side] += b"missing"
        else:
            payload = some.randbytes(some.randrange(1, 12))
            c.send(side, "PA", payload)
            sent[side] += payload
    return c.close().frames


def test_conflicts_do_not_depend_on_how_frames_fall_into_batches() -> None:
    found = 0
    for seed in range(40):
        frames = retold(seed)
        seen = watch_in_batches(frames, level=Level.STREAM)
        assert watch_at_once(frames, level=Level.STREAM, batch=7) == seen
        found += seen.statistics["conflicts"]
    assert found > 100


@pytest.mark.parametrize("batch", [1, 100, None])
def test_a_segment_is_compared_with_all_that_it_repeats(batch: int | None) -> None:
    """With a thousand segments of a byte, of which one differs."""
    c = Conversation().handshake()
    for _ in range(1000):
        c.client("PA", b"x")
    for odd in (0, 500, 999):
        again = bytearray(b"x" * 1000)
        again[odd] = 0
        c.client("PA", bytes(again), seq=1, forged=True)
    seen = watch_at_once(c.frames, level=Level.STREAM, batch=batch)
    assert seen.statistics["conflicts"] == 3


def test_bytes_are_forgotten_at_the_same_moment_whatever_the_batches() -> None:
    """They are compared for two epochs of 8 MiB over all halves, the one in which they were delivered included."""
    c, other = Conversation(), Conversation("10.0.0.3:40000")
    c.handshake().client("PA", b"hello")
    other.handshake()
    frames = c.frames + other.frames
    for _ in range(300):
        del c.frames[:], other.frames[:]
        other.client("PA", bytes(60_000)).server("A")
        c.client("PA", b"HELLO", seq=1, forged=True)
        frames += other.frames + c.frames
    counts = [
        watch_at_once(frames, level=Level.STREAM, batch=batch).statistics["conflicts"]
        for batch in (1, 50, None)
    ]
    assert counts == [279] * 3


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_a_conflict_comes_with_what_was_delivered_however_long_before(batch: int) -> None:
    conversation = Conversation().handshake()
    for i in range(6):
        conversation.client("PA", bytes([65 + i]) * 100).server("A")
    conversation.client("PA", b"x" * 100, seq=201).client("PA", b"x" * 100, seq=501)
    told: list[tuple[int | None, bytes | None, bytes | None]] = []

    def conflict(event: aiomos.Occurrence) -> None:
        told.append((event.offset, event.old, event.new))

    engine = aiomos.engine.engine.Engine(aiomos.Settings(), bytes(16), lambda *error: pytest.fail(str(error)))
    pressure = Pressure(1 << 30, 1 << 30)
    rule = engine.add_rule(
        aiomos.Filter("").program,
        Level.STREAM,
        opener=lambda flow: MonitorConnection(flow, pressure, engine.released, "mark"),
    )
    engine.add_call(rule, aiomos.ERROR, aiomos.Hook.RECEIVER, conflict, ("event",))
    for at in range(0, len(conversation.frames), batch):
        feed_frames(engine, conversation.frames[at : at + batch])
    assert told == [(200, b"C" * 100, b"x" * 100), (500, b"F" * 100, b"x" * 100)]
