"""An app in line between two ends: bare ones that keep frames, or hosts that talk; in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import attrs

from aiomos import App, Report, Runtime, Settings, serve
from aiomos.testing.hosts import DatagramHost, TcpHost
from aiomos.transport.sim import Link, Network, Node
from tests.traffic import in_loop

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 80)
CLIENT6, SERVER6 = ("2001:db8::1", 40000), ("2001:db8::2", 80)
GOOD = Link(delay=0.01)
BAD = Link(delay=0.01, jitter=0.005, loss=0.03, reorder=0.05, duplicate=0.05)
STRICT = Settings(on_error="raise")
STEP = 0.001
"""Seconds between two frames of `cross`."""


class End(Node):
    """Keeps the frames that arrive, and says what it is told to."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def receive(self, frame: bytes, now_ns: int) -> None:  # noqa: ARG002 - as every node
        """Keep a frame."""
        self.received.append(bytes(frame))


@attrs.frozen
class Back:
    """A frame that comes from the other end."""

    frame: bytes


Line = list[bytes | Back | float]
"""Frames and seconds, as `cross` takes them."""


@attrs.frozen(kw_only=True)
class Crossing:
    """What came of frames.

    Attributes:
        there: Those that arrived at the second end.
        back: Those that arrived at the first.
        report: Of the run.
    """

    there: list[bytes]
    back: list[bytes]
    report: Report

    @property
    def counters(self) -> dict[str, int]:
        """The counters of frames in line, by their names without ``in_line.``."""
        return {
            name.removeprefix("in_line."): count
            for name, count in self.report.counters.items()
            if name.startswith("in_line.")
        }


def cross(
    frames: Iterable[bytes | Back | float],
    *apps: App[Any],
    settings: Settings = STRICT,
    in_line: bool = True,
    started: Callable[[Runtime], object] | None = None,
) -> Crossing:
    """Have frames cross the line one after the other.

    Args:
        frames: Each from the first end, or `Back`, or seconds in which nothing comes.
        apps: What is in line.
        settings: Of the engine.
        in_line: Whether the apps are; else they watch.
        started: As of `serve`.
    """
    first, second, network = End(), End(), Network()
    middlebox = network.middlebox(first, second, in_line=in_line)
    at = 0.0
    for frame in frames:
        if isinstance(frame, float):
            at += frame
            continue
        end, data = (second, frame.frame) if isinstance(frame, Back) else (first, frame)
        end.call_later(at, partial(end.send, data))
        at += STEP
    first.call_later(at, lambda: None)  # time passes until then
    report = run(*apps, transport=middlebox, settings=settings, started=started)
    network.run()  # what was sent last arrives, too
    return Crossing(there=second.received, back=first.received, report=report)


def run(*apps: App[Any], **options: Any) -> Report:
    """Run apps to the end; what they raise comes out."""
    return in_loop(serve(*apps, **{"settings": STRICT} | options), "asyncio")


@attrs.frozen(kw_only=True)
class Talk:
    """A TCP connection through the line.

    Attributes:
        client: Who opened it.
        server: Who answered.
        report: Of the run.
        network: Where it was.
        frames: All that arrived at either host: time, host and bytes.
    """

    client: TcpHost
    server: TcpHost
    report: Report
    network: Network
    frames: list[tuple[int, str, bytes]]

    @property
    def heard(self) -> tuple[bytes, bytes]:
        """What the server got, and what the client got."""
        return bytes(self.server.received), bytes(self.client.received)

    @property
    def closed_cleanly(self) -> bool:
        """Whether both ends have said all, heard all, and know it."""
        ends = self.client, self.server
        return all(end.sent_all and end.received_all and not end.reset and not end.failed for end in ends)


def talk(
    *apps: App[Any],
    question: bytes = b"",
    answer: bytes = b"",
    link: Link = GOOD,
    seed: int = 0,
    ends: tuple[tuple[str, int], tuple[str, int]] = (CLIENT, SERVER),
    peer: tuple[str, int] | None = None,
    lasts: float = 0.0,
    **options: Any,
) -> Talk:
    """Have two hosts talk, one that asks and one that answers once it has the whole question.

    Args:
        apps: What is in line.
        question: What the client sends.
        answer: What the server sends.
        link: On either side of the line.
        seed: Of the network.
        ends: Address and port of client and server.
        peer: Whom the client calls, if not the server.
        lasts: Seconds for which the network goes on at least.
        options: As of `serve`.
    """
    network = Network(seed=seed)
    client = TcpHost(*ends[0], data=question, peer=peer or ends[1])
    server = TcpHost(*ends[1], data=answer, answers=True, iss=0xFFFF_FE00)
    middlebox = network.middlebox(client, server, link, link)
    frames: list[tuple[int, str, bytes]] = []
    for name, host in (("client", client), ("server", server)):
        note_arrivals(name, host, frames)
    client.connect()
    client.call_later(lasts, lambda: None)
    report = run(*apps, transport=middlebox, **options)
    return Talk(client=client, server=server, report=report, network=network, frames=frames)


def note_arrivals(name: str, host: TcpHost | DatagramHost, frames: list[tuple[int, str, bytes]]) -> None:
    """Note what arrives at a host."""
    receive = host.receive

    def note(frame: bytes, now_ns: int) -> None:
        frames.append((now_ns, name, bytes(frame)))
        receive(frame, now_ns)

    host.receive = note  # type: ignore[method-assign]
