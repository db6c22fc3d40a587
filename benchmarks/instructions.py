"""Count the instructions of a packet, function by function: ``python benchmarks/instructions.py CAPTURE``.

The capture's first 20,000 frames are run under cachegrind, then its first 120,000; the difference is free of start-up.
Names are hashed alike each time (PYTHONHASHSEED), so that two counts of the same code differ by less than one.

    python benchmarks/instructions.py mix.pcap --save before.json
    python benchmarks/instructions.py mix.pcap --against before.json      # once the code is changed and built
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import traces
from aiomos_modes import MODES
from rich.console import Console
from rich.table import Table

SCRIPT = Path(__file__).with_name("aiomos_modes.py")
FEW, MANY = 20_000, 120_000
CYTHON_NAME = re.compile(r"__pyx_(?:f|pw|pf|tp_new|tp_dealloc)_")


def by_function(lines: list[str]) -> Counter[str]:
    """Add up a cachegrind file's instructions by function."""
    counts: Counter[str] = Counter()
    name = "?"
    for line in lines:
        if line.startswith("fn="):
            name = readable(line[3:].strip())
        elif line[:1].isdigit():
            counts[name] += int(line.split()[1])
    return counts


def readable(symbol: str) -> str:
    """Undo the length-prefixed names that Cython makes: ``6aiomos_3tcp_5flows_key_hash`` is ``tcp.flows.key_hash``."""
    rest = CYTHON_NAME.sub("", symbol)
    if rest == symbol:
        return symbol
    parts = []
    while found := re.match(r"(\d+)", rest):
        length, start = int(found[1]), found.end()
        parts.append(rest[start : start + length])
        rest = rest[start + length :].removeprefix("_")
    return ".".join([*parts[1:], rest])


def count(capture: Path, frames: int, mode: str, folder: Path) -> Counter[str]:
    """Run the first frames of a capture under cachegrind."""
    part, counted = folder / f"{frames}.pcap", folder / f"{frames}.cachegrind"
    traces.first_frames(capture, frames, part)
    subprocess.run(
        [
            "valgrind",
            "--quiet",
            "--tool=cachegrind",
            "--cache-sim=no",
            f"--cachegrind-out-file={counted}",
            *(sys.executable, str(SCRIPT), mode, str(part)),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return by_function(counted.read_text().splitlines())


def a_packet(capture: Path, mode: str) -> dict[str, float]:
    """Instructions of one packet by function.

    Raises:
        ValueError: the capture has too few frames.
    """
    if traces.count_frames(capture) < MANY:
        raise ValueError(f"{capture} has fewer than {MANY:,} frames: run make bench for one, or mix captures")
    with tempfile.TemporaryDirectory() as folder:
        few, many = (count(capture, frames, mode, Path(folder)) for frames in (FEW, MANY))
    return {name: (many[name] - few[name]) / (MANY - FEW) for name in few | many}


def table(now: dict[str, float], before: dict[str, float] | None, rows: int) -> Table:
    """Show the functions that take most, or where there is something to compare with, that changed most."""
    shown = Table("function", title_justify="left")
    columns = [now] if before is None else [before, now]
    for title in ["instructions"] if before is None else ["before", "now", "change"]:
        shown.add_column(title, justify="right")
    changes = {name: now.get(name, 0.0) - (before or {}).get(name, 0.0) for name in {*now, *(before or {})}}
    for name in sorted(changes, key=lambda name: -abs(changes[name]))[:rows]:
        shown.add_row(name, *cells([column.get(name, 0.0) for column in columns]))
    shown.add_section()
    shown.add_row("all", *cells([sum(column.values()) for column in columns]))
    return shown


def cells(values: list[float]) -> list[str]:
    """Values, and where there are two, how the second differs."""
    change = [f"{values[1] - values[0]:+,.1f}"] if len(values) == 2 else []
    return [*(f"{value:,.1f}" for value in values), *change]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("capture", type=Path, help=f"pcap file of at least {MANY:,} frames")
    parser.add_argument(
        "--mode", choices=MODES, default="stream", help="see aiomos_modes.py (default stream)"
    )
    parser.add_argument("--rows", type=int, default=30, help="how many functions to show")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write all counts there, as JSON")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with counts that --save wrote")
    options = parser.parse_args()
    before = json.loads(options.against.read_text()) if options.against else None
    try:
        now = a_packet(options.capture, options.mode)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"{error}\n{error.stderr}", file=sys.stderr)
        return 1
    if options.save:
        options.save.write_text(json.dumps(now, indent=1, sort_keys=True))
    Console().print(table(now, before, options.rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
