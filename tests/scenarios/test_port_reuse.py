"""A five-tuple used again: a new SYN is a new flow, but a forged one must not end a live connection."""

import pytest

from aiomos.levels import Level
from aiomos.settings import Budgets, Settings, Timeouts
from aiomos.testing.packets import mss, wscale
from aiomos.testing.scenario import START, Conversation, merge
from aiomos.testing.scenario import watch as watch_at_once
from aiomos.testing.scenario import watch_in_batches as watch


def later(isn: int, seconds: float) -> Conversation:
    """A connection on the same five-tuple, *seconds* after the first began."""
    return Conversation(client_isn=isn, server_isn=isn ^ 0x5555, start=START + seconds)


def test_reuse_after_a_close() -> None:
    """RFC 9293 section 3.6.1: a SYN with a new ISN may end TIME_WAIT early."""
    first = Conversation().handshake().client("PA", b"one").server("A").close()
    second = later(0x2000, 5).handshake().client("PA", b"second").server("A").close()
    seen = watch(first.frames + second.frames, level=Level.STREAM)
    assert [record["client_bytes"] for record in seen.records] == [3, 6]
    assert [record["reason"] for record in seen.records] == ["fin", "fin"]
    assert [client.data for client, _ in seen.streams] == [b"one", b"second"]
    assert (seen.setups, seen.statistics["flows"]) == (2, 2)


def test_reuse_after_a_reset() -> None:
    """The next connection may follow at once."""
    first = Conversation().handshake().client("R")
    second = later(0x2000, 0.5).handshake().close()
    assert [record["reason"] for record in watch(first.frames + second.frames).records] == ["rst", "fin"]


def test_reuse_counts_each_packet_once() -> None:
    """The SYN that opens the new flow is no packet of the old one."""
    first = Conversation().handshake().close()
    second = later(0x2000, 1).handshake()
    packets = [
        (r["client_packets"], r["server_packets"]) for r in watch(first.frames + second.frames).records
    ]
    assert packets == [(4, 3), (2, 1)]


def test_reuse_in_the_other_direction() -> None:
    """FIELD 3.11: a connection reborn reversed. The old server opens it now, so it is the client."""
    first = Conversation().handshake().close()
    second = Conversation("10.0.0.2:80", "10.0.0.1:40000", client_isn=0x2000, start=START + 1).handshake()
    records = watch(first.frames + second.frames).records
    assert [record["client_port"] for record in records] == [40000, 80]


def test_repeated_syn_of_the_closed_connection_opens_nothing() -> None:
    """A late duplicate with the old ISN is not a new connection."""
    c = Conversation().handshake().close().client("S", seq=0)
    assert len(watch(c.frames).records) == 1


def test_reuse_after_the_old_flow_was_forgotten() -> None:
    """After its time-out there is nothing to take for the same connection."""
    first = Conversation().handshake().close()
    second = later(0x2000, 3600).handshake().close()
    assert [record["reason"] for record in watch(first.frames + second.frames).records] == ["fin", "fin"]


@pytest.mark.parametrize(
    ("side", "flags"), [("client", "S"), ("client", "SA"), ("server", "S"), ("server", "SA")]
)
def test_data_of_a_syn_sent_again_is_not_taken(side: str, flags: str) -> None:
    """RFC 5961 section 4.2: once a SYN was acknowledged, one with the same number is answered by a challenge ACK."""
    conn = Conversation().handshake().send(side, flags, b"EVIL", seq=0, ack=1, forged=True)
    conn.client("PA", b"hello").server("PA", b"answer").close()
    seen = watch(conn.frames, level=Level.STREAM)
    assert [half.data for half in seen.streams[0]] == [b"hello", b"answer"]
    assert (seen.record["reason"], seen.anomalies) == ("fin", {"syn_in_connection": 1})


def test_syn_in_a_live_connection_is_ignored() -> None:
    """RFC 5961 section 4: its receiver answers with a challenge ACK and goes on."""
    c = Conversation().handshake().client("PA", b"one").server("A")
    c.client("S", seq=0x123456, forged=True).server("A").client("PA", b"two").server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"onetwo", {"syn_in_connection": 1})
    assert (seen.record["reason"], seen.record["client_packets"]) == ("fin", 7)


@pytest.mark.parametrize("seq", [4, 3, 5, 100])
def test_syn_within_the_window_of_a_live_connection_is_ignored(seq: int) -> None:
    """RFC 5961 section 4.2: whatever its sequence number; the other end, seen to answer, did not take it."""
    c = Conversation().handshake().client("PA", b"one").server("A")
    c.client("S", seq=seq, forged=True).server("A").client("PA", b"two").server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert [client.data for client, _ in seen.streams] == [b"onetwo"]
    assert seen.record["reason"] == "fin"


def test_syn_in_a_live_connection_confirmed_by_its_syn_ack() -> None:
    """Both ends have forgotten the old connection, whose close was not captured: a new flow."""
    first = Conversation().handshake().client("PA", b"one").server("A")
    second = later(0x9000, 60).handshake().client("PA", b"second").server("A").close()
    seen = watch(first.frames + second.frames, level=Level.STREAM)
    assert [client.data for client, _ in seen.streams] == [b"one", b"second"]
    assert [record["reason"] for record in seen.records] == ["timeout", "fin"]
    packets = [(record["client_packets"], record["server_packets"]) for record in seen.records]
    assert packets == [(3, 2), (5, 4)]


def test_syn_in_a_live_connection_confirmed_from_the_other_side() -> None:
    """The old server opens the new connection."""
    first = Conversation().handshake().client("PA", b"one").server("A")
    second = Conversation("10.0.0.2:80", "10.0.0.1:40000", client_isn=0x2000, start=START + 60).handshake()
    records = watch(first.frames + second.close().frames).records
    assert [record["client_port"] for record in records] == [40000, 80]
    assert records[1]["reason"] == "fin"


def test_syn_in_a_live_connection_confirmed_by_data_of_a_one_sided_capture() -> None:
    """Where the server is never seen, the client going on from its new ISN tells."""
    first = Conversation().client("S").server("SA", captured=False).client("A").client("PA", b"one")
    second = later(0x9000, 60).client("S").server("SA", captured=False).client("A").client("PA", b"second")
    seen = watch(first.frames + second.frames, level=Level.STREAM)
    assert [client.data for client, _ in seen.streams] == [b"one", b"second"]


def test_options_of_a_doubted_syn_are_not_lost() -> None:
    """The new flow is opened by the SYN that was remembered, with all it announced."""
    first = Conversation().handshake()
    second = later(0x9000, 60).handshake(client_options=mss(1234) + wscale(5), server_options=wscale(3))
    record = watch(first.frames + second.frames).records[1]
    assert (record["client_mss"], record["client_window_scale"]) == (1234, 5)
    assert record["start"] == pytest.approx(START + 60)


def test_a_forged_syn_is_not_confirmed_long_after() -> None:
    """Ignored once, ignored for good: the connection goes on and closes as itself."""
    c = Conversation().handshake().client("S", seq=0x123456, forged=True)
    for _ in range(50):
        c.client("PA", b"x" * 100).server("A")
    seen = watch(c.close().frames)
    assert (seen.record["client_stream_bytes"], seen.record["reason"]) == (5000, "fin")


def test_reuse_does_not_reset_the_time_out_of_others() -> None:
    """FIELD 2.9 (h): one busy old flow blocked the expiry of all younger ones."""
    settings = Settings(timeouts=Timeouts(established=100))
    busy = Conversation("10.0.0.1:1000").handshake()
    idle = Conversation("10.0.0.1:2000").handshake()
    for _ in range(30):
        busy.wait(10).client("PA", b"x").server("A")
    records = watch(merge(busy, idle), settings=settings).records
    assert [(record["client_port"], record["reason"]) for record in records] == [
        (2000, "timeout"),
        (1000, "end_of_capture"),
    ]


FLOWS = 4500
MOST_WAITING = (FLOWS + 65_536) // 16 + 16
"""SYNs within connections that wait at a time: for a sixteenth of the flows, those that ended in a batch among them."""


@pytest.mark.parametrize("more", [0, 1, 3])
def test_syns_that_wait_give_way_in_turn(more: int) -> None:
    """A flood of them, within the connections of others, takes no more memory; those who came first do without."""
    frames = []
    for number in range(MOST_WAITING + more):
        ends = f"10.0.0.1:{10_000 + number}"
        old = Conversation(ends, start=START + number / 1000).handshake()
        new = Conversation(ends, client_isn=0x2000, start=START + 10 + number / 1000)
        frames += [*old.frames, *new.client("S").wait(10).server("SA").frames]
    frames.sort(key=lambda frame: frame[0])
    seen = watch_at_once(frames, level=Level.STATE, settings=Settings(budgets=Budgets(flows=FLOWS)))
    replaced = [record["client_port"] for record in seen.records if record["reason"] == "timeout"]
    assert replaced == [10_000 + number for number in range(more, MOST_WAITING + more)]
    assert seen.statistics["flows"] == 2 * MOST_WAITING + more
    assert seen.anomalies.get("bad_synack", 0) == more
