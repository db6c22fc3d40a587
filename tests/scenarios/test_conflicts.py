"""Retransmissions that say something else than the original (FIELD section 4: overlap, differing content)."""

import pytest

import aiomos
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
