"""Network address translation on a bridge: many hosts behind one address, and ports that lead to hosts inside.

::

    aiomos run aiomos.apps.nat --bridge eth0 eth1 --set config=nat.toml

The first packet between two endpoints makes a session, by which all others are rewritten natively, both ways. How that
goes together with MAC addresses and ARP, and which of the demands of RFC 4787, RFC 5382 and RFC 5508 are met, is told
in docs/apps/nat.md.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from ipaddress import ip_address
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from aiomos import FRAME, PKT_IN, App, CallbackRegistration, Hook, SessionError, SessionShare
from aiomos.apps.nat.mappings import Endpoint, Exhausted, HostLimit, Mapped, Mappings
from aiomos.apps.nat.settings import ICMP, TCP, UDP, Config, mac_of, read_config
from aiomos.errors import OptionError
from aiomos.logging import get_logger
from aiomos.starting import undone_on_failure

if TYPE_CHECKING:
    from aiomos import Packet, Runtime
    from aiomos.line.translation import Session

NUMBERS = {6: TCP, 17: UDP}
PROTO_TCP, PROTO_ICMP = 6, 1
ETHERTYPE_ARP = 0x0806
ECHO_REQUEST, ICMP_HEADER = 8, 8
CACHED_ADDRESSES = 1 << 16
OUTSIDE_SHARE = 2
"""The part of `budgets.sessions` that hosts inside are not charged for is one of so many."""

LIMITED_BROADCAST = "255.255.255.255"


@attrs.define
class Options:
    """How addresses are translated.

    Attributes:
        config: The configuration file.
    """

    config: Path


# Replies to an external address come to another worker than what they answer.
app = App("nat", options=Options, one_worker=True)


@app.ude(PKT_IN, native=True)
def unknown(pkt: "Packet") -> bool:
    """Whether a packet of IPv4 belongs to no session."""
    return pkt.ip_version == 4 and not pkt.known


class Nat:
    """The translator of one run.

    Args:
        config: What the configuration file says.
        engine: The runtime whose packets are translated.
        random: Chooses ports.

    Attributes:
        mappings: The mappings.
        neighbours: MAC addresses.
        refused: Packets that were refused, by reason.
    """

    def __init__(self, config: Config, engine: "Runtime", random: Random) -> None:
        self._config = config
        self._file = config.file
        self._engine = engine
        self._insides = [name for name in engine.interfaces if name != self._file.outside]
        self.refused: Counter[str] = Counter()
        self._metrics = Metrics(lambda: len(self.mappings))
        statics = {str(static.inside): str(static.external) for static in config.statics}
        self._external = [str(address) for address in self._file.external]
        self._macs = {
            address: self._file.mac or mac_of(address) for address in (*self._external, *statics.values())
        }
        self._gateway = None if self._file.gateway is None else str(self._file.gateway)
        self.mappings = Mappings(
            self._external,
            self._file.ports,
            random,
            permanent=forwards(config),
            statics=statics,
            host_ports=self._file.host_ports,
            host_sessions=self._file.host_sessions,
        )
        share = max(engine.settings.budgets.sessions // OUTSIDE_SHARE, 1)
        # Of sessions that no host inside is charged for: above all those from outside, where who sends is anybody.
        self._uncharged = SessionShare(self._file.outside_sessions or share)
        inside = dict(self._macs)
        if self._gateway is not None:
            inside[self._gateway] = mac_of(self._gateway)
        own = {self._file.outside: self._macs, **dict.fromkeys(self._insides, inside)}
        self._own = [
            (address, interface, mac) for interface, of in own.items() for address, mac in of.items()
        ]
        self.neighbours = engine.neighbours
        self._address = lru_cache(CACHED_ADDRESSES)(ip_address)

    def register(self) -> list[CallbackRegistration]:
        """Have all packets seen that no session translates, and ARP; answer for the addresses of ours."""
        self.neighbours.hear_all()
        for own in self._own:
            self.neighbours.answer_for(*own)
        return [app.on(FRAME, hook=Hook.RAW)(self.hear), app.on(unknown, hook=Hook.RAW)(self.translate)]

    def begin(self) -> None:
        """Tell the neighbours where the external addresses are, and ask for those that will be needed."""
        for address in self._macs:
            self.neighbours.announce(address, self._file.outside)
        if self._file.router is not None:
            self.neighbours.find(str(self._file.router), self._file.outside, own=self._external[0])
        targets = {str(forward.to) for forward in self._config.forwards}
        targets |= {str(static.inside) for static in self._config.statics}
        for interface in self._insides:
            for address in sorted(targets):
                self.neighbours.find(address, interface, own=self._gateway)

    # --- packets --------------------------------------------------------------------------------------

    def hear(self, pkt: "Packet") -> None:
        """Refuse what is malformed; behind a gateway, ARP stays on its link."""
        if pkt.malformed is not None:
            self._refuse(pkt, "malformed")
        elif self._gateway is not None and pkt.ethertype == ETHERTYPE_ARP and pkt.vlan is None:
            pkt.drop()

    def translate(self, pkt: "Packet") -> None:
        """Make the session of a first packet, or let it pass, or refuse it."""
        is_inbound = pkt.interface == self._file.outside
        if pkt.dst in self._macs:
            self._translate_inbound(pkt, hairpin=not is_inbound)
        elif is_inbound:
            if self._is_inside(pkt.dst) and not self._is_inside(pkt.src):
                self._refuse(pkt, "unsolicited")
            else:
                self._pass(pkt)
        elif self._is_inside(pkt.src) and not self._stays_local(pkt.dst):
            self._translate_outbound(pkt)
        else:
            self._pass(pkt)

    def _translate_outbound(self, pkt: "Packet") -> None:
        ends = endpoints(pkt)
        if ends is None:
            self._refuse(pkt, "untranslatable")
            return
        if pkt.proto == PROTO_TCP and not opens(
            pkt
        ):  # its connection is older than the translator, or forgotten
            self._count("no_connection")
            pkt.reject()
            return
        source, target = ends
        mapped = self._map(pkt, source)
        if mapped is None:
            return
        external = mapped.external
        rewrites = {"src": external.address, "sport": external.port, "eth_src": self._macs[external.address]}
        if self._file.router is not None:
            router = self.neighbours.find(str(self._file.router), self._file.outside, own=external.address)
            if router is None:
                self.mappings.tidy(mapped)
                self._refuse(pkt, "unresolved")
                return
            rewrites["eth_dst"] = router
        self._open(pkt, [Use(mapped, target.address, begun=True)], **rewrites)

    def _translate_inbound(self, pkt: "Packet", *, hairpin: bool) -> None:
        """Bring a packet for an external address to the host that it stands for."""
        ends = endpoints(pkt)
        mapped = None if ends is None else self.mappings.at(ends[1])
        if ends is None or mapped is None or (pkt.proto == PROTO_TCP and not opens(pkt)):
            self._refuse(pkt, "unsolicited")
            return
        source = self._map(pkt, ends[0]) if hairpin else None
        if hairpin and source is None:
            return
        peer = ends[0] if source is None else source.external
        mac = self._find_inside(mapped.inside.address)
        allowed = mapped.lets_in(peer.address, self._file.filtering)
        if mac is None or not allowed:
            if source is not None:
                self.mappings.tidy(source)
            self._refuse(pkt, "unresolved" if allowed else "filtered")
            return
        rewrites = {"dst": mapped.inside.address, "dport": mapped.inside.port, "eth_dst": mac}
        if self._gateway is not None:
            rewrites["eth_src"] = mac_of(self._gateway)
        if source is None:
            self._open(pkt, [Use(mapped, peer.address)], **rewrites)
            return
        # RFC 4787 REQ-9 a: the host inside is to see the other one's external endpoint.
        rewrites |= {"src": peer.address, "sport": peer.port, "eth_src": self._macs[peer.address]}
        uses = [Use(mapped, peer.address), Use(source, mapped.external.address, begun=True)]
        self._open(pkt, uses, **rewrites, turn_back=True)

    def _map(self, pkt: "Packet", inside: Endpoint) -> Mapped | None:
        try:
            return self.mappings.of(inside)
        except Exhausted:
            self._count("exhausted")
        except HostLimit as limit:
            self._count(f"host_{limit.what}")
            if limit.is_first:
                get_logger("aiomos.nat").warning(
                    "host_limit", host=inside.address, what=limit.what, limit=limit.limit
                )
        pkt.reject()
        return None

    def _open(self, pkt: "Packet", uses: list["Use"], **rewrites: Any) -> None:
        """Make the session of a packet, which uses mappings until it ends."""
        if pkt.proto == PROTO_ICMP and "sport" in rewrites:
            rewrites["dport"] = rewrites["sport"]  # the identifier is both
        for use in uses:
            self.mappings.use(use.mapped, use.peer, begun=use.begun)
        charged = any(use.begun for use in uses)
        if not self._begin(pkt, charged=charged, on_end=partial(self._close, uses), **rewrites):
            self._release(uses)

    def _begin(
        self,
        pkt: "Packet",
        *,
        charged: bool,
        on_end: Callable[["Session"], None] | None = None,
        **rewrites: Any,
    ) -> bool:
        """Make the session of a packet, or refuse that; *charged*, if it counts for a host inside."""
        share = None if charged else self._uncharged
        if share is not None and share.full:
            self._refuse(pkt, "outside_sessions")
            return False
        try:
            pkt.session(**rewrites, **self._idle(pkt), on_end=on_end, share=share)
        except SessionError:
            self._refuse(pkt, "no_session")
            return False
        return True

    def _close(self, uses: list["Use"], _session: "Session") -> None:
        self._release(uses)

    def _release(self, uses: list["Use"]) -> None:
        for use in uses:
            self.mappings.release(use.mapped, use.peer, begun=use.begun)

    def _pass(self, pkt: "Packet") -> None:
        """Let a packet pass as it is, and natively all that belong to it; a gateway lets nothing pass so."""
        if self._gateway is not None:
            self._refuse(pkt, "not_routed")
        elif endpoints(pkt) is not None:
            self._begin(pkt, charged=False)

    def _refuse(self, pkt: "Packet", reason: str) -> None:
        self._count(reason)
        pkt.drop()

    def _count(self, reason: str) -> None:
        self.refused[reason] += 1
        self._metrics.refused.labels(reason).inc()

    def _idle(self, pkt: "Packet") -> dict[str, Any]:
        idle = self._config.idle
        match NUMBERS.get(pkt.proto, ICMP):
            case "tcp":
                return {"idle": idle.tcp, "transitory": idle.tcp_transitory}
            case "udp":
                return {"idle": idle.udp}
            case _:
                return {"idle": idle.icmp}

    # --- where hosts are ------------------------------------------------------------------------------

    def _is_inside(self, address: str) -> bool:
        return self._address(address) in self._file.inside

    def _stays_local(self, address: str) -> bool:
        """Tell whether a host inside reaches an address without the router."""
        return self._is_inside(address) or address == LIMITED_BROADCAST or self._address(address).is_multicast

    def _find_inside(self, address: str) -> str | None:
        """Tell the MAC address of a host inside; None, and whoever it is has been asked for it."""
        found = (self.neighbours.find(address, interface, own=self._gateway) for interface in self._insides)
        return next(filter(None, found), None)

    def close(self) -> None:
        """Answer for nothing any more; tell what was refused, and why."""
        for address, interface, _ in self._own:
            self.neighbours.forget(address, interface)
        get_logger("aiomos.nat").info("ended", mappings=len(self.mappings), refused=dict(self.refused))
        self._metrics.close()


class Use(NamedTuple):
    """What a session has of a mapping.

    Attributes:
        mapped: The mapping.
        peer: Address of who is talked to by it.
        begun: Whether the host inside that it stands for has begun the session.
    """

    mapped: Mapped
    peer: str
    begun: bool = False


class Metrics:
    """What Prometheus is told.

    Args:
        mappings: Tells how many mappings there are.

    Attributes:
        refused: Packets that were not translated, by reason.
    """

    def __init__(self, mappings: Callable[[], float]) -> None:
        from prometheus_client import Counter, Gauge

        self.refused = Counter("aiomos_nat_refused", "Packets refused, by reason.", ["reason"])
        self._mappings = Gauge("aiomos_nat_mappings", "External endpoints in use.")
        self._mappings.set_function(mappings)
        undone_on_failure(self.close)

    def close(self) -> None:
        """Take them back."""
        from prometheus_client import REGISTRY

        for metric in (self.refused, self._mappings):
            REGISTRY.unregister(metric)


def endpoints(pkt: "Packet") -> tuple[Endpoint, Endpoint] | None:
    """Tell the endpoints of a packet that can be translated: TCP, UDP and ICMP echo requests."""
    proto = NUMBERS.get(pkt.proto)
    if proto is not None:
        if pkt.sport is None:  # too short for ports, or a fragment
            return None
        return Endpoint(proto, pkt.src, pkt.sport), Endpoint(proto, pkt.dst, pkt.dport)
    message = pkt.payload
    if pkt.proto != PROTO_ICMP or len(message) < ICMP_HEADER or message[0] != ECHO_REQUEST:
        return None
    identifier = int.from_bytes(message[4:6])
    return Endpoint(ICMP, pkt.src, identifier), Endpoint(ICMP, pkt.dst, identifier)


def opens(pkt: "Packet") -> bool:
    """Tell whether a segment asks for a connection."""
    return bool(pkt.syn and not pkt.ack_flag and not pkt.rst)


def forwards(config: Config) -> Iterator[tuple[Endpoint, Endpoint]]:
    """List the mappings that are configured: inside endpoint, external endpoint."""
    for forward in config.forwards:
        external = str(forward.external or config.file.external[0])
        for proto in forward.proto:
            for port, target in zip(forward.port, forward.targets, strict=True):
                yield Endpoint(proto, str(forward.to), target), Endpoint(proto, external, port)


# --- app ----------------------------------------------------------------------------------------------

_running: list[tuple[Nat, list[CallbackRegistration]]] = []


@app.startup
def begin(engine: "Runtime") -> None:
    """Read the configuration, and translate from now on."""
    config = read_config(app.options.config)
    if config.file.outside not in engine.interfaces:
        names = ", ".join(engine.interfaces) or "none"
        raise OptionError(f"{app.options.config}: outside = {config.file.outside!r}: interfaces are {names}")
    nat = Nat(config, engine, SystemRandom())
    registrations = nat.register()
    nat.begin()
    _running.append((nat, registrations))


@app.shutdown
def end() -> None:
    """Translate no more."""
    while _running:
        nat, registrations = _running.pop()
        for registration in registrations:
            registration.cancel()
        nat.close()
