"""Extension modules and Cython directives; everything else is in pyproject.toml.

Environment:
    AIOMOS_BUILD: ``release`` (default), ``quick`` (the same code, soon compiled and slow), ``checked`` (checks of
        bounds and for None, and line tracing), ``asan`` (the same checks, AddressSanitizer and
        UndefinedBehaviorSanitizer), or ``fuzz`` (the same with libFuzzer's coverage counters; needs CC=clang).
    AIOMOS_TEST_NATIVE: Build the modules of tests/native, too.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from Cython.Compiler.ExprNodes import NameNode
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
BUILD = os.environ.get("AIOMOS_BUILD", "release")
WITH_TESTS = bool(os.environ.get("AIOMOS_TEST_NATIVE"))
WRITABLE = os.access(ROOT, os.W_OK)
ELSEWHERE = None if WRITABLE else tempfile.TemporaryDirectory(prefix="aiomos-")
PLACE = ELSEWHERE.name if ELSEWHERE else f"build/{BUILD}{'-tests' if WITH_TESTS else ''}"
"""Where to build: a folder for each kind of build."""

CHECKED = BUILD not in ("release", "quick")

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
    "release": ["-O3", "-fno-semantic-interposition", "-fvisibility=hidden"],
    "quick": ["-O0"],
    "checked": ["-O1", "-g", "-UNDEBUG"],
    "asan": ["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZE],
    "fuzz": ["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZE, "-fsanitize=fuzzer-no-link"],
}
LINK = {"release": [], "quick": [], "checked": [], "asan": SANITIZE, "fuzz": []}
MACROS = {"release": [], "quick": [], "checked": [("CYTHON_TRACE_NOGIL", "1")], "asan": [], "fuzz": []}

_guard_against_none = NameNode.as_none_safe_node


def _guard_others_against_none(node: Any, *args: Any, **kwargs: Any) -> Any:
    """Leave ``self`` unchecked: it is never None, and without the interpreter ``self.n += 1`` could not check it."""
    return node if node.name == "self" else _guard_against_none(node, *args, **kwargs)


NameNode.as_none_safe_node = _guard_others_against_none


def extensions() -> list[Extension]:
    """One extension a .pyx file, named by its place in the tree."""
    sources = sorted((ROOT / "aiomos").rglob("*.pyx"))
    if WITH_TESTS:
        sources += sorted((ROOT / "tests" / "native").glob("*.pyx"))
    return [
        Extension(
            ".".join(path.relative_to(ROOT).with_suffix("").parts),
            [str(path.relative_to(ROOT))],
            extra_compile_args=["-Wall", "-Wno-unused-function", *COMPILE[BUILD]],
            extra_link_args=LINK[BUILD],
            define_macros=MACROS[BUILD],
        )
        for path in sources
    ]


class BuildModules(build_ext):
    """Translates the modules when they are to be built, not whenever somebody asks for metadata."""

    def finalize_options(self) -> None:
        """Use every core, and keep what an editable install builds, so that next time only changes are compiled."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        self.build_temp = f"{PLACE}/temp"
        if self.inplace or self.editable_mode:
            self.build_lib = f"{PLACE}/lib"

    def build_extensions(self) -> None:
        """Translate what has changed to C, and compile that."""
        translated = cythonize(
            self.extensions,
            compiler_directives=DIRECTIVES,
            build_dir=f"{PLACE}/cython",
            nthreads=self.parallel,
            quiet=self.verbose < 1,
        )
        by_name = {module.name: module for module in translated}
        for module in self.extensions:
            module.sources = by_name[module.name].sources
            module.depends = by_name[module.name].depends
        super().build_extensions()


if __name__ == "__main__":
    setup(
        ext_modules=extensions(),
        cmdclass={"build_ext": BuildModules},
        options={"build": {"build_base": PLACE}} | ({} if WRITABLE else {"egg_info": {"egg_base": PLACE}}),
    )
