"""Hosts with kernels of their own: network namespaces, and the wires between them.

A namespace lives as long as its descriptor is open. It has no name, so tests that run at once do not meet, and
none is left behind, however a test ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from pyroute2 import IPRoute  # type: ignore[import-untyped]

CLONE_NEWNET = 0x4000_0000
ETH_P_ALL = 3
SIOCETHTOOL = 0x8946
ETHTOOL_SET = {"rx": 0x15, "tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}

BR_STATE_FORWARDING = 3

COMMAND_SECONDS = 30
"""How long a command may take before it counts as hung."""

_libc = ctypes.CDLL(None, use_errno=True)


def system_call(result: int, what: str) -> None:
    """Raise the error of a call to the C library that has failed."""
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own."""
    system_call(_libc.unshare(flags), "unshare")


def _namespace() -> int:
    """Return a descriptor of the network namespace that the calling thread is in."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(namespace: int) -> None:
    system_call(_libc.setns(namespace, CLONE_NEWNET), "setns")


class Host:
    """A network namespace with a loopback interface; `Network` makes them.

    Attributes:
        name: For messages only.
        address: Its first IPv4 address.
        address6: Its first IPv6 address.
    """

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name = name
        self.address = self.address6 = ""
        self._stack = stack
        home = _namespace()
        try:
            unshare(CLONE_NEWNET)
            self._descriptor = _namespace()
        finally:
            _enter(home)
            os.close(home)
        stack.callback(os.close, self._descriptor)
        # Nothing is on the wire but what a test sends: no router is asked for, no address announced.
        for name in ("all", "default"):
            self.sysctl(f"ipv6.conf.{name}.addr_gen_mode", 1)
            self.sysctl(f"ipv6.conf.{name}.accept_dad", 0)
            self.sysctl(f"ipv6.conf.{name}.router_solicitations", 0)
        self.set_link("lo", state="up")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Make what this thread starts during the block belong to the host: sockets, transports, processes."""
        home = _namespace()
        _enter(self._descriptor)
        try:
            yield
        finally:
            _enter(home)
            os.close(home)

    # --- interfaces ------------------------------------------------------------------------------------

    @contextmanager
    def netlink(self) -> Iterator[IPRoute]:
        """Open the host's interfaces, addresses and routes for changes."""
        with self.inside(), IPRoute() as netlink:
            yield netlink

    def index(self, interface: str) -> int:
        """Return the number of an interface."""
        with self.inside():
            return socket.if_nametoindex(interface)

    def mac(self, interface: str) -> str:
        """Return the link-layer address of an interface."""
        with self.netlink() as netlink:
            (link,) = netlink.link("get", index=self.index(interface))
            return str(link.get_attr("IFLA_ADDRESS"))

    def set_link(self, interface: str, **changes: object) -> None:
        """Change an interface: ``state="down"``, ``mtu=9000``, ``master=`` the index of a bridge."""
        with self.netlink() as netlink:
            netlink.link("set", index=self.index(interface), **changes)

    def add_bridge(self, *interfaces: str) -> None:
        """Join interfaces by the kernel's own bridge."""
        with self.netlink() as netlink:
            netlink.link("add", ifname="bridge0", kind="bridge")
        for interface in interfaces:
            self.set_link(interface, master=self.index("bridge0"))
        self.set_link("bridge0", state="up")
        # The kernel looks at their carrier a little later; until then it drops what comes.
        deadline = time.monotonic() + COMMAND_SECONDS
        while not all(self._forwards(interface) for interface in interfaces):
            assert time.monotonic() < deadline, "the bridge's ports do not forward"
            time.sleep(0.01)

    def _forwards(self, port: str) -> bool:
        with self.netlink() as netlink:
            (link,) = netlink.link("get", index=self.index(port))
        data = link.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_SLAVE_DATA")
        return bool(data.get_attr("IFLA_BRPORT_STATE") == BR_STATE_FORWARDING)

    def add_address(self, interface: str, address: str) -> None:
        """Give an interface an address, ``192.0.2.1/24``."""
        bare, _, length = address.partition("/")
        with self.netlink() as netlink:
            netlink.addr("add", index=self.index(interface), address=bare, prefixlen=int(length))
        if ":" in bare:
            self.address6 = self.address6 or bare
        else:
            self.address = self.address or bare

    def add_route(self, destination: str, gateway: str, **metrics: int) -> None:
        """Send what is for *destination*, a prefix or ``default``, to *gateway*; metrics: ``mtu``, ``advmss``."""
        with self.netlink() as netlink:
            netlink.route("add", dst=destination, gateway=gateway, metrics=metrics)

    def add_neighbour(self, interface: str, address: str, mac: str) -> None:
        """Tell whose link-layer address an address has, so that nobody has to be asked."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.netlink() as netlink:
            netlink.neigh(
                "replace",
                dst=address,
                lladdr=mac,
                family=family,
                ifindex=self.index(interface),
                state="permanent",
            )

    def set_offloads(self, interface: str, *, on: bool) -> None:
        """Switch checksum offload, segmentation offload and receive coalescing of an interface."""
        with self.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for command in ETHTOOL_SET.values():
                value = ctypes.create_string_buffer(struct.pack("=II", command, on))
                fcntl.ioctl(
                    sock, SIOCETHTOOL, struct.pack("16sP8x", interface.encode(), ctypes.addressof(value))
                )

    def sysctl(self, name: str, value: object) -> None:
        """Set a parameter of the host, named from below ``net``."""
        with self.inside():
            Path("/proc/sys/net", *name.split(".")).write_text(str(value))

    def counters(self, interface: str) -> dict[str, int]:
        """Return the kernel's counters of an interface, such as ``rx_packets`` and ``tx_dropped``."""
        with self.netlink() as netlink:
            (link,) = netlink.link("get", index=self.index(interface))
            return dict(link.get_attr("IFLA_STATS64"))

    # --- sockets and programs --------------------------------------------------------------------------

    def open_socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0
    ) -> socket.socket:
        """Open a socket; it is closed with the network at the latest, and waits for nothing for ever."""
        with self.inside():
            return self.keep(socket.socket(family, kind, proto))

    def raw(self, interface: str) -> socket.socket:
        """Open a packet socket that sends and receives whole frames."""
        sock = self.open_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sock.bind((interface, 0))
        return sock

    def listen(self, port: int, *, family: int = socket.AF_INET) -> socket.socket:
        """Listen at a TCP port of every address."""
        with self.inside():
            return self.keep(socket.create_server(("", port), family=family, backlog=1024))

    def connect(self, address: str, port: int, *, timeout: float = COMMAND_SECONDS) -> socket.socket:
        """Connect by TCP."""
        with self.inside():
            return self.keep(socket.create_connection((address, port), timeout=timeout))

    def keep(self, sock: socket.socket) -> socket.socket:
        """Close a socket with the network; until then it waits for nothing for ever."""
        if sock.gettimeout() is None:
            sock.settimeout(COMMAND_SECONDS)
        return self._stack.enter_context(sock)

    def on_close(self, function: Callable[[], object]) -> None:
        """Call a function when the network is closed, before what was made earlier is."""
        self._stack.callback(function)

    def start(self, command: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen[str]:
        """Start a program; it is ended with the network at the latest."""
        with self.inside():
            process = subprocess.Popen(command, text=True, **options)
        self._stack.callback(stop, process)
        return process

    def run(self, *command: str | os.PathLike[str]) -> bytes:
        """Run a program in the host; see `run`."""
        with self.inside():
            return run(*command)


def run(*command: str | os.PathLike[str], cwd: Path | None = None) -> bytes:
    """Run a program to its end, and return what it has written.

    Raises:
        subprocess.CalledProcessError: it failed; what it complains of is a note of the exception.
    """
    result = subprocess.run(command, capture_output=True, timeout=COMMAND_SECONDS, cwd=cwd)
    try:
        result.check_returncode()
    except subprocess.CalledProcessError as error:
        error.add_note(result.stderr.decode(errors="replace"))
        raise
    return result.stdout


def stop(process: subprocess.Popen[str]) -> None:
    """End a program, the hard way if it does not listen, and close its pipes."""
    with process:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


class Network:
    """Some hosts; as a context manager it ends all that runs in them."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> Literal[False]:
        self._stack.close()
        return False

    def host(self, name: str) -> Host:
        """Add a host."""
        return Host(name, self._stack)

    def join(self, first: Host, first_name: str, second: Host, second_name: str) -> None:
        """Lay a wire (a veth pair) between new interfaces of two hosts."""
        with first.netlink() as netlink:
            netlink.link(
                "add",
                ifname=first_name,
                kind="veth",
                peer={"ifname": second_name, "net_ns_fd": second._descriptor},
            )
        for host, interface in ((first, first_name), (second, second_name)):
            host.set_link(interface, state="up")


class LossyWire(threading.Thread):
    """Carry frames between `eth0` and `eth1` of a host, and lose, repeat and delay some.

    Frames longer than the MTU are not carried: switch offloads off at the ends.

    Args:
        host: The host, with nothing else between its interfaces.
        loss: Share of the frames that are lost; as many come twice, and as many behind the next one.
        seed: Of the generator that chooses them.
    """

    def __init__(self, host: Host, *, loss: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.loss = loss
        self.lost = 0
        self._random = random.Random(seed)
        self._held: list[tuple[socket.socket, bytes]] = []
        self._ends = host.raw("eth0"), host.raw("eth1")
        self._stopping, stopped = socket.socketpair()
        host.keep(self._stopping)
        self._stopped = host.keep(stopped)
        host.on_close(self.stop)
        self.start()

    def run(self) -> None:
        first, second = self._ends
        peer = {first: second, second: first}
        while True:
            ready, _, _ = select.select([first, second, self._stopped], [], [], 0.01)
            if self._stopped in ready:
                return
            if not ready:
                self._release()
            for end in ready:
                frame, sender = end.recvfrom(1 << 16)
                if sender[2] != socket.PACKET_OUTGOING:
                    self._carry(peer[end], frame)

    def _carry(self, end: socket.socket, frame: bytes) -> None:
        dice = self._random.random() / self.loss
        if dice < 1:
            self.lost += 1
        elif dice < 2:
            self._held.append((end, frame))
        else:
            end.send(frame)
            if dice < 3:
                end.send(frame)
            self._release()

    def _release(self) -> None:
        for end, frame in self._held:
            end.send(frame)
        self._held.clear()

    def stop(self) -> None:
        """Carry nothing more."""
        self._stopping.close()
        self.join()
