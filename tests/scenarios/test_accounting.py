"""What is counted of each half: bytes, retransmissions, reordering, loss, round-trip times, gaps."""

import pytest

from aiomos.levels import Level
from aiomos.settings import Settings, Timeouts
from aiomos.testing.packets import wscale
from aiomos.testing.scenario import Conversation, watch, watch_in_batches


def test_streams_cross_the_sequence_wrap() -> None:
    """RFC 9293 section 3.4: all arithmetic is modulo 2**32."""
    c = Conversation(client_isn=0xFFFFFFF0, server_isn=0xFFFFFFFF).handshake()
    for i in range(10):
        c.client("PA", bytes([i]) * 7).server("PA", bytes([i]) * 3)
    seen = watch_in_batches(c.client("A").close().frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert client.data == b"".join(bytes([i]) * 7 for i in range(10))
    assert server.data == b"".join(bytes([i]) * 3 for i in range(10))
    assert (seen.record["reason"], seen.anomalies) == ("fin", {})


@pytest.mark.parametrize("isn", [0xFFFFFFFF - n for n in range(8)])
def test_wrap_at_every_place_of_a_small_connection(isn: int) -> None:
    """The wrap may fall on the SYN, the first byte, the last, or the FIN."""
    c = Conversation(client_isn=isn, server_isn=isn).handshake().client("PA", b"abc").server("PA", b"de")
    seen = watch_in_batches(c.client("A").close().frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.streams[0][1].data) == (b"abc", b"de")
    assert (seen.record["reason"], seen.record["client_lost"], seen.anomalies) == ("fin", 0, {})


def test_stream_of_more_than_4_gigabytes_keeps_counting() -> None:
    """Offsets are 64 bits wide; of 5 GB the capture holds 1,000 bytes in every 500 million."""
    stride, count = 500_000_000, 10
    c = Conversation().handshake(client_options=wscale(14), server_options=wscale(14)).server("A")
    for at in range(1, 1 + count * stride, stride):
        c.client("A", b"x" * 1000, seq=at).server("A", ack=at + 1000).wait(1)
    seen = watch_in_batches(c.close().frames)
    assert seen.record["client_stream_bytes"] == 1000 * count
    assert seen.record["client_lost"] == (stride - 1000) * (count - 1)
    assert seen.record["reason"] == "fin"


def test_retransmission_is_counted_and_its_bytes_are_not_new() -> None:
    """`bytes` is what was carried, `stream_bytes` what was distinct."""
    c = Conversation().handshake().client("PA", b"hello").wait(0.3).client("PA", b"hello", seq=1).server("A")
    seen = watch_in_batches(c.close().frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["client_retransmits"]) == (b"hello", 1)
    assert (seen.record["client_bytes"], seen.record["client_stream_bytes"]) == (10, 5)


def test_retransmission_below_the_acknowledged_bytes() -> None:
    """FIELD 2.9 (d): mOS mapped a segment below the ring's head to +2**32."""
    c = Conversation().handshake().client("PA", b"hello").server("A").client("PA", b"world").server("A")
    c.wait(0.3).client("PA", b"hello", seq=1).server("A")
    seen = watch_in_batches(c.close().frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["client_retransmits"]) == (b"helloworld", 1)


def test_repacketised_retransmission_brings_its_new_bytes() -> None:
    """RFC 9293 section 3.8.1: what is sent again may be cut anew and carry more."""
    c = Conversation().handshake().client("PA", b"hel").wait(0.3).client("PA", b"hello", seq=1).server("A")
    seen = watch_in_batches(c.close().frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["client_retransmits"]) == (b"hello", 1)
    assert (seen.record["client_bytes"], seen.record["client_stream_bytes"]) == (8, 5)


def test_reordered_segments_are_put_in_order() -> None:
    """Overtaken within a round trip: out of order, not sent again."""
    c = Conversation(step=0).client("S").wait(0.05).server("SA").client("A")
    c.client("A", b"22", seq=3).wait(0.001).client("A", b"11", seq=1).server("A")
    seen = watch_in_batches(c.close().frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"1122"
    assert (seen.record["client_out_of_order"], seen.record["client_retransmits"]) == (1, 0)


def test_hole_filled_late_is_a_retransmission() -> None:
    """After a round trip the segment was lost before the capture point and sent again."""
    c = Conversation(step=0).client("S").wait(0.05).server("SA").client("A")
    c.client("A", b"22", seq=3).server("A", ack=1).wait(0.2).client("A", b"11", seq=1).server("A")
    seen = watch_in_batches(c.close().frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"1122"
    assert (seen.record["client_out_of_order"], seen.record["client_retransmits"]) == (0, 1)


def test_loss_is_what_was_acknowledged_and_never_captured() -> None:
    """DESIGN section 8: the hole becomes one gap, told once, after the hold."""
    c = Conversation().handshake().client("A", b"seen").client("A", b"dropped", captured=False)
    c.client("A", b"after").server("A").wait(2).client("A", b"!").server("A").close()
    seen = watch_in_batches(c.frames, level=Level.STREAM)
    client, _ = seen.streams[0]
    assert (client.data, client.gaps, client.error) == (b"seenafter!", ((4, 7, "lost"),), None)
    assert (seen.record["client_lost"], seen.record["client_stream_bytes"]) == (7, 10)
    assert (seen.statistics["gap.lost"], seen.statistics["gap_bytes.lost"]) == (1, 7)


def test_loss_at_the_end_of_what_was_sent() -> None:
    """The acknowledgement alone tells of bytes that were never seen."""
    c = Conversation().handshake().client("A", b"seen").client("A", b"dropped", captured=False).server("A")
    seen = watch_in_batches(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].gaps, seen.record["client_lost"]) == (((4, 7, "lost"),), 7)
    assert seen.anomalies == {"ack_unseen": 1}


def test_acknowledgement_ahead_of_its_data_is_no_loss() -> None:
    """FIELD 3.13: mirrors deliver the ACK first; the data is there within the hold."""
    c = (
        Conversation()
        .handshake()
        .server("A", ack=6, forged=True)
        .wait(0.1)
        .client("PA", b"hello")
        .server("A")
    )
    seen = watch_in_batches(c.close().frames, level=Level.STREAM)
    client, _ = seen.streams[0]
    assert (client.data, client.gaps, seen.record["client_lost"]) == (b"hello", (), 0)


def test_hole_that_nobody_acknowledged_is_not_lost() -> None:
    """FIELD 3.7: what the other half sends tells nothing of this one; the flow's end makes it a gap."""
    c = Conversation().handshake().client("A", b"never", captured=False).client("A", b"after")
    c.server("PA", b"data", ack=1).wait(5).client("A").server("PA", b"data", ack=1)
    seen = watch_in_batches(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].gaps, seen.record["client_lost"]) == (((0, 5, "end"),), 0)


def test_hole_that_nobody_acknowledges_is_given_up_by_age() -> None:
    """`Timeouts.gap_age` bounds how long bytes are held in a one-sided capture."""
    settings = Settings(timeouts=Timeouts(gap_age=10))
    c = Conversation().handshake().client("A", b"never", captured=False).client("A", b"after")
    c.wait(15).client("A", b"more")
    seen = watch_in_batches(c.frames, level=Level.STREAM, settings=settings)
    assert (seen.streams[0][0].data, seen.streams[0][0].gaps) == (b"aftermore", ((0, 5, "age"),))


def test_bytes_that_come_after_they_were_given_up_are_no_loss() -> None:
    """A gap is told once and not taken back, but the record says what was seen in the end."""
    c = Conversation().handshake().client("A", b"late!", captured=False).client("A", b"after").server("A")
    c.wait(3).client("A", b"x").server("A").client("A", b"late!", seq=1).close()
    seen = watch_in_batches(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.streams[0][0].gaps) == (b"afterx", ((0, 5, "lost"),))
    assert (seen.record["client_lost"], seen.record["client_stream_bytes"]) == (0, 11)


@pytest.mark.parametrize("level", [Level.BYTES, Level.STREAM])
def test_counters_do_not_depend_on_the_level(level: Level) -> None:
    """DESIGN section 9: STREAM adds bytes, it does not count otherwise."""
    c = (
        Conversation()
        .handshake()
        .client("A", b"one")
        .client("A", b"two", captured=False)
        .client("A", b"three")
    )
    c.server("A").wait(2).client("A", b"three", seq=7).client("A", b"2", seq=5).server("PA", b"ok").client(
        "A"
    )
    record = watch_in_batches(c.close().frames, level=level).record
    assert (record["client_bytes"], record["client_stream_bytes"], record["client_lost"]) == (14, 9, 2)
    assert record["client_retransmits"] == 2


def test_round_trips_both_ways() -> None:
    """RFC 6298, from where the capture was: each half's to its peer and back."""
    c = Conversation(step=0).client("S").wait(0.040).server("SA").wait(0.002).client("A")
    record = watch_in_batches(c.frames).record
    assert record["client_rtt"] == pytest.approx(0.040)
    assert record["server_rtt"] == pytest.approx(0.002)


def test_round_trip_is_smoothed() -> None:
    """RFC 6298 section 2.3: SRTT moves an eighth of the way to each new sample."""
    c = Conversation(step=0).client("S").wait(0.040).server("SA").client("A")
    c.client("PA", b"x").wait(0.120).server("A")
    assert watch_in_batches(c.frames).record["client_rtt"] == pytest.approx(0.050)


def test_retransmitted_segment_gives_no_round_trip() -> None:
    """RFC 6298 section 3, Karn's algorithm: the ACK may be of either copy."""
    c = Conversation(step=0).client("S").wait(0.040).server("SA").client("A")
    c.client("PA", b"x").wait(1).client("PA", b"x", seq=1).wait(0.04).server("A")
    assert watch_in_batches(c.frames).record["client_rtt"] == pytest.approx(0.040)


def test_repeated_syn_gives_no_round_trip() -> None:
    """Karn's algorithm holds for the SYN too."""
    c = Conversation(step=0).client("S").wait(1).client("S", seq=0).wait(0.04).server("SA").client("A")
    assert watch_in_batches(c.frames).record["client_rtt"] is None


def test_level_state_counts_packets_and_states_only() -> None:
    """DESIGN section 9: no sequence context is kept, so byte counters read 0."""
    c = Conversation().handshake().client("PA", b"hello").server("A").close()
    record = watch_in_batches(c.frames, level=Level.STATE).record
    assert (record["client_packets"], record["server_packets"]) == (5, 4)
    assert (record["client_bytes"], record["client_rtt"], record["reason"]) == (0, None, "fin")
    assert (record["client_state"], record["server_state"]) == ("TIME_WAIT", "CLOSED")


@pytest.mark.parametrize("level", list(Level))
def test_states_do_not_depend_on_the_level(level: Level) -> None:
    """The machine is the same; only what is kept of bytes differs."""
    c = Conversation().handshake().client("PA", b"a").client("PA", b"b", captured=False).server("A").wait(1)
    record = watch_in_batches(c.close().frames, level=level).record
    assert (record["reason"], record["client_state"], record["server_state"]) == (
        "fin",
        "TIME_WAIT",
        "CLOSED",
    )


def test_start_and_end_are_those_of_the_first_and_last_segment() -> None:
    """Epoch seconds of the capture; nothing is told by the machine's clock."""
    c = Conversation(start=1000.0, step=0).client("S").wait(2.5).server("SA").wait(1.25).client("A")
    record = watch(c.frames).record
    assert (record["start"], record["end"]) == (1000.0, 1003.75)
