"""What capturing does to frames: padding, offload, cuts, fragments, tags."""

import pytest

from aiomos.levels import Level
from aiomos.settings import Settings
from aiomos.testing.packets import fragment_ipv4, mss, sack_ok, timestamps, wscale
from aiomos.testing.scenario import Conversation, merge
from aiomos.testing.scenario import watch_in_batches as watch


def pad_to_60(frame: bytes) -> bytes:
    return frame.ljust(60, b"\xaa")


def without_ip_length(frame: bytes) -> bytes:
    return frame[:16] + b"\0\0" + frame[18:]


def in_fragments(frame: bytes) -> list[bytes]:
    return [frame[:14] + fragment for fragment in fragment_ipv4(frame[14:], 24)]


def reversed_fragments(frame: bytes) -> list[bytes]:
    return in_fragments(frame)[::-1]


def test_padding_is_no_payload() -> None:
    """Ethernet frames have at least 60 bytes; IP's total length tells where the packet ends."""
    c = Conversation().handshake().client("A", change=pad_to_60).client("PA", b"x", change=pad_to_60)
    c.server("A", change=pad_to_60)
    seen = watch(c.close().frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["client_bytes"]) == (b"x", 1)


def test_super_segment_of_60_kilobytes() -> None:
    """Receive offload joins segments before the capture."""
    data = bytes(range(256)) * 240
    c = Conversation().handshake().client("PA", data).server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["client_bytes"]) == (data, len(data))


def test_super_segment_whose_ip_length_is_zero() -> None:
    """A card that segments fills in the length later, so a capture at the sender reads 0."""
    data = bytes(range(256)) * 240
    c = Conversation().handshake().client("PA", data, change=without_ip_length).server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["client_lost"]) == (data, 0)


def test_super_segment_beyond_64_kilobytes() -> None:
    """BIG TCP: more than the length field can say, which is 0 then."""
    data = b"0123456789abcdef" * 8192
    c = Conversation().handshake()
    for at in range(0, len(data), 120_000):
        c.client("PA", data[at : at + 120_000]).server("A")
    assert watch(c.close().frames, level=Level.STREAM).streams[0][0].data == data


def test_out_of_order_super_segment_is_held() -> None:
    """As any other segment behind a hole."""
    data = b"z" * 60_000
    c = Conversation().handshake().client("A", data, seq=5).client("A", b"head", seq=1).server("A").close()
    assert watch(c.frames, level=Level.STREAM).streams[0][0].data == b"head" + data


def test_snap_length_keeps_the_counters_and_makes_gaps() -> None:
    """FIELD 3.17: what was cut was on the wire; it is neither lost nor read."""
    c = Conversation().handshake()
    c.client("A", b"a" * 100, snaplen=54 + 30).client("A", b"b" * 100, snaplen=54 + 30).server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    client, _ = seen.streams[0]
    assert (client.data, client.gaps) == (b"a" * 30 + b"b" * 30, ((30, 70, "snaplen"), (130, 70, "snaplen")))
    assert (seen.record["client_bytes"], seen.record["client_stream_bytes"]) == (200, 200)
    assert (seen.record["client_lost"], seen.record["reason"]) == (0, "fin")


def test_snap_length_that_keeps_headers_only() -> None:
    """The usual header capture: counters as if whole."""
    c = Conversation().handshake().client("A", b"a" * 500, snaplen=54).server("A").close()
    seen = watch(c.frames)
    assert (seen.record["client_stream_bytes"], seen.record["client_lost"], seen.record["reason"]) == (
        500,
        0,
        "fin",
    )


def test_snap_length_on_a_segment_behind_a_hole() -> None:
    """Held bytes may be cut too; their missing part is a gap in its place."""
    c = Conversation().handshake().client("A", b"b" * 100, seq=11, snaplen=54 + 40)
    c.client("A", b"a" * 10, seq=1).server("A").wait(2).client("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    client, _ = seen.streams[0]
    assert client.data == b"a" * 10 + b"b" * 40
    assert [(offset, length) for offset, length, _ in client.gaps] == [(50, 60)]
    assert (seen.record["client_stream_bytes"], seen.record["client_lost"]) == (110, 0)


def test_frame_cut_within_the_tcp_header_is_counted() -> None:
    """Without its flags there is nothing to follow in it; it is counted by its reason."""
    c = Conversation().handshake().client("A", b"data", snaplen=47).server("A", ack=5)
    seen = watch(c.frames)
    assert (seen.statistics["malformed.tcp_cut"], seen.record["client_packets"]) == (1, 2)


LINUX = mss(1460) + sack_ok() + timestamps(5)[2:] + b"\x01" + wscale(7)


@pytest.mark.parametrize("snaplen", [48, 50, 54, 58, 64, 68, 73, 74, 80])
def test_connection_whose_headers_are_cut(snaplen: int) -> None:
    """Ports, numbers, flags and data offset are enough to follow it; options of the SYNs count as far as captured."""
    c = (
        Conversation()
        .client("S", options=LINUX, snaplen=snaplen)
        .server("SA", options=LINUX, snaplen=snaplen)
    )
    c.client("A", options=timestamps(6, 5), snaplen=snaplen)
    c.client("PA", b"question", options=timestamps(6, 5), snaplen=snaplen)
    c.server("PA", b"the answer" * 5000, options=timestamps(6, 6), snaplen=snaplen)
    c.client("A", options=timestamps(7, 6), snaplen=snaplen)
    seen = watch(c.close().frames, level=Level.STREAM)
    record = seen.record
    assert len(seen.records) == 1
    assert (record["client_stream_bytes"], record["server_stream_bytes"]) == (8, 50_000)
    assert (record["client_lost"], record["server_lost"], record["reason"]) == (0, 0, "fin")
    assert record["client_mss"] == (1460 if snaplen >= 58 else None)
    assert record["client_window_scale"] == (7 if snaplen >= 74 else None)
    assert {n for name, n in seen.statistics.items() if name.startswith(("anomaly.", "malformed."))} == {0}
    client, server = seen.streams[0]
    assert client.gaps == (
        ((max(snaplen - 66, 0), 8 - max(snaplen - 66, 0), "snaplen"),) if snaplen < 74 else ()
    )
    assert server.gaps[-1][2] == "snaplen"


def test_windows_are_not_judged_by_a_scale_that_was_cut_off() -> None:
    """Unscaled, a window of 229 would take 229 bytes; the shift of 7 was not captured."""
    c = Conversation()
    c.client("S", options=LINUX, window=64240, snaplen=62)
    c.server("SA", options=LINUX, window=65160, snaplen=62)
    c.client("A", window=229)
    c.server("PA", b"s" * 20_000, window=229)
    c.client("A", window=229)
    c.server("PA", b"t" * 20_000, window=229)
    seen = watch(c.client("A", window=229).close().frames)
    assert (seen.record["server_stream_bytes"], seen.statistics["anomaly.out_of_window"]) == (40_000, 0)


@pytest.mark.parametrize("who", ["client", "server"])
def test_timestamps_are_not_judged_by_a_syn_whose_options_were_cut_off(who: str) -> None:
    """PAWS holds where both ends have agreed on timestamps, which one of the SYNs does not tell."""
    c = Conversation()
    c.client("S", options=timestamps(500), snaplen=54 if who == "client" else None)
    c.server("SA", options=timestamps(500, 500), snaplen=54 if who == "server" else None)
    c.client("A", options=timestamps(501, 500)).client("PA", b"old", options=timestamps(3, 500)).server("A")
    seen = watch(c.close().frames)
    assert (seen.record["client_stream_bytes"], seen.statistics["anomaly.paws"]) == (3, 0)


MD5 = b"\x13\x12" + bytes(16)


@pytest.mark.parametrize("who", ["client", "server", "segment"])
def test_signatures_are_not_judged_by_what_was_cut_off(who: str) -> None:
    c = Conversation()
    c.client("S", options=MD5, snaplen=60 if who == "client" else None)
    c.server("SA", options=MD5, snaplen=60 if who == "server" else None)
    c.client("A", options=MD5)
    c.client("PA", b"signed", options=MD5, snaplen=60 if who == "segment" else None)
    c.server("A", options=MD5)
    seen = watch(c.frames)
    assert (seen.record["client_stream_bytes"], seen.statistics["anomaly.unsigned"]) == (6, 0)


def test_a_new_connection_after_a_cut_syn_in_the_old_one() -> None:
    """A doubted SYN is kept as far as it was captured."""
    old, new = Conversation().handshake(), Conversation(client_isn=77, server_isn=99, start=1_700_000_009.0)
    new.client("S", options=LINUX, snaplen=60).server("SA", options=LINUX).client("A").client(
        "PA", b"new"
    ).server("A")
    seen = watch(old.frames + new.close().frames)
    assert [(r["client_mss"], r["client_bytes"]) for r in seen.records] == [(None, 0), (1460, 3)]


def test_length_on_the_wire_of_4_gib_is_no_stream() -> None:
    """The capture states it; the IP length is 0, as offload leaves it."""
    c = Conversation().handshake().client("PA", b"real").server("A")
    frames = c.frames
    for _ in range(50):
        _time, data, link, _length = Conversation().client("PA", b"0123456789", seq=5).frames[0]
        frames.append((frames[-1][0] + 1000, without_ip_length(data), link, 0xFFFFFFFF))
    seen = watch(frames, level=Level.STREAM)
    assert seen.statistics["malformed.ip"] == 50
    assert (seen.streams[0][0].data, seen.streams[0][0].gaps) == (b"real", ())
    assert seen.record["client_bytes"] == 4


@pytest.mark.parametrize("change", [in_fragments, reversed_fragments])
def test_fragments_make_one_segment(change: object) -> None:
    """RFC 791 section 3.2: in whatever order they come."""
    data = bytes(range(200))
    c = Conversation().handshake().client("PA", data, ip_id=7, change=change).server("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["client_packets"]) == (data, 5)


def test_vlan_of_the_first_packet_is_recorded() -> None:
    """It is a note, not part of the key: routed captures show each direction in its own VLAN."""
    assert watch(Conversation(vlan=12).handshake().frames).record["vlan"] == 12
    assert watch(Conversation().handshake().frames).record["vlan"] is None
    tagged, plain = Conversation(vlan=12).handshake(), Conversation().handshake().client("PA", b"x")
    assert watch(tagged.frames + plain.frames[3:]).record["client_packets"] == 3


def test_vlans_separate_flows_on_request() -> None:
    """Where VLANs reuse addresses, `separate_vlans` keeps their connections apart."""
    scripts = [
        Conversation(vlan=vlan).handshake().client("PA", bytes(vlan)).server("A").close() for vlan in (1, 2)
    ]
    seen = watch(merge(*scripts), settings=Settings(separate_vlans=True))
    assert sorted((r["vlan"], r["client_bytes"], r["reason"]) for r in seen.records) == [
        (1, 1, "fin"),
        (2, 2, "fin"),
    ]


def test_frames_with_the_same_time() -> None:
    """A coarse clock gives many frames one time; their order is that of the capture."""
    c = Conversation(step=0).handshake().client("PA", b"hello").server("PA", b"you").client("A").close()
    record = watch(c.frames).record
    assert (record["reason"], record["client_rtt"], record["start"]) == ("fin", 0.0, record["end"])


def test_clock_set_back_within_a_connection() -> None:
    """The engine's time never goes back, and nothing is measured from a negative distance."""
    c = (
        Conversation()
        .handshake()
        .client("PA", b"hello")
        .wait(-3600)
        .server("A")
        .client("PA", b"x")
        .server("A")
    )
    record = watch(c.close().frames).record
    assert record["client_rtt"] >= 0
    assert record["end"] >= record["start"]
    assert (record["reason"], record["client_stream_bytes"]) == ("fin", 6)


def test_the_same_frame_twice() -> None:
    """A mirror of both ports of a switch delivers each frame twice: sent again, as far as anyone can tell."""
    c = Conversation().handshake().client("PA", b"hello").server("PA", b"world").client("A").close()
    seen = watch([frame for frame in c.frames for _ in range(2)], level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.streams[0][1].data) == (b"hello", b"world")
    assert (seen.record["reason"], seen.setups, seen.record["client_lost"]) == ("fin", 1, 0)
    assert (seen.record["client_bytes"], seen.record["client_stream_bytes"]) == (10, 5)


def test_connections_are_kept_apart() -> None:
    """Equal ports between other addresses, and the reverse, are other flows."""
    ends = [
        ("10.0.0.1:40000", "10.0.0.2:80"),
        ("10.0.0.1:40000", "10.0.0.3:80"),
        ("10.0.0.1:40001", "10.0.0.2:80"),
        ("10.0.0.1:80", "10.0.0.2:40000"),
        ("[::1]:40000", "[::2]:80"),
    ]
    scripts = [
        Conversation(*pair).handshake().client("PA", bytes(i + 1)).server("A").close()
        for i, pair in enumerate(ends)
    ]
    seen = watch(merge(*scripts))
    assert sorted(record["client_bytes"] for record in seen.records) == [1, 2, 3, 4, 5]
    assert {record["reason"] for record in seen.records} == {"fin"}


# --- a SYN captured behind its own connection ----------------------------------------------------------


@pytest.mark.parametrize("numbers", [{}, {"client_isn": 0xFFFFFFFF, "server_isn": 0xFFFFFFFE}])
@pytest.mark.parametrize("before", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("midstream", [False, True])
def test_syn_behind_what_followed_it(before: int, numbers: dict[str, int], *, midstream: bool) -> None:
    """Several queues of a card: the SYN comes behind the SYN-ACK, the ACK, first data of either end."""
    c = Conversation(**numbers).handshake(client_options=mss(1234), server_options=mss(1300))
    c.client("PA", b"hello").server("A").server("PA", b"answer").client("A").client("PA", b"more").server("A")
    syn, *rest = c.close().frames
    frames = [*rest[:before], (rest[before - 1][0], *syn[1:]), *rest[before:]]
    seen = watch(frames, level=Level.STREAM, midstream=midstream)
    client, server = seen.streams[0]
    assert (client.data, client.gaps) == (b"hellomore", ())
    assert (server.data, server.gaps) == (b"answer", ())
    assert (seen.record["reason"], seen.record["midstream"], len(seen.records)) == ("fin", False, 1)
    assert (seen.record["client_mss"], seen.record["server_mss"]) == (1234, 1300)
    assert (seen.record["client_packets"], seen.anomalies) == (7, {})
    assert (seen.record["client_lost"], seen.record["client_retransmits"]) == (0, 0)


@pytest.mark.parametrize("skipped", [2, 3])
def test_syn_behind_what_followed_it_without_its_syn_ack(skipped: int) -> None:
    """As above, picked up at the handshake's ACK, or at first data."""
    c = Conversation().handshake(client_options=mss(1234)).client("PA", b"hello").server("A")
    frames = c.close().frames
    seen = watch([*frames[skipped:4], frames[0], *frames[4:]], level=Level.STREAM, midstream=True)
    assert (seen.streams[0][0].data, seen.record["client_mss"]) == (b"hello", 1234)
    assert (seen.record["reason"], len(seen.records), seen.anomalies) == ("fin", 1, {})


def test_syn_behind_segments_in_another_order() -> None:
    """The first captured need not be the first sent."""
    c = Conversation().handshake().client("PA", b"hello").client("PA", b"more").server("A").close()
    syn, synack, ack, first, second, *rest = c.frames
    frames = [synack, second, syn, first, ack, *rest]
    seen = watch(frames, level=Level.STREAM, midstream=True)
    assert (seen.streams[0][0].data, seen.streams[0][0].gaps) == (b"hellomore", ())
    assert (len(seen.records), seen.record["client_lost"]) == (1, 0)


def test_syn_of_the_next_connection_is_not_taken_for_a_late_one() -> None:
    """Its number has nothing to do with what was captured."""
    c = Conversation().handshake().client("PA", b"hello").server("A")
    next_one = Conversation(client_isn=0x1234, server_isn=0x777, start=1_700_000_002.0).handshake()
    seen = watch(c.frames[3:] + next_one.client("PA", b"again").server("A").close().frames, midstream=True)
    assert [record["midstream"] for record in seen.records] == [True, False]
    assert seen.records[1]["client_stream_bytes"] == 5


def test_single_bytes_captured_behind_their_acknowledgements_are_no_keep_alives() -> None:
    """A mirror port out of step shows each keystroke so; it is at the edge, and was not there before."""
    c = Conversation().handshake()
    for at, key in enumerate((b"l", b"s", b"\n")):
        c.server("A", ack=1 + at + 1).client("PA", key)
    seen = watch(c.close().frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"ls\n"
    assert (seen.record["client_lost"], seen.record["client_stream_bytes"]) == (0, 3)
    assert seen.statistics["anomaly.keep_alive"] == 3, "what they look like, at every level"


@pytest.mark.parametrize(
    ("seconds", "read"), [(-0.002, False), (-0.001, True), (0.049, True), (0.050, False)]
)
def test_a_single_byte_may_be_captured_50_ms_behind_its_acknowledgement(
    *, seconds: float, read: bool
) -> None:
    """One that comes later is a keep-alive, sent where a byte was not captured: its content means nothing."""
    c = Conversation().handshake().client("PA", b"x", captured=False).server("A", ack=2).wait(seconds)
    c.client("A", b"\0", seq=1).client("PA", b"yz", seq=2)
    assert c.frames[-2][0] - c.frames[-3][0] == round((seconds + 0.001) * 1e9)
    seen = watch(c.close().frames, level=Level.STREAM)
    assert seen.streams[0][0].data == (b"\0yz" if read else b"yz")
    assert (seen.record["client_lost"], seen.statistics["anomaly.keep_alive"]) == (not read, 1)
