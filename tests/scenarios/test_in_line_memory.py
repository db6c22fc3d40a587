"""A batch that has used up what it may have of memory: what would need more does not leave wrong, and comes again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from aiomos import PKT_IN, App, Flow, Hook, Packet, Runtime, Settings
from aiomos.testing.batches import feed_frames
from aiomos.testing.hosts import read_packet, read_segment
from aiomos.testing.packets import ethernet, fragment_ipv4, ipv4, tcp, tcp_frame, udp_frame
from aiomos.transport.interfaces import Interface
from aiomos.transport.transport import Transport
from tests.traffic import START_NS, in_loop

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
ISN, SERVER_ISN = 2**32 - 12, 500
BLOCK = bytes(1 << 20)
MOST_BLOCKS = 64
FILLING = 999
"""Window of the segments in whose callback the memory is used up."""


def sent(at: int, payload: bytes = b"", flags: str = "A", **options: Any) -> bytes:
    """A segment of the client's, at a stream offset."""
    return tcp_frame(seq=(ISN + 1 + at) % 2**32, ack=SERVER_ISN + 1, flags=flags, payload=payload, **options)


OPENING = [
    tcp_frame(seq=ISN),
    tcp_frame(SERVER, CLIENT, 80, 1234, SERVER_ISN, ISN + 1, "SA"),
    sent(0),
]


class Wire(Transport):
    """Keeps what is sent, by interface; of what fills the memory, how many."""

    forwards = (1, 0)

    def __init__(self) -> None:
        self.interfaces.extend(Interface("", f"end{number}", 1, 0) for number in (0, 1))
        self.sent: list[tuple[int, bytes]] = []
        self.fillings = 0

    def send(self, frame: bytes, interface: int = 0) -> None:
        """Keep a frame."""
        if len(frame) == len(BLOCK):
            self.fillings += 1
        else:
            self.sent.append((interface, frame))


@attrs.frozen
class Passed:
    """What came of batches: what each sent, by interface, and the counters after it."""

    sent: list[list[tuple[int, bytes]]]
    counters: list[dict[str, int]]
    fillings: int

    def segments(self, batch: int, interface: int = 1) -> list[tuple[int, str, bytes]]:
        """Offset, flags and payload of each segment of the client's that a batch sent."""
        read = [read_segment(packet) for at, frame in self.sent[batch] if at == interface
                for packet in [read_packet(frame)] if packet is not None]  # fmt: skip
        return [((segment.seq - ISN - 1) % 2**32, segment.flags, segment.payload) for segment in read]


def pass_batches(
    batches: Sequence[Sequence[bytes]],
    act: Callable[..., object],
    *,
    edits: bool | None = None,
    hook: Hook = Hook.SENDER,
    settings: Settings | None = None,
) -> Passed:
    """Have batches pass an app that uses up the memory where it is told to, then acts."""
    wire, passed, counters = Wire(), [], []
    app: App[None] = App("greedy")
    runtimes: list[Runtime] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def fill(pkt: Packet) -> None:
        if pkt.window == FILLING:
            for _ in range(MOST_BLOCKS + 1):
                runtimes[0].send(BLOCK, 1)

    app.on(PKT_IN, hook=hook, edits=edits)(act)

    async def main() -> None:
        async with Runtime(transport=wire, settings=settings or Settings(on_error="raise")) as runtime:
            runtimes.append(runtime)
            await runtime.attach(app)
            for batch in batches:
                feed_frames(runtime.engine, [(START_NS, frame, 1, len(frame)) for frame in batch])
                runtime.engine.flush(wire)
                passed.append(wire.sent.copy())
                wire.sent.clear()
                counters.append(
                    {name.removeprefix("in_line."): count for name, count in runtime.statistics().items()}
                )

    in_loop(main(), "asyncio")
    return Passed(passed, counters, wire.fillings)


def nothing() -> None:
    """Only watch."""


def shout(pkt: Packet) -> None:
    if pkt.payload:
        pkt.replace(pkt.payload.upper() + b"!")


def test_frames_that_nobody_changes_need_none() -> None:
    frames = [sent(0, b"full", window=FILLING), sent(4, b"more")]
    passed = pass_batches([OPENING, frames], nothing)
    assert passed.sent[1] == [(1, frame) for frame in frames]
    assert (passed.fillings, passed.counters[1]["no_room"]) == (MOST_BLOCKS, 1)
    assert passed.counters[1]["forwarded"] == 5


def test_the_next_batch_has_all_of_it_again() -> None:
    filling = sent(0, b"full", window=FILLING)
    passed = pass_batches([OPENING, [filling], [filling]], nothing)
    assert passed.fillings == 2 * MOST_BLOCKS
    assert [each["no_room"] for each in passed.counters] == [0, 1, 2]


def test_a_segment_that_cannot_be_edited_leaves_when_it_comes_again() -> None:
    """It is edited then as it was before; no byte of it has passed."""
    passed = pass_batches([OPENING, [sent(0, b"quiet", window=FILLING)], [sent(0, b"quiet")]], shout)
    assert [passed.segments(batch) for batch in (1, 2)] == [[], [(0, "A", b"QUIET!")]]
    before, full, after = passed.counters
    assert [each["refused"] for each in (before, full, after)] == [0, 1, 1]
    assert [each["dropped"] for each in (before, full, after)] == [0, 1, 1]
    assert [each["altered"] for each in (before, full, after)] == [0, 0, 1]
    assert full["no_room"] == 2


def test_deleted_data_is_acknowledged_when_it_comes_again() -> None:
    def delete(pkt: Packet) -> None:
        if pkt.payload:
            pkt.replace(b"")

    passed = pass_batches([OPENING, [sent(0, b"gone", window=FILLING)], [sent(0, b"gone")]], delete)
    assert passed.sent[1] == []
    assert passed.counters[1]["no_room"] == 3  # the app's own, the segment and its acknowledgement
    assert passed.segments(2) == [(0, "A", b"")]
    ((packet,),) = [[read_packet(frame) for at, frame in passed.sent[2] if at == 0]]
    assert packet is not None
    answer = read_segment(packet)
    assert (answer.ack, answer.flags, answer.payload) == ((ISN + 1 + 4) % 2**32, "A", b"")


@pytest.mark.parametrize("act", ["reject", "reset"])
def test_who_is_dropped_is_not_told(act: str) -> None:
    def end(pkt: Packet, flow: Flow) -> None:
        if pkt.payload:
            pkt.reject() if act == "reject" else flow.reset()

    passed = pass_batches([OPENING, [sent(0, b"x", window=FILLING)], [sent(0, b"x")]], end)
    assert passed.sent[1] == []
    assert (passed.counters[1]["rejected"], passed.counters[1]["resets"]) == (0, 0)
    assert passed.counters[1]["dropped"] == 1
    assert passed.counters[1]["no_room"] == (2 if act == "reject" else 4)  # both ends, and who goes on
    assert all("R" in flags for _, flags, _ in passed.segments(2, 0))
    assert len(passed.segments(2, 0)) >= 1


def test_a_syn_keeps_its_data_from_passing() -> None:
    syn = tcp_frame(seq=ISN, payload=b"early", window=FILLING)
    passed = pass_batches([[syn], [tcp_frame(seq=ISN, payload=b"early")]], nothing, edits=True)
    assert passed.sent[0] == []
    assert (passed.counters[0]["dropped"], passed.counters[0]["bare_syns"]) == (1, 0)
    assert passed.segments(1) == [(2**32 - 1, "S", b"")]
    assert (passed.counters[1]["dropped"], passed.counters[1]["bare_syns"]) == (1, 1)


def test_what_has_waited_is_given_up() -> None:
    """It comes again, as nobody has acknowledged it."""
    filled = [sent(6, b"third"), sent(3, b"two"), sent(0, b"one", window=FILLING)]
    passed = pass_batches(
        [OPENING, filled, [sent(0, b"one"), sent(3, b"two"), sent(6, b"third")]], nothing, edits=True
    )
    assert passed.segments(1) == [(0, "A", b"one")]
    assert (passed.counters[1]["held"], passed.counters[1]["given_up"]) == (2, 1)
    assert passed.counters[1]["waiting_bytes"] > 0  # the third, still: there is a hole before it
    assert passed.segments(2) == [(0, "A", b"one"), (3, "A", b"two"), (6, "A", b"third"), (6, "A", b"third")]
    assert (passed.counters[2]["given_up"], passed.counters[2]["waiting_bytes"]) == (1, 0)


@pytest.mark.parametrize("late", [False, True], ids=["before it is whole", "when it is whole"])
def test_a_packet_of_fragments_does_not_pass(late: bool) -> None:
    ends: dict[str, Any] = {"src": CLIENT, "dst": SERVER}
    more: dict[str, Any] = {
        "sport": 1234,
        "dport": 80,
        "seq": ISN + 1,
        "ack": SERVER_ISN + 1,
        "window": FILLING if late else 9,
    }
    segment = tcp(b"x" * 64, flags="A", **ends, **more)
    fragments = [ethernet(each) for each in fragment_ipv4(ipv4(segment, proto=6, **ends), 32)]
    passed = pass_batches([OPENING, [sent(0, window=9 if late else FILLING), *fragments]], nothing)
    assert passed.segments(1) == [(0, "A", b"")]
    counters = passed.counters[1]
    assert len(fragments) == 3
    assert (counters["held"], counters["refragmented"], counters["dropped"]) == (2, 0, 1)
    assert counters["no_room"] == (3 if late else 2)  # its place is the app's, if it is not whole yet
    assert counters["forwarded"] == 4
    assert counters["refused"] == late


def test_a_datagram_that_cannot_be_replaced_is_refused() -> None:
    """The app is told, and decides what becomes of it."""
    refused: list[str] = []

    def replace(pkt: Packet) -> None:
        if pkt.sport == 5353:
            try:
                pkt.replace(b"other")
            except ValueError as error:
                refused.append(str(error))

    datagram = udp_frame(CLIENT, SERVER, 5353, payload=b"question")
    passed = pass_batches([[sent(0, window=FILLING), datagram], [datagram]], replace, hook=Hook.RAW)
    assert refused == ["pkt.replace(): this packet cannot carry that, or was not captured whole"]
    assert passed.sent[0] == [(1, sent(0, window=FILLING)), (1, datagram)]
    assert passed.sent[1] == [(1, udp_frame(CLIENT, SERVER, 5353, payload=b"other"))]
    assert [each["altered"] for each in passed.counters] == [0, 1]
