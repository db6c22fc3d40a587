"""Opening a connection: states of both ends at every step, and every way a handshake can look."""

import pytest

from aiomos.levels import Level
from aiomos.testing.packets import fastopen, mss, sack_ok, wscale
from aiomos.testing.scenario import Conversation, walk
from aiomos.testing.scenario import watch_in_batches as watch


def test_states_of_a_three_way_handshake() -> None:
    """FIELD 2.5: the server is SYN_RECEIVED with the SYN, the client ESTABLISHED with the SYN-ACK."""
    assert list(walk(Conversation().handshake().frames)) == [
        ("SYN_SENT", "SYN_RECEIVED"),
        ("ESTABLISHED", "SYN_RECEIVED"),
        ("ESTABLISHED", "ESTABLISHED"),
    ]


def test_setup_is_raised_once_when_both_ends_are_established() -> None:
    """Data and repeated segments after the handshake are no second set-up."""
    c = Conversation().handshake().client("A", ack=1).client("PA", b"x").server("A")
    assert watch(c.frames).setups == 1
    assert watch(c.frames[:2]).setups == 0


def test_options_of_both_syns_are_kept() -> None:
    """RFC 9293 section 3.7.1, RFC 7323 section 2: MSS and window scale are told in the SYNs only."""
    c = Conversation().handshake(
        client_options=mss(1460) + sack_ok() + wscale(7), server_options=mss(1400) + wscale(2)
    )
    record = watch(c.frames).record
    assert (record["client_mss"], record["client_window_scale"]) == (1460, 7)
    assert (record["server_mss"], record["server_window_scale"]) == (1400, 2)


def test_simultaneous_open() -> None:
    """RFC 9293 section 3.5, figure 8: both ends send SYN, then SYN-ACK, and become established."""
    c = Conversation().client("S").server("S")
    c.client("SA", seq=0, ack=1).server("SA", seq=0, ack=1)
    assert list(walk(c.frames)) == [
        ("SYN_SENT", "SYN_RECEIVED"),
        ("SYN_RECEIVED", "SYN_RECEIVED"),
        ("SYN_RECEIVED", "ESTABLISHED"),
        ("ESTABLISHED", "ESTABLISHED"),
    ]


def test_simultaneous_open_is_one_flow_whose_client_spoke_first() -> None:
    """DESIGN section 3: the client is the side that sent the first SYN."""
    c = Conversation().client("S").server("S").client("SA", seq=0).server("SA", seq=0)
    seen = watch(c.client("PA", b"hello").server("A").frames)
    assert seen.record["client_port"] == 40000
    assert (seen.record["client_bytes"], seen.setups, seen.anomalies) == (5, 1, {})


def test_split_handshake_keeps_the_roles() -> None:
    """A server that answers SYN by SYN is still the server, though the client sends the SYN-ACK."""
    c = Conversation().client("S").server("S").client("SA", seq=0, ack=1).server("A")
    assert list(walk(c.frames))[-1] == ("ESTABLISHED", "ESTABLISHED")
    seen = watch(c.server("PA", b"banner").client("A").frames)
    assert (seen.record["client_port"], seen.record["server_stream_bytes"]) == (40000, 6)


def test_split_handshake_with_a_separate_acknowledgement() -> None:
    """The four-segment form: the ACK of the client's SYN and the server's SYN come apart."""
    c = Conversation().client("S").server("A", seq=0, ack=1).server("S", seq=0).client("SA", seq=0, ack=1)
    seen = watch(c.server("A").client("PA", b"hello").server("A").frames)
    assert seen.record["client_stream_bytes"] == 5
    assert (seen.record["client_state"], seen.record["server_state"]) == ("ESTABLISHED", "ESTABLISHED")


def test_a_syn_sent_again_is_a_retransmission_and_no_second_start() -> None:
    """FIELD 2.9 (g): mOS raised CONN_START again and no REXMIT."""
    c = (
        Conversation()
        .client("S")
        .wait(1)
        .client("S", seq=0)
        .server("SA")
        .wait(1)
        .server("SA", seq=0)
        .client("A")
    )
    seen = watch(c.frames)
    assert (seen.record["client_retransmits"], seen.record["server_retransmits"]) == (1, 1)
    assert (seen.setups, seen.statistics["flows"]) == (1, 1)


def test_syn_again_with_another_isn() -> None:
    """A client that nobody answered may try again with a new ISN; the stream starts from that one."""
    first = Conversation().client("S")
    again = Conversation(client_isn=0x1234, start=1_700_000_003.0).handshake().client("PA", b"hello")
    seen = watch(first.frames + again.server("A").close().frames, level=Level.STREAM)
    assert seen.anomalies == {"syn_retry": 1}
    assert seen.streams[0][0].data == b"hello"
    assert (seen.record["client_packets"], seen.record["client_lost"], seen.record["reason"]) == (6, 0, "fin")


def test_syn_ack_for_another_syn_is_not_believed() -> None:
    """RFC 9293 section 3.10.7.3: an unacceptable acknowledgement in SYN-SENT is reset, not taken."""
    c = Conversation().client("S").server("SA", ack=500, forged=True)
    assert list(walk(c.frames))[-1] == ("SYN_SENT", "SYN_RECEIVED")
    assert watch(c.frames).anomalies == {"bad_synack": 1}


def test_syn_ack_with_another_sequence_number_is_not_believed() -> None:
    """The server has one ISN; a second SYN-ACK that names another was sent by somebody else."""
    c = Conversation().client("S").server("SA").server("SA", seq=777, ack=1, forged=True).client("A")
    seen = watch(c.client("PA", b"hi").server("A").close().frames, level=Level.STREAM)
    assert seen.anomalies == {"bad_synack": 1}
    assert (seen.streams[0][0].data, seen.record["reason"]) == (b"hi", "fin")


def test_of_two_syn_acks_an_acknowledgement_of_neither_tells_nothing() -> None:
    """Were it believed, all that the server says would lie elsewhere."""
    c = Conversation().client("S").server("SA").server("SA", seq=777, ack=1, forged=True)
    c.client("A", ack=1 << 28, forged=True).client("A").client("PA", b"hi").server("PA", b"hello").client("A")
    seen = watch(c.close().frames, level=Level.STREAM)
    assert seen.anomalies == {"bad_synack": 1, "bad_ack": 1}
    assert [half.data for half in seen.streams[0]] == [b"hi", b"hello"]
    assert (seen.record["server_lost"], seen.record["reason"]) == (0, "fin")


def test_handshake_captured_in_the_wrong_order() -> None:
    """FIELD 4: reordered handshake, wrong roles. The SYN-ACK already tells who the client is."""
    c = (
        Conversation()
        .server("SA", seq=0, ack=1)
        .client("S", seq=0)
        .client("A")
        .client("PA", b"hi")
        .server("A")
    )
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.record["client_port"], seen.record["midstream"]) == (40000, False)
    assert (seen.streams[0][0].data, seen.record["client_packets"], seen.record["server_packets"]) == (
        b"hi",
        3,
        2,
    )


def test_handshake_in_the_wrong_order_is_no_pick_up() -> None:
    """Where pick-ups are allowed, a connection whose SYN came late is a whole one all the same."""
    c = Conversation().server("SA", seq=0, ack=1).client("S", seq=0).client("A")
    seen = watch(c.frames, midstream=True)
    assert seen.record["midstream"] is False
    assert (seen.statistics["flows"], seen.statistics["midstream"]) == (1, 0)


def test_late_syn_repeats_no_gap_for_bytes_already_read() -> None:
    """Who took the flow from its SYN-ACK on has had the server's first bytes when the SYN comes."""
    c = (
        Conversation()
        .server("SA", seq=0, ack=1)
        .server("PA", b"banner")
        .client("S", seq=0)
        .client("A")
        .close()
    )
    seen = watch(c.frames, level=Level.STREAM, midstream=True)
    assert (seen.streams[0][1].data, seen.streams[0][1].gaps) == (b"banner", ())


def test_syn_after_the_whole_handshake() -> None:
    """Two capture queues can deliver the SYN even after the ACK that completes the handshake."""
    c = (
        Conversation()
        .server("SA", seq=0, ack=1)
        .client("A", seq=1)
        .client("S", seq=0)
        .client("PA", b"hi", seq=1)
    )
    seen = watch(c.server("A").frames, level=Level.STREAM)
    assert (seen.record["client_port"], seen.streams[0][0].data) == (40000, b"hi")


def test_a_syn_ack_that_nobody_joins_is_counted() -> None:
    """DESIGN principle 5: without pick-up, a connection whose SYN never came is not lost in silence."""
    c = Conversation().server("SA", seq=0, ack=1).client("A", seq=1).client("PA", b"hi").server("A")
    seen = watch(c.frames)
    assert seen.records == []
    assert seen.statistics["orphans"] == 4


def test_syn_with_data_that_the_server_takes() -> None:
    """RFC 9293 section 3.4: data of a SYN counts once its sequence numbers are acknowledged."""
    c = (
        Conversation()
        .client("S", b"early")
        .server("SA")
        .client("A")
        .client("PA", b"late")
        .server("A")
        .close()
    )
    seen = watch(c.frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"earlylate"
    assert (seen.record["client_stream_bytes"], seen.record["client_lost"]) == (9, 0)


def test_syn_with_data_that_the_server_refuses() -> None:
    """RFC 7413 section 4.2.2: a server that acknowledges only the SYN has dropped its data."""
    c = Conversation().client("S", b"early").server("SA", ack=1).client("A", seq=1)
    c.client("PA", b"EARLY", seq=1).server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"EARLY"
    assert (seen.record["client_stream_bytes"], seen.record["client_bytes"]) == (5, 10)


def test_fast_open_accepted_with_an_early_answer() -> None:
    """RFC 7413 section 4.2: the server may answer before the handshake completes."""
    c = Conversation().client("S", b"GET", options=fastopen(b"12345678")).server("SA").server("PA", b"200")
    c.client("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert (client.data, server.data, seen.anomalies) == (b"GET", b"200", {})
    assert (seen.record["server_out_of_order"], seen.record["reason"]) == (0, "fin")


def test_fast_open_refused_and_retried_without_data() -> None:
    """RFC 7413 section 4.1.3: a client whose SYN with data got lost sends a plain SYN with the same ISN."""
    c = Conversation().client("S", b"GET", options=fastopen(b"12345678")).wait(1).client("S", seq=0)
    c.server("SA", ack=1).client("A", seq=1).client("PA", b"GET", seq=1).server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"GET"
    assert (seen.record["client_stream_bytes"], seen.record["client_lost"]) == (3, 0)


def test_fast_open_asking_for_a_cookie_is_an_ordinary_handshake() -> None:
    """RFC 7413 section 4.1.1: an empty cookie option carries no data."""
    c = Conversation().handshake(client_options=fastopen(), server_options=fastopen(b"12345678"))
    assert watch(c.frames).setups == 1


def test_syn_with_ecn_flags() -> None:
    """RFC 3168 section 6.1.1: ECE and CWR in a SYN ask for ECN; ECE in the SYN-ACK agrees."""
    c = Conversation().client("SEC").server("SAE").client("A")
    seen = watch(c.frames)
    assert (seen.setups, seen.anomalies) == (1, {})


def test_syn_with_accurate_ecn_flags() -> None:
    """RFC 9768 section 3.1.1: a SYN that offers AccECN sets AE, CWR and ECE."""
    c = Conversation().client("SEC", accurate_ecn=True).server("SAC", accurate_ecn=True)
    c.client("A", accurate_ecn=True).client("PAC", b"x", accurate_ecn=True).server("AE")
    seen = watch(c.frames)
    assert (seen.setups, seen.anomalies, seen.record["client_bytes"]) == (1, {}, 1)


def test_syn_and_fin_together_change_nothing() -> None:
    """No stack sends SYN with FIN; as a probe it must neither open nor close (RFC 9293 allows a drop)."""
    c = Conversation().client("SF", forged=True)
    assert list(walk(c.frames))[-1] in {("LISTEN", "LISTEN"), ("CLOSED", "CLOSED")}
    seen = watch(c.handshake().client("PA", b"hi").server("A").close().frames, level=Level.STREAM)
    assert (seen.streams[-1][0].data, seen.record["reason"]) == (b"hi", "fin")
    assert seen.anomalies == {"bad_flags": 1}


@pytest.mark.parametrize("flags", ["SR", "SRA", "SRF"])
def test_syn_and_rst_together_are_a_rst(flags: str) -> None:
    """RFC 9293 section 3.10.7: every state looks at RST before SYN. At another number it is none either."""
    c = Conversation().handshake().client(flags, seq=500, forged=True).client("PA", b"hi").server("A").close()
    seen = watch(c.frames)
    assert (seen.anomalies, seen.record["reason"]) == ({"bad_reset": 1}, "fin")
    seen = watch(Conversation().handshake().client(flags, forged=True).frames)
    assert (seen.anomalies, seen.record["reason"]) == ({}, "rst")


def test_ipv6_handshake() -> None:
    """One code path for both IP versions."""
    c = Conversation("[2001:db8::1]:40000", "[2001:db8::2]:80").handshake().close()
    record = watch(c.frames).record
    assert (record["client"], record["server"], record["ip_version"]) == ("2001:db8::1", "2001:db8::2", 6)
    assert record["reason"] == "fin"


def test_a_data_ack_completes_a_handshake_whose_ack_was_lost() -> None:
    """RFC 9293 section 3.10.7.4: any acceptable ACK of the SYN establishes the server."""
    c = Conversation().client("S").server("SA").client("A", captured=False).client("PA", b"hi").server("A")
    seen = watch(c.frames)
    assert (seen.setups, seen.record["client_lost"], seen.record["server_state"]) == (1, 0, "ESTABLISHED")


def test_handshake_whose_syn_ack_was_not_captured() -> None:
    """What the ends do next tells that it was there; the server's numbers follow from the ACK."""
    c = Conversation().client("S").server("SA", captured=False).client("A").client("PA", b"hi")
    c.server("A").server("PA", b"banner").client("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert (client.data, server.data, seen.record["reason"]) == (b"hi", b"banner", "fin")
    assert (seen.record["midstream"], seen.setups) == (False, 1)
