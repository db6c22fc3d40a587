"""Extension modules and Cython directives; everything else is in pyproject.toml.

``AIOMOS_BUILD`` picks the build: ``release`` (default), ``checked`` (bounds checks and
line tracing) or ``asan`` (AddressSanitizer and UndefinedBehaviorSanitizer).
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
BUILD = os.environ.get("AIOMOS_BUILD", "release")

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
COMPILE = {
    "release": ["-O3", "-fno-semantic-interposition", "-fvisibility=hidden"],
    "checked": ["-O1", "-g", "-UNDEBUG"],
    "asan": ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
}
LINK = {"release": [], "checked": [], "asan": ["-fsanitize=address,undefined"]}
MACROS = {"release": [], "checked": [("CYTHON_TRACE_NOGIL", "1")], "asan": []}


def extensions() -> list[Extension]:
    """One extension a .pyx file, named by its place in the tree."""
    sources = sorted((ROOT / "aiomos").rglob("*.pyx"))
    if BUILD != "release" or os.environ.get("AIOMOS_TEST_NATIVE"):
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


setup(
    ext_modules=cythonize(
        extensions(),
        compiler_directives=DIRECTIVES,
        build_dir=f"build/cython-{BUILD}",
        nthreads=0 if os.environ.get("AIOMOS_SERIAL_BUILD") else (os.cpu_count() or 1),
    )
)
