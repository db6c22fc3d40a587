"""Jumps on generated captures: every segment captured is delivered, every stretch missing is one gap, and no more."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos.levels import Level
from aiomos.testing.scenario import Conversation, HalfSeen, watch

STRETCHES = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 200_000, 1_000_000, 30_000_000]),  # bytes missing before
        st.integers(1, 5),  # segments captured behind
        st.sampled_from(["before", "beginning", "end", "each"]),  # what the receiver acknowledges
        st.lists(st.integers(0, 0xFFFF_FFFF), max_size=3),  # strays
    ),
    min_size=1,
    max_size=5,
)


@dataclass
class Model:
    """What a reader is to be given: bytes, and where some are missing."""

    data: bytes = b""
    gaps: list[tuple[int, int]] = field(default_factory=list)
    offset: int = 0

    def miss(self, length: int) -> None:
        if length:
            self.gaps.append((self.offset, length))
            self.offset += length

    def take(self, data: bytes) -> None:
        self.data += data
        self.offset += len(data)


def is_stray(offset: int, seq: int) -> bool:
    """Is a number so far from where the sender is that it cannot be taken for its own?"""
    return 40_000_000 < (seq - offset) % (1 << 32) < (1 << 32) - 40_000_000


@settings(max_examples=150)
@given(stretches=STRETCHES, batch=st.sampled_from([1, 3, None]))
def test_jumps(stretches: list[tuple[int, int, str, list[int]]], batch: int | None) -> None:
    c, model = Conversation().handshake().client("PA", b"begin").server("A"), Model()
    model.take(b"begin")
    for missing, count, acknowledged, strays in stretches:
        model.miss(missing)
        at = model.offset + 1
        for seq in strays:
            if is_stray(at, seq):
                c.client("PA", b"stray", seq=seq, forged=True)
        if acknowledged == "before":
            c.server("A", ack=at)
        for n in range(count):
            data = b"%06d" % (model.offset + n) * 20
            c.client("PA", data, seq=model.offset + 1)
            model.take(data)
            if acknowledged == "each":
                c.server("A", ack=model.offset + 1)
        if acknowledged == "beginning":
            c.server("A", ack=at)
        c.server("A", ack=model.offset + 1)
    seen = watch(c.close().frames, level=Level.STREAM, batch=batch)
    client: HalfSeen = seen.streams[0][0]
    assert (client.data, [gap[:2] for gap in client.gaps]) == (model.data, model.gaps)
    assert (seen.record["client_lost"], seen.record["client_stream_bytes"]) == (
        sum(length for _, length in model.gaps),
        len(model.data),
    )
