"""When missing bytes are given up, as what, and what becomes of them if they come after all."""

from __future__ import annotations

import pytest

from aiomos import Budgets, Chunk, ConnectionReset, Gap, Level, MonitorConnection, Timeouts
from aiomos.testing.packets import ethernet, fragment_ipv4, tcp_frame
from tests.traffic import START_NS, Connection, Seen, Traffic, drain, follow, watch

HOLD = 0.5
AGE = 30.0
TIMEOUTS = Timeouts(gap_hold=HOLD, gap_age=AGE)


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def conn(traffic: Traffic) -> Connection:
    return traffic.connection()


def seconds(item: Chunk | Gap, since_ns: int) -> float:
    return item.time - since_ns / 1e9


def gaps(seen: Seen) -> list[Gap]:
    return [item for item in seen.client if isinstance(item, Gap)]


def reasons(seen: Seen) -> dict[str, int]:
    prefix = "gap."
    return {
        name.removeprefix(prefix): n for name, n in seen.counters.items() if name.startswith(prefix) and n
    }


# --- acknowledged ------------------------------------------------------------------------------------


def test_an_acknowledged_hole_is_a_gap_after_the_hold(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"cd", at=2)
    acked_ns = traffic.now_ns
    conn.server(ack=4)
    for _ in range(20):
        traffic.wait(0.1)
        conn.server(ack=4)
    seen = follow(traffic.frames, timeouts=TIMEOUTS)
    assert seen.client == [Gap(0, 2, "lost"), b"cd"]
    assert HOLD <= seconds(seen.client[0], acked_ns) <= 2 * HOLD
    assert reasons(seen) == {"lost": 1}
    assert seen.counters["gap_bytes.lost"] == 2


def test_each_acknowledged_hole_waits_one_to_two_holds(traffic: Traffic, conn: Connection) -> None:
    acked: dict[int, int] = {}
    for at in range(0, 40, 4):
        conn.client(b"cd", at=at + 2)
        acked[at] = traffic.now_ns
        conn.server(ack=at + 4)
        traffic.wait(0.13)
    for _ in range(20):
        traffic.wait(0.1)
        conn.server()
    found = gaps(follow(traffic.frames, timeouts=TIMEOUTS))
    assert [(gap.offset, gap.length, gap.reason) for gap in found] == [(at, 2, "lost") for at in acked]
    for gap in found:
        assert HOLD <= seconds(gap, acked[gap.offset]) <= 2 * HOLD + 0.11  # looked at with each segment


def test_an_acknowledgement_ahead_of_its_data_is_no_gap_within_the_hold(
    traffic: Traffic, conn: Connection
) -> None:
    """Mirror ports may deliver the two directions out of step."""
    conn.client(b"ab")
    conn.server(ack=6)
    traffic.wait(HOLD - 0.1)
    conn.server(b"reply", ack=6)
    conn.client(b"cdef")
    seen = follow(traffic.frames, timeouts=TIMEOUTS)
    assert b"".join(seen.client) == b"abcdef"  # type: ignore[arg-type]
    assert reasons(seen) == {}
    assert seen.flow.client.lost == 0


def test_bytes_acknowledged_and_never_captured_are_a_gap_although_nothing_follows(
    traffic: Traffic, conn: Connection
) -> None:
    conn.client(b"ab")
    conn.server(ack=10)
    traffic.wait(2 * HOLD)
    conn.server(b"x", ack=10)
    seen = follow(traffic.frames, timeouts=TIMEOUTS)
    assert seen.client == [b"ab", Gap(2, 8, "lost")]
    assert seen.flow.client.lost == 8


def test_another_flow_s_packets_let_the_hold_go_by(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"cd", at=2)
    acked_ns = traffic.now_ns
    conn.server(ack=4)
    for _ in range(40):
        traffic.tick(0.1)
    seen = follow(traffic.frames, timeouts=TIMEOUTS)
    assert seen.client == [Gap(0, 2, "lost"), b"cd"]
    assert HOLD <= seconds(seen.client[0], acked_ns) <= 2 * HOLD + 1.1  # the timer wheel's step is a second


def test_a_hold_of_zero_gives_up_at_once(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"cd", at=2)
    conn.server(ack=4)
    seen = follow(traffic.frames, timeouts=Timeouts(gap_hold=0.0))
    assert seen.client == [Gap(0, 2, "lost"), b"cd"]


def test_a_hole_that_fills_within_the_hold_is_no_gap(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"cd", at=2)
    conn.server(ack=4)
    traffic.wait(HOLD - 0.1)
    conn.client(b"ab", at=0)
    traffic.wait(10)
    conn.client(b"ef")
    seen = follow(traffic.frames, timeouts=TIMEOUTS)
    assert b"".join(seen.client) == b"abcdef"  # type: ignore[arg-type]
    assert reasons(seen) == {}


def test_a_later_hole_has_a_hold_of_its_own(traffic: Traffic, conn: Connection) -> None:
    """The first hole's time does not count for one that was acknowledged later."""
    conn.client(b"cd", at=2)
    conn.server(ack=4)
    traffic.wait(HOLD - 0.1)
    conn.client(b"ab", at=0)
    conn.client(b"gh", at=6)
    conn.server(ack=8)
    traffic.wait(0.2)
    conn.client(b"ef", at=4)
    seen = follow(traffic.frames, timeouts=TIMEOUTS)
    assert b"".join(seen.client) == b"abcdefgh"  # type: ignore[arg-type]
    assert reasons(seen) == {}


def test_the_other_direction_s_data_gives_nothing_up(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"cd", at=2)
    for _ in range(50):
        conn.server(bytes(1000), ack=0)
        conn.client(ack=None)
    traffic.wait(5)
    conn.server(b"x", ack=0)
    conn.client(b"ab", at=0)
    seen = follow(traffic.frames, timeouts=TIMEOUTS)
    assert b"".join(seen.client) == b"abcd"  # type: ignore[arg-type]
    assert reasons(seen) == {}


# --- not acknowledged --------------------------------------------------------------------------------


def test_a_hole_nobody_acknowledged_is_a_gap_by_age(traffic: Traffic, conn: Connection) -> None:
    held_ns = traffic.now_ns
    conn.client(b"cd", at=2)
    traffic.wait(AGE - 1)
    conn.client(b"ef")
    traffic.wait(1)
    conn.client(b"gh")
    seen = follow(traffic.frames, timeouts=TIMEOUTS)
    assert seen.client[0] == Gap(0, 2, "age")
    assert b"".join(seen.client[1:]) == b"cdefgh"  # type: ignore[arg-type]
    assert AGE <= seconds(seen.client[0], held_ns) <= AGE + 1.1
    assert seen.flow.client.lost == 0  # nobody acknowledged them


def test_a_hole_is_a_gap_when_too_much_is_held_behind_it(traffic: Traffic, conn: Connection) -> None:
    for at in range(10, 100, 10):
        conn.client(b"x" * 5, at=at, ack=0)
    seen = follow(traffic.frames, timeouts=TIMEOUTS, budgets=Budgets(flows=16, held_bytes_half=4 * 128))
    found = gaps(seen)
    assert found[0] == Gap(0, 10, "budget")
    assert {gap.reason for gap in found} == {"budget", "end"}
    assert sum(gap.length for gap in found) == 95 - 9 * 5


@pytest.mark.parametrize(
    ("overlap", "expected"), [("first", b"aabbbb"), ("last", b"aaaaab"), ("linux", b"aaaaab")]
)
def test_at_the_budget_the_overlap_policy_still_holds(
    traffic: Traffic, conn: Connection, overlap: str, expected: bytes
) -> None:
    """Else a sender who fills the budget chooses which bytes a monitor believes."""
    conn.client(b"bbbb", at=2)
    conn.client(b"aaaaa", at=0)
    small = Budgets(flows=16, held_bytes_half=128)
    seen = follow(traffic.frames, overlap=overlap, budgets=small)  # type: ignore[arg-type]
    assert seen.client == [expected]
    assert seen.flow.client.conflicts == 1
    assert seen.flow.client.stream_bytes == 6


def test_what_is_still_missing_at_the_end_is_a_gap(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"cd", at=2, ack=0)
    conn.client(b"gh", at=6, ack=0)
    seen = follow(traffic.frames, timeouts=TIMEOUTS)
    assert seen.client == [Gap(0, 2, "end"), b"cd", Gap(4, 2, "end"), b"gh"]
    assert seen.flow.client.lost == 0


def test_a_reset_does_not_wait_for_missing_bytes(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"cd", at=2)
    conn.server(ack=4)
    conn.reset()
    items: list[Chunk | Gap] = []

    async def handler(conn: MonitorConnection) -> None:
        with pytest.raises(ConnectionReset):
            await drain(conn.client.chunks(gaps="mark"), items)

    watch(handler, traffic)
    assert items == [Gap(0, 2, "lost"), b"cd"]


# --- after the gap -----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [Level.BYTES, Level.STREAM])
def test_bytes_that_come_late_are_no_longer_lost(traffic: Traffic, conn: Connection, level: Level) -> None:
    conn.client(b"efgh", at=4)
    conn.server(ack=8)
    traffic.wait(2)
    conn.server(ack=8)
    lost = follow(traffic.frames, level=level, timeouts=TIMEOUTS)
    assert lost.flow.client.lost == 4
    conn.client(b"bc", at=1)
    seen = follow(traffic.frames, level=level, timeouts=TIMEOUTS)
    assert seen.flow.client.lost == 2
    assert seen.flow.client.stream_bytes == 6
    assert seen.client == lost.client  # told once, and not delivered after it was told


def test_late_bytes_in_the_middle_of_one_gap_leave_others_uncounted(
    traffic: Traffic, conn: Connection
) -> None:
    """Two gaps by age; only the first is acknowledged, and part of it comes late."""
    conn.client(b"xx", at=4)
    conn.client(b"xx", at=7)
    traffic.wait(40)
    conn.server(ack=4)
    conn.client(b"xx", at=1)
    assert follow(traffic.frames, timeouts=TIMEOUTS).flow.client.lost == 2


def test_a_gap_is_told_once_whatever_is_sent_again(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"cd", at=2)
    conn.server(ack=4)
    traffic.wait(2)
    conn.server(ack=4)
    for _ in range(3):
        conn.client(b"abcd", at=0)
        conn.client(b"ab", at=0)
        traffic.wait(1)
    conn.client(b"ef")
    seen = follow(traffic.frames, batch_size=1, timeouts=TIMEOUTS)
    assert seen.client == [Gap(0, 2, "lost"), b"cdef"]


# --- cut short by the capture ------------------------------------------------------------------------


def test_what_the_snap_length_cut_off_is_a_gap(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"abcdef", captured=2)
    conn.client(b"ghi")
    conn.client(b"jkl", captured=0)
    seen = follow(traffic.frames)
    assert seen.client == [b"ab", Gap(2, 4, "snaplen"), b"ghi", Gap(9, 3, "snaplen")]
    assert reasons(seen) == {"snaplen": 2}
    assert seen.flow.client.stream_bytes == 12  # seen on the wire
    assert seen.flow.client.lost == 0


def test_what_the_snap_length_cut_off_beyond_a_hole_is_a_gap_too(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"defghi", at=3, captured=2)
    conn.client(b"jkl")
    conn.client(b"abc", at=0)
    seen = follow(traffic.frames)
    assert seen.client == [b"abcde", Gap(5, 4, "snaplen"), b"jkl"]
    assert seen.flow.client.stream_bytes == 12
    assert seen.flow.client.lost == 0


# --- data of a SYN (RFC 7413) ------------------------------------------------------------------------


def fast_open(*, taken: int) -> Traffic:
    """A SYN with four bytes, of which the server acknowledges so many; the client goes on accordingly."""
    traffic = Traffic()
    conn = traffic.connection(opened=False)
    conn.client(b"abcd", at=-1, flags="S")
    conn.server(at=-1, flags="SA", ack=taken)
    conn.client(at=taken)
    conn.client(b"abcd"[taken:] + b"ef", at=taken)
    conn.close()
    return traffic


@pytest.mark.parametrize("taken", [0, 2, 4])
@pytest.mark.parametrize("batch_size", [1, 100])
def test_data_of_a_syn_is_in_the_stream_once_whether_taken_or_not(taken: int, batch_size: int) -> None:
    traffic = fast_open(taken=taken)
    seen = follow(traffic.frames, batch_size=batch_size)
    assert b"".join(seen.client) == b"abcdef"  # type: ignore[arg-type]
    assert reasons(seen) == {}
    assert seen.flow.client.stream_bytes == 6
    assert seen.flow.client.lost == 0


def test_data_of_a_syn_that_was_refused_may_be_other_data(traffic: Traffic) -> None:
    """What the server did not take was never in the stream: the client may send something else."""
    conn = traffic.connection(opened=False)
    conn.client(b"abcd", at=-1, flags="S")
    conn.server(at=-1, flags="SA", ack=0)
    conn.client(at=0)
    conn.client(b"WXYZ", at=0)
    seen = follow(traffic.frames)
    assert seen.client == [b"WXYZ"]
    assert seen.counters["conflicts"] == 0


# --- fragments ---------------------------------------------------------------------------------------


def test_bytes_of_a_reassembled_datagram_outlive_it(traffic: Traffic, conn: Connection) -> None:
    """Their buffer is used again for the next datagram of the same batch."""
    whole = []
    for number in range(3):
        frame = tcp_frame(
            sport=1000,
            seq=conn.isn["client"] + 1 + 64 * number,
            ack=conn.isn["server"] + 1,
            flags="A",
            payload=bytes([97 + number]) * 64,
            ip_id=number + 1,
        )
        whole.append(frame[14:])
    for packet in whole:
        for part in fragment_ipv4(packet, 32):
            traffic.add(ethernet(part))
    seen = follow(traffic.frames)
    assert b"".join(seen.client) == b"a" * 64 + b"b" * 64 + b"c" * 64  # type: ignore[arg-type]


def test_times_are_those_of_the_packets(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"ab")
    (chunk,) = follow(traffic.frames).client
    assert chunk.time == (START_NS + 3_000_000) / 1e9
