"""Connections of which the capture has only a part: picked up in mid-stream, or one direction only."""

import pytest

from aiomos.levels import Level
from aiomos.testing.scenario import Conversation, Frame, walk
from aiomos.testing.scenario import watch_in_batches as watch


def one_side(c: Conversation, source: bytes) -> list[Frame]:
    """The frames whose IPv4 source is *source*."""
    return [frame for frame in c.frames if frame[1][26:30] == source]


CLIENT, SERVER = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])


def whole() -> Conversation:
    c = Conversation().handshake().client("PA", b"request").server("A").server("PA", b"an answer").client("A")
    return c.client("PA", b"more").server("PA", b"done").client("A").close()


# --- mid-stream ---------------------------------------------------------------------------------------


def test_without_permission_a_connection_in_mid_stream_is_an_orphan() -> None:
    """FIELD 2.4 ORPHAN: counted, and no flow is made."""
    frames = whole().frames[3:]
    seen = watch(frames)
    assert (seen.records, seen.statistics["orphans"]) == ([], len(frames))
    assert seen.statistics["without_syn"] == len(frames)


def test_an_orphan_whose_syn_no_filter_picked_is_told_from_one_without_a_syn() -> None:
    """Its segments are none of anybody's, and no shortfall."""
    frames = whole().frames
    seen = watch(frames, filter="port 81")
    assert (seen.statistics["unwatched"], seen.statistics["orphans"]) == (1, len(frames) - 1)
    assert seen.statistics["without_syn"] == 0


@pytest.mark.parametrize("skip", range(3, 11))
def test_pick_up_at_any_segment_knows_the_roles(skip: int) -> None:
    """The end with the well-known port is the server, whoever is seen first."""
    seen = watch(whole().frames[skip:], midstream=True)
    record = seen.record
    assert (record["client_port"], record["server_port"], record["midstream"]) == (40000, 80, True)
    assert (record["reason"], record["client_lost"], record["server_lost"]) == ("fin", 0, 0)
    assert seen.statistics["midstream"] == 1


@pytest.mark.parametrize("skip", range(3, 7))
def test_pick_up_delivers_from_there_on(skip: int) -> None:
    """Offset 0 is the first byte after what was acknowledged or sent when the flow was found."""
    seen = watch(whole().frames[skip:], midstream=True, level=Level.STREAM)
    client, server = seen.streams[0]
    assert client.data == (b"requestmore" if skip <= 3 else b"more")
    assert server.data == (b"an answerdone" if skip <= 5 else b"done")
    assert (client.gaps, server.gaps) == ((), ())


@pytest.mark.parametrize("hosts", [("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.1")])
@pytest.mark.parametrize(
    ("client", "server"), [(50000, 8443), (1025, 1024), (1023, 22), (1024, 1023), (50000, 22), (2, 1)]
)
def test_pick_up_tells_the_roles_by_the_ports(hosts: tuple[str, str], client: int, server: int) -> None:
    """Where both are well known, or neither is, the higher one is judged the client's."""
    c = Conversation(f"{hosts[0]}:{client}", f"{hosts[1]}:{server}").handshake()
    record = watch(c.server("PA", b"x").client("A").frames[3:], midstream=True).record
    assert (record["client_port"], record["server_port"]) == (client, server)


def test_pick_up_between_equal_ports_takes_who_spoke_first() -> None:
    """There is nothing else to go by."""
    c = Conversation("10.0.0.9:179", "10.0.0.2:179").handshake().client("PA", b"x").server("A")
    assert watch(c.frames[3:], midstream=True).record["client"] == "10.0.0.9"


def test_pick_up_from_the_syn_ack_knows_the_roles_whatever_the_ports() -> None:
    """A SYN-ACK comes from the server."""
    c = Conversation("10.0.0.1:80", "10.0.0.2:50000").handshake().client("PA", b"hi").server("A")
    seen = watch(c.frames[1:], midstream=True, level=Level.STREAM)
    assert (seen.record["client_port"], seen.record["midstream"]) == (80, True)
    assert seen.streams[0][0].data == b"hi"


def test_states_of_a_pick_up() -> None:
    """A segment with ACK and no SYN can only come in a synchronised state (RFC 9293 section 3.10.7.4)."""
    frames = whole().frames[3:5]
    assert list(walk(frames, midstream=True))[-1] == ("ESTABLISHED", "ESTABLISHED")


def test_pick_up_learns_windows_and_takes_large_flights() -> None:
    """The window scale is not known, so no segment within the largest window may be refused."""
    c = Conversation().handshake().client("PA", b"a").server("A", window=500)
    for _ in range(300):
        c.client("A", b"d" * 1400)
    seen = watch(c.server("A", window=500).frames[4:], midstream=True)
    assert (seen.record["client_stream_bytes"], seen.anomalies) == (420_000, {})


def test_pick_up_by_a_fin() -> None:
    """The close of a connection is followed although nothing else of it was seen."""
    c = whole()
    record = watch(c.frames[-4:], midstream=True).record
    assert (record["reason"], record["midstream"]) == ("fin", True)


# --- one-sided ------------------------------------------------------------------------------------------


def test_only_the_client_was_captured() -> None:
    """Bytes of the seen half are all there; what the other sent is known by its acknowledgements."""
    frames = one_side(whole(), CLIENT)
    seen = watch(frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert (client.data, client.gaps, server.data) == (b"requestmore", (), b"")
    assert (seen.record["client_port"], seen.record["midstream"]) == (40000, False)
    assert (seen.record["client_packets"], seen.record["server_packets"]) == (len(frames), 0)
    assert seen.record["client_lost"] == 0


def test_only_the_server_was_captured() -> None:
    """The SYN-ACK tells the roles, so this is the same connection seen from the other side."""
    frames = one_side(whole(), SERVER)
    seen = watch(frames, level=Level.STREAM, midstream=True)
    client, server = seen.streams[0]
    assert (server.data, server.gaps, client.data) == (b"an answerdone", (), b"")
    assert (seen.record["client_port"], seen.record["server_packets"]) == (40000, len(frames))
    assert seen.record["server_lost"] == 0


@pytest.mark.parametrize("source", [CLIENT, SERVER])
def test_one_sided_capture_in_mid_stream(source: bytes) -> None:
    """Every byte of the captured half after the first acknowledgement is delivered in order."""
    frames = one_side(whole(), source)[2:]
    seen = watch(frames, level=Level.STREAM, midstream=True)
    half = seen.streams[0][0 if source == CLIENT else 1]
    assert half.data.endswith(b"more" if source == CLIENT else b"done")
    assert (half.gaps, seen.record["client_port"]) == ((), 40000)


@pytest.mark.parametrize("source", [CLIENT, SERVER])
def test_states_of_a_one_sided_capture(source: bytes) -> None:
    """What the captured end acknowledges tells of the other's part."""
    frames = one_side(Conversation().handshake().client("PA", b"x").server("PA", b"y").client("A"), source)
    assert list(walk(frames, midstream=True))[-1] == ("ESTABLISHED", "ESTABLISHED")


def test_one_sided_capture_with_a_jump_goes_on() -> None:
    """Nobody acknowledges where a one-sided sender is, so a stretch not captured is no reason to stop."""
    c = Conversation().handshake().client("PA", b"a")
    c.client("A", b"m" * 60_000, captured=False)
    for _ in range(20):
        c.client("A", b"d" * 1000)
    seen = watch(one_side(c, CLIENT))
    assert seen.record["client_stream_bytes"] == 20_001


def test_stretch_missing_from_a_two_sided_capture_is_gone_over() -> None:
    """A capture may drop far more than a window; the acknowledgements after it tell where the ends are."""
    c = Conversation().handshake().client("PA", b"a").server("A")
    for _ in range(10):
        c.client("A", b"m" * 60_000, captured=False).server("A", captured=False)
    for _ in range(5):
        c.client("A", b"d" * 1000).server("A")
    record = watch(c.close().frames).record
    assert (record["client_stream_bytes"], record["client_lost"]) == (5001, 600_000)
    assert record["reason"] == "fin"


@pytest.mark.parametrize("source", [CLIENT, SERVER])
def test_one_sided_connection_waits_as_an_established_one(source: bytes) -> None:
    """Half of it was never seen, but it is no half-open connection that times out in 30 seconds."""
    c = Conversation().handshake().client("PA", b"a").server("PA", b"b").client("A")
    c.wait(100).client("PA", b"a").server("PA", b"b").client("A")
    record = watch(one_side(c, source), midstream=True).record
    assert record["client_bytes"] + record["server_bytes"] == 2
