"""Compiled modules know the levels by the numbers that users do, and have none of their own."""

import re
from pathlib import Path

import pytest

import aiomos
from aiomos import Level

PACKAGE = Path(aiomos.__file__).parent
MEMBER = re.compile(r"^    ((\w+)_LEVEL|LEVEL_\w+) = (\d+)", re.MULTILINE)


def test_levels_are_numbered_alike() -> None:
    native = {name: int(value) for _, name, value in MEMBER.findall((PACKAGE / "levels.pxd").read_text())}
    assert native == {level.name: level.value for level in Level}


@pytest.mark.parametrize(
    "path",
    [path for pattern in ("*.pyx", "*.pxd") for path in PACKAGE.rglob(pattern) if path.name != "levels.pxd"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_compiled_module_has_levels_of_its_own(path: Path) -> None:
    assert {name for name, _, _ in MEMBER.findall(path.read_text())} <= {"HALF_LEVEL"}  # a field of filters
