"""Extension modules and Cython directives; everything else is in pyproject.toml.

Environment:
    AIOMOS_BUILD: ``release`` (default), ``quick`` (the same code, soon compiled and slow), ``checked`` (checks of
        bounds and for None, and line tracing), ``asan`` (the same checks, AddressSanitizer and
        UndefinedBehaviorSanitizer), ``fuzz`` (the same with libFuzzer's coverage counters; needs CC=clang), or
        ``coverage`` (gcc counts how often each line of the .pyx files runs: Cython's own tracing is blind where there
        is no interpreter).
    AIOMOS_TEST_NATIVE: Build the modules of tests/native, too.
    AIOMOS_C_CACHE: A folder in which Cython keeps what it translates to C, for other builds of the same sources.
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from Cython.Compiler.ExprNodes import AttributeNode, ExprNode, NameNode
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

ROOT = Path(__file__).parent
BUILD = os.environ.get("AIOMOS_BUILD", "release")
WITH_TESTS = bool(os.environ.get("AIOMOS_TEST_NATIVE"))
WRITABLE = os.access(ROOT, os.W_OK)
ELSEWHERE = None if WRITABLE else tempfile.TemporaryDirectory(prefix="aiomos-")
PLACE = ELSEWHERE.name if ELSEWHERE else f"build/{BUILD}"
"""Where to build: a folder for each kind of build, whether the modules of the tests are part of it or not."""
WHEEL = f"{PLACE}/tests" if WITH_TESTS else PLACE
"""Where what goes into a wheel is put: without the modules of the tests, none of them may lie there."""
CHECKED = BUILD not in ("release", "quick", "coverage")

DIRECTIVES = {
    "language_level": 3,
    "embedsignature": True,
    "auto_pickle": False,
    "autotestdict": False,
    "cdivision": True,
    "boundscheck": CHECKED,
    "wraparound": False,
    "initializedcheck": CHECKED,
    "nonecheck": CHECKED,
    "linetrace": BUILD == "checked",
}
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
COMPILE = {
    "release": ["-O3", "-g0", "-fno-semantic-interposition", "-fvisibility=hidden"],
    "quick": ["-O0"],
    "checked": ["-O1", "-g", "-UNDEBUG"],
    "asan": ["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZE],
    "fuzz": ["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZE, "-fsanitize=fuzzer-no-link"],
    "coverage": ["-O0", "--coverage"],
}
LINK = {"asan": SANITIZE, "coverage": ["--coverage"]}
MACROS = {"checked": [("CYTHON_TRACE_NOGIL", "1")]}
CHECK = re.compile(
    r'^(#line \d+ ".*\.p[yx][xd]"\n)([ \t]*(?:[^#\s].*; )?)'
    r"(if \(.*(?:__PYX_ERR|PyErr_|__Pyx_Raise|__pyx_nargs|__pyx_kwds|CYTHON_).*)$",
    re.MULTILINE,
)
"""A line of C with its place, what comes before a check of Cython's, and that."""

PARTS = {
    *("self", "core", "line"),
    *("outlet", "hand", "translation", "paths", "passing", "ordering", "changes"),
    *("registry", "holdings", "clock", "gate", "flow_timers", "attention", "delivery", "intake"),
}
"""What is never None: the object itself, and the parts of an engine and of its line, which are made with it.

Without the interpreter, ``self.part.n += 1`` could not be checked.
"""

_guard_against_none = ExprNode.as_none_safe_node


def _guard_others_against_none(node: Any, *args: Any, **kwargs: Any) -> Any:
    name = node.name if isinstance(node, NameNode) else node.attribute
    return node if name in PARTS else _guard_against_none(node, *args, **kwargs)


NameNode.as_none_safe_node = AttributeNode.as_none_safe_node = _guard_others_against_none


SHARED = "aiomos._cyutility"
"""What Cython would else write into each module that takes a memoryview, 20,000 lines of C: their common part."""


def extensions() -> list[Extension]:
    """One extension a .pyx file, named by its place in the tree, and the common part."""
    sources = sorted((ROOT / "aiomos").rglob("*.pyx"))
    if WITH_TESTS:
        sources += sorted((ROOT / "tests" / "native").glob("*.pyx"))
    shared = ROOT / Path(*SHARED.split(".")).with_suffix(".c")
    return [
        Extension(
            ".".join(path.relative_to(ROOT).with_suffix("").parts),
            [str(path.relative_to(ROOT))],
            extra_compile_args=["-Wall", "-Wno-unused-function", *COMPILE[BUILD]],
            extra_link_args=LINK.get(BUILD, []),
            define_macros=MACROS.get(BUILD, []),
        )
        for path in (shared, *sources)
    ]


class BuildModules(build_ext):
    """Translates the modules when they are to be built, not whenever somebody asks for metadata."""

    def finalize_options(self) -> None:
        """Use every core, and keep what an editable install builds, so that next time only changes are compiled."""
        super().finalize_options()
        self.parallel = self.parallel or len(os.sched_getaffinity(0))
        self.build_temp = f"{PLACE}/temp"
        if self.inplace or self.editable_mode:
            self.build_lib = f"{PLACE}/lib"

    def build_extensions(self) -> None:
        """Translate what has changed to C, and compile that."""
        self._left: list[str] = []
        if not any(Path(self.get_ext_fullpath(module.name)).exists() for module in self.extensions):
            say(f"translating {len(self.extensions)} modules to C")
        translated = cythonize(
            self.extensions,
            compiler_directives=DIRECTIVES,
            build_dir=f"{PLACE}/cython",
            nthreads=self.parallel,
            emit_linenums=BUILD == "coverage",
            quiet=self.verbose < 1,
            shared_utility_qualified_name=SHARED,
            cache=os.environ.get("AIOMOS_C_CACHE", ""),
        )
        by_name = {module.name: module for module in translated}
        for module in self.extensions:
            module.sources = by_name[module.name].sources
            module.depends = by_name[module.name].depends
        if BUILD == "coverage":
            for module in self.extensions:
                disown_checks(Path(module.sources[0]))
        self._left = [module.name for module in self.extensions if self._is_stale(module)]
        if self._left:
            say(f"compiling {len(self._left)} modules, {min(self.parallel, len(self._left))} at a time")
        super().build_extensions()

    def build_extension(self, module: Extension) -> None:
        """Build a module, and say now and then how many are left: all of them take a minute."""
        super().build_extension(module)
        if module.name in self._left:
            self._left.remove(module.name)
            if self._left and len(self._left) % 10 == 0:
                say(f"{len(self._left):3} left")

    def _is_stale(self, module: Extension) -> bool:
        return self.force or newer_group(
            [*module.sources, *module.depends], self.get_ext_fullpath(module.name), "newer"
        )


def say(what: str) -> None:
    """Tell whoever waits what is going on; pip shows it only if it is asked to be verbose."""
    sys.stderr.write(f"aiomos: {what}\n")


def disown_checks(translated: Path) -> None:
    """Have gcov count what Cython adds to a line, its checks for errors above all, as of no source.

    The branches that remain are those of conditions that stand in the source.
    """
    text = translated.read_text()
    translated.write_text(CHECK.sub(r'\1\2\n#line 1 "checks"\n\3', text))


if __name__ == "__main__":
    setup(
        ext_modules=extensions(),
        cmdclass={"build_ext": BuildModules},
        options={"build": {"build_base": WHEEL}} | ({} if WRITABLE else {"egg_info": {"egg_base": PLACE}}),
    )
