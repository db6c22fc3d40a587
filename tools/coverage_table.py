"""Print which lines and branches of aiomos a run reached, by module: of its Python, and of its Cython.

Python's are counted by coverage.py, Cython's by gcov, in a tree that was built with AIOMOS_BUILD=coverage: there each
statement of C has the line of the .pyx or .pxd file that it comes from, and what Cython adds to check for errors has
none. A branch of Cython is one way on from a condition, in a function of C.
"""

import argparse
import json
import os
import subprocess
import sys
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

STATEMENTS = "{}[]()\"',"
"""A line of nothing but these, or with no code, is none."""


class Module:
    """What was reached of a file.

    Attributes:
        lines: How often each line with code ran.
        branches: How often each way on from a line was gone, by line.
    """

    def __init__(self) -> None:
        self.lines: defaultdict[int, int] = defaultdict(int)
        self.branches: defaultdict[int, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))

    def missed(self) -> list[int]:
        """Lines that never ran."""
        return sorted(number for number, count in self.lines.items() if not count)

    def half_missed(self) -> list[int]:
        """Lines that ran, but never went on in one of their ways."""
        return sorted(
            number
            for number, ways in self.branches.items()
            if self.lines[number] and any(ways.values()) and not all(ways.values())
        )

    def ways(self) -> tuple[int, int]:
        """How many ways on were gone, of how many."""
        counts = [count for ways in self.branches.values() for count in ways.values()]
        return sum(map(bool, counts)), len(counts)


def compiled(tree: Path) -> dict[str, Module]:
    """Read what gcov counted."""
    found: defaultdict[str, Module] = defaultdict(Module)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for report in threads.map(gcov, sorted((tree / "build").rglob("*.gcda"))):
            for file in report["files"]:
                name = file["file"]
                if name.startswith("aiomos/") and name.endswith((".pyx", ".pxd")) and (tree / name).exists():
                    take(found[name], tree / name, file)
    return found


def gcov(counts: Path) -> Any:
    """Return gcov's report on one module."""
    command = ["gcov", "--json-format", "--branch-probabilities", "--stdout", counts]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def take(module: Module, source: Path, file: dict[str, Any]) -> None:
    """Add what one build of a file counted: what is inlined is in several."""
    text = source.read_text().splitlines()
    starts = sorted((each["start_line"], each["name"].startswith("__pyx_f_")) for each in file["functions"])
    for line in file["lines"]:
        number = line["line_number"]
        if not holds_code(text, number) or line.get("function_name", "__pyx_").startswith("__Pyx_"):
            continue
        module.lines[number] += line["count"]
        _, native = starts[max(0, bisect(starts, (number, True)) - 1)] if starts else (0, False)
        if native:
            for way, branch in enumerate(line["branches"]):
                module.branches[number][way] += branch["count"]


def holds_code(text: list[str], number: int) -> bool:
    """Tell whether a line does something."""
    line = text[number - 1].strip() if number <= len(text) else ""
    return bool(line.strip(STATEMENTS)) and not line.startswith(("#", "cdef class ", "cdef enum", "@"))


def interpreted(tree: Path) -> dict[str, Module]:
    """Read what coverage.py counted."""
    subprocess.run([sys.executable, "-m", "coverage", "combine", "--quiet"], cwd=tree, check=False)
    report = tree / "build" / "coverage.json"
    command = [sys.executable, "-m", "coverage", "json", "--quiet", "-o", report]
    subprocess.run(command, cwd=tree, check=True)
    found: dict[str, Module] = {}
    for name, file in json.loads(report.read_text())["files"].items():
        module = found[name] = Module()
        module.lines.update(
            dict.fromkeys(file["executed_lines"], 1) | dict.fromkeys(file["missing_lines"], 0)
        )
        for reached, branches in ((1, file["executed_branches"]), (0, file["missing_branches"])):
            for start, end in branches:
                module.branches[start][end] = reached
    return found


def table(modules: dict[str, Module]) -> Iterator[str]:
    """Write a row for each module, and one for all."""
    yield f"{'':36}{'lines':>8}{'missed':>8}{'':>8}{'ways':>8}{'missed':>8}{'':>8}"
    sums = [0, 0, 0, 0]
    for name, module in sorted(modules.items()):
        gone, ways = module.ways()
        counts = [len(module.lines), len(module.missed()), ways, ways - gone]
        sums = [total + count for total, count in zip(sums, counts, strict=True)]
        yield row(name.removeprefix("aiomos/"), *counts)
    yield row("all", *sums)


def row(name: str, lines: int, missed: int, ways: int, not_gone: int) -> str:
    """Write one row."""
    return (
        f"{name:36}{lines:8}{missed:8}{share(lines - missed, lines):>8}"
        f"{ways:8}{not_gone:8}{share(ways - not_gone, ways):>8}"
    )


def share(part: int, whole: int) -> str:
    """Write how much of a whole a part is."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def details(tree: Path, modules: dict[str, Module], chosen: str) -> Iterator[str]:
    """Write the lines that were not reached (``-``), and those that never went on in one way (``/``)."""
    for name, module in sorted(modules.items()):
        if chosen not in name:
            continue
        text = (tree / name).read_text().splitlines()
        marks = dict.fromkeys(module.half_missed(), "/") | dict.fromkeys(module.missed(), "-")
        for number, mark in sorted(marks.items()):
            ways = "" if mark == "-" else f"  {list(module.branches[number].values())}"
            yield f"{name}:{number}: {mark} {text[number - 1].strip()}{ways}"


def main() -> None:
    """Print the table, or the lines of some modules."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument(
        "--lines", metavar="PART", help="print what was not reached where the name has this in it"
    )
    arguments = parser.parse_args()
    arguments.tree = arguments.tree.resolve()
    modules = compiled(arguments.tree) | interpreted(arguments.tree)
    if arguments.lines is None:
        print(*table(modules), sep="\n")
    else:
        print(*details(arguments.tree, modules, arguments.lines), sep="\n")


if __name__ == "__main__":
    main()
