"""Topologies for tests with real kernels, as fixtures; and the right to make them.

Root may make network namespaces; for anybody else each test runs in a child process, in a user namespace where it
is root. Where neither is allowed, the tests are skipped.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from _pytest.runner import runtestprotocol

from tests.live.network import CLONE_NEWNET, Host, LossyWire, Network, unshare

CLONE_NEWUSER = 0x1000_0000


class Ends(NamedTuple):
    """Two hosts on one wire: 192.0.2.1 and 2001:db8::1, 192.0.2.2 and 2001:db8::2, both by their `eth0`."""

    client: Host
    server: Host


class Line(NamedTuple):
    """The same two hosts, each on a wire to a third without addresses: `eth0` to the client, `eth1` to the server."""

    client: Host
    middle: Host
    server: Host


@pytest.fixture
def network() -> Iterator[Network]:
    """An empty network, for a topology of the test's own."""
    with Network() as network:
        yield network


@pytest.fixture
def pair(network: Network) -> Ends:
    """Two hosts joined by a wire."""
    client, server = network.host("client"), network.host("server")
    network.join(client, "eth0", server, "eth0")
    return address(client, server)


@pytest.fixture
def in_line(network: Network) -> Line:
    """Two hosts whose frames only meet if somebody in the middle carries them."""
    client, middle, server = network.host("client"), network.host("middle"), network.host("server")
    middle.sysctl("ipv6.conf.default.disable_ipv6", 1)
    network.join(client, "eth0", middle, "eth0")
    network.join(middle, "eth1", server, "eth0")
    address(client, server)
    return Line(client, middle, server)


@pytest.fixture
def watched(in_line: Line) -> Line:
    """Two hosts joined by the kernel's bridge in the middle, where all frames can be watched at `eth0`."""
    in_line.middle.add_bridge("eth0", "eth1")
    return in_line


@pytest.fixture
def lossy(network: Network) -> Line:
    """The hosts of `in_line`, with a wire on either side of the middle that loses one frame in fifty."""
    client, middle, server = network.host("client"), network.host("middle"), network.host("server")
    middle.sysctl("ipv6.conf.default.disable_ipv6", 1)
    for number, (end, interface) in enumerate(((client, "eth0"), (server, "eth1"))):
        wire = network.host("wire")
        wire.sysctl("ipv6.conf.default.disable_ipv6", 1)
        network.join(end, "eth0", wire, "eth0")
        network.join(wire, "eth1", middle, interface)
        end.set_offloads("eth0", on=False)
        LossyWire(wire, loss=0.02, seed=number)
    address(client, server)
    return Line(client, middle, server)


def address(client: Host, server: Host) -> Ends:
    """Give the hosts their addresses."""
    for number, host in enumerate((client, server), start=1):
        host.add_address("eth0", f"192.0.2.{number}/24")
        host.add_address("eth0", f"2001:db8::{number}/64")
    return Ends(client, server)


# --- the right to make namespaces ---------------------------------------------------------------------


def become_root() -> None:
    """Enter a user namespace as its root; the process may have one thread only."""
    user, group = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER | CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def fork() -> int:
    with warnings.catch_warnings():
        # Other threads of this process are lost in the child; it runs one test, waits for none of them, and ends.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def allowed(*, user_namespace: bool) -> bool:
    """Try, in a child process, whether the kernel allows a network namespace."""
    child = fork()
    if child == 0:
        try:
            if user_namespace:
                become_root()
            unshare(CLONE_NEWNET)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@cache
def rights() -> str:
    """Say by which right network namespaces are made: as "root", as root of a "user namespace", or by none: ""."""
    if allowed(user_namespace=False):
        return "root"
    return "user namespace" if allowed(user_namespace=True) else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.live)


def pytest_runtest_setup() -> None:
    if not rights():
        pytest.skip("needs network namespaces: run as root, or allow user namespaces")


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Run a test as root of a user namespace, in a child, and report what it reports."""
    if not item.get_closest_marker("live") or rights() != "user namespace":
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        status = 1
        try:
            become_root()
            reports = runtestprotocol(item, log=False)
            serialize = item.config.hook.pytest_report_to_serializable
            with open(writing, "wb") as pipe:
                pickle.dump([serialize(config=item.config, report=report) for report in reports], pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as pipe:
        written = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"the process of {item.nodeid} ended with status {status}")
    for data in pickle.loads(written):
        report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
