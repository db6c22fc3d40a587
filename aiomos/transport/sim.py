"""Simulated networks: nodes joined by links, in virtual time that nobody waits for.

A `Network` holds what is going to happen, in order of time; `run` lets it happen. Everything random comes from its
seed, so the same network does the same each time, to the byte and the nanosecond. A `Middlebox` on a link is a
transport: an app runs between simulated hosts as it would between real ones. Where several engines are to run in one
network, `aiomos.testing.world.World` steps them by its clock::

    network = Network(seed=7)
    client, server = Client(), Server()              # of class Node
    middlebox = network.middlebox(client, server, Link(delay=0.02, loss=0.01))
    aiomos.run(app, transport=middlebox)
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random

import attrs
from attrs.validators import ge, gt, le, optional

from aiomos.transport.interfaces import Interface
from aiomos.transport.transport import Transport
from aiomos.wire.numbers import LINKTYPE_ETHERNET

__all__ = [
    "EPOCH_NS",
    "Cable",
    "Link",
    "Middlebox",
    "Network",
    "Node",
    "SimPort",
    "SimTransport",
    "Timer",
    "Wire",
]

EPOCH_NS = 1_000_000 * 1_000_000_000
"""When a network's time starts: 12 January 1970, so early that seconds as floats still tell nanoseconds apart."""

SECOND = 1_000_000_000
ETHERNET_HEADER = 14


def _as_outages(given: Iterable[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((start, end) for start, end in given)


# --- links --------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class Link:
    """What happens to frames on their way; alike in both directions, but apart.

    Attributes:
        bandwidth: Bits per second, of the bytes of a frame; None for no limit.
        delay: Seconds from the last bit's leaving to its arrival.
        jitter: Up to so many seconds more, evenly spread; frames do not overtake each other for it.
        loss: Share of frames that get lost, 0 to 1.
        burst: Mean number of frames that get lost in a row, at least 1 (Gilbert's model); None for losses that
            do not depend on each other.
        reorder: Share of frames that stay behind for `reorder_delay`, and may be overtaken, 0 to 1.
        reorder_delay: Seconds.
        duplicate: Share of frames that arrive twice, 0 to 1.
        queue: Bytes that wait to be sent; a frame that comes while there are more of them is dropped. None for no
            limit; without a bandwidth nothing waits.
        corrupt: Share of frames that arrive with one bit flipped, 0 to 1.
        mtu: Bytes of a frame behind its Ethernet header, at most, tags among them; one with more is lost. None for no
            limit.
        outages: When the link is down, as ``(start, end)`` in seconds since the network's start, the end possibly
            infinite: frames that are sent or on their way meanwhile are lost.
    """

    bandwidth: float | None = attrs.field(default=None, validator=optional(gt(0)))
    delay: float = attrs.field(default=0.0, validator=ge(0))
    jitter: float = attrs.field(default=0.0, validator=ge(0))
    loss: float = attrs.field(default=0.0, validator=[ge(0), le(1)])
    burst: float | None = attrs.field(default=None, validator=optional(ge(1)))
    reorder: float = attrs.field(default=0.0, validator=[ge(0), le(1)])
    reorder_delay: float = attrs.field(default=0.005, validator=ge(0))
    duplicate: float = attrs.field(default=0.0, validator=[ge(0), le(1)])
    queue: int | None = attrs.field(default=None, validator=optional(ge(0)))
    corrupt: float = attrs.field(default=0.0, validator=[ge(0), le(1)])
    mtu: int | None = attrs.field(default=None, validator=optional(gt(0)))
    outages: tuple[tuple[float, float], ...] = attrs.field(default=(), converter=_as_outages)

    @burst.validator
    def _possible(self, _: object, burst: float | None) -> None:
        """The share of frames that bursts of this length leave cannot be too small."""
        if burst is not None and self.loss > burst / (burst + 1):
            raise ValueError(f"loss={self.loss} needs longer bursts than burst={burst}")

    @outages.validator
    def _in_time(self, _: object, outages: tuple[tuple[float, float], ...]) -> None:
        for start, end in outages:
            if not 0 <= start < end:
                raise ValueError(
                    f"an outage from {start} s until {end} s: it ends after it starts, at 0 or later"
                )


class Wire:
    """One direction of a link: tells when a frame that is sent arrives.

    Args:
        link: What happens to frames.
        seed: Of what is random.
        start_ns: Since when `Link.outages` are counted, in nanoseconds of the clock that `carry` is told.

    Attributes:
        counts: Frames ``sent``, and of these ``lost``, ``overflowed``, ``reordered``, ``duplicated``, ``corrupted``,
            ``cut`` (by an outage), ``too_long`` (for the MTU).
    """

    def __init__(self, link: Link, seed: int | str, start_ns: int = 0) -> None:
        self.link = link
        self.counts: dict[str, int] = dict.fromkeys(
            ("sent", "lost", "overflowed", "reordered", "duplicated", "corrupted", "cut", "too_long"), 0
        )
        self._start_ns = start_ns
        self._random = Random(seed)
        self._idle_ns = 0  # when all that was sent has left
        self._last_ns = 0  # when what was sent last arrives
        self._bad = False  # in a burst of losses

    def carry(self, now_ns: int, size: int) -> tuple[int, ...]:
        """Send a frame.

        Args:
            now_ns: When; never before the call before.
            size: Its bytes.

        Returns:
            When it arrives, in nanoseconds: once, twice, or not at all.
        """
        self.counts["sent"] += 1
        if self.link.mtu is not None and size - ETHERNET_HEADER > self.link.mtu:
            self.counts["too_long"] += 1
            return ()
        if self._is_down(now_ns, now_ns):
            self.counts["cut"] += 1
            return ()
        left_ns = self._leave(now_ns, size)
        if left_ns is None:
            return ()
        if self._loses():
            self.counts["lost"] += 1
            return ()
        copies = 1 + self._happens(self.link.duplicate)
        self.counts["duplicated"] += copies - 1
        arrivals = [self._arrive(left_ns) for _ in range(copies)]
        whole = tuple(arrival_ns for arrival_ns in arrivals if not self._is_down(now_ns, arrival_ns))
        self.counts["cut"] += not whole
        return whole

    def convey(self, now_ns: int, frame: bytes) -> list[tuple[int, bytes]]:
        """Send a frame, of which bits may flip.

        Args:
            now_ns: When; never before the call before.
            frame: Its bytes.

        Returns:
            When it arrives, as `carry` tells, and what then arrives.
        """
        return [(arrival_ns, self._corrupt(frame)) for arrival_ns in self.carry(now_ns, len(frame))]

    def _corrupt(self, frame: bytes) -> bytes:
        if not frame or not self._happens(self.link.corrupt):
            return frame
        self.counts["corrupted"] += 1
        place, bit = divmod(self._random.randrange(8 * len(frame)), 8)
        return frame[:place] + bytes([frame[place] ^ 1 << bit]) + frame[place + 1 :]

    def _is_down(self, from_ns: int, until_ns: int) -> bool:
        """Whether there is an outage at any time from one to another."""
        return any(
            start * SECOND <= until_ns - self._start_ns and from_ns - self._start_ns < end * SECOND
            for start, end in self.link.outages
        )

    def _leave(self, now_ns: int, size: int) -> int | None:
        """When the last bit has left; None where the queue has no room."""
        bandwidth, queue = self.link.bandwidth, self.link.queue
        if bandwidth is None:
            return now_ns
        waiting = max(self._idle_ns - now_ns, 0) * bandwidth / (8 * SECOND)
        if queue is not None and waiting > queue:
            self.counts["overflowed"] += 1
            return None
        self._idle_ns = max(self._idle_ns, now_ns) + round(size * 8 * SECOND / bandwidth)
        return self._idle_ns

    def _arrive(self, left_ns: int) -> int:
        on_the_way = self.link.delay
        if self.link.jitter:
            on_the_way += self._random.uniform(0, self.link.jitter)
        arrival_ns = max(left_ns + round(on_the_way * SECOND), self._last_ns)
        if self._happens(self.link.reorder):
            self.counts["reordered"] += 1
            return arrival_ns + round(self.link.reorder_delay * SECOND)
        self._last_ns = arrival_ns
        return arrival_ns

    def _loses(self) -> bool:
        loss, burst = self.link.loss, self.link.burst
        if burst is None or not loss:
            return self._happens(loss)
        # Gilbert's two states, whose shares of time make the loss and whose bad one lasts a burst.
        if self._bad:
            self._bad = not self._happens(1 / burst)
        else:
            self._bad = self._happens(loss / (1 - loss) / burst)
        return self._bad

    def _happens(self, share: float) -> bool:
        return share > 0 and self._random.random() < share


# --- nodes --------------------------------------------------------------------------------------------
@attrs.define(eq=False)
class Timer:
    """Something that will happen; `cancel` keeps it from happening."""

    action: Callable[[], object] | None

    def cancel(self) -> None:
        """Forget it; may be called again, and too late."""
        self.action = None


class Node:
    """The end of a link: a subclass says what it does with a frame."""

    _network: "Network | None" = None
    _send: Callable[[bytes], None]

    @property
    def network(self) -> "Network":
        """What it belongs to, once it is joined to another node.

        Raises:
            RuntimeError: it is not.
        """
        if self._network is None:
            raise RuntimeError(f"{type(self).__name__} is not joined to any other node")
        return self._network

    @property
    def is_joined(self) -> bool:
        """Whether it is the end of a link."""
        return self._network is not None

    def receive(self, frame: bytes, now_ns: int) -> None:
        """Take a frame that arrives."""
        raise NotImplementedError(f"{type(self).__name__} has no receive()")

    def send(self, frame: bytes) -> None:
        """Send a frame to the other end, now."""
        self.network  # noqa: B018 - raises where there is none
        self._send(frame)

    def call_at(self, time_ns: int, action: Callable[[], object]) -> Timer:
        """Have *action* called at a time; at once, that is next, if it has passed."""
        return self.network.call_at(time_ns, action)

    def call_later(self, seconds: float, action: Callable[[], object]) -> Timer:
        """Have *action* called so many seconds from now."""
        return self.network.call_at(self.network.now_ns + round(seconds * SECOND), action)


@attrs.frozen(eq=False)
class Cable:
    """A link as it is laid between two nodes.

    Attributes:
        first: The node at one end.
        second: That at the other.
        there: The direction from the first to the second.
        back: The direction from the second to the first.
    """

    first: Node
    second: Node
    there: Wire
    back: Wire

    @property
    def ports(self) -> tuple[Node, Node]:
        """Its ends, the first and the second."""
        return self.first, self.second


class Network:
    """Nodes and links, and what is going to happen.

    Args:
        seed: Of all that is random.

    Attributes:
        now_ns: Its time, in nanoseconds since the epoch.
        wires: Directions of the links, in the order in which they were laid: for each link that from the first node,
            then that back.
        on_sent: Called with each frame that a node puts on its link, and the node before it; None for nobody.
        on_arrival: Called with each frame that arrives at a node, before the node takes it, alike.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.now_ns: int = EPOCH_NS
        self.wires: list[Wire] = []
        self.on_sent: Callable[[Node, bytes], object] | None = None
        self.on_arrival: Callable[[Node, bytes], object] | None = None
        self._seed = seed
        self._ticket = itertools.count()
        self._events: list[tuple[int, int, Timer]] = []

    def join(
        self,
        first: Node,
        second: Node,
        link: Link | None = None,
        *,
        back: Link | None = None,
        name: str | None = None,
    ) -> Cable:
        """Lay a link between two nodes that have none.

        Args:
            first: A node.
            second: Another.
            link: What happens to frames; an ideal link where it is left out.
            back: What happens to those from the second node, where that differs.
            name: What the random numbers of both directions are derived from, besides the seed: with a name they are
                the same whatever other links there are; without one they depend on how many were laid before.

        Raises:
            ValueError: one has a link, or both are one.
        """
        link = link or Link()
        if first is second:
            raise ValueError("a link joins two nodes")
        for node in (first, second):
            if node.is_joined:
                raise ValueError(f"{type(node).__name__} has a link already; a node is the end of one")
        there = self._lay(link, first, second, None if name is None else f"{name}/there")
        return Cable(
            first,
            second,
            there,
            self._lay(back or link, second, first, None if name is None else f"{name}/back"),
        )

    def middlebox(self, first: Node, second: Node, *links: Link, in_line: bool = True) -> "Middlebox":
        """Put a middlebox between two nodes that have no link.

        Args:
            first: Node at its interface 0.
            second: Node at its interface 1.
            links: That from the first node, and that to the second; ideal ones where they are left out.
            in_line: Whether frames go on only if they are sent on; else it watches them go by.

        Returns:
            A transport. One of them at a time can be run, since it moves the network's time.
        """
        if len(links) > 2:
            raise ValueError(f"a middlebox between two nodes has two links, not {len(links)}")
        middlebox = Middlebox(self, in_line=in_line)
        for node, port, link in itertools.zip_longest((first, second), middlebox.ports, links):
            self.join(node, port, link)
        return middlebox

    def call_at(self, time_ns: int, action: Callable[[], object]) -> Timer:
        """Have *action* called at a time; at once, that is next, if it has passed."""
        timer = Timer(action)
        heapq.heappush(self._events, (max(time_ns, self.now_ns), next(self._ticket), timer))
        return timer

    @property
    def next_ns(self) -> int | None:
        """When something will happen next; None if nothing will."""
        while self._events and self._events[0][2].action is None:
            heapq.heappop(self._events)
        return self._events[0][0] if self._events else None

    def run(self, until_ns: int | None = None, *, stop: Callable[[], bool] = bool) -> None:
        """Let what is going to happen happen.

        Args:
            until_ns: Not beyond this time, which it comes to if nothing stops it; None for no bound: to the end.
            stop: Asked after each event; true ends the run there.
        """
        while (next_ns := self.next_ns) is not None and (until_ns is None or next_ns <= until_ns):
            self.now_ns, _, timer = heapq.heappop(self._events)
            if timer.action is not None:
                timer.action()
            if stop():
                return
        if until_ns is not None:
            self.now_ns = max(self.now_ns, until_ns)

    def _lay(self, link: Link, sender: Node, receiver: Node, name: str | None) -> Wire:
        """Lay one direction of a link."""
        number = len(self.wires)
        wire = Wire(link, f"{self._seed}/{number if name is None else name}", EPOCH_NS)
        self.wires.append(wire)

        def send(frame: bytes) -> None:
            if self.on_sent is not None:
                self.on_sent(sender, frame)
            for arrival_ns, arriving in wire.convey(self.now_ns, frame):
                self.call_at(arrival_ns, partial(self._arrive, receiver, arriving))

        sender._network = self
        sender._send = send
        return wire

    def _arrive(self, receiver: Node, frame: bytes) -> None:
        if self.on_arrival is not None:
            self.on_arrival(receiver, frame)
        receiver.receive(frame, self.now_ns)


# --- transports ---------------------------------------------------------------------------------------
class SimPort(Node):
    """An interface of a transport: the end of a link, if it is joined to one.

    Attributes:
        name: Of the interface.
    """

    def __init__(self, name: str, arrive: Callable[[bytes, int], None]) -> None:
        self.name = name
        self._arrive = arrive

    def receive(self, frame: bytes, now_ns: int) -> None:
        """Have the transport take a frame."""
        self._arrive(frame, now_ns)


class SimTransport(Transport):
    """A transport whose interfaces are the ends of simulated links; it takes no time to process a frame.

    Whoever runs it moves the network's time: `Middlebox` by itself, `aiomos.testing.world` for several.

    Args:
        network: Where it is.
        names: Of its interfaces.
        forwards: For each interface the one by which frames go on, in line; empty to watch.
        passes: Whether, of two interfaces, what comes by one leaves by the other untouched, as at a tap.

    Attributes:
        network: Where it is.
        ports: Its ends of links, a `SimPort` for each interface.
    """

    virtual = True

    def __init__(
        self,
        network: Network,
        names: Sequence[str],
        *,
        forwards: Sequence[int | None] = (),
        passes: bool = False,
    ) -> None:
        self.network = network
        self.forwards = forwards
        self.ports = tuple(SimPort(name, partial(self._take, side)) for side, name in enumerate(names))
        self.interfaces.extend(Interface("", name, LINKTYPE_ETHERNET, 0) for name in names)
        self._passes = passes
        self._is_closed = False
        self._waiting: list[tuple[int, bytes, int]] = []
        self._counts = dict.fromkeys(("received", "dropped", "sent", "unsent"), 0)

    def receive(self) -> Sequence[tuple[int, bytes, int]]:
        """Return the frames that have arrived, as ``(time_ns, data, interface)``."""
        frames, self._waiting = self._waiting, []
        # In line they are changed where they lie, and the sender may still hold on to its own.
        return [(time_ns, bytes(memoryview(frame)), interface) for time_ns, frame, interface in frames]

    def send(self, frame: bytes, interface: int = 0) -> None:
        """Send a frame at the network's time; by an interface without a link it goes nowhere, and is counted."""
        if self.ports[interface].is_joined:
            self._counts["sent"] += 1
            self.ports[interface].send(frame)
        else:
            self._counts["unsent"] += 1

    def now(self) -> int:
        """Return the network's time, in nanoseconds since the epoch."""
        return self.network.now_ns

    def statistics(self) -> dict[str, int]:
        """Return counts of frames.

        ``received`` ones arrived here, ``dropped`` ones arrived when it was closed; ``sent`` ones left, and ``unsent``
        ones were to leave by an interface without a link.
        """
        return dict(self._counts)

    def close(self) -> None:
        """Take no more frames; a tap lets them by all the same. May be called again."""
        super().close()
        self._is_closed = True
        self._waiting.clear()

    def _take(self, side: int, frame: bytes, now_ns: int) -> None:
        if self._is_closed:
            self._counts["dropped"] += 1
        else:
            self._counts["received"] += 1
            self._waiting.append((now_ns, frame, side))
        if self._passes and self.ports[1 - side].is_joined:
            self.ports[1 - side].send(frame)


class Middlebox(SimTransport):
    """A transport between two nodes, which moves the network's time; see `Network.middlebox`.

    Its interface 0 leads to the first node, 1 to the second.
    """

    def __init__(self, network: Network, *, in_line: bool = True) -> None:
        super().__init__(network, ("sim0", "sim1"), forwards=[1, 0] if in_line else [], passes=not in_line)

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more in the network, unless a frame is sent."""
        return not self._waiting and self.network.next_ns is None

    def pass_time(self, until: int | None) -> None:
        """Let the network run until a frame arrives here, yet not beyond *until*, in nanoseconds."""
        if not self._waiting:
            self.network.run(until, stop=lambda: bool(self._waiting))
