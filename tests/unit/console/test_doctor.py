"""What the doctor says of machines and interfaces that are written down, and of this one."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import orjson
import pytest
from click.testing import CliRunner

from aiomos import cli
from aiomos.console import doctor
from aiomos.console.doctor import Finding, Interface, Machine, examine, read_interfaces, read_machine
from aiomos.errors import OptionError
from aiomos.transport.rights import Interpreter

ROOT = Path(__file__).parents[3]
RAW, ADMIN = 1 << 13, 1 << 12

FIT = Machine(
    kernel="6.1.0-18-amd64",
    python="3.12.1",
    interpreter=Interpreter("/usr/bin/python3.12", None),
    uvloop="0.21.0",
    cpus=(0, 1, 2, 3),
    effective=RAW | ADMIN,
    bounding=RAW | ADMIN,
    user=0,
    own_users=False,
    families={"AF_PACKET": 0, "AF_XDP": 0},
    tun=0,
    namespaces=True,
    sysctls={
        "net.core.netdev_max_backlog": 10_000,
        "net.core.optmem_max": 131_072,
        "net.core.rmem_max": 4_194_304,
    },
)
CARD = Interface(
    name="eth0",
    up=True,
    carrier=True,
    mtu=1500,
    driver="ixgbe",
    features={"rx-gro": True, "rx-lro": False},
    rings=(4096, 4096),
    queues=4,
    interrupts={40: "0", 41: "1"},
)


def found(name: str, machine: Machine = FIT, interface: Interface = CARD) -> Finding:
    (finding,) = [finding for finding in examine(machine, [interface]) if finding.name == name]
    return finding


def test_a_fit_machine_needs_no_advice() -> None:
    assert {(finding.verdict, finding.advice) for finding in examine(FIT, [CARD])} == {("ok", "")}


@pytest.mark.parametrize(
    ("name", "change", "verdict", "advice"),
    [
        ("kernel", {"kernel": "3.10.0-1160.el7"}, "fail", "Linux 4.3"),
        ("uvloop", {"uvloop": None}, "warn", "pip install uvloop"),
        (
            "CAP_NET_RAW",
            {"effective": ADMIN},
            "fail",
            "sudo setcap cap_net_raw,cap_net_admin+ep",
        ),
        ("CAP_NET_RAW", {"effective": ADMIN, "bounding": ADMIN}, "fail", "--cap-add NET_RAW"),
        ("CAP_NET_ADMIN", {"effective": RAW}, "warn", "setcap"),
        ("AF_PACKET", {"families": {"AF_PACKET": errno.EAFNOSUPPORT}}, "fail", "modprobe af_packet"),
        ("AF_XDP", {"families": {"AF_XDP": errno.EAFNOSUPPORT}}, "warn", "CONFIG_XDP_SOCKETS"),
        ("tun", {"tun": errno.ENOENT}, "warn", "modprobe tun"),
        ("namespaces", {"namespaces": False}, "warn", "CONFIG_NET_NS"),
        (
            "net.core.netdev_max_backlog",
            {"sysctls": {"net.core.netdev_max_backlog": 1000}},
            "warn",
            "sysctl -w net.core.netdev_max_backlog=5000",
        ),
    ],
)
def test_what_a_machine_lacks(name: str, change: dict[str, object], verdict: str, advice: str) -> None:
    finding = found(name, attrs.evolve(FIT, **change))  # type: ignore[arg-type]
    assert finding.verdict == verdict
    assert advice in finding.advice


@pytest.mark.parametrize(
    ("name", "change", "verdict", "advice"),
    [
        ("state", {"up": False}, "fail", "ip link set eth0 up"),
        ("state", {"carrier": False}, "warn", "cable"),
        ("rx-lro", {"features": {"rx-lro": True}}, "warn", "ethtool -K eth0 lro off"),
        ("rx ring", {"rings": (256, 4096)}, "warn", "ethtool -G eth0 rx 4096"),
    ],
)
def test_what_an_interface_lacks(name: str, change: dict[str, object], verdict: str, advice: str) -> None:
    finding = found(name, interface=attrs.evolve(CARD, **change))  # type: ignore[arg-type]
    assert finding.verdict == verdict
    assert advice in finding.advice


def test_missing_rights_are_told_once() -> None:
    unprivileged = attrs.evolve(FIT, effective=0, families={"AF_PACKET": errno.EPERM}, tun=errno.EACCES)
    failed = [finding.name for finding in examine(unprivileged, []) if finding.verdict != "ok"]
    assert failed == ["CAP_NET_RAW", "CAP_NET_ADMIN"]


def test_what_cannot_be_read_is_no_fault() -> None:
    assert found("net.core.rmem_max", attrs.evolve(FIT, sysctls={})).verdict == "ok"
    bare = attrs.evolve(CARD, features={}, rings=None, interrupts={})
    assert {finding.verdict for finding in examine(FIT, [bare])} == {"ok"}


def test_it_says_where_rights_come_from() -> None:
    assert "user namespace" in found("CAP_NET_RAW", attrs.evolve(FIT, own_users=True)).value
    assert "root" in found("CAP_NET_RAW").value
    assert "file" in found("CAP_NET_RAW", attrs.evolve(FIT, user=1000)).value


def test_this_machine_can_be_read() -> None:
    machine, (loopback,) = read_machine(), read_interfaces(["lo"])
    assert machine.cpus
    assert loopback.name == "lo"
    assert loopback.mtu > 0
    assert examine(machine, [loopback])


def test_an_interface_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(OptionError, match=r"nope0: no such interface; there are .*\blo\b"):
        read_interfaces(["nope0"])


FAILS = {"effective": ADMIN}
WARNS = {"uvloop": None}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    """Have the command find a machine with an interface, both changed; returns what is to be said of them."""

    def stand_in(card: dict[str, object], changes: dict[str, object]) -> list[Finding]:
        changed = attrs.evolve(FIT, **changes)  # type: ignore[arg-type]
        cards = [attrs.evolve(CARD, **card)]  # type: ignore[arg-type]
        monkeypatch.setattr(doctor, "read_machine", lambda: changed)
        monkeypatch.setattr(doctor, "read_interfaces", lambda _names: cards)
        return examine(changed, cards)

    return stand_in


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
@pytest.mark.parametrize(
    ("card", "changes", "failures"),
    [
        ({}, {}, []),
        ({}, WARNS, []),
        ({"carrier": False}, WARNS, []),
        ({}, FAILS, ["CAP_NET_RAW"]),
        ({"up": False}, {}, ["state"]),
        ({"up": False}, WARNS | FAILS, ["CAP_NET_RAW", "state"]),
    ],
)
def test_the_status_is_1_if_anything_fails(
    machine: Callable[..., list[Finding]],
    card: dict[str, object],
    changes: dict[str, object],
    failures: list[str],
    form: list[str],
) -> None:
    """One thing, among all those that do not; what is only advised is no failure."""
    findings = machine(card, changes)
    assert [finding.name for finding in findings if finding.verdict == "fail"] == failures
    done = CliRunner().invoke(cli.main, ["doctor", "eth0", *form])
    assert done.exit_code == bool(failures), done.output
    if form:
        told = [orjson.loads(line) for line in done.output.splitlines()]
        assert told == [attrs.asdict(finding) for finding in findings]


def test_the_command_speaks_json() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aiomos", "doctor", "lo", "--json"],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    findings = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert {finding["subject"] for finding in findings} == {"machine", "lo"}
    assert done.returncode in (0, 1)


def test_the_command_shows_a_table() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aiomos", "doctor", "lo"],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        timeout=60,
        check=False,
        text=True,
    )
    assert "CAP_NET_RAW" in done.stdout
    assert "what to change" in done.stdout
