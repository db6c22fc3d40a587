"""Imports point downwards: from each floor of the house to those before it, and no two modules to each other.

What is not of this project is declared in pyproject.toml.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import aiomos

PACKAGE = Path(aiomos.__file__).parent
SOURCES = sorted(path for suffix in ("py", "pyx", "pxd") for path in PACKAGE.rglob(f"*.{suffix}"))

FLOORS = (
    *("errors", "logging", "levels", "sealing", "poison", "descriptors", "starting", "control_client"),
    *("options", "settings", "steps", "outputs"),
    "wire",
    "tcp",
    "line",
    "host",
    "end",
    "transport",
    "ude",
    "face",
    "registrations",
    "app",
    "aiomos",
    "engine",
    "runtime",
    "testing",
    "loader",
    "console",
    "workers",
    "apps",
    "cli",
    "__main__",
)
"""The house from the ground up: a floor imports only those before it, and itself."""

# The engine does no I/O and reads no clock: time, like frames, is an argument.
WORLD = {"asyncio", "socket", "time", "structlog", "uvloop", "selectors", "threading", "random"}
NO_WORLD = {"wire", "tcp", "line", "host", "end", "ude", "face", "engine"}
ASYNC_FACE = {"face.streams", "face.occurrences"}

CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w., ]+))", re.MULTILINE)


def _name(path: Path) -> str:
    """Name a source by its place, ``tcp.wire``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "aiomos"


def _imports(path: Path) -> Iterator[str]:
    """Yield the full names of the modules that a source imports when it runs."""
    text = path.read_text()
    if path.suffix in (".pyx", ".pxd"):
        for source, several in CYTHON_IMPORT.findall(text):
            yield from [source] if source else [name.split()[0] for name in several.split(",")]
        return
    for node in _run_time_nodes(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            # `from aiomos.wire import wire` imports a module; `from aiomos.app import App` a name of one.
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from names if _within(module, "aiomos") and _is_package(module) else [module]


def _is_package(module: str) -> bool:
    return (PACKAGE.parent / Path(*module.split(".")) / "__init__.py").exists()


def _run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, leaving out what stands under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from _run_time_nodes(other)
        else:
            yield child
            yield from _run_time_nodes(child)


def _within(name: str, part: str) -> bool:
    return f"{name}.".startswith(f"{part}.")


def _floor(module: str) -> str:
    return module.partition(".")[0]


def _id(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def _graph() -> dict[str, set[str]]:
    """Which modules of the package each imports when it runs; a .pyx and its .pxd are one."""
    modules = {_name(path) for path in SOURCES}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for path in SOURCES:
        for imported in _imports(path):
            target = imported if _within(imported, "aiomos") else ""
            while target and target.removeprefix("aiomos.") not in modules:
                target = target.rpartition(".")[0]
            if target and target.removeprefix("aiomos.") != _name(path):
                graph[_name(path)].add(target.removeprefix("aiomos."))
    return graph


def test_floors_are_named_once_and_hold_every_module() -> None:
    assert len(FLOORS) == len(set(FLOORS))
    assert {_floor(module) for module in _graph()} == set(FLOORS)


@pytest.mark.parametrize("module", sorted(_graph()))
def test_imports_point_downwards(module: str) -> None:
    height = FLOORS.index(_floor(module))
    above = {target for target in _graph()[module] if FLOORS.index(_floor(target)) > height}
    assert not above, f"{module} must not import {', '.join(sorted(above))}, of floors above it"


def test_no_modules_import_each_other() -> None:
    """With the floors, this is one total order over all modules."""
    try:
        order = list(TopologicalSorter(_graph()).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")
    assert len(order) == len(_graph())


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_no_private_name_is_used_by_another_module(path: Path) -> None:
    text = path.read_text()
    names = re.findall(r"^\s*from aiomos([\w.]*) c?import (\((?:[^)]*)\)|.*)$", text, re.MULTILINE)
    private = {
        name
        for _, several in names
        for name in re.findall(r"(?:^|[\s,(])(_\w+)", several)
        if not name.startswith("__")
    }
    own = _name(path).rpartition(".")[0]
    modules = {
        f"aiomos{module}"
        for module, _ in names
        if any(part.startswith("_") and not part.startswith("__") for part in module.split("."))
        and not _within(_name(path), module.lstrip(".").rpartition(".")[0] or own)
    }
    assert private | modules == set()


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if _floor(_name(path)) in NO_WORLD and _name(path) not in ASYNC_FACE],
    ids=_id,
)
def test_the_engine_does_no_io_and_reads_no_clock(path: Path) -> None:
    wrong = {imported for imported in _imports(path) if imported.partition(".")[0] in WORLD}
    assert not wrong, f"{_name(path)} must not import {', '.join(sorted(wrong))}"


ROOT = PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMPILER = {"cython", "libc", "cpython"}
"""What .pyx files cimport, which is compiled in."""
PARTS = {
    "aiomos": set[str](),
    "docs/examples": {"test"},
    "benchmarks": {"test", "bench"},
}
"""Folders of this project, and the extras with which what they hold is run."""


def _distribution(requirement: str) -> str:
    """Name what a requirement asks for, in the one spelling that compares."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def _required(extras: Iterable[str]) -> set[str]:
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {_distribution(requirement) for listed in lists for requirement in listed}


def _foreign(path: Path) -> set[str]:
    """Name the modules, without what is below them, that are neither Python's nor of this project."""
    own = {"aiomos", "tests", "setup", *(other.stem for other in path.parents[0].glob("*.py"))}
    return {name.partition(".")[0] for name in _imports(path)} - own - sys.stdlib_module_names - COMPILER


@pytest.mark.parametrize("part", PARTS)
def test_only_declared_dependencies_are_imported(part: str) -> None:
    """What another's dependency brings along is there until that one does without it."""
    provided = packages_distributions()
    declared = _required(PARTS[part])
    undeclared = {
        str(path.relative_to(ROOT)): sorted(unknown)
        for suffix in ("py", "pyx", "pxd")
        for path in sorted((ROOT / part).rglob(f"*.{suffix}"))
        if (
            unknown := {
                module
                for module in _foreign(path)
                if not declared & {_distribution(name) for name in provided.get(module, [module])}
            }
        )
    }
    assert undeclared == {}


def test_every_declared_dependency_is_imported() -> None:
    provided = packages_distributions()
    imported = {module for path in SOURCES for module in _foreign(path)}
    assert {_distribution(name) for module in imported for name in provided[module]} >= _required([])


def test_the_reader_of_imports_sees_them_all(tmp_path: Path) -> None:
    """The rules above are only as good as their reader."""
    python = tmp_path / "a.py"
    python.write_text(
        "import os, sys\nfrom aiomos import app\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import asyncio\nelse:\n    import socket\n"
        "def f():\n    import time\n"
    )
    assert set(_imports(python)) == {"os", "sys", "aiomos.app", "typing", "socket", "time"}
    cython = tmp_path / "a.pyx"
    cython.write_text("from aiomos.wire.wire cimport Span\ncimport cython\nimport time as t, os\n")
    assert set(_imports(cython)) == {"aiomos.wire.wire", "cython", "time", "os"}
