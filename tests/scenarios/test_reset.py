"""RST is believed where its receiver would believe it (RFC 5961 section 3, RFC 9293 section 3.10.7)."""

import pytest

from aiomos.levels import Level
from aiomos.settings import Settings, Timeouts
from aiomos.testing.packets import timestamps
from aiomos.testing.scenario import Conversation, Watcher, walk
from aiomos.testing.scenario import watch_in_batches as watch


def talking() -> Conversation:
    """A connection in which the client has sent 5 bytes and the server 6, all acknowledged."""
    return Conversation().handshake().client("PA", b"hello").server("PA", b"banner").client("A")


@pytest.mark.parametrize("side", ["client", "server"])
def test_rst_at_the_exact_number_ends_the_flow(side: str) -> None:
    """RFC 5961 section 3.2, first rule: SEG.SEQ = RCV.NXT resets."""
    c = talking().send(side, "R")
    seen = watch(c.frames)
    assert (seen.record["reason"], seen.anomalies) == ("rst", {})
    assert (seen.record["client_state"], seen.record["server_state"]) == ("CLOSED", "CLOSED")


@pytest.mark.parametrize("seq", [7, 1000, 60_000])
def test_blind_rst_within_the_window_is_ignored(seq: int) -> None:
    """RFC 5961 section 3.2, second rule: within the window but not exact is only challenged."""
    c = talking().client("R", seq=seq, forged=True).client("PA", b"more").server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.record["reason"], seen.anomalies) == ("fin", {"bad_reset": 1})
    assert seen.streams[0][0].data == b"hellomore"


@pytest.mark.parametrize("seq", [-1000, 0, 5, 200_000, 1 << 31])
def test_rst_outside_the_window_is_ignored(seq: int) -> None:
    """RFC 5961 section 3.2, third rule: silently dropped."""
    c = talking().client("R", seq=seq, forged=True).close()
    seen = watch(c.frames)
    assert (seen.record["reason"], seen.anomalies) == ("fin", {"bad_reset": 1})


def test_rst_answered_by_a_challenge_ack_comes_again_exact() -> None:
    """RFC 5961 section 3.2: a genuine sender takes the challenge ACK's number."""
    c = talking().client("R", seq=100, forged=True).server("A").client("R")
    seen = watch(c.frames)
    assert (seen.record["reason"], seen.anomalies) == ("rst", {"bad_reset": 1})


def test_rst_for_data_in_flight() -> None:
    """Data sent and not acknowledged: RCV.NXT lies anywhere up to what was sent."""
    c = Conversation().handshake().client("PA", b"a" * 100).client("PA", b"b" * 100).client("R")
    assert watch(c.frames).record["reason"] == "rst"


def test_rst_that_refuses_the_syn() -> None:
    """RFC 9293 section 3.10.7.3: in SYN-SENT a RST must acknowledge the SYN."""
    c = Conversation().client("S").server("RA", seq=-0xFFFFFF80, ack=1, forged=True)
    assert list(walk(c.frames))[-1] == ("CLOSED", "CLOSED")
    seen = watch(c.frames)
    assert (seen.record["reason"], seen.setups) == ("rst", 0)


@pytest.mark.parametrize(("flags", "ack"), [("R", None), ("RA", 0), ("RA", 2), ("RA", -500)])
def test_rst_before_the_syn_ack_must_acknowledge_the_syn(flags: str, ack: int | None) -> None:
    """RFC 9293 section 3.10.7.3: else a blind attacker could refuse connections."""
    c = Conversation().client("S").server(flags, seq=0, ack=ack, forged=True).server("SA").client("A").close()
    seen = watch(c.frames)
    assert (seen.record["reason"], seen.anomalies) == ("fin", {"bad_reset": 1})


def test_client_whose_address_goes_away() -> None:
    """Android resets at the number of its unanswered SYN."""
    c = Conversation().client("S").wait(1).client("S", seq=0).wait(9).client("RA", seq=0, ack=0)
    assert watch(c.frames).record["reason"] == "rst"


@pytest.mark.parametrize(("seq", "reason"), [(1, "fin"), (4, "fin"), (6, "rst"), (11, "rst")])
def test_rst_among_data_in_flight(seq: int, reason: str) -> None:
    """With a hole behind what was acknowledged, RCV.NXT is there; without one, behind all that was sent."""
    c = talking().client("PA", b"world").client("R", seq=seq, forged=True)
    assert watch(c.server("A").close().frames).record["reason"] == reason


@pytest.mark.parametrize("side", ["client", "server"])
def test_rst_at_the_fin(side: str) -> None:
    """macOS does so, and Linux takes it (tcp_reset_check())."""
    other = "server" if side == "client" else "client"
    c = talking().send(side, "FA").send(other, "A").send(side, "R", seq=6 if side == "client" else 7)
    assert watch(c.frames).record["reason"] == "rst"


def test_client_gives_its_own_syn_up() -> None:
    """RFC 9293 section 3.10.5: an abort in SYN-SENT or SYN-RECEIVED stands right after the SYN."""
    c = Conversation().client("S").server("SA").client("R", seq=1)
    assert watch(c.frames).record["reason"] == "rst"


def test_rst_names_who_sent_it() -> None:
    """`Flow.reset_by` tells an abort by the server from one by the client."""
    for side in ("client", "server"):
        watcher = Watcher()
        watcher.feed(talking().send(side, "R").frames)
        assert watcher.flow is not None
        by = watcher.flow.reset_by
        assert by is not None
        assert by.name == side
        watcher.finish()


def test_rst_after_a_half_close() -> None:
    """FIELD 3.9: a RST is not a FIN; the reader of each half is told so."""
    c = talking().client("FA").server("A").server("R")
    seen = watch(c.frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert (seen.record["reason"], client.error, server.error) == ("rst", None, "ConnectionReset")


def test_rst_tells_both_readers_after_their_bytes() -> None:
    """DESIGN section 8: all bytes that came before a RST are read before it is raised."""
    c = talking().server("R")
    client, server = watch(c.frames, level=Level.STREAM).streams[0]
    assert (client.data, client.error) == (b"hello", "ConnectionReset")
    assert (server.data, server.error) == (b"banner", "ConnectionReset")


def test_payload_of_a_rst_is_no_stream_data() -> None:
    """RFC 9293 section 3.5.3: a RST may carry text that says why."""
    c = talking().server("R", b"No tcp here", forged=True)
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.record["reason"], seen.streams[0][1].data) == ("rst", b"banner")
    assert (seen.record["server_bytes"], seen.record["server_stream_bytes"]) == (17, 6)


def test_rst_before_the_acknowledgement_of_data() -> None:
    """Data that a RST overtook was seen, so it is delivered, and it is not lost."""
    c = Conversation().handshake().client("PA", b"hello").server("R")
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["client_lost"]) == (b"hello", 0)


def test_segments_after_a_rst_belong_to_the_flow_that_was_reset() -> None:
    """What was on its way is no new connection and no orphan."""
    c = talking().client("R", forged=True).server("PA", b"late").client("R", forged=True)
    seen = watch(c.frames)
    assert (len(seen.records), seen.statistics["orphans"]) == (1, 0)
    assert (seen.record["client_packets"], seen.record["server_packets"]) == (6, 3)


def test_reset_time_out_of_zero_forgets_the_flow_at_once() -> None:
    """What follows belongs to no flow."""
    settings = Settings(timeouts=Timeouts(reset=0))
    c = talking().client("R", forged=True).server("PA", b"late")
    seen = watch(c.frames, settings=settings)
    assert (seen.record["reason"], seen.statistics["orphans"]) == ("rst", 1)


def test_lone_rst_opens_no_connection() -> None:
    """FIELD 3.15: a RST that belongs to nothing is an orphan."""
    c = Conversation().server("RA", seq=0, ack=1)
    seen = watch(c.frames)
    assert (seen.records, seen.statistics["orphans"]) == ([], 1)


def test_rst_is_exempt_from_paws() -> None:
    """RFC 7323 section 5.2: a RST without timestamps, or with old ones, is still valid."""
    c = Conversation().handshake(client_options=timestamps(1000), server_options=timestamps(5000, 1000))
    c.client("PA", b"x", options=timestamps(1001, 5000)).server("A", options=timestamps(5001, 1001))
    assert watch(c.client("R").frames).record["reason"] == "rst"


def test_old_handshake_rst_does_not_raise_setup() -> None:
    """What comes after a reset does not set a connection up."""
    c = Conversation().client("S").client("R").server("SA").client("A")
    seen = watch(c.frames)
    assert (seen.record["reason"], seen.setups) == ("rst", 0)


@pytest.mark.parametrize(
    ("answer", "seq"), [("PA", 1), ("FPA", 1)], ids=["an answer", "an answer and its end"]
)
@pytest.mark.parametrize("reset", ["R", "RA"])
def test_handler_that_begins_after_the_reset_is_told_of_it(answer: str, seq: int, reset: str) -> None:
    """Nothing but a try to open until then: the handler begins with what the server says to no one."""
    c = Conversation().client("S").client(reset, seq=1, ack=2 if reset == "RA" else None)
    c.server(answer, b"answer", seq=seq, ack=1)
    seen = watch(c.frames, level=Level.STREAM)
    assert seen.record["reason"] == "rst"
    assert [half.error for half in seen.streams[0]] == ["ConnectionReset", "ConnectionReset"]
