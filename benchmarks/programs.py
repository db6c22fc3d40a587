"""The programs that are compared: aiomos, and what a user would pick instead."""

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

HERE = Path(__file__).parent
PEERS = HERE / "peers"

AIOMOS_MODES = ("state", "stream", "handlers", "flowlog")
PYTHON_PEERS = ("nfstream", "dpkt", "scapy")


@attrs.frozen
class Program:
    """A program in one way of running.

    Attributes:
        name: As in the tables.
        command: Its arguments; ``{path}`` is the capture's, ``{connections}`` the most it has open at once.
        version: The library or program measured, and its version.
        slow: Whether it is given only the first frames.
    """

    name: str
    command: tuple[str, ...]
    version: str
    slow: bool = False

    def arguments(self, path: Path, connections: int) -> list[str]:
        """Fill in the capture."""
        return [part.format(path=path, connections=connections) for part in self.command]


@attrs.frozen
class Missing:
    """A program that cannot be run here.

    Attributes:
        name: The program.
        reason: Why, and what to install.
    """

    name: str
    reason: str


@attrs.frozen
class NativePeer:
    """A program in C or C++ to compile.

    Attributes:
        name: Of the library.
        source: File name in ``peers``.
        package: The Debian package with its headers.
        libraries: What to link.
        modes: Arguments of each way to run it, by name.
    """

    name: str
    source: str
    package: str
    libraries: tuple[str, ...]
    modes: dict[str, tuple[str, ...]]

    def programs(self, folder: Path) -> list[Program | Missing]:
        """Compile it, and list its ways of running."""
        try:
            binary = str(compile_peer(self.source, self.libraries, folder))
        except CompileError as error:
            return [Missing(self.name, f"{error}; Debian: apt install {self.package} g++")]
        version = debian_version(self.package)
        return [Program(name, (binary, *arguments), version) for name, arguments in self.modes.items()]


NATIVE_PEERS = (
    NativePeer(
        "libtins",
        "libtins_follower.cpp",
        "libtins-dev",
        ("-ltins", "-lpcap"),
        {
            "libtins callbacks": ("callbacks", "{path}"),
            "libtins state": ("state", "{path}"),
        },
    ),
    NativePeer(
        "libnids",
        "libnids_follower.c",
        "libnids-dev",
        ("-lnids", "-lpcap"),
        {
            "libnids callbacks": ("callbacks", "{path}", "{connections}"),
            "libnids state": ("state", "{path}", "{connections}"),
        },
    ),
    NativePeer(
        "libpcap",
        "pcap_read.c",
        "libpcap-dev",
        ("-lpcap",),
        {
            "read(2) only": ("read", "{path}"),
            "libpcap loop only": ("libpcap", "{path}"),
        },
    ),
)
PCAPPLUSPLUS = Missing(
    "PcapPlusPlus",
    "neither Debian nor PyPI has a package with its TCP reassembly; the target goes by its ratio to libtins",
)


class CompileError(Exception):
    """A peer did not compile; the text is the compiler's first error."""


def compile_peer(source: str, libraries: Sequence[str], folder: Path) -> Path:
    """Compile a file of ``peers`` unless that has been done since it changed.

    Raises:
        CompileError: no compiler, or the library's headers are missing.
    """
    path = PEERS / source
    binary = folder / path.stem
    newest = max(path.stat().st_mtime, (PEERS / "peer.h").stat().st_mtime)
    if binary.exists() and binary.stat().st_mtime > newest:
        return binary
    compiler = ["g++", "-std=c++17"] if path.suffix == ".cpp" else ["gcc"]
    if shutil.which(compiler[0]) is None:
        raise CompileError(f"no {compiler[0]}")
    command = [*compiler, "-O2", "-Wall", "-o", str(binary), str(path), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        raise CompileError((errors or done.stderr.splitlines() or ["compiler failed"])[0])
    return binary


def discover(folder: Path, peers_python: str) -> tuple[list[Program], list[Missing]]:
    """Find out which programs can be run here, compiling into a folder what must be.

    Args:
        folder: For binaries.
        peers_python: The interpreter that has dpkt, scapy and nfstream.
    """
    found = [*aiomos_programs(), PCAPPLUSPLUS, *tcptrace(), *python_peers(peers_python)]
    for peer in NATIVE_PEERS:
        found += peer.programs(folder)
    return (
        [entry for entry in found if isinstance(entry, Program)],
        [entry for entry in found if isinstance(entry, Missing)],
    )


def aiomos_programs() -> Iterator[Program]:
    script = str(HERE / "aiomos_modes.py")
    for mode in AIOMOS_MODES:
        yield Program(f"aiomos {mode}", (sys.executable, script, mode, "{path}"), package_version("aiomos"))


def tcptrace() -> Iterator[Program | Missing]:
    if shutil.which("tcptrace"):
        yield Program("tcptrace", ("tcptrace", "-n", "-q", "{path}"), debian_version("tcptrace"))
    else:
        yield Missing("tcptrace", "not on the PATH; Debian: apt install tcptrace")


def python_peers(python: str) -> Iterator[Program | Missing]:
    script = str(PEERS / "python_peers.py")
    for library in PYTHON_PEERS:
        query = f"import importlib.metadata as m; print(m.version({library!r}))"
        done = subprocess.run([python, "-c", query], capture_output=True, text=True, check=False)
        if done.returncode:
            yield Missing(library, f"not installed for {python}; PyPI: pip install {library}")
        else:
            yield Program(
                library, (python, script, library, "{path}"), f"{library} {done.stdout.strip()}", slow=True
            )


def package_version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{name}, not installed"


def debian_version(package: str) -> str:
    """Name a Debian package with its version, which other systems do not know."""
    if shutil.which("dpkg-query") is None:
        return f"{package} ?"
    query = ["dpkg-query", "--show", "--showformat=${Package} ${Version}", package]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout or f"{package} ?"
