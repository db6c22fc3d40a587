"""A world for tests: engines with their apps, plain hosts, and links between them; one clock, one seed.

What happens follows from the seed alone, to the byte and the nanosecond, on asyncio and uvloop alike::

    world = World(seed=7)
    client = world.host(TcpHost("10.0.0.1", 40000, peer=("10.0.0.2", 80), data=b"a question"))
    server = world.host(TcpHost("10.0.0.2", 80, data=b"an answer", answers=True))
    bridge = world.bridge("bridge", app)
    world.link(client, bridge)
    world.link(bridge, server, Link(delay=0.02, loss=0.01))
    client.connect()
    await world.run()
    Path("bridge.pcapng").write_bytes(world.capture(bridge))

Time goes from one event to the next: the earliest of what happens on links and in hosts, and of what is due in engines
and for the sleepers of their apps. It goes on once no task of the loop has anything left to do, so that how many turns
of the loop an app takes decides nothing. An engine is told the time only when it has frames, or something is due in
it: another one beside it changes nothing for it.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs

from aiomos.app import App
from aiomos.settings import Settings
from aiomos.steps import Steps
from aiomos.testing.hosts import IpHost
from aiomos.testing.stations import Station
from aiomos.testing.stillness import Stillness
from aiomos.transport.sim import EPOCH_NS, Cable, Link, Network, Node, SimTransport, Timer
from aiomos.transport.writer import CaptureWriter

__all__ = ["Station", "World"]

SECOND = 1_000_000_000
KEY_BYTES = 16

NodeT = TypeVar("NodeT", bound=Node)


@attrs.frozen
class Passage:
    """A frame that was sent by a node, or that arrived at one."""

    time_ns: int
    node: Node
    frame: bytes
    is_sent: bool


class World:
    """Several engines, hosts and links in one simulated network.

    Make it of parts first, then `run` it, all within one event loop; it may be used as an async context manager, which
    ends what still runs.

    Args:
        seed: Of all that is random: of links, and of the hashes of engines. Apps that draw random numbers of their own
            have to be given a seed, too.
        captures: Whether all frames are kept for `capture`.

    Attributes:
        network: Hosts and links, and their time.
        stations: The engines, in the order in which they were made, which is that in which they are stepped.
    """

    def __init__(self, *, seed: int = 0, captures: bool = True) -> None:
        self.network = Network(seed=seed)
        self.stations: list[Station] = []
        self._seed = seed
        self._names: dict[Node, str] = {}
        self._passages: list[Passage] | None = [] if captures else None
        self._runs = False
        self._has_ended = False
        if captures:
            self.network.on_sent = self._keep_sent
            self.network.on_arrival = self._keep_arrived

    # --- its parts -------------------------------------------------------------------------------------

    def host(self, node: NodeT, name: str | None = None) -> NodeT:
        """Take a host in.

        Args:
            node: It; any `Node`, of `aiomos.testing.hosts` or of your own.
            name: Unlike all others; the address of a host that has one, if it is left out.

        Returns:
            The same host.

        Raises:
            ValueError: it has neither name nor address, another has this name, or it is here already.
        """
        if name is None:
            if not isinstance(node, IpHost):
                raise ValueError(f"a {type(node).__name__} has no address to be named by: give it a name")
            name = node.address
        if node in self._names:
            raise ValueError(f"{self._names[node]} is in this world already")
        self._add(node, name)
        return node

    def bridge(self, name: str, *apps: App[Any], settings: Settings | None = None) -> Station:
        """Make an engine in line between two ports: frames go on only if it sends them on.

        Args:
            name: Its name, unlike all others.
            apps: Its apps, in this order.
            settings: Its settings.

        Raises:
            ValueError: another has this name.
        """
        return self.engine(name, *apps, ports=2, forwards=(1, 0), settings=settings)

    def tap(self, name: str, *apps: App[Any], settings: Settings | None = None) -> Station:
        """Make an engine that watches what goes by between two ports; arguments as for `bridge`."""
        return self._station(name, apps, ports=2, forwards=(), passes=True, settings=settings)

    def engine(
        self,
        name: str,
        *apps: App[Any],
        ports: int = 1,
        forwards: Sequence[int | None] = (),
        settings: Settings | None = None,
    ) -> Station:
        """Make an engine with any number of ports.

        Args:
            name: Its name, unlike all others.
            apps: Its apps, in this order.
            ports: How many.
            forwards: For each port the one by which frames go on, None for those that are not to; empty for an engine
                that takes what it is sent, and sends only what its apps do.
            settings: Its settings.

        Raises:
            ValueError: another has this name, or *forwards* does not fit the ports.
        """
        if ports < 1 or (forwards and len(forwards) != ports):
            raise ValueError(
                f"{ports} ports, at least one, and as many places to forward to, not {len(forwards)}"
            )
        if any(port is not None and not 0 <= port < ports for port in forwards):
            raise ValueError(f"forwards={tuple(forwards)} names a port that is none of {ports}")
        return self._station(name, apps, ports=ports, forwards=forwards, passes=False, settings=settings)

    def link(
        self,
        first: Node | Station,
        second: Node | Station,
        link: Link | None = None,
        *,
        back: Link | None = None,
    ) -> Cable:
        """Join two hosts or ports.

        Both directions have random numbers of their own, derived from the seed and the names of what is joined.

        Args:
            first: A host, a port, or an engine for its first port that is free.
            second: Another.
            link: What happens to frames; an ideal link where it is left out.
            back: What happens to those from the second, where that differs.

        Returns:
            The link as it is laid, with the counts of both directions.

        Raises:
            ValueError: one has a link already or no port free, or is not of this world.
        """
        near = self._end_of_link(first)
        far = self._end_of_link(second, besides=near)
        name = f"{self._names[near]}-{self._names[far]}"
        return self.network.join(near, far, link, back=back, name=name)

    # --- time ------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Its time, in seconds since its start; engines have the same, counted from `EPOCH_NS`."""
        return (self.network.now_ns - EPOCH_NS) / SECOND

    def call_at(self, seconds: float, action: Callable[[], object]) -> Timer:
        """Have *action* called so many seconds after the start; at once, that is next, if that has passed."""
        return self.network.call_at(EPOCH_NS + round(seconds * SECOND), action)

    async def run(self, until: float | None = None) -> None:
        """Let happen what is going to happen.

        The end has come when no frame is on its way, no host waits for anything and no app sleeps. Engines then end in
        the order in which they were made; what one sends at its end still comes to the others. After a run until a
        time the world can be run on.

        Args:
            until: Seconds since the start, up to which it is to run; None to the end.

        Raises:
            RuntimeError: it runs already, or has ended.
            BaseException: what the run of an engine has raised, such as what an app raised with ``on_error="raise"``;
                of several the first. All has ended then.
        """
        if self._runs or self._has_ended:
            raise RuntimeError("this world runs already" if self._runs else "this world has ended")
        self._runs = True
        try:
            with Stillness() as stillness:
                for station in self.stations:
                    await station.begin()
                await self._go_on(stillness, None if until is None else EPOCH_NS + round(until * SECOND))
                if until is None:
                    await self._end(stillness)
            self._check()
        except BaseException:
            await self.close()
            raise
        finally:
            self._runs = False

    async def close(self) -> None:
        """End what still runs, at once; may be called again."""
        self._has_ended = True
        for station in self.stations:
            await station.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # --- what was seen ---------------------------------------------------------------------------------

    def capture(self, of: Node | Station | Cable) -> bytes:
        """Return a pcapng of what was seen somewhere up to now.

        Of a link it has the frames that were put on it, also those that got lost then, and its interfaces are the ends.
        Of a host or an engine it has those that it sent, and those that arrived, as they did; its interfaces are the
        ports. Their names are those of hosts and ports.

        Raises:
            RuntimeError: the world keeps no captures.
            ValueError: *of* is not of this world.
        """
        if self._passages is None:
            raise RuntimeError("this world was made with captures=False")
        nodes: tuple[Node, ...] = (of,) if isinstance(of, Node) else of.ports
        target = io.BytesIO()
        interfaces: dict[Node, int] = {}
        with CaptureWriter(target, format="pcapng", name=self._name_of(nodes[0])) as writer:
            interfaces[nodes[0]] = 0
            for node in nodes[1:]:
                interfaces[node] = writer.add_interface(self._name_of(node))
            for passage in self._passages:
                if passage.node in interfaces and (passage.is_sent or not isinstance(of, Cable)):
                    writer.write(passage.time_ns, passage.frame, interface=interfaces[passage.node])
        return target.getvalue()

    # --- making ----------------------------------------------------------------------------------------

    def _station(
        self,
        name: str,
        apps: Sequence[App[Any]],
        *,
        ports: int,
        forwards: Sequence[int | None],
        passes: bool,
        settings: Settings | None,
    ) -> Station:
        names = [f"{name}.{port}" for port in range(ports)]
        self._refuse_taken(name)
        transport = SimTransport(self.network, names, forwards=forwards, passes=passes)
        key = hashlib.blake2b(f"{self._seed}/{name}".encode(), digest_size=KEY_BYTES).digest()
        station = Station(transport, name, apps, settings=settings, key=key)
        for port in station.ports:
            self._add(port, port.name)
        self.stations.append(station)
        return station

    def _add(self, node: Node, name: str) -> None:
        self._refuse_taken(name)
        self._names[node] = name

    def _refuse_taken(self, name: str) -> None:
        if name in self._names.values() or any(station.name == name for station in self.stations):
            raise ValueError(f"there is a {name} in this world already")

    def _name_of(self, node: Node) -> str:
        try:
            return self._names[node]
        except KeyError:
            raise ValueError(
                f"this {type(node).__name__} is not of this world: take it in by host()"
            ) from None

    def _end_of_link(self, given: Node | Station, besides: Node | None = None) -> Node:
        """Return the node that is meant as the end of a link whose other end may be known."""
        if isinstance(given, Station):
            free = [port for port in given.ports if not port.is_joined and port is not besides]
            if not free:
                raise ValueError(f"{given.name} has no port free")
            given = free[0]
        self._name_of(given)
        return given

    def _keep_sent(self, node: Node, frame: bytes) -> None:
        self._keep(node, frame, is_sent=True)

    def _keep_arrived(self, node: Node, frame: bytes) -> None:
        self._keep(node, frame, is_sent=False)

    def _keep(self, node: Node, frame: bytes, *, is_sent: bool) -> None:
        assert self._passages is not None
        self._passages.append(Passage(self.network.now_ns, node, bytes(frame), is_sent))

    # --- running ---------------------------------------------------------------------------------------

    @property
    def _running(self) -> list[Station]:
        return [station for station in self.stations if station.is_running]

    async def _go_on(self, stillness: Stillness, until_ns: int | None) -> None:
        """Go from event to event up to a time, or until nothing is left to happen."""
        while True:
            await self._settle(stillness)
            if failed := [station for station in self.stations if station.has_failed]:
                for station in failed:
                    await station.end()
                return
            next_ns = self._next_ns(is_bounded=until_ns is not None)
            if next_ns is None or (until_ns is not None and next_ns > until_ns):
                break
            self.network.run(next_ns)
        if until_ns is not None:
            self.network.run(until_ns)

    async def _settle(self, stillness: Stillness) -> None:
        """Step engines and give their apps turns, until nothing is left to be done now."""
        while True:
            await stillness.reached()
            stepped = [station for station in self._running if station.pump.step(self.network.now_ns)]
            if not stepped:
                return
            await stillness.reached()
            for station in stepped:
                await station.pump.give_turns()

    def _next_ns(self, *, is_bounded: bool) -> int | None:
        """Return when something will happen next; None if nothing will.

        That time-outs of flows are due keeps no world going: they end when it does.
        """
        happens = [self.network.next_ns] if self.network.next_ns is not None else []
        running = self._running
        if is_bounded or happens or any(station.pump.has_sleepers for station in running):
            due = (station.pump.due_ns(self.network.now_ns) for station in running)
            happens += [at for at in due if at is not None]
        return min(happens, default=None)

    async def _end(self, stillness: Stillness) -> None:
        """End the engines, one after the other."""
        for station in self.stations:
            if station.is_running:
                station.pump.stop()
            await self._go_on(stillness, None)
            await station.end()
        self._has_ended = True

    def _check(self) -> None:
        """Raise what an engine's run has raised first."""
        steps = Steps()
        for station in self.stations:
            with steps:
                if station.error is not None:
                    raise station.error
        steps.conclude(None)
