"""Whether this machine is fit for live traffic, and what to change: ``aiomos doctor``.

What is so is read first, into records; what that means is judged of these alone. Nothing is changed, and no rights are
needed.
"""

import errno
import os
import platform
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import attrs
from pyroute2 import Ethtool, IPRoute  # type: ignore[import-untyped]
from pyroute2.ethtool.ioctl import NotSupportedError  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from aiomos.errors import OptionError
from aiomos.transport.rights import Interpreter

Verdict = Literal["ok", "warn", "fail"]

AF_XDP = 44
FAMILIES = {"AF_PACKET": socket.AF_PACKET, "AF_XDP": AF_XDP}
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
"""Numbers of linux/capability.h."""

OLDEST_KERNEL = (4, 3)
"""The first whose fanout groups share out by a program (PACKET_FANOUT_CBPF)."""

SYSCTLS = {
    "net.core.netdev_max_backlog": (
        5_000,
        "frames of virtual interfaces wait there; beyond it they are dropped",
    ),
    "net.core.optmem_max": (65_536, "filters of packet sockets must fit"),
    "net.core.rmem_max": (212_992, "what sockets without a ring may hold"),
}
"""The least that is enough, and what for."""

LOSSLESS = (
    "rx-gro",
    "rx-gro-hw",
    "tx-tcp-segmentation",
    "tx-generic-segmentation",
    "rx-checksum",
    "rx-vlan-hw-parse",
)
"""Offloads that aiomos sees through: super-segments are passed whole, tags put back, sums left partial."""

LOSSY = {"rx-lro": "lro"}
"""Offloads that merge segments so that they cannot be told apart again, and how ethtool -K calls them."""

FEW_RINGS = "frames are dropped by the card while the kernel is late"


@attrs.frozen(kw_only=True)
class Machine:
    """What is so on this machine.

    Attributes:
        kernel: Its release.
        python: Version of the interpreter.
        interpreter: The one that runs this.
        uvloop: Its version; None without it.
        cpus: Processors that this process may use.
        effective: Capabilities in effect, as a bit mask.
        bounding: Those that this process can ever have.
        user: Effective user.
        own_users: Whether this is a user namespace other than that of the machine.
        families: For each address family why no socket of it can be had, as an errno, or 0.
        tun: The same of opening /dev/net/tun.
        namespaces: Whether the kernel has network namespaces.
        sysctls: Kernel settings; those that cannot be read are missing.
    """

    kernel: str
    python: str
    interpreter: Interpreter
    uvloop: str | None
    cpus: tuple[int, ...]
    effective: int
    bounding: int
    user: int
    own_users: bool
    families: Mapping[str, int]
    tun: int
    namespaces: bool
    sysctls: Mapping[str, int]


@attrs.frozen(kw_only=True)
class Interface:
    """What is so of one interface.

    Attributes:
        name: Its name.
        up: Whether it is set up.
        carrier: Whether its link is there.
        mtu: Longest packet, bytes.
        driver: Name of its driver, or kind of virtual interface.
        features: Which offloads are on; empty where that cannot be read.
        rings: Length of its receive ring, and the most; None where it has none.
        queues: Receive queues.
        promiscuity: How many ask for frames to other stations.
        interrupts: Processors that handle each of its interrupts, as lists of numbers.
    """

    name: str
    up: bool
    carrier: bool
    mtu: int
    driver: str
    features: Mapping[str, bool] = attrs.field(factory=dict)
    rings: tuple[int, int] | None = None
    queues: int = 1
    promiscuity: int = 0
    interrupts: Mapping[int, str] = attrs.field(factory=dict)


@attrs.frozen
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: The interface, or "machine".
        name: What was looked at.
        verdict: ok; warn: works, and could be better; fail: does not work.
        value: What is so.
        advice: What to change, with the command to type; empty where all is well.
    """

    subject: str
    name: str
    verdict: Verdict
    value: str
    advice: str = ""


# --- judging --------------------------------------------------------------------------------------


def examine(machine: Machine, interfaces: Iterable[Interface]) -> list[Finding]:
    """Judge what was read."""
    findings = [
        Finding("machine", name, verdict, value, advice)
        for name, verdict, value, advice in (
            *_software(machine),
            *_rights(machine),
            *_features(machine),
            *_settings(machine),
        )
    ]
    for interface in interfaces:
        findings += [
            Finding(interface.name, name, verdict, value, advice)
            for name, verdict, value, advice in (*_link(interface), *_offloads(interface), *_card(interface))
        ]
    return findings


Judged = Iterator[tuple[str, Verdict, str, str]]


def _software(machine: Machine) -> Judged:
    yield "python", "ok", machine.python, ""
    if machine.uvloop is None:
        yield "uvloop", "warn", "missing", "pip install uvloop, or run with --loop asyncio"
    else:
        yield "uvloop", "ok", machine.uvloop, ""
    found = re.match(r"(\d+)\.(\d+)", machine.kernel)
    if found is not None and (int(found[1]), int(found[2])) < OLDEST_KERNEL:
        needed = ".".join(map(str, OLDEST_KERNEL))
        yield "kernel", "fail", machine.kernel, f"use Linux {needed} or later: workers need its fanout groups"
    else:
        yield "kernel", "ok", machine.kernel, ""
    cpus = len(machine.cpus)
    yield "processors", "ok", f"{cpus}; --workers {cpus} uses all of them" if cpus > 1 else "1", ""


def _rights(machine: Machine) -> Judged:
    for name, number in sorted(CAPABILITIES.items(), reverse=True):
        needed = "packet sockets" if name == "CAP_NET_RAW" else "TUN/TAP and changing interfaces"
        if machine.effective >> number & 1:
            yield name, "ok", _whence(machine), ""
        elif machine.bounding >> number & 1:
            yield (
                name,
                "fail" if name == "CAP_NET_RAW" else "warn",
                f"missing; needed for {needed}",
                machine.interpreter.how_to_get(*reversed(CAPABILITIES)),
            )
        else:
            yield (
                name,
                "fail" if name == "CAP_NET_RAW" else "warn",
                f"cannot be had in this container; needed for {needed}",
                f"start the container with --cap-add {name.removeprefix('CAP_')}",
            )


def _whence(machine: Machine) -> str:
    """Say why a capability is in effect."""
    if machine.own_users:
        return "in effect in this user namespace: for interfaces of its own network namespaces alone"
    return "in effect: run by root" if machine.user == 0 else "in effect: of the program file, or inherited"


def _features(machine: Machine) -> Judged:
    for family, error in machine.families.items():
        if error in (0, errno.EPERM, errno.EACCES):  # rights are a matter of their own
            yield family, "ok", "in the kernel", ""
        elif family == "AF_PACKET":
            yield family, "fail", os.strerror(error), "sudo modprobe af_packet"
        else:
            yield family, "warn", os.strerror(error), "a kernel with CONFIG_XDP_SOCKETS; nothing needs it yet"
    if machine.tun in (0, errno.EPERM, errno.EACCES):
        yield "tun", "ok", "/dev/net/tun", ""
    else:
        yield "tun", "warn", f"/dev/net/tun: {os.strerror(machine.tun)}", "sudo modprobe tun"
    if machine.namespaces:
        yield "namespaces", "ok", "in the kernel", ""
    else:
        yield "namespaces", "warn", "missing", "a kernel with CONFIG_NET_NS; the live tests need it"


def _settings(machine: Machine) -> Judged:
    for name, (least, why) in SYSCTLS.items():
        value = machine.sysctls.get(name)
        if value is None:  # of the machine, not of a network namespace; not shown in all containers
            yield name, "ok", "cannot be read here", ""
        elif value < least:
            yield name, "warn", f"{value:,}: {why}", f"sudo sysctl -w {name}={least}"
        else:
            yield name, "ok", f"{value:,}", ""


def _link(interface: Interface) -> Judged:
    if not interface.up:
        yield "state", "fail", "down", f"sudo ip link set {interface.name} up"
    elif not interface.carrier:
        yield "state", "warn", "up, without a link", "plug in the cable, or set its other end up"
    else:
        yield "state", "ok", "up", ""
    yield "mtu", "ok", f"{interface.mtu:,}", ""
    yield "driver", "ok", interface.driver, ""
    users = interface.promiscuity
    yield "promiscuous", "ok", f"asked for by {users}" if users else "off; a watch turns it on", ""


def _offloads(interface: Interface) -> Judged:
    for feature, name in LOSSY.items():
        if interface.features.get(feature):
            yield (
                feature,
                "warn",
                "on: segments are merged and cannot be told apart again",
                f"sudo ethtool -K {interface.name} {name} off",
            )
    on = [name for name in LOSSLESS if interface.features.get(name)]
    if interface.features:
        yield "offloads", "ok", f"on: {', '.join(on)}" if on else "off", ""
    else:
        yield "offloads", "ok", "none can be read", ""


def _card(interface: Interface) -> Judged:
    if interface.rings is not None:
        now, most = interface.rings
        if now < most:
            advice = f"sudo ethtool -G {interface.name} rx {most}"
            yield "rx ring", "warn", f"{now:,} of {most:,}: {FEW_RINGS}", advice
        else:
            yield "rx ring", "ok", f"{now:,} of {most:,}", ""
    yield "rx queues", "ok", str(interface.queues), ""
    if interface.interrupts:
        listed = ", ".join(f"{number} on {cpus}" for number, cpus in sorted(interface.interrupts.items()))
        yield "interrupts", "ok", f"by processor: {listed}", ""


# --- reading --------------------------------------------------------------------------------------


def read_machine(proc: Path = Path("/proc")) -> Machine:
    """Look at this machine.

    Args:
        proc: Where the kernel tells about itself.
    """
    status = dict(re.findall(r"^(\w+):\s*(\S+)", (proc / "self/status").read_text(), re.MULTILINE))
    return Machine(
        kernel=platform.release(),
        python=platform.python_version(),
        interpreter=Interpreter.current(),
        uvloop=_version_of("uvloop"),
        cpus=tuple(sorted(os.sched_getaffinity(0))),
        effective=int(status["CapEff"], 16),
        bounding=int(status["CapBnd"], 16),
        user=os.geteuid(),
        own_users=(proc / "self/uid_map").read_text().split() != ["0", "0", str(0xFFFF_FFFF)],
        families={name: _socket_error(family) for name, family in FAMILIES.items()},
        tun=_open_error("/dev/net/tun"),
        namespaces=(proc / "self/ns/net").exists(),
        sysctls=dict(_read_sysctls(proc / "sys")),
    )


def read_interfaces(names: Sequence[str] = (), sysfs: Path = Path("/sys/class/net")) -> list[Interface]:
    """Look at interfaces.

    Args:
        names: Which; without any, all that are up, save lo.
        sysfs: Where the kernel tells about interfaces.

    Raises:
        OptionError: there is no such interface.
    """
    with IPRoute() as route:
        links = {link.get_attr("IFLA_IFNAME"): link for link in route.get_links()}
    for name in names:
        if name not in links:
            raise OptionError(f"{name}: no such interface; there are {', '.join(links)}")
    chosen = names or [name for name, link in links.items() if link["flags"] & IFF_UP and name != "lo"]
    return [_read_interface(name, links[name], sysfs / name) for name in chosen]


IFF_UP = 0x1
IFF_LOWER_UP = 0x10000


def _read_interface(name: str, link: Any, folder: Path) -> Interface:
    features, rings = _ask_card(name)
    information = link.get_attr("IFLA_LINKINFO")
    kind = information.get_attr("IFLA_INFO_KIND") if information else None
    return Interface(
        name=name,
        up=bool(link["flags"] & IFF_UP),
        carrier=bool(link["flags"] & IFF_LOWER_UP),
        mtu=link.get_attr("IFLA_MTU"),
        driver=kind or _target(folder / "device/driver") or "unknown",
        features=features,
        rings=rings,
        queues=link.get_attr("IFLA_NUM_RX_QUEUES") or 1,
        promiscuity=link.get_attr("IFLA_PROMISCUITY") or 0,
        interrupts=dict(_read_interrupts(folder)),
    )


def _ask_card(name: str) -> tuple[dict[str, bool], tuple[int, int] | None]:
    """Ask a driver for its offloads and the length of its receive ring; what it does not tell is empty, and None."""
    features: dict[str, bool] = {}
    rings: tuple[int, int] | None = None
    try:
        with Ethtool() as ethtool:
            features = {
                feature: bool(state.enable) for feature, state in ethtool.get_features(name).features.items()
            }
            answer = ethtool.get_rings(name)
            if answer.rx and answer.rx_max:
                rings = (answer.rx, answer.rx_max)
    except (OSError, NetlinkError, NotSupportedError):
        pass
    return features, rings


def _read_interrupts(folder: Path) -> Iterator[tuple[int, str]]:
    """Yield the interrupts of a card, and the processors that handle them."""
    for place in ("device/msi_irqs", "device/../msi_irqs"):
        for interrupt in sorted((folder / place).glob("*")):
            try:
                yield (
                    int(interrupt.name),
                    Path(f"/proc/irq/{interrupt.name}/smp_affinity_list").read_text().strip(),
                )
            except (OSError, ValueError):
                continue


def _read_sysctls(folder: Path) -> Iterator[tuple[str, int]]:
    for name in SYSCTLS:
        try:
            yield name, int((folder / name.replace(".", "/")).read_text())
        except (OSError, ValueError):
            continue


def _target(link: Path) -> str | None:
    return os.path.basename(os.readlink(link)) if link.is_symlink() else None


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _socket_error(family: int) -> int:
    try:
        socket.socket(family, socket.SOCK_RAW).close()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _open_error(path: str) -> int:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or errno.EIO
    return 0
