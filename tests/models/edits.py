"""A sender, an app that edits between, and a receiver, over wires that lose, reorder and repeat: in plain Python.

The model knows the stream and the edits by stream offsets. Whatever is sent, resent, lost or repeated, these hold,
and `Scene` asserts them as it goes: the receiver never gets two different bytes for one sequence number; the sender
is never told more than the receiver has, nor given more window; nothing is acknowledged that was not sent. At the end
the receiver has the edited stream, and the sender sees all of it acknowledged.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MODULUS = 2**32
ACK, PSH, FIN = 0x10, 0x08, 0x01


@dataclass(frozen=True)
class Segment:
    """Data of the sender, by stream offset in its own numbers or sequence number in the receiver's."""

    at: int
    data: bytes = b""
    fin: bool = False


@dataclass(frozen=True)
class Reply:
    """What the receiver says: sequence numbers, as offsets."""

    ack: int
    window: int
    sack: tuple[tuple[int, int], ...] = ()


@dataclass
class Model:
    """The stream and what was made of it."""

    stream: bytes
    edits: list[tuple[int, int, bytes]] = field(default_factory=list)

    def new(self, at: int) -> int:
        """Where an old offset stands; of one inside an edit, where the replacement begins."""
        shift = 0
        for start, end, data in self.edits:
            if at < end:
                return min(at, start) + shift
            shift += len(data) - (end - start)
        return at + shift

    def edited(self, start: int, end: int) -> bytes | None:
        """What became of a range; None when it cuts an edit."""
        out = b""
        at = start
        for low, high, data in self.edits:
            if high <= start or low >= end:
                continue
            if low < start or high > end:
                return None
            out += self.stream[at:low] + data
            at = high
        return out + self.stream[at:end]

    def whole(self, at: int) -> int:
        """How far the receiver must be for an old offset to be acknowledged: edits have no parts."""
        return self.new(next((end for start, end, _ in self.edits if start < at < end), at))


class Wire:
    """A wire one way."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.items: list[Any] = []
        self.fair = False

    def put(self, item: Any) -> None:
        rng = self.rng
        if self.fair:
            self.items.append(item)
            return
        if rng.random() < 0.15:
            return
        self.items.append(item)
        if rng.random() < 0.15:
            self.items.append(item)

    def take(self) -> Any:
        if not self.items:
            return None
        return self.items.pop(0 if self.fair else self.rng.randrange(min(4, len(self.items))))


class Receiver:
    """The end whose stream is edited. It remembers every byte that was ever put in a place."""

    def __init__(self, window: int) -> None:
        self.bytes: dict[int, int] = {}
        self.got: set[int] = set()
        self.nxt = 0
        self.window = window
        self.fin: int | None = None
        self.finished = False

    def take(self, segment: Segment) -> Reply | None:
        duplicate: tuple[int, int] | None = None
        for i, byte in enumerate(segment.data, segment.at):
            assert self.bytes.setdefault(i, byte) == byte, f"offset {i} had another byte before"
        if segment.fin:
            fin = segment.at + len(segment.data)
            assert self.fin in (None, fin), "the FIN moved"
            self.fin = fin
        end = segment.at + len(segment.data)
        if segment.data and end <= self.nxt:
            duplicate = (segment.at, end)
        for i in range(max(segment.at, self.nxt), min(end, self.nxt + self.window)):
            self.got.add(i)
        while self.nxt in self.got:
            self.got.discard(self.nxt)
            self.nxt += 1
        if self.fin == self.nxt:
            self.finished = True
        if not segment.data and not segment.fin and self.ack <= segment.at:
            return None
        return Reply(self.ack, self.window, self.blocks(duplicate))

    @property
    def ack(self) -> int:
        return self.nxt + self.finished

    def blocks(self, duplicate: tuple[int, int] | None) -> tuple[tuple[int, int], ...]:
        blocks: list[tuple[int, int]] = []
        for i in sorted(self.got):
            if blocks and blocks[-1][1] == i:
                blocks[-1] = (blocks[-1][0], i + 1)
            else:
                blocks.append((i, i + 1))
        first = [duplicate] if duplicate else []
        return tuple(first + blocks[:3])

    def stream(self) -> bytes:
        return bytes(self.bytes[i] for i in range(self.nxt))


class Scene:
    """Runs it all.

    Args:
        probe: The module under test.
        seed: Of everything random.
        ordered: See `edits_open`.
        isn: Sequence number of the first byte, on both sides.
    """

    def __init__(self, probe: Any, seed: int, *, ordered: bool, isn: int = MODULUS - 300) -> None:
        self.rng = rng = random.Random(seed)
        self.store = probe.Store()
        self.half: Any = None
        self.probe = probe
        self.ordered = ordered
        self.isn = isn
        self.wscale = rng.choice([0, 0, 2])
        self.model = Model(rng.randbytes(rng.randrange(1, 900)))
        self.growth = rng.choice([1, 1, 4, 60])
        self.appetite = rng.choice([0.1, 0.5, 0.9])
        self.receiver = Receiver(rng.choice([100, 400, 4000]) << self.wscale)
        self.una = self.nxt = 0
        self.right = self.receiver.window
        self.seen_una = self.seen_nxt = 0  # by the middlebox, before it edits
        self.out, self.through, self.back, self.home = (Wire(rng) for _ in range(4))
        self.results: dict[str, int] = {}

    # --- numbers --------------------------------------------------------------------------------

    def seq(self, at: int) -> int:
        return (self.isn + at) % MODULUS

    def offset(self, seq: int) -> int:
        """The offset of a sequence number, none of which is far from 0 here."""
        distance = (seq - self.isn) % MODULUS
        return distance if distance < MODULUS // 2 else distance - MODULUS

    # --- the sender -----------------------------------------------------------------------------

    def send(self, start: int, end: int) -> None:
        last = end >= len(self.model.stream)
        data = self.model.stream[start:end]
        self.nxt = max(self.nxt, start + len(data) + last)
        self.out.put(Segment(start, data, last))

    def send_something(self) -> None:
        rng, length = self.rng, len(self.model.stream)
        choice = rng.random()
        if choice < 0.6 and self.nxt < self.right and self.nxt <= length:
            start = max(0, min(self.nxt, length) - (rng.randrange(40) if rng.random() < 0.1 else 0))
            room = min(self.right, length) - start
            self.send(start, start + rng.randint(0, max(0, min(room, 60))))
        elif choice < 0.9 and self.nxt:
            start = max(0, rng.randrange(max(0, self.una - 40), self.nxt + 1) - 1)
            end = min(start + rng.randint(1, 120), min(self.nxt, length))
            if end > start:
                self.send(start, end)
        elif choice < 0.95:
            self.out.put(Segment(min(self.nxt, length + 1)))
        elif self.una:
            data = b"\0" if rng.random() < 0.5 and self.una < length else b""
            at = self.una - 1
            if not self.model.edits or data == b"":
                self.out.put(Segment(at, self.model.stream[at : at + 1] if data else b""))

    def hear(self, reply: Reply) -> None:
        length = len(self.model.stream) + 1
        assert reply.ack <= self.nxt, "more acknowledged than was sent"
        assert self.model.whole(reply.ack) <= self.receiver.ack, "acknowledged a part of an edit"
        for left, right in reply.sack:
            assert 0 <= left < right <= min(self.nxt, length)
            new = range(self.model.new(left), self.model.new(right))
            held = self.receiver.got
            assert all(i in held or i < self.receiver.nxt for i in new), "SACKed what is not there"
        if reply.ack >= self.una:
            self.una = reply.ack
            self.right = reply.ack + (reply.window << self.wscale)

    # --- the middlebox --------------------------------------------------------------------------

    def app(self, segment: Segment) -> str:
        """Replace a payload now and then; what came of it."""
        rng = self.rng
        if not segment.data or rng.random() > self.appetite:
            return "nothing"
        size = rng.choice([0, 0, len(segment.data), rng.randrange(50), rng.randrange(50 * self.growth)])
        data = rng.randbytes(size)
        start, end = segment.at, segment.at + len(segment.data)
        if self.half is None:
            args = (self.seq(self.seen_una), self.seq(self.seen_nxt), self.receiver.window >> self.wscale)
            self.half = self.probe.Half(self.store, *args, self.wscale, ordered=self.ordered)
        new, prefix = max(start, self.seen_nxt), b""
        if start < new < end and rng.random() < 0.7:
            prefix = self.model.edited(start, new) or b""
        flags = ACK | (FIN if segment.fin else 0)
        result = self.half.replace(self.seq(start), segment.data, prefix + data, flags)
        self.results[result] = self.results.get(result, 0) + 1
        if result == "noted":
            assert new < end
            known = self.model.edited(start, new)
            assert known is not None
            assert (prefix + data)[: len(known)] == known
            self.model.edits.append((new, end, (prefix + data)[len(known) :]))
            self.seen_nxt = end
        elif result == "seen":
            assert end <= self.seen_nxt
        elif result == "beyond_hole":
            assert self.ordered
            assert start > self.seen_nxt
        else:
            assert result == "partly_seen"
            assert start < self.seen_nxt < end
        return str(result)

    def pass_on(self, segment: Segment) -> None:
        result = self.app(segment)
        end = segment.at + len(segment.data) + segment.fin
        if self.half is None:
            self.seen_nxt = max(self.seen_nxt, end)
            self.through.put(segment)
            return
        flags = ACK | (FIN if segment.fin else 0)
        plan = self.half.send(self.seq(segment.at), segment.data, flags, most=self.rng.choice([None, 7, 50]))
        withheld = self.ordered and result == "partly_seen"
        beyond = self.ordered and end == segment.at
        if not (plan["drop"] or withheld or beyond):
            self.seen_nxt = max(self.seen_nxt, end)
        for seq, flags, _, data in plan["segments"]:
            self.through.put(Segment(self.offset(seq), data, bool(flags & FIN)))
        if plan["own_ack"]:
            ack, window = plan["own_ack"]
            self.home.put(Reply(self.offset(ack), window))

    def pass_back(self, reply: Reply) -> None:
        self.seen_una = max(self.seen_una, reply.ack)
        window = reply.window >> self.wscale
        if self.half is None:
            self.home.put(Reply(reply.ack, window, reply.sack))
            return
        sack = [(self.seq(left), self.seq(right)) for left, right in reply.sack]
        ack, told, blocks = self.half.acknowledge(self.seq(reply.ack), window, sack)
        at = self.offset(ack)
        assert told <= window
        edge = min(at + (told << self.wscale), self.seen_nxt)
        assert self.model.whole(at) <= self.seen_una
        if reply.ack == self.seen_una:
            assert told == 0 or self.model.new(edge) <= reply.ack + reply.window
        self.home.put(Reply(at, told, tuple((self.offset(a), self.offset(b)) for a, b in blocks)))

    # --- all of it ------------------------------------------------------------------------------

    def step(self) -> None:
        rng = self.rng
        move: Callable[[], None] = rng.choice([self.send_something, self.a, self.b, self.c, self.d])
        move()

    def a(self) -> None:
        if (segment := self.out.take()) is not None:
            self.pass_on(segment)

    def b(self) -> None:
        if (segment := self.through.take()) is not None:
            reply = self.receiver.take(segment)
            if reply is not None:
                self.back.put(reply)

    def c(self) -> None:
        if (reply := self.back.take()) is not None:
            self.pass_back(reply)

    def d(self) -> None:
        if (reply := self.home.take()) is not None:
            self.hear(reply)

    def drain(self) -> None:
        while any(wire.items for wire in (self.out, self.through, self.back, self.home)):
            self.a()
            self.b()
            self.c()
            self.d()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
        self.settle()
        length = len(self.model.stream)
        assert self.receiver.stream() == self.model.edited(0, length)
        assert self.receiver.finished
        if self.half is not None:
            self.half.close()
        assert self.store.in_use == (0, 0, 0)

    def settle(self) -> None:
        """Let the wires be fair, and the sender send again what is not acknowledged, until all is."""
        length = len(self.model.stream)
        for wire in (self.out, self.through, self.back, self.home):
            wire.fair = True
        self.drain()
        for _ in range(4000):
            if self.una == length + 1:
                return
            size = self.rng.randint(1, 80)
            start = min(self.una, length)
            self.send(start, min(start + size, length))
            self.drain()
        raise AssertionError(f"stuck at {self.una} of {length + 1}")
