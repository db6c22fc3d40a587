"""What must hold in line whatever comes, and whatever apps decide about it.

Callbacks at every event and hook make random verdicts, under budgets that are met all the time. Nothing may raise but
what is documented, no frame may leave worse than it came, every frame is in the counters, every session that was made
is told to have ended once, and nothing is in use at the end.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from aiomos import Budgets, Event, Filter, Flow, Hook, Level, MonitorConnection, Packet, Settings, Timeouts
from aiomos.engine.engine import Engine
from aiomos.errors import FlowClosed, NotInLineError, SessionError, StalePacketError
from aiomos.face.pressure import Pressure
from aiomos.line.translation import Session
from aiomos.testing.hosts import read_packet
from aiomos.transport.interfaces import Interface
from aiomos.transport.transport import Transport
from tests.fuzz.hostile import BOUNDLESS, Frame
from tests.fuzz.meddling import Meddler

EXPECTED = (ValueError, BufferError, NotInLineError, FlowClosed, SessionError, StalePacketError)
"""What verdicts may raise."""

SECOND = 1_000_000_000
TIGHT = Budgets(
    flows=8,
    half_open=4,
    held_bytes=8192,
    held_bytes_half=2048,
    fragment_bytes=4096,
    sessions=3,
    edited_bytes=4096,
    edited_bytes_half=900,
)
ROOMY = Budgets(flows=1000, sessions=1000)


class BrokenCallbackError(Exception):
    """Raised by callbacks on purpose."""


@attrs.frozen
class Choices:
    """How an input is run.

    Attributes:
        seed: Of the verdicts.
        tight: Whether budgets are tiny.
        closed: Whether a packet is dropped whose callback raised.
        verify: Whether checksums are verified.
        decapsulate: Whether tunnels are looked into.
        forgetful: Whether flows are forgotten as soon as they are closed.
        batch: Frames fed at once.
        calm: Whether most packets are left alone, so that connections get somewhere.
        meddles: Whether there is an app, too, that changes everything while it is called.
    """

    seed: int = 0
    tight: bool = False
    closed: bool = False
    verify: bool = False
    decapsulate: bool = False
    forgetful: bool = False
    batch: int = 16
    calm: bool = False
    meddles: bool = False

    def settings(self) -> Settings:
        """Make the engine's settings."""
        return Settings(
            budgets=TIGHT if self.tight else ROOMY,
            timeouts=Timeouts(time_wait=0, reset=0) if self.forgetful else Timeouts(),
            checksums="verify" if self.verify else "ignore",
            decapsulate=self.decapsulate,
            fail="closed" if self.closed else "open",
        )


class Wire(Transport):
    """Two ends for each link type; gives the frames it is told to, at their own times, and keeps those sent."""

    virtual = True

    def __init__(self, linktypes: Sequence[int]) -> None:
        self.linktypes = list(linktypes)
        for linktype in self.linktypes:
            self.interfaces.extend(Interface("", f"{linktype}{side}", linktype, 0) for side in "ab")
        self.forwards = [*(number ^ 1 for number in range(2 * len(self.linktypes))), None]
        self.interfaces.append(Interface("", "nowhere", self.linktypes[0], 0))
        self.waiting: list[tuple[int, bytes, int]] = []
        self.sent: list[tuple[bytes, int]] = []
        self.all_sent: list[bytes] = []

    def receive(self) -> list[tuple[int, bytes, int]]:
        """Return what waits."""
        waiting, self.waiting = self.waiting, []
        return waiting

    def send(self, frame: bytes, interface: int = 0) -> None:
        """Keep a frame."""
        self.sent.append((frame, interface))
        self.all_sent.append(frame)


class InLineRun:
    """One engine in line with its judges."""

    def __init__(self, choices: Choices, linktypes: Sequence[int]) -> None:
        self.choices = choices
        self.chosen = random.Random(choices.seed)
        self.wire = Wire(linktypes)
        self.engine = Engine(choices.settings(), bytes(16), self._failed)
        self.engine.open(self.wire.forwards, [interface.name for interface in self.wire.interfaces])
        self.sessions: list[Session] = []
        self.ended: list[Session] = []
        self.flows: list[Flow] = []
        self.packets: list[Packet] = []
        self.frames = self.sent = self.malformed = 0
        everything = Filter("").program
        account = self.account = self.engine.add_account("judge")
        rule = self.engine.add_rule(everything, Level.STREAM, account=account, midstream=True, keeps=True)
        unbound = self.engine.add_rule(everything, Level.STATE, account=account, midstream=True, unbound=True)
        for event in Event:
            for hook in event.hooks:
                free = hook is Hook.RAW or event is Event.ORPHAN
                judge = self.judge_frame if free else self.judge
                parameters = ("pkt",) if free else ("pkt", "flow")
                number = unbound if free else rule
                self.engine.add_call(number, event, hook, judge, parameters, edits=not free)
        self._pressure = Pressure(BOUNDLESS, BOUNDLESS)
        self.engine.add_rule(everything, Level.STREAM, opener=self._open, midstream=True)
        self.meddler = Meddler(self.engine, random.Random(choices.seed)) if choices.meddles else None

    def _open(self, flow: Flow) -> MonitorConnection:
        return MonitorConnection(flow, self._pressure, self.engine.released, "mark")

    def _failed(self, _callback: object, _flow: object, error: Exception) -> None:
        if not isinstance(error, BrokenCallbackError):
            raise error

    # --- verdicts -----------------------------------------------------------------------------------

    def judge_frame(self, pkt: Packet) -> None:
        """Make a verdict about a packet."""
        self.judge(pkt, None)

    def judge(self, pkt: Packet | None, flow: Flow | None) -> None:
        """Make one verdict, or none, or two."""
        if self.chosen.random() < (0.95 if self.choices.calm else 0.4):
            return
        for _ in range(self.chosen.choice((1, 1, 1, 2, 3))):
            acts: list[Callable[[], object]] = [
                self._close_session,
                self._old_packet,
                self._old_flow,
                self._send,
            ]
            if pkt is not None:
                acts += [lambda: self._on_packet(pkt)] * 8
            if flow is not None:
                acts += [lambda: self._on_flow(flow)] * 2
            with contextlib.suppress(*EXPECTED):
                self.chosen.choice(acts)()
        if self.chosen.random() < 0.01:
            raise BrokenCallbackError

    def _on_packet(self, pkt: Packet) -> None:
        if self.chosen.random() < 0.05:
            self.packets = [*self.packets[-9:], pkt]
        match self.chosen.randrange(7):
            case 0:
                pkt.drop()
            case 1:
                pkt.reject(self.chosen.choice(("port", "prohibited")))
            case 2 | 3:
                self._set(pkt)
            case 4:
                size = self.chosen.choice((0, 1, pkt.payload_len or 0, 700, 3000))
                now = pkt.payload or b""
                pkt.replace(self.chosen.choice((self.chosen.randbytes(size), now[:size], now + bytes(8))))
            case 5:
                self._session(pkt)
            case 6:
                repr(
                    (
                        pkt,
                        pkt.out_interface,
                        pkt.interface,
                        pkt.known,
                        pkt.frame,
                        pkt.raw,
                        pkt.payload,
                        pkt.copy(),
                    )
                )

    def _set(self, pkt: Packet) -> None:
        six = pkt.ip_version == 6
        address = f"2001:db8::{self.chosen.randrange(9)}" if six else f"10.0.0.{self.chosen.randrange(9)}"
        values: dict[str, object] = {
            "src": address,
            "dst": address,
            "eth_src": "02:00:00:00:00:09",
            "eth_dst": "02:00:00:00:00:08",
        }
        for name, most in {
            "sport": 0xFFFF,
            "dport": 0xFFFF,
            "ttl": 255,
            "tos": 255,
            "seq": 0xFFFF_FFFF,
            "ack": 0xFFFF_FFFF,
            "flags": 0x1FF,
            "window": 0xFFFF,
            "urgent": 0xFFFF,
            "mss": 0xFFFF,
        }.items():
            values[name] = self.chosen.choice((0, most, self.chosen.randint(0, most)))
        chosen = self.chosen.sample(sorted(values), self.chosen.choice((1, 1, 2, 5)))
        pkt.set(**{name: values[name] for name in chosen})

    def _session(self, pkt: Packet) -> None:
        options: dict[str, Any] = {"idle": self.chosen.choice((0.5, 3, 20))}
        address = "2001:db8::77" if pkt.ip_version == 6 else "192.0.2.77"
        addresses = {
            "src": address,
            "dst": address,
            "sport": self.chosen.randrange(0x10000),
            "dport": self.chosen.randrange(0x10000),
            "eth_src": "02:00:00:00:00:09",
            "eth_dst": "02:00:00:00:00:08",
            "transitory": 1,
            "turn_back": True,
        }
        options |= {name: value for name, value in addresses.items() if self.chosen.random() < 0.2}
        session = pkt.session(**options)
        if not any(session is other for other in self.sessions):
            again = pkt.session(idle=99, on_end=self._ended)
            assert again is session
            self.sessions.append(session)

    def _ended(self, session: Session) -> None:
        assert not session.open
        assert sum(session.packets) >= 0
        self.ended.append(session)
        if self.chosen.random() < 0.3:
            self.chosen.choice(self.sessions).close()

    def _close_session(self) -> None:
        if self.sessions:
            session = self.chosen.choice(self.sessions)
            if self.chosen.random() < 0.5:
                session.close()
            else:
                session.idle = self.chosen.choice((0.1, 1, 20))

    def _on_flow(self, flow: Flow) -> None:
        if self.chosen.random() < 0.3:
            self.flows = [*self.flows[-9:], flow]
        act = self.chosen.choice((Flow.drop, Flow.reset, Flow.bypass, None, None, None, None))
        if self.chosen.random() < 0.3:
            flow.timer(self.chosen.choice((0, 0.01, 2)), act or (lambda flow: flow.record()))
        elif act is not None:
            act(flow)

    def _old_flow(self) -> None:
        if self.flows:
            self._on_flow(self.chosen.choice(self.flows))

    def _old_packet(self) -> None:
        if self.packets:
            self._on_packet(self.chosen.choice(self.packets))

    def _send(self) -> None:
        number = self.chosen.randrange(len(self.wire.interfaces))
        self.engine.send(bytes(60), number, self.wire.interfaces[number].linktype)

    # --- frames -------------------------------------------------------------------------------------

    def feed(self, frames: Sequence[Frame]) -> None:
        """Feed a batch, and look at what is sent."""
        nowhere = len(self.wire.interfaces) - 1
        for time_ns, data, linktype, _ in frames:
            number = 2 * self.wire.linktypes.index(linktype) + (data[26:30] > data[30:34])
            if self.chosen.random() < 0.02:
                number = nowhere if linktype == self.wire.linktypes[0] else number ^ 1
            self.wire.waiting.append((time_ns, data, number))
            self.malformed += is_malformed(data, linktype)
        self.frames += len(frames)
        if self.wire.read_batch():
            self.engine.feed(self.wire)
        if self.chosen.random() < 0.2:  # between batches
            for act in (self._old_flow, self._close_session, self._send):
                with contextlib.suppress(*EXPECTED):
                    act()
        if self.chosen.random() < 0.2 and frames:
            self.engine.pass_time(frames[-1][0] + SECOND)
        self.flush()

    def flush(self) -> None:
        """Have frames sent, and look at them."""
        self.engine.flush(self.wire)
        sent, self.wire.sent = self.wire.sent, []
        self.sent += len(sent)
        for data, number in sent:
            assert 0 <= number < len(self.wire.interfaces)
            if data != bytes(60):
                self.malformed -= is_malformed(data, self.wire.interfaces[number].linktype)

    def finish(self) -> dict[str, int]:
        """Let all end, and check what must hold then."""
        for _ in range(3):  # what is told of an end may bring about others
            self.engine.pass_time(round(self.engine.now * SECOND) + 100 * SECOND)
            self.flush()
        while self.engine.finish():
            pass
        if self.meddler is not None:
            self.meddler.end()
        self.flush()
        assert self.engine.count_flows([self.account]) == [0]
        counters = self.engine.statistics()
        line = {name: n for name, n in counters.items() if name.startswith("in_line.")}
        assert counters["frames"] == self.frames
        assert line["in_line.no_room"] == 0
        assert self.sent == line["in_line.forwarded"] + line["in_line.originated"]
        assert self.frames <= sum(
            line[f"in_line.{fate}"] for fate in ("forwarded", "dropped", "held", "nowhere")
        )
        assert self.malformed + counters["defrag.completed"] >= 0, "frames left worse than they came"
        assert line["in_line.sessions"] == line["in_line.edited"] == 0
        assert len(self.ended) == len(self.sessions)
        assert not any(session.open for session in self.sessions)
        held = {name: n for name, n in counters.items() if name.startswith("held.") and n}
        assert not held, f"still in use after the last flow: {held}"
        return counters


def is_malformed(data: bytes, linktype: int) -> bool:
    """Whether no IP packet can be read in it, as far as the engine's own decoder knows."""
    try:
        Packet.decode(data, linktype)
    except ValueError as error:
        return "malformed" in str(error)
    return False


def check_in_line(frames: list[Frame], choices: Choices) -> dict[str, int]:
    """Run frames through an engine in line and check its promises; returns its counters."""
    frames = [frame for frame in frames if frame[1]]
    run = InLineRun(choices, sorted({linktype for _, _, linktype, _ in frames}) or [1])
    for at in range(0, len(frames), choices.batch):
        run.feed(frames[at : at + choices.batch])
    return run.finish()


def has_right_sums(data: bytes) -> bool:
    """Whether it is a TCP segment or UDP datagram whose checksums are right, over Ethernet."""
    packet = read_packet(data)
    if packet is None or packet.proto not in (6, 17):
        return False
    return packet.sum() == 0 and len(data) < 1600
