"""In line between two hosts: what passes each way of joining them, how late, and the processor time it takes.

Three network namespaces in a row, joined by veth pairs, the bridge in the middle. Bulk is one connection of iperf3,
with offloads (TSO, GSO, GRO, checksums) on and off at all interfaces; requests are those of wrk to nginx on
connections that stay open, one or many. All share the machine's cores, as they would on one host, and programs are
measured in turns. Processor time is that of the program's threads, in and out of the kernel: the kernel's own bridge
works in the senders' time, which is not counted.
"""

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
from inputs import Inputs
from live import LiveError, Section, cpu_seconds, end, start
from programs import HERE, CompileError, Missing, compile_peer, debian_version, package_version
from results import Target
from rich.progress import Progress
from rich.table import Table

from tests.live.conftest import address
from tests.live.network import Host, Network
from tests.live.programs import start_iperf3, start_nginx

KERNEL, BARE, STATE = "kernel bridge", "bare forwarder", "aiomos state"
BARE_WAYS = {BARE: "ring", "bare, small slots": "small", "bare, recvmmsg": "messages"}
AIOMOS_WAYS = {"aiomos wire": "wire", "aiomos bridge": "bridge", STATE: "state"}
TOOLS = ("iperf3", "wrk", "nginx")
SECONDS, QUICK_SECONDS = 4, 1
MANY = 64
REQUESTS = re.compile(r"Requests/sec:\s*([\d.]+)")


@attrs.frozen
class Joint:
    """A way to join two interfaces.

    Attributes:
        name: As in the tables.
        command: Of the program that does; None for the kernel.
        version: What is measured, and its version.
    """

    name: str
    command: tuple[str, ...] | None
    version: str


@attrs.frozen
class Load:
    """Something to send through.

    Attributes:
        name: As in the tables.
        offloads: Whether network cards do a part of the work.
        measure: Runs it between the two hosts for some seconds; returns what passed a second.
        unit: Of what passed, and how much of it is one.
    """

    name: str
    offloads: bool
    measure: Callable[[Host, Host, int], float]
    unit: tuple[str, float]


@attrs.frozen
class Passed:
    """One run: how much passed a second, and the processor seconds of the program for one of it."""

    rate: float
    cpu: float


Results = dict[str, dict[str, list[Passed]]]  # by program, then load


def joints(folder: Path) -> Iterator[Joint | Missing]:
    """Find the programs, compiling into a folder what must be."""
    yield Joint(KERNEL, None, "")
    try:
        forwarder = str(compile_peer("packet_forwarder.c", (), folder))
    except CompileError as error:
        yield Missing(BARE, str(error))
    else:
        for name, way in BARE_WAYS.items():
            yield Joint(name, (forwarder, way, "eth0", "eth1"), "")
    for name, way in AIOMOS_WAYS.items():
        command = (sys.executable, str(HERE / "aiomos_bridge.py"), way, "eth0", "eth1")
        yield Joint(name, command, package_version("aiomos"))


# --- what is sent through -----------------------------------------------------------------------------


def bulk(client: Host, server: Host, seconds: int) -> float:
    """Return the bytes a second of one connection."""
    report = json.loads(client.run("iperf3", "-c", server.address, "-t", str(seconds), "-J"))
    return float(report["end"]["sum_received"]["bits_per_second"]) / 8


def requests(connections: int) -> Callable[[Host, Host, int], float]:
    """Return what measures requests a second over so many connections."""

    def measure(client: Host, server: Host, seconds: int) -> float:
        options = ("-t", "1", "-c", str(connections), "-d", f"{seconds}s")
        output = client.run("wrk", *options, f"http://{server.address}/hello").decode()
        found = REQUESTS.search(output)
        if found is None:
            raise LiveError(f"wrk says no rate: {output.strip()}")
        return float(found[1])

    return measure


GIGABYTE, REQUEST = ("GB/s", 1e9), ("requests/s", 1.0)
LOADS = (
    Load("bulk, offloads on", True, bulk, GIGABYTE),
    Load("bulk, offloads off", False, bulk, GIGABYTE),
    Load("1 connection", True, requests(1), REQUEST),
    Load(f"{MANY} connections", True, requests(MANY), REQUEST),
)


# --- measuring ----------------------------------------------------------------------------------------


def run(joint: Joint, seconds: int) -> dict[str, Passed]:
    """Send each load through one way of joining.

    Raises:
        LiveError: the program failed.
    """
    with tempfile.TemporaryDirectory() as folder, Network() as network:
        client, middle, server = network.host("client"), network.host("middle"), network.host("server")
        middle.sysctl("ipv6.conf.default.disable_ipv6", 1)
        network.join(client, "eth0", middle, "eth0")
        network.join(middle, "eth1", server, "eth0")
        address(client, server)
        start_iperf3(server)
        start_nginx(server, Path(folder), {"hello": b"hello\n"})
        process = join(joint, middle)
        passed = {}
        for load in LOADS:
            for host, interfaces in ((client, ("eth0",)), (middle, ("eth0", "eth1")), (server, ("eth0",))):
                for interface in interfaces:
                    host.set_offloads(interface, on=load.offloads)
            before = used(process)
            rate = load.measure(client, server, seconds)
            passed[load.name] = Passed(rate, (used(process) - before) / (rate * seconds))
        if process:
            end(process)
    return passed


def join(joint: Joint, middle: Host) -> "subprocess.Popen[str] | None":
    """Have a program join the interfaces of the middle, or else the kernel."""
    if joint.command is None:
        middle.add_bridge("eth0", "eth1")
        return None
    return start(middle, joint.command)


def used(process: "subprocess.Popen[str] | None") -> float:
    """Return the processor seconds of a program so far; none of the kernel's, which works in those of others."""
    return cpu_seconds(process.pid) if process else 0.0


def section(inputs: Inputs, core: int, repeat: int, failures: dict[str, str]) -> Section:  # noqa: ARG001
    """Send every load through every way of joining, in turns; on whichever cores the kernel likes."""
    entries = list(joints(inputs.cache))
    found = [entry for entry in entries if isinstance(entry, Joint)]
    missing = [entry for entry in entries if isinstance(entry, Missing)]
    absent = ", ".join(tool for tool in TOOLS if shutil.which(tool) is None)
    if absent:
        return Section(
            missing=[*missing, Missing("live_bridge", f"not on the PATH; Debian: apt install {absent}")]
        )
    results = run_all(found, QUICK_SECONDS if inputs.quick else SECONDS, repeat, failures)
    return Section(
        tables=list(tables(results)),
        targets=list(targets(results)),
        versions=[joint.version for joint in found if joint.version]
        + [debian_version(tool) for tool in TOOLS],
        missing=missing,
        numbers={
            name: {load: [attrs.asdict(one) for one in runs] for load, runs in loads.items()}
            for name, loads in results.items()
        },
    )


def run_all(found: Sequence[Joint], seconds: int, repeat: int, failures: dict[str, str]) -> Results:
    """Measure the ways of joining in turns; one that fails is left out from then on."""
    results: Results = {}
    with Progress(transient=True) as progress:
        task = progress.add_task("live_bridge", total=repeat * len(found))
        for _ in range(repeat):
            for joint in found:
                progress.update(task, description=f"live_bridge: {joint.name}")
                if f"live_bridge: {joint.name}" not in failures:
                    try:
                        passed = run(joint, seconds)
                    except (LiveError, subprocess.SubprocessError) as error:
                        failures[f"live_bridge: {joint.name}"] = str(error)
                    else:
                        for load, one in passed.items():
                            results.setdefault(joint.name, {}).setdefault(load, []).append(one)
                progress.advance(task)
    return results


# --- results ------------------------------------------------------------------------------------------


def middle_rate(runs: Sequence[Passed]) -> float:
    return statistics.median(one.rate for one in runs)


def ratio(results: Results, name: str, load: Load) -> float | None:
    """Say how many times what passes the bare forwarder passes a program: in the middle of all turns."""
    ours, bare = (results.get(program, {}).get(load.name) for program in (name, BARE))
    if not ours or not bare:
        return None
    return statistics.median(one.rate / other.rate for one, other in zip(ours, bare, strict=False))


def tables(results: Results) -> Iterator[Table]:
    """Show what passed, a table for each load."""
    for load in LOADS:
        unit, one = load.unit
        table = Table(title=f"in line: {load.name}", title_justify="left")
        table.add_column("program")
        for column in (unit, "× bare", f"CPU s/{'GB' if one > 1 else 'M requests'}"):
            table.add_column(column, justify="right")
        for name, loads in results.items():
            runs = loads.get(load.name)
            if runs:
                compared = ratio(results, name, load)
                cpu = statistics.median(run.cpu for run in runs) * (one if one > 1 else 1e6)
                table.add_row(
                    name,
                    f"{middle_rate(runs) / one:,.2f}" if one > 1 else f"{middle_rate(runs):,.0f}",
                    f"{compared:.2f}" if compared else "",
                    f"{cpu:.2f}" if cpu else "",
                )
        yield table


def targets(results: Results) -> Iterator[Target]:
    """List what was set out to be reached, with what has been."""
    for load in LOADS:
        yield Target(f"in line, {load.name}: STATE, × bare forwarder", 0.8, ratio(results, STATE, load))
