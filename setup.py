"""Extension modules and Cython directives; everything else is in pyproject.toml.

Environment:
    AIOMOS_BUILD: ``release`` (default), ``checked`` (bounds checks and line tracing), ``asan``
        (AddressSanitizer and UndefinedBehaviorSanitizer), or ``fuzz`` (the same with libFuzzer's coverage
        counters; needs CC=clang).
    AIOMOS_TEST_NATIVE: Build the modules of tests/native, too.
"""

import os
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
BUILD = os.environ.get("AIOMOS_BUILD", "release")
WITH_TESTS = bool(os.environ.get("AIOMOS_TEST_NATIVE"))

DIRECTIVES = {
    "language_level": 3,
    "embedsignature": True,
    "auto_pickle": False,
    "autotestdict": False,
    "cdivision": True,
    "boundscheck": BUILD != "release",
    "wraparound": False,
    "initializedcheck": BUILD != "release",
    "linetrace": BUILD == "checked",
}
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
COMPILE = {
    "release": ["-O3", "-fno-semantic-interposition", "-fvisibility=hidden"],
    "checked": ["-O1", "-g", "-UNDEBUG"],
    "asan": ["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZE],
    "fuzz": ["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZE, "-fsanitize=fuzzer-no-link"],
}
LINK = {"release": [], "checked": [], "asan": SANITIZE, "fuzz": []}
MACROS = {"release": [], "checked": [("CYTHON_TRACE_NOGIL", "1")], "asan": [], "fuzz": []}


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
        """Use every core."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        """Translate what has changed to C, and compile that."""
        translated = cythonize(
            self.extensions,
            compiler_directives=DIRECTIVES,
            build_dir=str(Path(self.build_temp) / "cython"),
            nthreads=self.parallel,
        )
        c_sources = {module.name: module for module in translated}
        for module in self.extensions:
            module.sources = c_sources[module.name].sources
            module.depends = c_sources[module.name].depends
        super().build_extensions()


def places() -> dict[str, dict[str, str]]:
    """Where to build: in build/, a folder for each kind of build, or elsewhere if the source cannot be written."""
    if os.access(ROOT, os.W_OK):
        return {"build": {"build_base": f"build/{BUILD}{'-tests' if WITH_TESTS else ''}"}}
    elsewhere = tempfile.mkdtemp(prefix="aiomos-build-")
    return {"build": {"build_base": elsewhere}, "egg_info": {"egg_base": elsewhere}}


if __name__ == "__main__":
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildModules}, options=places())
