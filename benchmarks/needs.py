"""What each section of the benchmarks needs, and whether it is here: said before anything is measured."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec

import attrs
from figures import FIGURES
from inputs import FAMILIES
from programs import PYTHON_PEERS
from rich.table import Table

CLONE_NEWNET = 0x4000_0000
ALL_OF_IT = "all of it"


@attrs.frozen
class Need:
    """Something that a section needs.

    Attributes:
        name: A program, a library's header, a package or a right.
        here: Whether it is here.
        remedy: How to get it.
        left_out: What is left out without it.
    """

    name: str
    here: bool
    remedy: str
    left_out: str


def needs(sections: Iterable[str], peers_python: str, *, instructions: bool) -> dict[str, list[Need]]:
    """List what is needed by some sections; those of one kind are put together."""
    chosen = list(sections)
    families = [name for name in chosen if name in FAMILIES]
    figures = [name for name in chosen if name in FIGURES]
    listed: dict[str, list[Need]] = {"all sections": [program("gcc", ALL_OF_IT)]}
    if families:
        listed[", ".join(families)] = [*peers(peers_python), *([valgrind()] if instructions else [])]
    if figures:
        listed[", ".join(figures)] = []
    if "live_watch" in chosen:
        listed["live_watch"] = [
            namespaces(),
            program("tcpdump", "tcpdump"),
            header("tins/tins.h", "libtins", "g++"),
        ]
    if "live_bridge" in chosen:
        tools = (("iperf3", "iperf3"), ("wrk", "wrk"), ("nginx", "nginx-light"))
        own = [program(name, ALL_OF_IT, package) for name, package in tools]
        listed["live_bridge"] = [namespaces(), *own, package("pytest", ALL_OF_IT)]
    if "workers" in chosen:
        listed["workers"] = [processors()]
    return listed


def peers(python: str) -> Iterator[Need]:
    """List what the programs need that aiomos is compared with."""
    yield header("tins/tins.h", "libtins", "g++")
    yield header("nids.h", "libnids")
    yield header("pcap/pcap.h", "libpcap")
    yield program("tcptrace", "tcptrace")
    for name in PYTHON_PEERS:
        query = f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"
        here = subprocess.run([python, "-c", query], check=False).returncode == 0
        yield Need(f"{name}, for {python}", here, f"pip install {name}", name)


def program(name: str, left_out: str, package: str | None = None) -> Need:
    """Need a program on the path."""
    return Need(name, shutil.which(name) is not None, f"apt install {package or name}", left_out)


def header(name: str, library: str, compiler: str = "gcc") -> Need:
    """Need a library with what it takes to compile against it."""
    here = False
    if shutil.which(compiler) is not None:
        command = [compiler, "-E", "-x", "c++" if compiler == "g++" else "c", "-o", os.devnull, "-"]
        source = f"#include <{name}>\n"
        here = (
            subprocess.run(command, input=source, capture_output=True, text=True, check=False).returncode == 0
        )
    return Need(f"{compiler} and <{name}>", here, f"apt install {compiler} {library}-dev", library)


def package(name: str, left_out: str) -> Need:
    """Need a package of this interpreter."""
    return Need(f"{name}, for Python", find_spec(name) is not None, f"pip install {name}", left_out)


def valgrind() -> Need:
    """Need valgrind."""
    return program("valgrind", "instructions and cache misses")


def namespaces() -> Need:
    """Need the right to make network namespaces, which is tried in a process that ends at once."""
    child = os.fork()
    if child == 0:
        os._exit(ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0)
    here = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return Need("the right to make network namespaces", here, "sudo make bench", ALL_OF_IT)


def processors() -> Need:
    """Need more than one processor."""
    return Need("two processors", len(os.sched_getaffinity(0)) > 1, "another machine", "what they would gain")


def needs_table(listed: dict[str, Sequence[Need]]) -> Table:
    """Show what is needed, and what is left out for want of it."""
    table = Table(title="What it needs", title_justify="left")
    table.add_column("section")
    table.add_column("needs", overflow="fold")
    table.add_column("here")
    table.add_column("left out without it")
    for section, wanted in listed.items():
        if not wanted:
            table.add_row(section, "nothing more", "", "")
        for number, need in enumerate(wanted):
            here = "yes" if need.here else f"no: {need.remedy}"
            table.add_row("" if number else section, need.name, here, "" if need.here else need.left_out)
    return table
