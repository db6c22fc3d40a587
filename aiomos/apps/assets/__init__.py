"""Which hosts there are, what they run and serve, from what they send: nothing is sent to them.

::

    aiomos run aiomos.apps.assets --pcap trace.pcap --set format=table
    aiomos run aiomos.apps.assets --pcap trace.pcap --set networks=10.0.0.0/8 --set path=assets.jsonl

After PRADS (Passive Real-time Asset Detection System), which mOS brought along as an application. Operating systems are
guessed from SYNs and SYN-ACKs, services and clients recognised by what they say first.
"""

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import attrs

from aiomos import CONN_NEW_DATA, CONN_TEARDOWN, App, CallbackRegistration
from aiomos.apps.assets.banners import LOOK, Banners
from aiomos.apps.assets.fingerprints import fingerprint, guesser
from aiomos.apps.assets.inventory import Finding, Inventory, JsonLines, Table, Writer
from aiomos.logging import get_logger
from aiomos.options import must
from aiomos.outputs import open_output
from aiomos.ude import SYN, SYNACK

if TYPE_CHECKING:
    from aiomos import Flow, Half, Packet

ENOUGH = 4 * LOOK
"""Bytes of either half after which nothing more is expected of the other."""

REMEMBERED = 65_536

UNKNOWN = Finding(name="unknown", confidence="none")


@attrs.define
class Options:
    """What to report, and where.

    Attributes:
        path: File to write; standard output without it.
        format: jsonl for JSON Lines, as assets are found and once more at the end; table for people, at the end.
        networks: Subnets whose hosts are reported, such as 10.0.0.0/8,2001:db8::/32; all without them.
        filter: Which connections to look at; all without it.
        services: Whether to look for services and clients in what is said; without, only systems are guessed.
        midstream: Whether to look there in connections whose SYN was not captured, too; what comes first may then be
            anything, so what was found in such alone is marked.
        signatures: Own signatures of operating systems, a TOML file; they are looked at before those that ship.
        limit: Assets to remember; observations of more are counted, and told at the end.
    """

    path: Path | None = None
    format: Literal["jsonl", "table"] = "jsonl"
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    filter: str = ""
    services: bool = True
    midstream: bool = True
    signatures: Path | None = None
    limit: int = attrs.field(default=1_000_000, validator=must("at least 1", lambda value: value >= 1))


class Detection:
    """One run: what it has found, and the callbacks that find it."""

    def __init__(self, options: Options) -> None:
        self._guess = guesser(options.signatures)
        self._banners = Banners()
        self._networks = options.networks
        self._midstream = options.midstream
        self._is_ours = lru_cache(REMEMBERED)(self._contains)
        self._output = open_output(options.path)
        self._writer = WRITERS[options.format](self._output)
        self._inventory = Inventory(options.limit, self._writer)

    def register(self, options: Options) -> list[CallbackRegistration]:
        """Have every SYN and SYN-ACK looked at and, with *services*, the first bytes of each half."""
        chosen = _filter(options)
        registrations = [
            app.on(event, filter=chosen, midstream=True)(self.see_stack) for event in (SYN, SYNACK)
        ]
        if options.services:
            registrations.append(app.on(CONN_NEW_DATA, filter=chosen, midstream=True)(self.see_bytes))
            at_end = app.on(CONN_TEARDOWN, filter=chosen, midstream=options.midstream)
            registrations.append(at_end(self.see_end))
        return registrations

    def see_stack(self, pkt: "Packet", time: float) -> None:
        """Guess the operating system that sent a SYN or SYN-ACK."""
        if not self._is_ours(pkt.src):
            return
        seen, distance = fingerprint(pkt)
        self._inventory.see(time, pkt.src, "os", None, self._guess(seen), distance)

    def see_bytes(self, flow: "Flow", half: "Half", time: float) -> None:
        """Look for a banner in the first bytes of a half, until both halves have been recognised or said enough."""
        if half.iss is None and not self._midstream:  # these are not the first bytes
            flow.stop()
            return
        self._look(flow, half, time)
        enough = half.stream_offset > ENOUGH
        if enough:
            self._look(flow, half.peer, time)  # whose bytes may have come in the same batch
        if enough or len(flow.ctx) == 2:
            self._report_open(flow, time)
            flow.stop()

    def see_end(self, flow: "Flow", time: float) -> None:
        """Report a service that answered and that nothing tells the name of."""
        self._report_open(flow, time)

    def _look(self, flow: "Flow", half: "Half", time: float) -> None:
        if half.name in flow.ctx:
            return
        finding = self._banners.find(half.name, half.peek(0, LOOK), half.peer.peek(0, LOOK))
        if finding is not None or half.stream_offset >= LOOK:
            flow.ctx[half.name] = finding
        if finding is None or not self._is_ours(half.address):
            return
        if half.name == "server":
            self._inventory.see(time, half.address, "service", half.port, finding, midstream=flow.midstream)
        elif finding.product is not None:
            self._inventory.see(time, half.address, "client", None, finding, midstream=flow.midstream)

    def _report_open(self, flow: "Flow", time: float) -> None:
        server = flow.server
        address, port = server.address, server.port
        if (
            flow.established
            and not flow.guessed_roles
            and self._is_ours(address)
            and not self._inventory.knows(address, "service", port)
        ):
            self._inventory.see(time, address, "service", port, UNKNOWN, midstream=flow.midstream)

    def _contains(self, address: str) -> bool:
        if not self._networks:
            return True
        parsed = ip_address(address)
        return any(parsed in network for network in self._networks)

    def close(self) -> None:
        """Write what is left, and tell what was left out."""
        try:
            self._writer.finish(self._inventory)
        finally:
            self._output.close()
        if self._inventory.left_out:
            get_logger("assets").warning(
                "limit_reached", assets=len(self._inventory), left_out=self._inventory.left_out
            )


WRITERS: dict[str, Callable[[IO[bytes]], Writer]] = {"jsonl": JsonLines, "table": Table}


def _filter(options: Options) -> str:
    """Pick the connections that have an end in one of the networks, so that others cost nothing."""
    parts = [options.filter, " or ".join(f"net {network}" for network in options.networks)]
    return " and ".join(f"({part})" for part in parts if part)


app = App("assets", options=Options)
_running: list[tuple[Detection, list[CallbackRegistration]]] = []


@app.startup
def begin() -> None:
    """Read the signatures, open the output, and register for the flows the options choose."""
    detection = Detection(app.options)
    _running.append((detection, detection.register(app.options)))


@app.shutdown
def end() -> None:
    """Write what is left and close the output."""
    while _running:
        detection, registrations = _running.pop()
        for registration in registrations:
            registration.cancel()
        detection.close()
