"""The captures that programs are measured with: made on first use, kept in a cache folder."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import traces
from programs import PYTHON_PEERS

FAMILIES = ("mix", "many", "bulk")
FOLLOWERS = ("aiomos", "libtins", "libnids")
BOUNDS = ("read(2)", "libpcap")


@attrs.frozen
class Input:
    """A capture to measure with.

    Attributes:
        name: As on the command line and in the tables.
        path: The file.
        frames: How many it has.
        connections: The most it has open at once, at least.
        runs: First words of the names of the programs that read it.
        slice: Its first frames, for slow programs.
        slice_frames: How many those are.
    """

    name: str
    path: Path
    frames: int
    connections: int
    runs: tuple[str, ...]
    slice: Path
    slice_frames: int


class Inputs:
    """Makes the captures, or finds them made."""

    def __init__(self, cache: Path, captures: Path, *, quick: bool) -> None:
        self.cache = cache
        self.captures = captures
        self.quick = quick

    def choose(self, families: Container[str]) -> Iterator[Input]:
        """Make the inputs of some families."""
        if "mix" in families:
            yield self.mix()
        if "many" in families:
            flows = 100_000 if self.quick else 1_000_000
            rounds = 100 if self.quick else 1000
            followers = (*FOLLOWERS, *BOUNDS)
            yield self._input("many 1k", self._own("many", flows=1000, rounds=rounds), 1 << 12, followers)
            yield self._input("many", self._trace("many", flows=flows), flows, followers)
        if "bulk" in families:
            path = self._trace("bulk", payload=10**8 if self.quick else 10**9)
            yield self._input("bulk", path, 1 << 12, (*FOLLOWERS, "tcptrace", *BOUNDS))

    def mix(self) -> Input:
        """Make the real traffic."""
        everyone = (*FOLLOWERS, "tcptrace", *PYTHON_PEERS, *BOUNDS)
        return self._input("mix", self._mix(), 1 << 18, everyone)

    def slice(self, path: Path, frames: int) -> Path:
        """Give a file with the first frames of another."""
        target = path.with_name(f"{path.stem}-first-{frames}.pcap")
        if not target.exists():
            traces.first_frames(path, frames, target)
        return target

    def _input(self, name: str, path: Path, connections: int, runs: tuple[str, ...]) -> Input:
        frames = traces.count_frames(path)
        slice_frames = min(frames, 10_000 if self.quick else 50_000)
        return Input(name, path, frames, connections, runs, self.slice(path, slice_frames), slice_frames)

    def _mix(self) -> Path:
        script = os.environ.get("AIOMOS_MIX_SCRIPT")
        if script:
            return self._script(script, [str(self.captures), "--copies", "1" if self.quick else "16"])
        frames = 100_000 if self.quick else 1_500_000
        return self._own("mix", captures=self.captures, frames=frames, interval_us=3)

    def _trace(self, kind: str, **options: int) -> Path:
        script = os.environ.get("AIOMOS_TRACE_SCRIPT")
        if not script:
            return self._own(kind, **options, **({"rounds": 1} if kind == "many" else {}))
        return self._script(script, [kind, *(f"--{name}={value}" for name, value in options.items())])

    def _own(self, kind: str, **options: Any) -> Path:
        source = Path(traces.__file__).read_text()
        path = self._cached(kind, [source, *(f"{name}={value}" for name, value in sorted(options.items()))])
        if not path.exists():
            traces.write(path, kind, **options)
        return path

    def _script(self, script: str, arguments: list[str]) -> Path:
        path = self._cached(Path(script).stem, [script, *arguments])
        if not path.exists():
            part = path.with_suffix(".part")
            command = [sys.executable, script, *arguments, "--out", str(part)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            part.replace(path)
        return path

    def _cached(self, stem: str, made_from: Iterable[str]) -> Path:
        digest = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:12]
        return self.cache / f"{stem}-{digest}.pcap"
