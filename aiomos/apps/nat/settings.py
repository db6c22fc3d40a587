"""What a NAT's configuration file says."""

from hashlib import sha256
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import attrs

from aiomos.apps._tables import (
    LARGEST_PORT,
    Address,
    Networks,
    address,
    build,
    choice,
    each,
    load,
    network,
    number,
    ports,
    reads,
    seconds,
    text,
)
from aiomos.apps.nat.mappings import HOST_PORTS, HOST_SESSIONS
from aiomos.errors import OptionError

TCP, UDP, ICMP = PROTOCOLS = ("tcp", "udp", "icmp")

FILTERING = ("endpoint-independent", "address-dependent", "address-and-port-dependent")

FIRST_DYNAMIC_PORT = 1024


def _networks(value: object) -> Networks:
    return Networks(each(network)(value))


def _ipv4(value: object) -> Address:
    found = address(value)
    if found.version != 4:
        raise ValueError(value)
    return found


def _mac(value: object) -> str:
    octets = bytes.fromhex(text(value).replace(":", ""))
    if len(octets) != 6 or octets[0] & 1:
        raise ValueError(value)
    return octets.hex(":")


def mac_of(address: str) -> str:
    """Make up a MAC address for an external address: always the same, locally administered, of one host."""
    return bytes([0x02, *sha256(IPv4Address(address).packed).digest()[:5]]).hex(":")


_ADDRESS = "an IPv4 address such as 192.0.2.10"
_PORTS = 'a port such as 80, or a range such as "8000-8100"'
_SECONDS = "seconds, above 0"
_COUNT = "a number, from 1"


@attrs.frozen(kw_only=True)
class Idle:
    """For how many seconds nothing may come before something is forgotten.

    Attributes:
        udp: RFC 4787 REQ-5 wants 120 at least, and recommends 300.
        tcp: Of an established connection: RFC 5382 REQ-5 wants 7440 at least.
        tcp_transitory: While it opens or closes: RFC 5382 REQ-5 wants 240 at least.
        icmp: RFC 5508 REQ-2 wants 60 at least.
    """

    udp: float = attrs.field(default=300.0, metadata=reads(seconds, _SECONDS))
    tcp: float = attrs.field(default=7440.0, metadata=reads(seconds, _SECONDS))
    tcp_transitory: float = attrs.field(default=240.0, metadata=reads(seconds, _SECONDS))
    icmp: float = attrs.field(default=60.0, metadata=reads(seconds, _SECONDS))


@attrs.frozen(kw_only=True)
class Forward:
    """Ports of an external address that lead to a host inside.

    Attributes:
        proto: Protocols.
        port: External ports.
        to: Address of the host.
        to_port: Its port for the first of them; without, the same.
        external: The external address; without, the first.
    """

    proto: tuple[str, ...] = attrs.field(
        default=(TCP,), metadata=reads(each(choice(TCP, UDP)), f"{TCP}, {UDP} or a list of both")
    )
    port: range = attrs.field(metadata=reads(ports, _PORTS))
    to: Address = attrs.field(metadata=reads(_ipv4, _ADDRESS))
    to_port: range | None = attrs.field(default=None, metadata=reads(ports, "a port such as 8080"))
    external: Address | None = attrs.field(default=None, metadata=reads(_ipv4, _ADDRESS))

    @property
    def targets(self) -> range:
        """Ports of the host, in the order of the external ones."""
        first = self.port[0] if self.to_port is None else self.to_port[0]
        return range(first, first + len(self.port))


@attrs.frozen(kw_only=True)
class Static:
    """A host that has an external address to itself.

    Attributes:
        inside: Its own address.
        external: The external one.
    """

    inside: Address = attrs.field(metadata=reads(_ipv4, _ADDRESS))
    external: Address = attrs.field(metadata=reads(_ipv4, _ADDRESS))


@attrs.frozen(kw_only=True)
class File:
    """The keys of the file outside its tables; see docs/apps/nat.md."""

    outside: str = attrs.field(metadata=reads(text, "the name of the interface to the router"))
    inside: Networks = attrs.field(
        metadata=reads(_networks, "a network such as 10.0.0.0/8, or a list of networks")
    )
    external: tuple[Address, ...] = attrs.field(metadata=reads(each(_ipv4), f"{_ADDRESS}, or a list of them"))
    ports: range = attrs.field(
        default=range(FIRST_DYNAMIC_PORT, LARGEST_PORT + 1), metadata=reads(ports, _PORTS)
    )
    host_ports: int = attrs.field(default=HOST_PORTS, metadata=reads(number, _COUNT))
    host_sessions: int = attrs.field(default=HOST_SESSIONS, metadata=reads(number, _COUNT))
    outside_sessions: int | None = attrs.field(default=None, metadata=reads(number, _COUNT))
    filtering: str = attrs.field(
        default="address-dependent", metadata=reads(choice(*FILTERING), f"one of {', '.join(FILTERING)}")
    )
    gateway: Address | None = attrs.field(default=None, metadata=reads(_ipv4, _ADDRESS))
    router: Address | None = attrs.field(default=None, metadata=reads(_ipv4, _ADDRESS))
    mac: str | None = attrs.field(
        default=None, metadata=reads(_mac, "a MAC address of one host, such as 02:00:00:00:00:01")
    )
    idle: dict[str, Any] = attrs.field(factory=dict, metadata=reads(dict, "a table, [idle]"))
    forward: list[Any] = attrs.field(factory=list, metadata=reads(list, "tables, [[forward]]"))
    static: list[Any] = attrs.field(factory=list, metadata=reads(list, "tables, [[static]]"))

    def __attrs_post_init__(self) -> None:
        if (self.gateway is None) != (self.router is None):
            raise ValueError("gateway and router go together: set both, or neither")


@attrs.frozen(kw_only=True)
class Config:
    """All that the file says, checked."""

    file: File
    idle: Idle
    forwards: tuple[Forward, ...]
    statics: tuple[Static, ...]


def read_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        OptionError: something in it is wrong; the message names the table and the key.
        OSError: it cannot be read.
    """
    file = build(File, load(path), str(path))
    forwards = tuple(
        build(Forward, table, f"{path}: forward {place}") for place, table in enumerate(file.forward, 1)
    )
    statics = tuple(
        build(Static, table, f"{path}: static {place}") for place, table in enumerate(file.static, 1)
    )
    for place, forward in enumerate(forwards, 1):
        _check_forward(forward, file, f"{path}: forward {place}")
    _check_statics(statics, file, path)
    return Config(file=file, idle=build(Idle, file.idle, f"{path}: idle"), forwards=forwards, statics=statics)


def _check_forward(forward: Forward, file: File, where: str) -> None:
    if forward.external is not None and forward.external not in file.external:
        raise OptionError(f"{where}: external = '{forward.external}': must be one of the external addresses")
    if forward.to not in file.inside:
        raise OptionError(f"{where}: to = '{forward.to}': must be an address inside")
    if forward.to_port is not None and len(forward.to_port) != 1:
        raise OptionError(f"{where}: to_port: must be one port: that for the first external one")
    if forward.targets[-1] > LARGEST_PORT:
        raise OptionError(f"{where}: to_port: the last of so many ports would be {forward.targets[-1]}")


def _check_statics(statics: tuple[Static, ...], file: File, path: Path) -> None:
    taken = set(file.external)
    for place, static in enumerate(statics, 1):
        if static.external in taken:
            raise OptionError(
                f"{path}: static {place}: external = '{static.external}': must be an address of its own"
            )
        if static.inside not in file.inside:
            raise OptionError(
                f"{path}: static {place}: inside = '{static.inside}': must be an address inside"
            )
        taken.add(static.external)
