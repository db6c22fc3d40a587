"""Imports point one way: apps -> app -> runtime -> engine -> tcp, ude; transport knows frames and time.

What is not of this project is declared in pyproject.toml.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import aiomos

PACKAGE = Path(aiomos.__file__).parent
SOURCES = sorted(path for suffix in ("py", "pyx", "pxd") for path in PACKAGE.rglob(f"*.{suffix}"))

# What each part may import of aiomos besides itself; parts that are not listed may import all.
BASE = {"descriptors", "errors", "settings", "options", "poison"}
KERNEL = {*BASE, "tcp", "ude", "transport.frame", "transport.times"}
ALLOWED = {
    "descriptors": set[str](),
    "errors": set[str](),
    "options": {"errors"},
    "settings": {"errors", "options"},
    "logging": set[str](),
    "wsgi_server": set[str](),
    "metrics": {"errors", "snapshot", "wsgi_server", "__version__"},
    "transport.prefilter": {*BASE, "transport", "ude"},
    "transport.segmentation": {*BASE, "transport", "tcp"},
    "transport.sharding": {*BASE, "transport", "tcp"},
    "transport": {*BASE, "logging"},
    "tcp": KERNEL,
    "ude": KERNEL,
    "registry": KERNEL,
    "callbacks": {*KERNEL, "registry"},
    "delivery": {*KERNEL, "callbacks", "registry"},
    "hooks": {*KERNEL, "callbacks", "delivery", "registry"},
    "lifetimes": {*KERNEL, "callbacks", "delivery", "hooks", "registry"},
    "admission": {*KERNEL, "callbacks", "delivery", "hooks", "lifetimes", "registry"},
    # It is fed from the abstract source of frames that every transport is, and gives frames to the abstract transport.
    "engine": {
        *KERNEL,
        *("admission", "callbacks", "delivery", "hooks", "lifetimes", "registry"),
        *("transport.source", "transport.transport", "transport.sharding"),
    },
    "outputs": {"errors", "starting"},
    "starting": set[str](),
    "opening": {"errors", "transport"},
    "sleepers": set[str](),
    "steps": {"logging"},
    "live": {"engine", "sleepers", "transport.transport"},
    "app": KERNEL,
    "runtime": {
        *KERNEL,
        *("app", "registry", "engine", "transport", "logging"),
        *("live", "sleepers", "listeners", "interrupts", "opening", "outputs", "starting", "steps"),
    },
    "listeners": {*KERNEL, "registry"},
    "control": {*KERNEL, "app", "control_client", "loader", "logging", "steps"},
    "control_client": {"errors"},
    "loader": {"app", "apps", "errors"},
}
# The engine does no I/O and reads no clock: time, like frames, is an argument.
WORLD = {"asyncio", "socket", "time", "structlog", "uvloop", "selectors", "threading", "random"}
NO_WORLD = {"tcp", "ude", "registry", "callbacks", "delivery", "hooks", "lifetimes", "admission", "engine"}
ASYNC_FACE = {"tcp.streams", "tcp.occurrences"}

CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w., ]+))", re.MULTILINE)


def _name(path: Path) -> str:
    """Name a source by its place, ``tcp.wire``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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
            # `from aiomos import runtime` imports a module; `from aiomos.app import App` a name of one.
            module = node.module or ""
            yield from ([f"aiomos.{alias.name}" for alias in node.names] if module == "aiomos" else [module])


def _run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, leaving out what stands under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for other in child.orelse:
                yield other
                yield from _run_time_nodes(other)
        else:
            yield child
            yield from _run_time_nodes(child)


def _within(name: str, part: str) -> bool:
    return f"{name}.".startswith(f"{part}.")


def _bound(parts: Iterable[str]) -> list[Path]:
    return [path for path in SOURCES if any(_within(_name(path), part) for part in parts)]


def _id(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", _bound(ALLOWED), ids=_id)
def test_imports_point_one_way(path: Path) -> None:
    name = _name(path)
    part = next(part for part in ALLOWED if _within(name, part))
    own = {imported.removeprefix("aiomos.") for imported in _imports(path) if _within(imported, "aiomos")}
    wrong = {
        target for target in own if not any(_within(target, allowed) for allowed in {part, *ALLOWED[part]})
    }
    assert not wrong, f"{name} must not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize(
    "path", [path for path in _bound(NO_WORLD) if _name(path) not in ASYNC_FACE], ids=_id
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
    cython.write_text("from aiomos.tcp.wire cimport Span\ncimport cython\nimport time as t, os\n")
    assert set(_imports(cython)) == {"aiomos.tcp.wire", "cython", "time", "os"}
