"""Segments that one of monitor and receiver takes and the other does not: insertion and evasion."""

from collections.abc import Callable

import pytest

from aiomos.levels import Level
from aiomos.settings import Settings
from aiomos.testing.packets import timestamps
from aiomos.testing.scenario import Conversation
from aiomos.testing.scenario import watch_in_batches as watch

MD5 = bytes([19, 18]) + bytes(16)
VERIFY = Settings(checksums="verify")


def damage_tcp_checksum(frame: bytes) -> bytes:
    return frame[:50] + bytes([frame[50] ^ 0x55, frame[51]]) + frame[52:]


def damage_ip_checksum(frame: bytes) -> bytes:
    return frame[:24] + bytes([frame[24] ^ 0x55, frame[25]]) + frame[26:]


def without_checksum(frame: bytes) -> bytes:
    return frame[:50] + b"\0\0" + frame[52:]


@pytest.mark.parametrize("damage", [damage_tcp_checksum, damage_ip_checksum])
@pytest.mark.parametrize("flags", ["PA", "FA", "R", "S"])
def test_segment_with_a_bad_checksum_is_passed_over(damage: Callable[[bytes], bytes], flags: str) -> None:
    """No host would take it (RFC 9293 section 3.1); with `checksums=verify` nor does the monitor."""
    c = Conversation().handshake().client(flags, b"EVIL", forged=True, change=damage)
    c.client("PA", b"real").server("A").close()
    seen = watch(c.frames, level=Level.STREAM, settings=VERIFY)
    assert (seen.streams[0][0].data, seen.record["reason"]) == (b"real", "fin")
    assert (seen.statistics["malformed.checksum"], seen.record["client_packets"]) == (1, 5)


def test_checksums_that_a_network_card_would_fill_in_pass() -> None:
    """FIELD 3.14: a capture from the sending host has zero or partial sums, which are no errors."""
    c = Conversation().handshake().client("PA", b"hello", change=without_checksum).server("A").close()
    seen = watch(c.frames, level=Level.STREAM, settings=VERIFY)
    assert (seen.streams[0][0].data, seen.statistics["malformed.checksum"]) == (b"hello", 0)


def test_bad_checksums_are_read_by_default() -> None:
    """The default suits captures from end hosts: offload leaves sums wrong."""
    c = Conversation().handshake().client("PA", b"hello", change=damage_tcp_checksum).server("A").close()
    assert watch(c.frames, level=Level.STREAM).streams[0][0].data == b"hello"


def test_segment_that_dies_on_the_way_conflicts_with_the_one_that_arrives() -> None:
    """A low TTL puts bytes before the monitor only; while both versions are held, the conflict is counted."""
    c = Conversation().handshake().client("PA", b"EVIL", seq=2, ttl=2, forged=True)
    c.client("PA", b"eal!", seq=2).client("PA", b"r", seq=1).server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert seen.statistics["conflicts"] == 1
    assert len(seen.streams[0][0].data) == 5


def test_conflict_with_bytes_already_delivered_still_counts_as_sent_again() -> None:
    """What was handed over cannot be taken back; the repeat shows in the counters."""
    c = Conversation().handshake().client("PA", b"EVIL", ttl=2, forged=True).client("PA", b"real").server("A")
    seen = watch(c.close().frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["client_retransmits"]) == (b"EVIL", 1)


@pytest.mark.parametrize(("policy", "data"), [("first", b"rEVIL"), ("last", b"real!")])
def test_overlap_of_held_bytes_follows_the_policy(policy: str, data: bytes) -> None:
    """DESIGN section 8; all policies against a model: tests/property."""
    c = Conversation().handshake().client("PA", b"EVIL", seq=2).client("PA", b"eal!", seq=2)
    c.client("PA", b"r", seq=1).server("A").close()
    assert watch(c.frames, level=Level.STREAM, overlap=policy).streams[0][0].data == data


def test_overlap_with_equal_bytes_is_no_conflict() -> None:
    """An ordinary retransmission repeats what it sent."""
    c = Conversation().handshake().client("PA", b"eal!", seq=2).client("PA", b"eal!", seq=2)
    c.client("PA", b"r", seq=1).server("A").close()
    assert watch(c.frames, level=Level.STREAM).statistics["conflicts"] == 0


@pytest.mark.parametrize("flags", ["PA", "FA", "R"])
def test_signed_segment_in_an_unsigned_connection_is_ignored(flags: str) -> None:
    """RFC 2385 section 2: its receiver drops it, so it would insert what only the monitor sees."""
    c = Conversation().handshake().client(flags, b"EVIL", options=MD5, forged=True)
    c.client("PA", b"real").server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"real", {"unsigned": 1})
    assert seen.record["reason"] == "fin"


def test_unsigned_segment_in_a_signed_connection_is_ignored() -> None:
    """RFC 2385 section 2: what is not signed is dropped, a RST above all."""
    c = Conversation().client("S", options=MD5).server("SA", options=MD5).client("A", options=MD5)
    c.client("R", forged=True).client("PA", b"real", options=MD5).server("A", options=MD5)
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"real", {"unsigned": 1})
    assert seen.record["reason"] == "end_of_capture"


def test_old_timestamp_inserts_nothing() -> None:
    """RFC 7323 section 5.3: the receiver drops it by PAWS."""
    c = Conversation().handshake(client_options=timestamps(1000), server_options=timestamps(9, 1000))
    c.client("PA", b"EVIL", options=timestamps(1), forged=True).client(
        "PA", b"real", options=timestamps(1001, 9)
    )
    assert watch(c.server("A").close().frames, level=Level.STREAM).streams[0][0].data == b"real"


@pytest.mark.parametrize("seq", [-100_000, 1, 3])
def test_timestamp_of_an_unacceptable_segment_does_not_poison_paws(seq: int) -> None:
    """RFC 7323 section 5.3, R2 before R3: a segment wholly before the window is dropped, clock and all."""
    c = Conversation().handshake(client_options=timestamps(1000), server_options=timestamps(9, 1000))
    c.client("PA", b"hello", options=timestamps(1001, 9)).server("A", options=timestamps(10, 1001))
    c.client("PA", b"x", seq=seq, options=timestamps(1_000_000, 9), forged=True)
    c.client("PA", b"world", options=timestamps(1002, 10)).server("A", options=timestamps(11, 1002))
    seen = watch(c.frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"helloworld"


def test_timestamps_that_one_end_did_not_agree_to_are_ignored() -> None:
    """RFC 7323 section 3.2: a server that sent no option ignores the client's, so old stamps hide nothing."""
    c = Conversation().handshake(client_options=timestamps(1000))
    c.client("PA", b"hidden", options=timestamps(1)).server("A").close()
    assert watch(c.frames, level=Level.STREAM).streams[0][0].data == b"hidden"


def test_signature_that_the_server_did_not_answer_binds_nobody() -> None:
    """A host that does not know RFC 2385 passes over the option, in the SYN as later."""
    c = Conversation().client("S", options=MD5).server("SA").client("A").client("PA", b"hidden").server("A")
    assert watch(c.close().frames, level=Level.STREAM).streams[0][0].data == b"hidden"


@pytest.mark.parametrize("seq", [-100_000, 0, 3])
def test_fin_before_the_window_closes_nothing(seq: int) -> None:
    """RFC 9293 section 3.10.7.4, first check: its receiver is past it, and the sender has sent more."""
    c = Conversation().handshake().client("PA", b"hello").server("A").client("FA", seq=seq, forged=True)
    c.client("PA", b"world").server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["reason"]) == (b"helloworld", "fin")


def test_data_far_beyond_a_small_window_is_ignored() -> None:
    """RFC 9293 section 3.10.7.4, first check: a window of 1,000 bytes does not reach 50,000 ahead."""
    c = Conversation().client("S", window=1000).server("SA", window=1000).client("A", window=1000)
    c.client("PA", b"a", window=1000).server("A", window=1000)
    c.client("PA", b"EVIL", seq=50_000, forged=True).client("PA", b"b").server("A", window=1000)
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.streams[0][0].gaps) == (b"ab", ())


def test_broken_options_are_counted_and_the_rest_is_read() -> None:
    """RFC 9293 section 3.1: an option list may be broken without the segment being void."""
    c = Conversation().handshake().client("PA", b"real", options=b"\x02\x00\x00\x00").server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"real", {"bad_options": 1})


def test_urgent_data_stays_in_line() -> None:
    """RFC 6093 section 6: urgent data is part of the stream; noted, since hosts differ about it."""
    c = Conversation().handshake().client("PAU", b"abc", urgent=1).server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"abc", {"urgent": 1})


def test_all_flags_at_once_change_nothing() -> None:
    """The Christmas tree probe inside a live connection."""
    c = Conversation().handshake().client("FSPAU", b"x", forged=True).client("FPU", b"y", forged=True)
    c.client("FSRPAU", b"x", seq=700, forged=True)
    seen = watch(c.client("PA", b"real").server("A").close().frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["reason"]) == (b"real", "fin")
    assert seen.anomalies == {"bad_flags": 1, "no_ack": 1, "bad_reset": 1}


def test_reserved_and_ecn_bits_are_no_matter() -> None:
    """RFC 3168, RFC 9768: ECE, CWR and AE come with any segment."""
    c = Conversation().handshake().client("PAEC", b"ab", accurate_ecn=True).server("AE").client("PAC", b"cd")
    seen = watch(c.server("A").close().frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"abcd", {})
