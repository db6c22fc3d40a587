"""Short connections, captured badly in every way: what is delivered and what is missing are the true streams.

Any two segments are not captured, also where one side is captured late, as by a mirror whose two ports are out of
step; a stranger sends one segment in either end's name, before the SYN-ACK or out of any window.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import attrs
import pytest

from aiomos.levels import Level
from aiomos.testing.packets import fastopen
from aiomos.testing.scenario import Conversation, Frame, HalfSeen, Watched, watch

SIDES = ("client", "server")
FIN, SYN, ACK = 1, 2, 16


@attrs.frozen
class Sent:
    """A segment of a script, in numbers relative to both ends' own."""

    frame: Frame
    side: int
    start: int
    acked: int
    flags: int
    payload: bytes


class Script(Conversation):
    """A conversation that notes what each segment says."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Sent] = []

    def send(self, side: str, flags: str, payload: bytes = b"", **options: Any) -> "Script":
        here, there = (self._client, self._server) if side == "client" else (self._server, self._client)
        start = here.next if options.get("seq") is None else options["seq"]
        acked = there.next if options.get("ack") is None else options["ack"]
        super().send(side, flags, payload, **options)
        bits = sum(bit for name, bit in (("F", FIN), ("S", SYN), ("A", ACK)) if name in flags)
        first = start + ("S" in flags) - 1
        self.sent.append(Sent(self.frames[-1], SIDES.index(side), first, acked - 1, bits, payload))
        return self


def request(c: Conversation) -> Conversation:
    c.handshake().client("PA", b"hello").server("A").server("PA", b"answer").client("A")
    return c.client("PA", b"again").server("PA", b"ANSWER").client("A").close()


def greeting(c: Conversation) -> Conversation:
    c.handshake().server("PA", b"banner").client("A").client("PA", b"hello").server("PA", b"answer")
    return c.client("A").close("server")


def delayed(c: Conversation) -> Conversation:
    c.handshake().client("PA", b"hello").client("PA", b"world").server("A")
    return c.server("PA", b"answer").server("PA", b"ANSWER").client("A").close()


def opened_fast(c: Conversation) -> Conversation:
    c.client("S", b"hello", options=fastopen(b"12345678")).server("SA").server("PA", b"answer").client("A")
    return c.client("PA", b"world").server("PA", b"ANSWER").client("A").close()


def both_at_once(c: Conversation) -> Conversation:
    return c.handshake().client("FPA", b"hello").server("A").server("FPA", b"answer").client("A")


def acknowledged_with_data(c: Conversation) -> Conversation:
    c.client("S").server("SA").client("PA", b"hello").server("PA", b"answer").client("PA", b"again")
    return c.server("FPA", b"ANSWER").client("FA").server("A")


TALKS = [request, greeting, delayed, opened_fast, both_at_once, acknowledged_with_data]


@attrs.frozen
class Capture:
    """What a capture has of a script, in its order; `stranger` is a frame that is of neither end."""

    sent: list[Sent]
    captured: list[Sent]
    stranger: tuple[int, Frame] | None = None

    @property
    def frames(self) -> list[Frame]:
        start = self.sent[0].frame[0]
        frames = [one.frame for one in self.captured]
        if self.stranger is not None:
            frames.insert(*self.stranger)
        return [(start + n * 1_000_000, *frame[1:]) for n, frame in enumerate(frames)]

    def complaints(self, seen: Watched) -> Iterator[str]:
        """Say what is not as it was sent, as far as it can be known."""
        record = seen.record
        known = self.followed()
        ended = True
        for side, half in enumerate(seen.streams[0]):
            mine = [one for one in self.sent if one.side == side]
            truth = b"".join(one.payload for one in mine)
            had = {
                at
                for one in known
                if one.side == side
                for at in range(one.start, one.start + len(one.payload))
            }
            acked = max([one.acked for one in known if one.side != side and one.flags & ACK], default=0)
            fin = any(one.side == side and one.flags & FIN for one in known)
            ended = ended and fin and acked > len(truth)
            # Nobody can tell a FIN from a last byte if neither was captured, nor what came before the first of a server
            # whose SYN-ACK was not.
            beyond = not fin and len(truth) - 1 not in had
            unknown = not any(one.side == side and one.flags & SYN for one in known)
            name = SIDES[side]
            if not any(
                fits(half, truth[origin:], {at - origin for at in had}, beyond)
                for origin in (range(min(had, default=len(truth)) + 1) if unknown else [0])
            ):
                yield f"{name}: {half}"
            if record[f"{name}_retransmits"]:
                yield f"{name}: sent again"
        if ended and record["reason"] != "fin":
            yield record["reason"]

    def followed(self) -> list[Sent]:
        """Leave out what came before the first SYN or SYN-ACK: it is of no flow."""
        first = next(n for n, one in enumerate(self.captured) if one.flags & SYN)
        return self.captured[first:]


def fits(half: HalfSeen, truth: bytes, had: set[int], beyond: bool) -> bool:
    """Tell whether all that was captured of a stream was delivered in its place, and the rest is gaps."""
    at = taken = 0
    for offset, length, _ in [*half.gaps, (len(truth) + 1, 0, "")]:
        data = half.data[taken : taken + offset - at]
        if truth[at : at + len(data)] != data or had & set(range(offset, offset + length)):
            return False
        taken += len(data)
        at = offset + length if length else at + len(data)
    return taken == len(half.data) and max(had, default=-1) < at <= len(truth) + beyond


def script(talk: Callable[[Conversation], Conversation]) -> list[Sent]:
    c = Script()
    talk(c)
    return c.sent


def lacking(sent: list[Sent], most: int) -> Iterator[list[Sent]]:
    """Leave out any of the segments behind the SYN, up to so many."""
    for count in range(most + 1):
        for missing in combinations(range(1, len(sent)), count):
            yield [one for n, one in enumerate(sent) if n not in missing]


def late(sent: list[Sent], captured: list[Sent], side: int, by: int) -> list[Sent]:
    """Have one side captured late, by so many places in the script."""
    place = {id(one): n + (by + 0.5 if one.side == side else 0) for n, one in enumerate(sent)}
    return sorted(captured, key=lambda one: place[id(one)])


def check(captures: Iterator[Capture]) -> None:
    count = 0
    for capture in captures:
        seen = watch(capture.frames, level=Level.STREAM)
        assert list(capture.complaints(seen)) == [], [
            (SIDES[one.side], one.flags, one.start, one.acked, one.payload) for one in capture.captured
        ]
        count += 1
    assert count > 20


@pytest.mark.parametrize("talk", TALKS)
def test_any_two_segments_are_not_captured(talk: Callable[[Conversation], Conversation]) -> None:
    sent = script(talk)
    check(Capture(sent, captured) for captured in lacking(sent, 2))


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("side", [0, 1])
def test_one_side_is_captured_late_and_any_two_segments_are_not(
    side: int, talk: Callable[[Conversation], Conversation]
) -> None:
    sent = script(talk)
    check(
        Capture(sent, late(sent, captured, side, by)) for captured in lacking(sent, 2) for by in (1, 2, 3, 4)
    )


SAID = [("A", b""), ("PA", b"EVIL"), ("FA", b""), ("FPA", b"EVIL")]
EARLY = [(1, 99), (0, 1), (1, 2), (3, 1), (700_000, 1), (1000, -100_000)]
ASTRAY = [(700_000, 1), (-700_000, 1), (5000, 900_000_000)]


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("side", SIDES)
def test_a_stranger_sends_one_segment(side: str, talk: Callable[[Conversation], Conversation]) -> None:
    """Before the SYN-ACK with whatever numbers, later out of any window; what else is injected, is."""
    sent = script(talk)

    def captures() -> Iterator[Capture]:
        for at in range(1, len(sent) + 1):
            for flags, payload in SAID:
                for seq, ack in EARLY if at == 1 else ASTRAY:
                    c = Conversation().send(side, flags, payload, seq=seq, ack=ack, forged=True)
                    yield Capture(sent, sent, (at, c.frames[0]))

    check(captures())
