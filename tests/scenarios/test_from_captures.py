"""What real captures have shown: each test is a defect that was mended."""

import pytest

from aiomos.levels import Level
from aiomos.testing.scenario import START, Conversation, watch, watch_in_batches


def test_syn_answered_by_a_reset_and_sent_again_opens_a_new_flow() -> None:
    """Windows tries a refused port three times, with the same ISN each time (capture rtsp.pcap, frames 289 to 348)."""
    c = Conversation().client("S").server("RA", seq=0, forged=True).wait(0.5)
    c.client("S", seq=0).server("SA").client("A").client("PA", b"hello").server("A").close()
    seen = watch_in_batches(c.frames, level=Level.STREAM)
    assert [record["reason"] for record in seen.records] == ["rst", "fin"]
    assert [client.data for client, _ in seen.streams] == [b"hello"]  # nothing came of the first


def test_the_clients_acknowledgement_decides_between_two_syn_acks() -> None:
    """A server with SYN cookies answers each SYN with another ISN (tls_multiple_synack_different_seq.pcapng)."""
    lost = Conversation(server_isn=0x1000).client("S").server("SA")
    c = Conversation(server_isn=0x9000_0000, start=START + 1).client("S").server("SA").client("A")
    c.client("PA", b"request").server("PA", b"response").client("A").close()
    seen = watch_in_batches(lost.frames + c.frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert (client.data, server.data, server.gaps) == (b"request", b"response", ())
    assert (seen.record["reason"], seen.record["server_retransmits"]) == ("fin", 0)


def test_two_syn_acks_of_a_one_sided_start() -> None:
    """The same where the SYNs were not captured, as there."""
    lost = Conversation(server_isn=0x1000).client("S", captured=False).server("SA")
    c = Conversation(server_isn=0x9000_0000, start=START + 1).client("S", captured=False).server("SA")
    c.client("PA", b"request").server("PA", b"response").client("A")
    seen = watch_in_batches(lost.frames + c.frames, level=Level.STREAM, midstream=True)
    assert seen.streams[0][1].data == b"response"


def test_data_of_a_refused_fast_open_sent_again_is_a_retransmission() -> None:
    """Its bytes were in the SYN (hard/fast_open.pcap, frame 9)."""
    c = Conversation().client("S", b"request").server("SA", ack=1).client("PA", b"request", seq=1).server("A")
    record = watch(c.frames).record
    assert (record["client_retransmits"], record["client_out_of_order"]) == (1, 0)


def test_a_flow_replaced_by_a_doubted_syn_ends_with_its_own_last_packet() -> None:
    """The SYN is not among its packets, nor is its time (hard/reuse.pcap, frame 23)."""
    first = Conversation().handshake().client("PA", b"one").server("A")
    second = Conversation(client_isn=0x9000, start=START + 60).handshake()
    records = watch(first.frames + second.frames).records
    assert records[0]["end"] == pytest.approx(first.frames[-1][0] / 1e9, abs=1e-6)


def test_each_repetition_of_a_doubted_syn_is_a_packet_of_the_new_flow() -> None:
    """As it is of a SYN nobody doubted."""
    first = Conversation().handshake().client("PA", b"one").server("A")
    second = Conversation(client_isn=0x9000, start=START + 60).client("S").wait(1).client("S", seq=0)
    records = watch(first.frames + second.server("SA").client("A").frames).records
    assert [record["client_packets"] for record in records] == [3, 3]
    assert [record["client_retransmits"] for record in records] == [0, 1]


def test_a_pick_up_at_a_keep_alive_has_lost_nothing() -> None:
    """The keep-alive's sequence number is one below SND.NXT (http_ipv6.pcap, port 40526; pinterest.pcap, 16 flows)."""
    c = Conversation().client("A", seq=99, ack=200).server("A", seq=200, ack=100)
    c.wait(1).client("A", seq=99, ack=200).server("A", seq=200, ack=100)
    record = watch(c.frames, midstream=True).record
    assert (record["client_lost"], record["server_lost"]) == (0, 0)


def test_one_corrupt_acknowledgement_does_not_end_a_one_sided_capture() -> None:
    """What one segment acknowledges is a guess until another agrees (fuzz-2006-09-29-28586.pcap, frames 17 to 20)."""
    c = Conversation().client("S").server("SA", captured=False).client("A", ack=0x4000_0000, forged=True)
    c.client("A").client("PA", b"one").client("PA", b"two", ack=100).client("PA", b"three", ack=200)
    seen = watch_in_batches(c.frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"onetwothree"


def test_a_syn_ack_with_data_sent_again_is_a_retransmission() -> None:
    """As is one without data (heuristic_tcp_ack_payload.pcap, frames 180 to 183)."""
    c = Conversation().client("S").server("SA", b"hi").wait(1).server("SA", b"hi", seq=0).client("A")
    record = watch(c.frames).record
    assert (record["server_bytes"], record["server_stream_bytes"], record["server_retransmits"]) == (4, 2, 1)


def test_a_fin_sent_again_below_later_acknowledged_data_is_a_retransmission() -> None:
    """Counted so until the window check got its lower bound (KakaoTalk_chat.pcap, port 35922, frames 32 to 284)."""
    c = Conversation().client("PA", b"x", seq=999, ack=100).server("FA", seq=100, ack=1000)
    c.client("A", seq=1000, ack=1331).wait(1).server("FA", seq=100, ack=1000)
    record = watch(c.frames, midstream=True).record
    assert record["server_retransmits"] == 1
