"""What `make fuzz` runs fits the modules that it fuzzes; the fuzzer itself is not needed to see that."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from aiomos.engine import registry
from aiomos.ude.combining import combine
from tests.fuzz.targets import TARGETS


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(sys.modules, "atheris", ModuleType("atheris"))
    monkeypatch.delitem(sys.modules, "tests.fuzz.fuzz", raising=False)
    return importlib.import_module("tests.fuzz.fuzz")


def test_predicates_are_compiled_once(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry.combine is combine  # type: ignore[attr-defined]
    monkeypatch.setattr(registry, "combine", combine)
    program.remember_programs()
    remembered = registry.combine  # type: ignore[attr-defined]
    assert remembered is not combine
    assert remembered([]) is remembered([])


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_begins_from_captures_and_regressions(
    program: ModuleType, target: str, tmp_path: Path
) -> None:
    program.write_seeds(target, tmp_path)
    kept = {path.name for path in (program.ROOT / "tests/fuzz/regressions").glob(f"{target}-*")}
    names = {path.name for path in tmp_path.iterdir()}
    assert kept < names
    assert all(path.stat().st_size for path in tmp_path.iterdir())
