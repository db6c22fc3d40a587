"""Which segments a receiver would take: windows, timestamps, probes (RFC 9293 section 3.10.7.4)."""

import pytest

from aiomos.levels import Level
from aiomos.settings import Settings, Timeouts
from aiomos.testing.packets import timestamps, wscale
from aiomos.testing.scenario import Conversation, Watcher
from aiomos.testing.scenario import watch_in_batches as watch

DAY = 86_400


def windows(c: Conversation) -> tuple[int | None, int | None]:
    """The windows that both ends advertised last, scaled."""
    watcher = Watcher()
    watcher.feed(c.frames)
    assert watcher.flow is not None
    last = watcher.flow.client.window, watcher.flow.server.window
    watcher.finish()
    return last


# --- window scaling ---------------------------------------------------------------------------------


def test_windows_are_scaled_when_both_syns_offered_it() -> None:
    """RFC 7323 section 2.2: by the shift of the end that advertises."""
    c = Conversation().handshake(client_options=wscale(7), server_options=wscale(2))
    c.client("PA", b"x", window=500).server("A", window=1000)
    assert windows(c) == (500 << 7, 1000 << 2)


def test_windows_are_not_scaled_when_one_syn_did_not_offer_it() -> None:
    """RFC 7323 section 2.2: an option in one SYN only is void."""
    c = (
        Conversation()
        .handshake(client_options=wscale(7))
        .client("PA", b"x", window=500)
        .server("A", window=1000)
    )
    assert windows(c) == (500, 1000)


def test_window_of_a_syn_is_never_scaled() -> None:
    """RFC 7323 section 2.2."""
    c = Conversation().client("S", window=600, options=wscale(7)).server("SA", window=700, options=wscale(2))
    assert windows(c) == (600, 700)


def test_scale_beyond_14_is_taken_as_14() -> None:
    """RFC 7323 section 2.3."""
    c = Conversation().handshake(client_options=wscale(20), server_options=wscale(0))
    assert windows(c.client("PA", b"x", window=2)) == (2 << 14, 65535)


def test_data_within_a_large_scaled_window_is_taken() -> None:
    """Half a megabyte in flight is no attack when the window is 16 MB."""
    c = Conversation().handshake(client_options=wscale(8), server_options=wscale(8)).server("A")
    c.client("PA", b"x").server("A")
    for _ in range(500):
        c.client("A", b"d" * 1000)
    seen = watch(c.server("A").frames)
    assert (seen.record["client_stream_bytes"], seen.anomalies) == (500_001, {})


def test_data_beyond_the_window_is_ignored() -> None:
    """RFC 9293 section 3.10.7.4, first check; FIELD 2.4 ERROR."""
    c = Conversation().handshake().client("PA", b"a").server("A", window=1000)
    c.client("PA", b"far away", seq=200_000, forged=True).client("PA", b"b").server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"ab", {"out_of_window": 1})
    assert seen.record["client_lost"] == 0


def test_window_of_an_old_segment_is_not_the_latest() -> None:
    """RFC 9293 section 3.10.7.4, fifth check: an overtaken segment does not set the window back."""
    c = Conversation().handshake().client("PA", b"a", window=1000).client("PA", b"b", window=2000)
    c.client("PA", b"a", seq=1, window=500)
    assert windows(c)[0] == 2000


def test_a_shrunk_window_does_not_refuse_what_was_allowed_before() -> None:
    """RFC 9293 section 3.8.6: a sender may have filled the window before it learnt of the smaller one."""
    c = Conversation().handshake().client("PA", b"a").server("A", window=60_000).server("A", window=10)
    c.client("A", b"b" * 50_000).server("A")
    seen = watch(c.frames)
    assert (seen.record["client_stream_bytes"], seen.anomalies) == (50_001, {})


# --- acknowledgements -------------------------------------------------------------------------------


def test_acknowledgement_far_beyond_what_was_sent_is_ignored() -> None:
    """RFC 9293 section 3.10.7.4, fifth check: it cannot be true, and neither can what comes with it."""
    c = Conversation().handshake().client("PA", b"a").server("A")
    c.server("PA", b"forged", ack=5_000_000, forged=True).server("PA", b"real").client("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][1].data, seen.anomalies) == (b"real", {"bad_ack": 1})
    assert seen.record["client_lost"] == 0


def test_acknowledgement_from_long_ago_is_ignored() -> None:
    """RFC 5961 section 5.2: data with an ACK older than SND.UNA - MAX.SND.WND is an injection."""
    c = (
        Conversation()
        .handshake()
        .client("PA", b"a")
        .server("A")
        .server("PA", b"forged", ack=-500_000, forged=True)
    )
    seen = watch(c.server("PA", b"real").client("A").close().frames, level=Level.STREAM)
    assert (seen.streams[0][1].data, seen.anomalies) == (b"real", {"bad_ack": 1})


def test_old_acknowledgement_within_the_window_is_harmless() -> None:
    """Reordered ACKs are everyday; data with them is good."""
    c = (
        Conversation()
        .handshake()
        .client("PA", b"hello")
        .server("A", ack=6)
        .server("PA", b"x", ack=3)
        .client("A")
    )
    seen = watch(c.frames)
    assert (seen.anomalies, seen.record["server_stream_bytes"], seen.record["client_lost"]) == ({}, 1, 0)


def test_segment_without_flags_is_ignored() -> None:
    """RFC 9293 section 3.10.7.4, fifth check: with the ACK bit off, drop the segment."""
    c = Conversation().handshake().client("", b"null", forged=True).client("P", b"push", forged=True)
    c.client("F", forged=True).client("PA", b"real").server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"real", {"no_ack": 3})
    assert (seen.record["reason"], seen.record["client_packets"]) == ("fin", 8)


# --- timestamps and PAWS ----------------------------------------------------------------------------


def stamped() -> Conversation:
    """A connection with timestamps; both clocks are at about 1000."""
    return Conversation().handshake(client_options=timestamps(1000), server_options=timestamps(1000, 1000))


def test_old_timestamp_is_ignored() -> None:
    """RFC 7323 section 5.3, R1: an old duplicate from before the wrap, or an injection."""
    c = (
        stamped()
        .client("PA", b"aa", options=timestamps(1010, 1000))
        .server("A", options=timestamps(1010, 1010))
    )
    c.client("PA", b"XX", options=timestamps(900, 1000), forged=True)
    c.client("PA", b"bb", options=timestamps(1020, 1010)).server("A", options=timestamps(1020, 1020))
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"aabb", {"paws": 1})


def test_timestamp_is_not_taken_from_a_segment_beyond_a_hole() -> None:
    """RFC 7323 section 4.3: only a segment at or before Last.ACK.sent updates TS.Recent."""
    c = stamped().client("PA", b"bb", seq=3, options=timestamps(1020, 1000))
    c.client("PA", b"aa", seq=1, options=timestamps(1010, 1000)).server("A", options=timestamps(1010, 1010))
    seen = watch(c.frames)
    assert (seen.record["client_stream_bytes"], seen.anomalies) == (4, {})


def test_timestamps_wrap() -> None:
    """RFC 7323 section 5.2: timestamps are compared modulo 2**32."""
    c = Conversation().handshake(
        client_options=timestamps(0xFFFFFFF0), server_options=timestamps(1, 0xFFFFFFF0)
    )
    c.client("PA", b"aa", options=timestamps(0xFFFFFFFF, 1)).server("A", options=timestamps(2, 0xFFFFFFFF))
    c.client("PA", b"bb", options=timestamps(5, 2)).server("A", options=timestamps(3, 5))
    seen = watch(c.frames)
    assert (seen.record["client_stream_bytes"], seen.anomalies) == (4, {})


def test_paws_forgets_after_24_idle_days() -> None:
    """RFC 7323 section 5.5: then the peer's clock may have gone half way round."""
    settings = Settings(timeouts=Timeouts(established=40 * DAY))
    c = (
        stamped()
        .client("PA", b"aa", options=timestamps(1010, 1000))
        .server("A", options=timestamps(1010, 1010))
    )
    c.wait(25 * DAY).client("PA", b"bb", options=timestamps(900, 1010))
    seen = watch(c.server("A", options=timestamps(1020, 900)).frames, settings=settings)
    assert (seen.record["client_stream_bytes"], seen.anomalies) == (4, {})


IDLE = Settings(timeouts=Timeouts(established=30 * DAY))


@pytest.mark.parametrize("first", [1, 6])
def test_after_24_idle_days_both_clocks_are_learnt_anew(first: int) -> None:
    """RFC 7323 section 5.5: TS.Recent of either end, from whatever segment is believed first."""
    c = (
        stamped()
        .client("PA", b"a", options=timestamps(1001, 1000))
        .server("A", options=timestamps(1001, 1001))
    )
    c.wait(24 * DAY)
    old = {"options": timestamps(1000, 1000)}
    if first > 1:
        c.client("PA", b"late!", seq=7, **old).client("PA", b"hello", seq=2, **old)
    else:
        c.client("PA", b"hello", **old).client("PA", b"late!", **old)
    c.server("PA", b"answer", **old).server("PA", b"more", **old).client("A", **old)
    c.server("PA", b"EVIL", options=timestamps(998, 1000), forged=True)
    c.client("PA", b"EVIL", options=timestamps(998, 1000), forged=True)
    seen = watch(c.close().frames, level=Level.STREAM, settings=IDLE)
    assert [half.data for half in seen.streams[0]] == [b"ahellolate!", b"answermore"]
    assert seen.anomalies == {"paws": 2}


def test_a_timestamp_of_0_is_no_measure() -> None:
    """As Linux (tcp_paws_check()): some stacks stamp their SYNs with it."""
    c = Conversation().handshake(client_options=timestamps(0), server_options=timestamps(5, 0))
    c.client("PA", b"a", options=timestamps(0x80000002, 5)).client(
        "PA", b"b", options=timestamps(0x80000000, 5)
    )
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"a", {"paws": 1})


def test_timestamps_that_were_not_offered_are_not_judged() -> None:
    """RFC 7323 section 3.2: without the option in both SYNs they are not in use."""
    c = Conversation().handshake().client("PA", b"aa", options=timestamps(1000)).server("A")
    c.client("PA", b"bb", options=timestamps(1)).server("A")
    seen = watch(c.frames)
    assert (seen.record["client_stream_bytes"], seen.anomalies) == (4, {})


# --- keep-alives and zero windows -------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"\0"])
def test_keep_alive_is_no_retransmission(payload: bytes) -> None:
    """RFC 9293 section 3.8.4: no byte, or one, at SND.NXT - 1."""
    c = Conversation().handshake().client("PA", b"hello").server("A")
    for _ in range(3):
        c.wait(60).client("A", payload, seq=5).server("A")
    seen = watch(c.client("PA", b"world").server("A").frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"helloworld"
    assert (seen.record["client_retransmits"], seen.record["client_stream_bytes"]) == (0, 10)
    assert (seen.record["client_bytes"], seen.anomalies) == (10 + 3 * len(payload), {"keep_alive": 3})


def test_keep_alive_before_any_data() -> None:
    """SND.NXT - 1 is the number of the SYN then."""
    c = Conversation().handshake().wait(60).client("A", b"\0", seq=0).server("A")
    seen = watch(c.client("PA", b"hello").server("A").frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["client_retransmits"]) == (b"hello", 0)


def test_repeated_last_byte_that_was_not_acknowledged_is_a_retransmission() -> None:
    """One byte at SND.NXT - 1 is a keep-alive only when nothing is in flight."""
    c = Conversation().handshake().client("PA", b"x").wait(0.3).client("PA", b"x", seq=1).server("A")
    seen = watch(c.frames)
    assert (seen.record["client_retransmits"], seen.anomalies) == (1, {})


def test_zero_window_probes_are_no_retransmissions() -> None:
    """RFC 9293 section 3.8.6.1: the byte at SND.UNA comes again until the window opens."""
    c = Conversation().handshake().client("PA", b"full").server("A", window=0)
    for _ in range(3):
        c.wait(1).client("A", b"n", seq=5).server("A", ack=5, window=0)
    c.server("A", ack=5, window=1000).client("PA", b"next", seq=5).server("A")
    seen = watch(c.close().frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["client_stream_bytes"]) == (b"fullnext", 8)
    assert seen.anomalies["zero_window_probe"] == 3
    assert seen.record["client_lost"] == 0


def test_repeats_of_a_zero_window_probe_are_not_counted_as_sent_again() -> None:
    """As tshark: a probe is its own kind of segment, not a retransmission."""
    c = Conversation().handshake().client("PA", b"full").server("A", window=0)
    for _ in range(3):
        c.wait(1).client("A", b"n", seq=5).server("A", ack=5, window=0)
    assert watch(c.frames).record["client_retransmits"] == 0


def test_zero_window_probe_that_is_taken_is_data() -> None:
    """A receiver with room for one byte takes it."""
    c = Conversation().handshake().client("PA", b"full").server("A", window=0)
    c.wait(1).client("A", b"n").server("A", window=1000).client("PA", b"ext").server("A")
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["client_retransmits"]) == (b"fullnext", 0)


def test_empty_zero_window_probe() -> None:
    """Some stacks (Linux) probe with no byte at SND.UNA - 1, just as a keep-alive."""
    c = Conversation().handshake().client("PA", b"full").server("A", window=0)
    c.wait(1).client("A", seq=4).server("A", window=0).wait(1).server("A", window=1000)
    seen = watch(c.client("PA", b"next").server("A").frames)
    assert (seen.record["client_retransmits"], seen.record["client_stream_bytes"]) == (0, 8)
