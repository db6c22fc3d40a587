"""The list of faults that have no effect: docs/design/mutants.md.

A heading names the file, a diff below it the lines taken out and put in; why it has no effect stands under that. Lines
are compared, not their numbers, so that the list outlives what is written above them.
"""

import difflib
import re

_HEADING = re.compile(r"^#+ `(?P<file>[^`]+)`$")

Change = tuple[str, tuple[str, ...], tuple[str, ...]]
"""File, lines taken out, lines put in, without indentation and empty lines."""


def change_of(name: str, before: str, after: str) -> Change:
    """Return what a fault changes in a file, for comparison with the list."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[2:]
    return change(name, lines)


def change(name: str, lines: list[str]) -> Change:
    """Return the change that lines of a diff make."""
    out = tuple(line[1:].strip() for line in lines if line.startswith("-") and line[1:].strip())
    put = tuple(line[1:].strip() for line in lines if line.startswith("+") and line[1:].strip())
    return name, out, put


def read_accepted(text: str) -> set[Change]:
    """Read the list.

    Raises:
        ValueError: A diff stands under no heading that names a file.
    """
    found: set[Change] = set()
    name = ""
    block: list[str] | None = None
    for line in text.splitlines():
        if block is not None and line.strip() == "```":
            if not name:
                raise ValueError(f"no file is named above {block!r}")
            found.add(change(name, block))
            block = None
        elif block is not None:
            block.append(line.strip())
        elif line.strip() == "```diff":
            block = []
        elif heading := _HEADING.match(line):
            name = heading["file"]
    return found
