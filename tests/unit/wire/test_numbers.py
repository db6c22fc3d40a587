"""A number of the wire stands in one place; where Python needs it, too, the two agree."""

import re
from pathlib import Path

import pytest

import aiomos
from aiomos.wire import numbers

PACKAGE = Path(aiomos.__file__).parent
MEMBER = re.compile(r"^    ([A-Z][A-Z0-9_]+) = (\w+)", re.MULTILINE)
NATIVE = {name: int(value, 0) for name, value in MEMBER.findall((PACKAGE / "wire/numbers.pxd").read_text())}


def test_names_are_written_once() -> None:
    assert len(NATIVE) == len(MEMBER.findall((PACKAGE / "wire/numbers.pxd").read_text())) > 100
    assert NATIVE["PROTO_TCP"] == 6
    assert NATIVE["ETHERTYPE_IPV6"] == 0x86DD


def test_python_has_the_same_numbers() -> None:
    mine = {name: value for name, value in vars(numbers).items() if name.isupper()}
    assert mine
    assert {name: NATIVE[name] for name in mine} == mine


@pytest.mark.parametrize(
    "path",
    [
        path
        for pattern in ("*.pyx", "*.pxd")
        for path in sorted(PACKAGE.rglob(pattern))
        if path.stem != "numbers"
    ],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_compiled_module_has_a_number_of_its_own(path: Path) -> None:
    assert {name for name, _ in MEMBER.findall(path.read_text())} & NATIVE.keys() == set()
