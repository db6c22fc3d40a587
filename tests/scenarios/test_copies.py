"""A frame captured twice is a copy; neither it nor one captured after its acknowledgement was sent again."""

import struct
from collections.abc import Iterable, Iterator

import pytest

from aiomos import REXMIT
from aiomos.levels import Level
from aiomos.testing.packets import timestamps
from aiomos.testing.scenario import Conversation, Frame, Watcher
from aiomos.testing.scenario import watch_in_batches as watch
from aiomos.ude.events import Hook
from aiomos.ude.filters import Filter

US = 1_000
V4, V6 = ("10.0.0.1:40000", "10.0.0.2:80"), ("[2001:db8::1]:40000", "[2001:db8::2]:80")


class Counted(Conversation):
    """Both ends count the packets that they send, as an IPv4 stack does."""

    def send(self, side: str, flags: str, payload: bytes = b"", **options: object) -> "Counted":
        """Have one end send a segment, see `Conversation.send`."""
        options.setdefault("ip_id", 1000 + len(self.frames))
        super().send(side, flags, payload, **options)  # type: ignore[arg-type]
        return self


def whole(ends: tuple[str, str] = V4) -> Counted:
    """Ten segments of a server, acknowledged by twos."""
    c = Counted(*ends)
    c.handshake().client("PA", b"request").server("A")
    for n in range(10):
        c.server("A", bytes([n]) * 1000)
        if n % 2:
            c.client("A")
    return c.close()  # type: ignore[return-value]


def twice(frames: Iterable[Frame], after: int = 4 * US) -> Iterator[Frame]:
    """Every frame, and once more a little later."""
    both = [(time_ns + delay, *rest) for time_ns, *rest in frames for delay in (0, after)]
    return iter(sorted(both, key=lambda frame: frame[0]))  # type: ignore[arg-type, return-value]


def routed(frame: bytes) -> bytes:
    """The frame on the other side of a router: other addresses of the link, another TTL and IP checksum, a VLAN."""
    ip = bytearray(frame[14:])
    ip[8] -= 1
    checksum = struct.unpack_from(">H", ip, 10)[0] + 0x100
    struct.pack_into(">H", ip, 10, (checksum & 0xFFFF) + (checksum >> 16))
    return b"\x06" * 12 + b"\x81\x00\x00\x07" + frame[12:14] + bytes(ip)


@pytest.mark.parametrize("ends", [V4, V6])
@pytest.mark.parametrize("after", [0, 4 * US, 900 * US])
def test_every_frame_twice(ends: tuple[str, str], after: int) -> None:
    """Counted as what they are: nothing was sent again, and round trips are measured."""
    once = watch(whole(ends).frames).record
    seen = watch(list(twice(whole(ends).frames, after)), level=Level.STREAM)
    record = seen.record
    assert (record["client_retransmits"], record["server_retransmits"]) == (0, 0)
    assert record["server_stream_bytes"] == 10_000
    assert record["server_bytes"] == 20_000
    assert record["server_packets"] == 2 * once["server_packets"]
    assert seen.streams[0][1].data == b"".join(bytes([n]) * 1000 for n in range(10))
    bare = (
        {"client": 7, "server": 2} if ends == V6 else {"client": 0, "server": 0}
    )  # those it cannot be told of
    for side in ("client", "server"):
        assert record[f"{side}_copies"] == once[f"{side}_packets"] - bare[side]
        assert record[f"{side}_rtt"] == pytest.approx(once[f"{side}_rtt"], abs=1e-5)
    assert seen.statistics["copies"] == record["client_copies"] + record["server_copies"]


def test_copies_from_behind_a_router() -> None:
    """TTL, addresses of the link and VLAN are those of the other link; the segment is the same."""
    frames = [
        (time_ns + delay, data, 1, len(data))
        for time_ns, frame, *_ in whole().frames
        for delay, data in ((0, frame), (30 * US, routed(frame)))
    ]
    record = watch(frames).record
    assert (record["client_retransmits"], record["server_retransmits"]) == (0, 0)
    assert (record["client_copies"], record["server_copies"]) == (10, 14)


def test_a_burst_and_then_its_copies() -> None:
    """Up to eight segments may lie between a frame and its copy."""
    c = Counted().handshake()
    for n in range(6):
        c.server("A", bytes([n]) * 100)
    burst = c.frames[3:]
    copies = [(c.frames[-1][0] + 100 * US * (n + 1), *frame[1:]) for n, frame in enumerate(burst)]
    record = watch([*c.frames, *copies]).record
    assert (record["server_retransmits"], record["server_copies"]) == (0, 6)


@pytest.mark.parametrize("ends", [V4, V6])
@pytest.mark.parametrize("apart", [-2 * US, 2 * US])
def test_blocks_of_two_interfaces(ends: tuple[str, str], apart: int) -> None:
    """Those of one are read first, whichever has seen a frame first."""
    c = Conversation(*ends).handshake().client("PA", b"request").server("PA", b"answer" * 100).close()
    one = [(time_ns + 1, *frame) for time_ns, *frame in c.frames]
    other = [(time_ns + apart, *frame) for time_ns, *frame in c.frames]
    record = watch([*one, *other]).record
    assert (record["client_retransmits"], record["server_retransmits"]) == (0, 0)
    assert (record["client_stream_bytes"], record["server_stream_bytes"]) == (7, 600)
    assert record["reason"] == "fin"
    for side in ("client", "server"):
        assert record[f"{side}_copies"] >= 2  # its SYN, its bytes and its FIN


@pytest.mark.parametrize("ends", [V4, V6])
@pytest.mark.parametrize("pause", [0.03, 0.2, 1.0])
def test_retransmissions_are_told_from_copies(ends: tuple[str, str], pause: float) -> None:
    """Sent again it is a packet of its own; without identification, a round trip has gone by."""
    c = Counted(*ends).handshake().client("PA", b"request", ip_id=5)
    c.wait(pause).client("PA", b"request", seq=1, ip_id=6)
    record = watch(c.server("A").close().frames).record
    assert (record["client_retransmits"], record["client_copies"]) == (1, 0)


def test_same_identification_after_a_time_out_is_sent_again() -> None:
    """RFC 1122 section 3.2.1.5: an identical packet may be sent again with the same identification."""
    c = (
        Counted()
        .handshake()
        .client("PA", b"request", ip_id=5)
        .wait(0.3)
        .client("PA", b"request", seq=1, ip_id=5)
    )
    record = watch(c.server("A").close().frames).record
    assert (record["client_retransmits"], record["client_copies"]) == (1, 0)


def test_retransmission_captured_twice() -> None:
    """One was sent again, and it has a copy as the first has."""
    c = (
        Counted()
        .handshake()
        .client("PA", b"request")
        .wait(0.3)
        .client("PA", b"request", seq=1)
        .server("A")
        .close()
    )
    record = watch(list(twice(c.frames))).record
    assert (record["client_retransmits"], record["client_copies"]) == (1, record["client_packets"] // 2)


def test_other_bytes_under_the_same_marks_are_no_copy() -> None:
    """A checksum is easily made to fit: what differs is a conflict and counts as sent again."""
    c = Counted().handshake().client("PA", b"abcd", ip_id=5).client("PA", b"cdab", seq=1, ip_id=5).server("A")
    seen = watch(c.close().frames, level=Level.STREAM)
    assert (seen.record["client_retransmits"], seen.record["client_copies"]) == (1, 0)
    assert seen.statistics["conflicts"] == 1


def test_duplicate_acknowledgements_are_no_copies() -> None:
    """They are alike but for their identification; IPv6 has none, so there each is taken as sent."""
    for ends in (V4, V6):
        c = Counted(*ends).handshake(client_options=timestamps(1), server_options=timestamps(1, 1))
        for _ in range(4):
            c.client("A", b"d" * 100, options=timestamps(2, 1))
        for _ in range(3):
            c.wait(-0.00099).server("A", ack=101, options=timestamps(2, 2))
        assert watch(c.frames).record["server_copies"] == 0


@pytest.mark.parametrize("byte", [b"", b"x"])
@pytest.mark.parametrize("window", [65535, 0])
def test_probes_captured_twice(byte: bytes, window: int) -> None:
    """Keep-alives and probes of a shut window are copied as all is; what is refused for its numbers is not compared."""
    c = Counted().handshake().client("PA", b"request").server("A", window=window)
    for _ in range(2):
        c.wait(1).client("A", byte, seq=len(b"request")).server("A", window=window)
    assert watch(c.frames).record["client_copies"] == 0
    record = watch(list(twice(c.frames))).record
    assert (record["client_copies"], record["server_copies"]) == (5, 4)
    assert (record["client_bytes"], record["client_retransmits"]) == (14 + 4 * len(byte), 0)


def test_what_its_receiver_refuses_is_no_copy() -> None:
    """Its bytes are not at hand, so they may differ under the same marks: each is charged."""
    c = Counted().handshake().client("PA", b"request").server("A", window=100)
    for filling in (b"\1\2", b"\2\1"):
        c.client("A", (filling * 200)[:200], seq=5000, ip_id=7, forged=True)
    record = watch(c.frames).record
    assert (record["client_packets"], record["client_copies"]) == (5, 0)


def test_a_copy_raises_no_rexmit() -> None:
    """The event is about what was sent again."""
    raised: list[int] = []

    def note(event: object) -> None:
        assert event is not None
        raised.append(1)

    c = (
        Counted()
        .handshake()
        .client("PA", b"request")
        .wait(0.3)
        .client("PA", b"request", seq=1)
        .server("A")
        .close()
    )
    watcher = Watcher(level=Level.STREAM)
    rule = watcher.engine.add_rule(Filter("").program, Level.STREAM)
    watcher.engine.add_call(rule, REXMIT, Hook.RECEIVER, note, ("event",))
    watcher.feed(twice(c.frames))
    watcher.finish()
    assert len(raised) == 1


# --- captured after its acknowledgement -------------------------------------------------------------


def skewed(late_ns: int) -> list[Frame]:
    """A mirror whose ports are out of step: the server's side comes late."""
    c = Counted(step=0.005).handshake().client("PA", b"request").server("A")
    for n in range(20):
        c.server("A", bytes([n]) * 1000).client("A")
    frames = [
        (time_ns + (5_000_000 + late_ns if data[26:30] == bytes([10, 0, 0, 2]) else 0), data, *rest)
        for time_ns, data, *rest in c.close().frames
    ]
    return sorted(frames, key=lambda frame: frame[0])  # type: ignore[return-value, arg-type]


@pytest.mark.parametrize("late_ns", [1 * US, 20 * US, 900 * US])
def test_segments_captured_after_their_acknowledgement(late_ns: int) -> None:
    """Each was captured once, so it was sent once as far as anybody can tell."""
    seen = watch(skewed(late_ns), level=Level.STREAM)
    assert (seen.record["server_stream_bytes"], seen.record["server_retransmits"]) == (20_000, 0)
    assert (seen.record["server_lost"], seen.streams[0][1].gaps) == (0, ())
    assert seen.record["server_out_of_order"] == 21  # the FIN, too


@pytest.mark.parametrize("apart", [1, 2, 3, 5])
@pytest.mark.parametrize("level", [Level.BYTES, Level.STREAM])
def test_several_segments_captured_after_one_acknowledgement_of_them_all(level: Level, apart: int) -> None:
    """RFC 9293 section 3.8.6.3: acknowledgements are delayed, so that one is for two segments, or for more."""
    c = Counted().handshake().client("PA", b"request").server("A")
    for _ in range(10):
        for n in range(apart):
            c.server("A", bytes([n]) * 1000)
        c.client("A").wait(0.02)
    frames = [
        (time_ns + (10_000_000 if data[26:30] == bytes([10, 0, 0, 2]) else 0), data, *rest)
        for time_ns, data, *rest in c.close("server").frames
    ]
    seen = watch(sorted(frames, key=lambda frame: frame[0]), level=level)
    record = seen.record
    assert (record["server_stream_bytes"], record["server_lost"], record["reason"]) == (
        10_000 * apart,
        0,
        "fin",
    )
    assert (record["server_retransmits"], record["client_retransmits"]) == (0, 0)


@pytest.mark.parametrize(("wait", "again"), [(0.05, 0), (0.05 + 1e-9, 2)])
def test_it_is_captured_within_50_ms_of_its_acknowledgement(wait: float, again: int) -> None:
    """Two paths to one mirror differ by less; a time-out is longer."""
    c = Counted(step=0).handshake()
    c.server("A", b"d" * 1000, captured=False).server("A", b"e" * 1000, captured=False)
    c.client("A").wait(wait).server("A", b"d" * 1000, seq=1).server("A", b"e" * 1000, seq=1001)
    assert watch(c.frames).record["server_retransmits"] == again


def test_lost_segment_captured_after_the_acknowledgement_of_its_retransmission() -> None:
    """What came behind it was captured before: it was sent again."""
    c = Counted().handshake().server("A", b"d" * 1000, captured=False)
    for _ in range(3):
        c.server("A", b"e" * 1000).client("A", ack=1)
    c.wait(0.02).client("A").wait(0.005).server("A", b"d" * 1000, seq=1)
    assert watch(c.frames).record["server_retransmits"] == 1


def test_segment_long_after_its_acknowledgement_was_sent_again() -> None:
    """The capture lacked it the first time; its second coming is a time-out's."""
    c = Counted().handshake().server("A", b"d" * 1000, captured=False).client("A")
    c.wait(0.3).server("A", b"d" * 1000, seq=1)
    assert watch(c.frames).record["server_retransmits"] == 1


@pytest.mark.parametrize("again", [1, 3])
def test_copied_syns_of_a_connection_on_the_same_ports(again: int) -> None:
    """A SYN that is doubted, and its copies, are of the new connection once it is believed."""
    c = whole()
    for n in range(again):
        c.wait(0.3 if n else 0).client("S", seq=50_000, forged=True)
    c.server("SA", seq=90_000, ack=50_001).client("A", seq=50_001, ack=90_001)
    seen = watch(list(twice(c.frames)))
    first, second = sorted(seen.records, key=lambda record: record["start"])
    assert (first["client_retransmits"], second["client_retransmits"]) == (0, again - 1)
    assert second["client_packets"] == 2 * again + 2
    assert second["client_copies"] == again + 1


def test_copied_syn_that_a_reset_answered() -> None:
    """The SYN again, and its copy, after the first was refused: no counter runs below nothing."""
    c = Counted().client("S").server("RA").client("S", seq=0).server("SA", ack=1).client("A")
    records = watch(list(twice(c.frames))).records
    assert [record["reason"] for record in records] == ["rst", "end_of_capture"]
    for record in records:
        for side in ("client", "server"):
            assert record[f"{side}_retransmits"] <= 1
            assert record[f"{side}_copies"] <= record[f"{side}_packets"] // 2


TICK = 1024  # ns: marks count time in these
WITHIN = 50_000_000 // TICK
UNMARKED = 3_000_000 // TICK


@pytest.mark.parametrize(
    ("later", "is_copy"),
    [
        (WITHIN * TICK, True),
        ((WITHIN + 1) * TICK - 1, True),
        ((WITHIN + 1) * TICK, False),
        (-WITHIN * TICK, True),
        (-WITHIN * TICK - 1, False),
    ],
)
def test_with_an_identification_within_50_ms(later: int, is_copy: bool) -> None:
    c = Counted().handshake().client("PA", b"request")
    *before, last = c.frames
    at = last[0] // TICK * TICK
    record = watch([*before, (at, *last[1:]), (at + later, *last[1:])]).record
    assert (record["client_copies"], record["client_retransmits"]) == ((1, 0) if is_copy else (0, 1))


@pytest.mark.parametrize(
    ("later", "is_copy"),
    [
        (UNMARKED * TICK, True),
        ((UNMARKED + 1) * TICK - 1, True),
        ((UNMARKED + 1) * TICK, False),
        (-UNMARKED * TICK, True),
        (-UNMARKED * TICK - 1, False),
    ],
)
def test_without_one_within_3_ms_where_no_round_trip_is_known(later: int, is_copy: bool) -> None:
    c = Conversation(*V6).client("PA", b"request").client("PA", b"another")
    *before, last = c.frames
    at = last[0] // TICK * TICK
    record = watch([*before, (at, *last[1:]), (at + later, *last[1:])], midstream=True).record
    assert (record["client_copies"], record["client_retransmits"]) == ((1, 0) if is_copy else (0, 1))


@pytest.mark.parametrize(("length", "copies"), [(7, 7), (8, 8), (9, 0)])
def test_among_the_eight_segments_before(length: int, copies: int) -> None:
    """One later, a copy takes the place of what the next is a copy of, and so on."""
    c = Counted().handshake()
    for n in range(length):
        c.server("A", bytes([n]) * 100)
    burst = c.frames[-length:]
    again = [(c.frames[-1][0] + 100 * US * (n + 1), *frame[1:]) for n, frame in enumerate(burst)]
    record = watch([*c.frames, *again]).record
    assert (record["server_copies"], record["server_retransmits"]) == (copies, length - copies)
