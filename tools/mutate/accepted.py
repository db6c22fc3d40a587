"""The list of faults that have no effect: docs/design/mutants.md.

A heading names the file, a diff below it the lines taken out and put in; why it has no effect stands under that. Lines
are compared, not their numbers, so that the list outlives what is written above them. Where lines as those taken out
stand elsewhere in the file, too, the diff has the one before them.
"""

import re

_HEADING = re.compile(r"^#+ `(?P<file>[^`]+)`$")

Change = tuple[str, tuple[str, ...], tuple[str, ...]]
"""File, lines taken out, lines put in, without indentation and empty lines."""

Accepted = set[tuple[Change, str]]
"""Changes, each with the line before it, empty where any will do."""


def change_of(name: str, before: str, after: str) -> Change:
    """Return what a fault changes in a file, for comparison with the list; there are as many lines after as before."""
    pairs = zip(before.splitlines(), after.splitlines(), strict=True)
    changed = [(old, new) for old, new in pairs if old != new]
    return change(name, [f"-{old}" for old, _ in changed] + [f"+{new}" for _, new in changed])


def change(name: str, lines: list[str]) -> Change:
    """Return the change that lines of a diff make."""
    out = tuple(line[1:].strip() for line in lines if line.startswith("-") and line[1:].strip())
    put = tuple(line[1:].strip() for line in lines if line.startswith("+") and line[1:].strip())
    return name, out, put


def read_accepted(text: str) -> Accepted:
    """Read the list.

    Raises:
        ValueError: A diff stands under no heading that names a file.
    """
    found: Accepted = set()
    name = ""
    block: list[str] | None = None
    for line in text.splitlines():
        if block is not None and line.strip() == "```":
            if not name:
                raise ValueError(f"no file is named above {block!r}")
            first = next(i for i, changed in enumerate(block) if changed[:1] in ("-", "+"))
            found.add((change(name, block), block[first - 1] if first else ""))
            block = None
        elif block is not None:
            block.append(line.strip())
        elif line.strip() == "```diff":
            block = []
        elif heading := _HEADING.match(line):
            name = heading["file"]
    return found


def is_accepted(accepted: Accepted, name: str, before: str, after: str) -> bool:
    """Is what a fault changes in a file on the list?"""
    lines = before.splitlines()
    first = next(i for i, (old, new) in enumerate(zip(lines, after.splitlines(), strict=True)) if old != new)
    found = change_of(name, before, after)
    return (found, "") in accepted or (first > 0 and (found, lines[first - 1].strip()) in accepted)
