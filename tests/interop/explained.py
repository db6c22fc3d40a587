"""The differences from tshark that are understood: explained.toml, checked both ways.

A difference without an entry fails the test of its capture, and so does an entry without a difference: the
list is true or the tests are red.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "tests" / "data"
TABLE = Path(__file__).with_name("explained.toml")
PAGE = ROOT / "docs" / "reference" / "tshark.md"
FOLDER = os.environ.get("AIOMOS_CAPTURES")
STEP = int(os.environ.get("AIOMOS_CAPTURES_STEP", "1"))
SUFFIXES = (".pcap", ".pcapng", ".cap", ".gz")


@dataclass(frozen=True)
class Difference:
    """One field of one connection in which the two programs do not agree."""

    capture: str
    connection: str
    """`CLIENT -> SERVER`, and behind it, of several on the same ports, the number."""
    field: str
    ours: object
    theirs: object

    def __str__(self) -> str:
        return f"{self.connection}: {self.field}: aiomos {self.ours}, they {self.theirs}"


@dataclass(frozen=True)
class Explanation:
    """What an entry of explained.toml says of one capture; a `*` in connection or field stands for anything."""

    test: str
    """`flowlog`, `dump`, `events`, `rexmit`, `abacus` or `account`; `tcptrace` where `rexmit` is compared with that."""
    capture: str
    connection: str
    field: str
    reason: str
    """The heading in docs/reference/tshark.md that explains it, as its anchor."""

    def covers(self, difference: Difference) -> bool:
        return matches(self.connection, difference.connection) and matches(self.field, difference.field)


def matches(pattern: str, text: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), text) is not None


def explanations() -> list[Explanation]:
    return [
        Explanation(test, capture, connection, entry["field"], entry["reason"])
        for entry in tomllib.loads(TABLE.read_text())["difference"]
        for test in entry["tests"]
        for capture, connections in entry["connections"].items()
        for connection in connections
    ]


def anchors(page: Path = PAGE) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def captures() -> list[object]:
    """Return captures as test parameters: the shipped ones, and each AIOMOS_CAPTURES_STEPth of AIOMOS_CAPTURES."""
    shipped = [pytest.param(path, id=path.relative_to(SHIPPED).as_posix()) for path in files(SHIPPED)]
    if FOLDER is None:
        reason = "AIOMOS_CAPTURES names no folder of captures"
        marks = (pytest.mark.captures, pytest.mark.skip(reason=reason))
        return [*shipped, pytest.param(None, id="captures", marks=marks)]
    more = [
        pytest.param(path, id=f"captures/{path.relative_to(FOLDER).as_posix()}", marks=pytest.mark.captures)
        for path in files(Path(FOLDER))[::STEP]
    ]
    return [*shipped, *more]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)


def check(test: str, capture: str, differences: Iterable[Difference]) -> None:
    """Fail on differences that explained.toml does not have, and on its entries that no longer occur."""
    found = list(differences)
    entries = [entry for entry in explanations() if (entry.test, entry.capture) == (test, capture)]
    new = [difference for difference in found if not any(entry.covers(difference) for entry in entries)]
    stale = [entry for entry in entries if not any(entry.covers(difference) for difference in found)]
    peer = "tcptrace" if test == "tcptrace" else "tshark"
    report = [f"  {difference}" for difference in new]
    report += [f"  explained.toml explains {entry}, which no longer occurs" for entry in stale]
    if report:
        pytest.fail("\n".join([f"{capture}: aiomos and {peer} differ:", *report]), pytrace=False)


def compare(
    capture: str, connection: str, ours: Mapping[str, object], theirs: Mapping[str, object]
) -> list[Difference]:
    """Return the fields that differ; both sides have the same ones."""
    assert ours.keys() == theirs.keys()
    return [
        Difference(capture, connection, name, ours[name], theirs[name])
        for name in ours
        if ours[name] != theirs[name]
    ]
