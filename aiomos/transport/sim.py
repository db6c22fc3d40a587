"""Simulated networks: nodes joined by links, in virtual time that nobody waits for.

A `Network` holds what is going to happen, in order of time; `run` lets it happen. Everything random comes from its
seed, so the same network does the same each time, to the byte and the nanosecond. A `Middlebox` on a link is a
transport: an app runs between simulated hosts as it would between real ones::

    network = Network(seed=7)
    client, server = Client(), Server()              # of class Node
    middlebox = network.middlebox(client, server, Link(delay=0.02, loss=0.01))
    aiomos.run(app, transport=middlebox)
"""

import heapq
import itertools
from collections.abc import Callable, Sequence
from random import Random

import attrs
from attrs.validators import ge, gt, le, optional

from aiomos.transport.interfaces import Interface
from aiomos.transport.transport import Transport
from aiomos.wire.numbers import LINKTYPE_ETHERNET

__all__ = ["EPOCH_NS", "Link", "Middlebox", "Network", "Node", "Timer", "Wire"]

EPOCH_NS = 1_000_000 * 1_000_000_000
"""When a network's time starts: 12 January 1970, so early that seconds as floats still tell nanoseconds apart."""

SECOND = 1_000_000_000


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

    @burst.validator
    def _possible(self, _: object, burst: float | None) -> None:
        """The share of frames that bursts of this length leave cannot be too small."""
        if burst is not None and self.loss > burst / (burst + 1):
            raise ValueError(f"loss={self.loss} needs longer bursts than burst={burst}")


class Wire:
    """One direction of a link: tells when a frame that is sent arrives.

    Attributes:
        counts: Frames ``sent``, and of these ``lost``, ``overflowed``, ``reordered``, ``duplicated``.
    """

    def __init__(self, link: Link, seed: int | str) -> None:
        self.link = link
        self.counts: dict[str, int] = dict.fromkeys(
            ("sent", "lost", "overflowed", "reordered", "duplicated"), 0
        )
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
        left_ns = self._leave(now_ns, size)
        if left_ns is None:
            return ()
        if self._loses():
            self.counts["lost"] += 1
            return ()
        if self._happens(self.link.duplicate):
            self.counts["duplicated"] += 1
            return self._arrive(left_ns), self._arrive(left_ns)
        return (self._arrive(left_ns),)

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


class Network:
    """Nodes and links, and what is going to happen.

    Attributes:
        now_ns: Its time, in nanoseconds since the epoch.
        wires: Directions of the links, in the order in which they were laid: for each link that from the first node,
            then that back.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.now_ns: int = EPOCH_NS
        self.wires: list[Wire] = []
        self._seed = seed
        self._ticket = itertools.count()
        self._events: list[tuple[int, int, Timer]] = []

    def join(self, first: Node, second: Node, link: Link | None = None) -> None:
        """Lay a link between two nodes that have none.

        Raises:
            ValueError: one has a link, or both are one.
        """
        link = link or Link()
        if first is second:
            raise ValueError("a link joins two nodes")
        for node, other in ((first, second), (second, first)):
            if node._network is not None:
                raise ValueError(f"{type(node).__name__} has a link already; a node is the end of one")
            node._network = self
            node._send = self._way(link, other)

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

    def _way(self, link: Link, receiver: Node) -> Callable[[bytes], None]:
        """Lay one direction of a link."""
        wire = Wire(link, f"{self._seed}/{len(self.wires)}")
        self.wires.append(wire)

        def send(frame: bytes) -> None:
            for arrival_ns in wire.carry(self.now_ns, len(frame)):
                self.call_at(arrival_ns, lambda: receiver.receive(frame, self.now_ns))

        return send


# --- middlebox ----------------------------------------------------------------------------------------
class _Port(Node):
    """An interface of a middlebox."""

    def __init__(self, arrive: Callable[[bytes, int], None]) -> None:
        self._arrive = arrive

    def receive(self, frame: bytes, now_ns: int) -> None:
        self._arrive(frame, now_ns)


class Middlebox(Transport):
    """A transport on a simulated link; see `Network.middlebox`.

    Its interface 0 leads to the first node, 1 to the second. It takes no time to process a frame.

    Attributes:
        network: Where it is.
        ports: Its two ends of links.
    """

    virtual = True

    def __init__(self, network: Network, *, in_line: bool = True) -> None:
        self.network = network
        self.forwards = [1, 0] if in_line else []
        self.ports = (_Port(self._receiver(0)), _Port(self._receiver(1)))
        self.interfaces.extend(Interface("", f"sim{side}", LINKTYPE_ETHERNET, 0) for side in (0, 1))
        self._waiting: list[tuple[int, bytes, int]] = []
        self._counts = {"received": 0, "sent": 0}

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more in the network, unless a frame is sent."""
        return not self._waiting and self.network.next_ns is None

    def receive(self) -> Sequence[tuple[int, bytes, int]]:
        """Return the frames that have arrived, as ``(time_ns, data, interface)``."""
        frames, self._waiting = self._waiting, []
        # In line they are changed where they lie, and the sender may still hold on to its own.
        return [(time_ns, bytes(memoryview(frame)), interface) for time_ns, frame, interface in frames]

    def send(self, frame: bytes, interface: int = 0) -> None:
        """Send a frame at the network's time."""
        self._counts["sent"] += 1
        self.ports[interface].send(frame)

    def now(self) -> int:
        """Return the network's time, in nanoseconds since the epoch."""
        return self.network.now_ns

    def pass_time(self, until: int | None) -> None:
        """Let the network run until a frame arrives here, yet not beyond *until*, in nanoseconds."""
        if not self._waiting:
            self.network.run(until, stop=lambda: bool(self._waiting))

    def statistics(self) -> dict[str, int]:
        """Return counts of frames: those ``received`` here and those ``sent``."""
        return dict(self._counts)

    def _receiver(self, side: int) -> Callable[[bytes, int], None]:
        def arrive(frame: bytes, now_ns: int) -> None:
            self._counts["received"] += 1
            self._waiting.append((now_ns, frame, side))
            if not self.forwards:
                self.ports[1 - side].send(frame)

        return arrive
