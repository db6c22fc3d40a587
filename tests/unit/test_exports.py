"""The public names: sorted, importable, and the same wherever the version is written."""

import sys
import tomllib
from pathlib import Path

import pytest

import aiomos
from aiomos import errors

ROOT = Path(__file__).parents[2]


def _order(name: str) -> tuple[bool, bool, str]:
    """Constants, classes, the rest: isort's order, which ruff keeps."""
    return (not name.isupper(), not name[0].isupper(), name)


def test_all_is_sorted_and_without_doubles() -> None:
    assert list(aiomos.__all__) == sorted(set(aiomos.__all__), key=_order)


@pytest.mark.parametrize("name", aiomos.__all__)
def test_each_public_name_can_be_imported(name: str) -> None:
    assert getattr(aiomos, name) is not None


@pytest.mark.parametrize("name", aiomos.__all__)
def test_each_public_class_and_function_is_documented(name: str) -> None:
    exported = getattr(aiomos, name)
    assert not callable(exported) or exported.__doc__


def test_every_error_is_public() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.AiomosError)
    }
    assert defined <= set(aiomos.__all__)


def test_nothing_else_is_public_by_accident() -> None:
    """Names without an underscore are public or modules."""
    modules = {name for name in vars(aiomos) if f"aiomos.{name}" in sys.modules}
    extra = {name for name in vars(aiomos) if not name.startswith("_")} - set(aiomos.__all__) - modules
    assert not extra


def test_the_version_is_written_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project.get("version", aiomos.__version__) == aiomos.__version__
