"""Closing a connection (RFC 9293 section 3.6): FIN as a position in the stream, half close, states of both."""

import pytest

from aiomos.levels import Level
from aiomos.settings import Settings, Timeouts
from aiomos.testing.scenario import Conversation, walk
from aiomos.testing.scenario import watch_in_batches as watch


def opened() -> Conversation:
    return Conversation().handshake()


def states_after_opening(c: Conversation) -> list[tuple[str, str]]:
    return list(walk(c.frames))[3:]


def test_states_when_the_client_closes_first() -> None:
    """FIELD 2.5, the whole walk."""
    assert states_after_opening(opened().close("client")) == [
        ("FIN_WAIT_1", "CLOSE_WAIT"),
        ("FIN_WAIT_2", "CLOSE_WAIT"),
        ("TIME_WAIT", "LAST_ACK"),
        ("TIME_WAIT", "CLOSED"),
    ]


def test_states_when_the_server_closes_first() -> None:
    """The same machine for the other end: a half does not know which side it plays."""
    assert states_after_opening(opened().close("server")) == [
        ("CLOSE_WAIT", "FIN_WAIT_1"),
        ("CLOSE_WAIT", "FIN_WAIT_2"),
        ("LAST_ACK", "TIME_WAIT"),
        ("CLOSED", "TIME_WAIT"),
    ]


def test_states_when_the_answer_carries_fin_and_ack() -> None:
    """RFC 9293 section 3.6: three segments are enough."""
    c = opened().client("FA").server("FA").client("A")
    assert states_after_opening(c) == [
        ("FIN_WAIT_1", "CLOSE_WAIT"),
        ("TIME_WAIT", "LAST_ACK"),
        ("TIME_WAIT", "CLOSED"),
    ]


def test_states_of_a_simultaneous_close() -> None:
    """RFC 9293 section 3.6, case 3: FINs cross, both ends pass CLOSING to TIME_WAIT."""
    c = opened().client("FA", ack=1).server("FA", ack=1).client("A").server("A")
    assert states_after_opening(c) == [
        ("FIN_WAIT_1", "CLOSE_WAIT"),
        ("CLOSING", "CLOSING"),
        ("CLOSING", "TIME_WAIT"),
        ("TIME_WAIT", "TIME_WAIT"),
    ]
    assert watch(c.frames).record["reason"] == "fin"


def test_half_close_delivers_what_the_other_end_still_sends() -> None:
    """FIELD 2.9 (c): mOS skipped data after the receiver's own FIN."""
    c = opened().client("PA", b"all").client("FA").server("A").server("PA", b"the answer").client("A")
    c.wait(5).server("PA", b" in parts").client("A").server("FA").client("A")
    seen = watch(c.frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert (client.data, server.data, seen.record["reason"]) == (b"all", b"the answer in parts", "fin")
    assert seen.anomalies == {}


def test_states_during_a_half_close() -> None:
    """FIN_WAIT_2 and CLOSE_WAIT last as long as the other end still sends."""
    c = opened().client("FA").server("A").server("PA", b"more").client("A")
    assert states_after_opening(c)[1:] == [("FIN_WAIT_2", "CLOSE_WAIT")] * 3


def test_fin_with_data_counts_both() -> None:
    """RFC 9293 section 3.4: a FIN takes the sequence number after the segment's last byte."""
    c = opened().client("FPA", b"bye").server("A", ack=5).server("FA").client("A")
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["reason"]) == (b"bye", "fin")
    assert (seen.record["client_stream_bytes"], seen.record["client_lost"]) == (3, 0)


def test_fin_whose_data_alone_is_acknowledged_is_not_acknowledged() -> None:
    """An ACK up to the FIN but not of it leaves the sender in FIN_WAIT_1."""
    c = opened().client("FPA", b"bye").server("A", ack=4)
    assert states_after_opening(c)[-1] == ("FIN_WAIT_1", "CLOSE_WAIT")


def test_fin_ahead_of_its_data_is_a_position_not_an_event() -> None:
    """FIELD 3.8: an early FIN must not discard data that arrives later."""
    c = opened().client("FA", seq=6).wait(-0.0005).client("PA", b"hello", seq=1)
    c.server("A", ack=7).server("FA").client("A")
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.streams[0][0].gaps) == (b"hello", ())
    assert (seen.record["reason"], seen.record["client_out_of_order"]) == ("fin", 1)


def test_receiver_has_a_fin_once_all_before_it_has_arrived() -> None:
    """RFC 9293 section 3.10.7.4, eighth check: a FIN out of order does not yet close."""
    c = opened().client("FA", seq=6).client("PA", b"hello", seq=1).server("A", ack=7)
    assert states_after_opening(c)[0] == ("FIN_WAIT_1", "ESTABLISHED")
    assert states_after_opening(c)[-1] == ("FIN_WAIT_2", "CLOSE_WAIT")


def test_repeated_fin_is_a_retransmission() -> None:
    """It closes nothing twice."""
    c = opened().client("FA").wait(0.3).client("FA", seq=1).server("A").server("FA").client("A")
    seen = watch(c.frames)
    assert (seen.record["client_retransmits"], seen.record["reason"], seen.anomalies) == (1, "fin", {})


def test_fin_repeated_after_the_close_finds_its_flow() -> None:
    """RFC 9293 section 3.6.1: TIME_WAIT is there to answer a FIN that comes again."""
    c = opened().close("client").wait(1).server("FA", seq=1).client("A")
    seen = watch(c.frames)
    assert (seen.record["server_retransmits"], seen.statistics["orphans"]) == (1, 0)
    assert (seen.record["client_packets"], seen.record["server_packets"]) == (5, 4)


def test_fin_out_of_window_is_ignored() -> None:
    """RFC 9293 section 3.10.7.4, first check."""
    c = opened().client("PA", b"a").server("A", window=1000).client("FA", seq=500_000, forged=True)
    c.client("PA", b"b").server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"ab", {"out_of_window": 1})
    assert seen.record["reason"] == "fin"


def test_data_after_an_acknowledged_fin_is_ignored() -> None:
    """RFC 9293 section 3.10.7.4, seventh check: after its FIN a sender has nothing more to say."""
    c = opened().client("FA").server("A").client("PA", b"zombie", forged=True).server("FA").client("A")
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"", {"after_fin": 1})
    assert seen.record["reason"] == "fin"


def test_data_refutes_a_fin_that_nobody_took() -> None:
    """A forged FIN ahead of the stream is not the end when the real sender goes on past it."""
    c = opened().client("FA", seq=3, forged=True).client("PA", b"hello").server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["reason"]) == (b"hello", "fin")


def test_fin_that_was_not_captured_leaves_the_flow_open() -> None:
    """Its ACK looks like one of unseen data; the peer's close is still followed."""
    c = opened().client("PA", b"x").server("A").client("FA", captured=False).server("A")
    c.server("FA").client("A")
    assert states_after_opening(c)[-1] == ("CLOSE_WAIT", "FIN_WAIT_2")
    assert watch(c.frames).record["reason"] == "end_of_capture"


def test_acknowledgement_of_a_fin_ahead_of_the_fin() -> None:
    """FIELD 3.13: a mirror may deliver the ACK first; the FIN is the last of what it acknowledged."""
    c = opened().client("PA", b"bye").server("A", ack=5).client("FA", seq=4).server("FA").client("A", ack=2)
    seen = watch(c.frames, level=Level.STREAM)
    client, _ = seen.streams[0]
    assert (client.data, client.gaps, client.error) == (b"bye", (), None)
    assert (seen.record["reason"], seen.record["client_lost"]) == ("fin", 0)


def test_repeated_data_with_its_fin_is_no_early_end() -> None:
    """The last segment sent again, now with the FIN on it."""
    c = (
        opened()
        .client("PA", b"bye")
        .wait(0.3)
        .client("FPA", b"bye", seq=1)
        .server("A")
        .server("FA")
        .client("A")
    )
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["reason"]) == (b"bye", "fin")


def test_time_wait_of_zero_forgets_the_flow_at_once() -> None:
    """FIELD 2.8: mOS's default; what follows belongs to no flow."""
    settings = Settings(timeouts=Timeouts(time_wait=0))
    c = opened().close().client("A", forged=True)
    seen = watch(c.frames, settings=settings)
    assert (seen.record["reason"], seen.statistics["orphans"]) == ("fin", 1)


def test_close_before_the_handshake_completes() -> None:
    """RFC 9293 section 3.10.4: a server in SYN_RECEIVED may close; its FIN follows the SYN-ACK."""
    c = Conversation().client("S").server("SA").server("FA").client("A").client("FA").server("A")
    seen = watch(c.frames)
    assert (seen.record["reason"], seen.record["client_state"], seen.record["server_state"]) == (
        "fin",
        "CLOSED",
        "TIME_WAIT",
    )


# --- a FIN that was not captured ----------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [{}, {"client_isn": 0xFFFFFFF8, "server_isn": 0xFFFFFFFE}])
@pytest.mark.parametrize("after", ["", "wait", "A", "R", "FA"])
@pytest.mark.parametrize("first", ["client", "server"])
def test_an_acknowledged_fin_that_was_not_captured_is_no_lost_byte(
    first: str, after: str, numbers: dict[str, int]
) -> None:
    """One acknowledged number with nothing behind it: the half ended there, and was seen to its end."""
    other = "server" if first == "client" else "client"
    c = Conversation(**numbers).handshake().send(first, "PA", b"all").send(other, "A")
    c.send(first, "FA", captured=False).send(other, "A").wait(5 if after else 0)
    if after:
        c.send(other, after.replace("wait", "PA"), b"x" if after == "wait" else b"").wait(5)
    if after == "FA":
        c.send(first, "A")
    seen = watch(c.frames, level=Level.STREAM)
    half = seen.streams[0][first == "server"]
    assert (half.data, half.gaps, half.error) == (b"all", (), None)
    assert (seen.record[f"{first}_lost"], seen.record[f"{first}_stream_bytes"]) == (0, 3)
    assert seen.statistics["gap.lost"] == 0


@pytest.mark.parametrize("wait", [0, 5])
def test_an_acknowledged_number_with_data_behind_it_was_a_byte(wait: float) -> None:
    """Its sender goes on, so it was no FIN."""
    c = Conversation().handshake().client("PA", b"all").server("A").client("PA", b"?", captured=False)
    c.server("A").wait(wait).client("PA", b"more").server("A").wait(5).server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.streams[0][0].gaps) == (b"allmore", ((3, 1, "lost"),))
    assert (seen.record["client_lost"], seen.record["reason"]) == (1, "fin")


def test_two_acknowledged_numbers_are_lost_bytes() -> None:
    """One of them at least was data."""
    c = Conversation().handshake().client("PA", b"all").server("A").client("FA", b"?", captured=False)
    seen = watch(c.server("A").frames, level=Level.STREAM)
    assert (seen.record["client_lost"], seen.streams[0][0].gaps) == (2, ((3, 2, "lost"),))


@pytest.mark.parametrize("numbers", [{}, {"client_isn": 0xFFFFFFF8, "server_isn": 0xFFFFFFFE}])
@pytest.mark.parametrize("first", ["client", "server"])
def test_fin_captured_behind_what_follows_it(first: str, numbers: dict[str, int]) -> None:
    """Its acknowledgement, and one that its sender sent after it, have shown by then that something was there."""
    other = "server" if first == "client" else "client"
    c = Conversation(**numbers).handshake().send(first, "PA", b"all").send(other, "A").close(first)
    for at in (-3, -2, -1):
        frames = c.frames[:-4] + c.frames[-3:]
        frames.insert(len(frames) + at + 1, (frames[at][0], *c.frames[-4][1:]))
        seen = watch(frames, level=Level.STREAM)
        assert (seen.record["reason"], seen.record[f"{first}_lost"]) == ("fin", 0)
        assert seen.streams[0][first == "server"].data == b"all"


@pytest.mark.parametrize("back", [1, 2, 3])
def test_a_fin_where_data_has_been_ends_nothing(back: int) -> None:
    """Its number was that of a byte; the receiver is past it."""
    c = Conversation().handshake().client("PA", b"all").server("A").client("FA", seq=4 - back, forged=True)
    seen = watch(c.client("PA", b"more").server("A").close().frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.anomalies) == (b"allmore", {"after_fin": 1})


def test_data_with_a_fin_in_front_of_other_data_is_data() -> None:
    """Its receiver takes it in any case."""
    c = Conversation().handshake().client("PA", b"more", seq=4).client("FPA", b"all", seq=1, forged=True)
    seen = watch(c.server("A", ack=8).client("FA", seq=8).server("A").frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.streams[0][0].gaps) == (b"allmore", ())
    assert seen.anomalies == {"after_fin": 1}


def test_nothing_acknowledges_what_lies_behind_a_fin() -> None:
    """Such a segment is dropped by its receiver, payload and all."""
    c = Conversation().handshake().client("FA").server("PA", b"EVIL", ack=3, forged=True).server("A")
    seen = watch(c.server("PA", b"true").client("A").server("FA").client("A").frames, level=Level.STREAM)
    assert (seen.streams[0][1].data, seen.anomalies) == (b"true", {"bad_ack": 1})
