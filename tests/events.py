"""What an app is told of a conversation, event by event, as text that a test can write down.

::

    assert story(Conversation().client("S").frames)[0] == (
        "client S: raw <in <start <c:LISTEN>SYN_SENT in start c:LISTEN>SYN_SENT s:LISTEN>SYN_RECEIVED out"
    )

One line a frame, and one that begins with ``then`` for what happens behind it without a packet. In it one word an
event, in order; ``<`` is the hook SENDER:

- ``raw``, ``<in``, ``in``, ``out``: PKT_IN at the three hooks, PKT_OUT
- ``<start``, ``start``, ``setup``, ``end:fin``: CONN_START, CONN_SETUP, CONN_TEARDOWN with its reason
- ``c:LISTEN>SYN_SENT``: STATE_CHANGE, of the client here
- ``error:KIND``, ``rexmit:KIND``, ``data``; where they are about bytes, followed by whose and which: ``:c[0:5]``
- ``orphan``, ``timeout``
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, TypeVar

import attrs

from aiomos import (
    CONN_SETUP,
    CONN_START,
    PKT_IN,
    PKT_OUT,
    App,
    Event,
    Flow,
    Half,
    Hook,
    Level,
    Occurrence,
    Packet,
    Report,
    Settings,
    serve,
)
from aiomos.testing.packets import ethernet
from aiomos.testing.scenario import START, Conversation
from aiomos.transport.pcap import CaptureReader
from aiomos.transport.source import FrameSource
from aiomos.ude.user import AnyEvent
from tests.traffic import ETHERNET, Frame, Pieces, Traffic, in_loop

Result = TypeVar("Result")

PLACES = [(event, hook) for event in Event for hook in event.hooks]
"""Every event at every hook."""

WORDS = {
    (PKT_IN, Hook.RAW): "raw",
    (PKT_IN, Hook.SENDER): "<in",
    (PKT_IN, Hook.RECEIVER): "in",
    (PKT_OUT, Hook.RECEIVER): "out",
    (CONN_START, Hook.SENDER): "<start",
    (CONN_START, Hook.RECEIVER): "start",
    (CONN_SETUP, Hook.RECEIVER): "setup",
}
LETTERS = "FSRPAUEC"


def source_of(frames: Iterable[Frame], *, batch: int | None = None) -> FrameSource:
    """Frames as a source of batches of so many frames, or of one batch."""
    frames = list(frames)
    size = batch or len(frames) or 1
    traffic = Traffic()
    traffic.batches = [frames[at : at + size] for at in range(0, len(frames), size)] or [[]]
    return CaptureReader(Pieces([traffic.pcapng()]), [])


def play(
    frames: Iterable[Frame], *apps: App[Any], batch: int | None = 1, settings: Settings | None = None
) -> Report:
    """Run apps over frames; what they raise comes out."""
    settings = settings or Settings(on_error="raise")
    return in_loop(serve(*apps, source=source_of(frames, batch=batch), settings=settings), "asyncio")


@cache
def everything() -> list[Frame]:
    """Two connections, and what belongs to none: each event happens more than once, given `sets_timers`."""
    one = Conversation().handshake().client("PA", b"hello").client("PA", b"hello", seq=1).server("A")
    one.server("PA", b"x", seq=10).wait(3).client("A").client("PA", b"ab", seq=9).client("PA", b"cd", seq=6)
    other = Conversation("10.0.0.9:1234", start=START + 5).handshake()
    other.client("PA", b"ghi").wait(0.3).client("PA", b"ghi", seq=1).server("A")
    other.client("PA", b"late", seq=90).close()
    strays = [
        Conversation(f"10.0.0.7:{port}", start=START + 20 + port).client("A").frames[0] for port in (1, 2)
    ]
    time_ns = strays[-1][0]
    arp = [(time_ns + number, ethernet(bytes(28), ethertype=0x0806), ETHERNET, 60) for number in (1, 2)]
    last = Conversation("10.0.0.8:1", start=START + 9000).client("A").frames
    return [*one.frames, *other.frames, *strays, *arp, *last]


def sets_timers(app: App[Any]) -> None:
    """Have two timers run out in each connection."""

    @app.on(CONN_SETUP)
    def begin(flow: Flow) -> None:
        flow.timer(0.01)
        flow.timer(0.5)


def flags_of(packet: Packet) -> str:
    """Flags as letters, ``-`` for none."""
    return "".join(letter for bit, letter in enumerate(LETTERS) if packet.flags >> bit & 1) or "-"


def word(hook: Hook, occurrence: Occurrence) -> str:
    """One event as a word."""
    event, side = occurrence.event, occurrence.side[0]
    stretch = ""
    if occurrence.length is not None:
        assert occurrence.offset is not None
        stretch = f":{side}[{occurrence.offset}:{occurrence.offset + occurrence.length}]"
    match event:
        case Event.STATE_CHANGE:
            assert occurrence.before is not None
            assert occurrence.after is not None
            mark = "<" if hook is Hook.SENDER else ""
            return f"{mark}{side}:{occurrence.before.name}>{occurrence.after.name}"
        case Event.ERROR | Event.REXMIT:
            return f"{event.value}:{occurrence.kind}{stretch}"
        case Event.CONN_NEW_DATA:
            return f"data{stretch}"
        case Event.CONN_TEARDOWN:
            assert occurrence.flow is not None
            return f"end:{occurrence.flow.reason}"
    assert isinstance(event, Event)
    return WORDS.get((event, hook), event.value)


class Storyteller:
    """Notes what its app is told.

    Args:
        places: Events and hooks to note.
        level: How much of flows to follow; by default each event has the least at which it exists.
        midstream: Whether to be told of flows whose SYN was not captured.
        filter: Which flows.
        server_port: Tells the two ends apart where no flow is known.
    """

    def __init__(
        self,
        places: Sequence[tuple[Event, Hook]] = PLACES,
        *,
        level: Level | None = None,
        midstream: bool = False,
        filter: str = "",  # noqa: A002 - the word of the field
        server_port: int = 80,
    ) -> None:
        self.app: App[None] = App("story")
        self.notes: list[tuple[str, str]] = []
        self.server_port = server_port
        for event, hook in places:
            note = self._noter(hook)
            self.app.on(event, hook=hook, level=level, midstream=midstream, filter=filter)(note)

    def _noter(self, hook: Hook) -> Callable[..., None]:
        def note(pkt: Packet | None, event: Occurrence) -> None:
            self.notes.append((self.label(pkt) if pkt is not None else "then", word(hook, event)))

        return note

    def label(self, packet: Packet) -> str:
        """Who sent a packet, and what it is."""
        if packet.fragment_offset or packet.more_fragments:
            return f"fragment at {packet.fragment_offset}"
        if packet.proto != 6 or packet.flags is None:
            return f"protocol {packet.proto}"
        side = "client" if packet.dport == self.server_port else "server"
        return f"{side} {flags_of(packet)}" + (f" {packet.payload_len}" if packet.payload_len else "")

    @property
    def lines(self) -> list[str]:
        """What was noted, one line a frame; ``raw`` begins one."""
        lines: list[str] = []
        before = None
        for label, noted in self.notes:
            if noted == "raw" or label != before:
                lines.append(f"{label}:")
            lines[-1] += f" {noted}"
            before = label
        return lines


def story(
    frames: Iterable[Frame],
    *,
    batch: int | None = 1,
    settings: Settings | None = None,
    **options: Any,
) -> list[str]:
    """Tell what an app that waits for every event is told."""
    teller = Storyteller(**options)
    play(frames, teller.app, batch=batch, settings=settings)
    return teller.lines


@attrs.frozen
class Moment:
    """All that a callback can ask for."""

    pkt: Packet
    flow: Flow
    half: Half
    side: str
    time: float
    event: Occurrence


def look(
    frames: Iterable[Frame],
    event: AnyEvent,
    what: Callable[[Moment], Result],
    *,
    batch: int | None = 1,
    settings: Settings | None = None,
    prepare: Callable[[App[Any]], object] | None = None,
    **options: Any,
) -> list[Result]:
    """Look at something each time that an event happens.

    Args:
        frames: What happens.
        event: The event.
        what: What to look at.
        batch: Frames a batch.
        settings: Of the run.
        prepare: Does something else to the app.
        **options: As `App.on` takes them.
    """
    seen: list[Result] = []
    app: App[None] = App("look")
    if prepare is not None:
        prepare(app)

    @app.on(event, **options)
    def note(pkt: Packet, flow: Flow, half: Half, side: str, time: float, event: Occurrence) -> None:
        seen.append(what(Moment(pkt, flow, half, side, time, event)))

    play(frames, app, batch=batch, settings=settings)
    return seen
