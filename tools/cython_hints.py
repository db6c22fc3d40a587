"""Translate every module to C and fail on what Cython has to say: warnings and performance hints.

A hint marks a place where code without the interpreter checks for exceptions or takes the lock after all. Modules are
translated once more as the checked builds do it, which test for None what setup.py does not name as a part; there only
errors count.
"""

import contextlib
import io
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from Cython.Compiler.Main import compile as translate_to_c
from Cython.Compiler.Options import CompilationOptions, default_options

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from setup import DIRECTIVES  # noqa: E402 - the directives stand in one place, and what is changed in Cython


def remarks(source: str) -> str:
    """Return what Cython says about a module."""
    hints, _ = translate(source, DIRECTIVES)
    errors, failed = translate(source, DIRECTIVES | {"nonecheck": True})
    return hints + (errors if failed else "")


def translate(source: str, directives: dict[str, object]) -> tuple[str, bool]:
    """Translate a module; what Cython says, and whether it failed."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(said):
        options = CompilationOptions(
            default_options, compiler_directives=directives, output_file=f"{folder}/out.c"
        )
        result = translate_to_c(source, options)
    return said.getvalue(), result.num_errors > 0


def main() -> int:
    """Print all remarks."""
    folders = (ROOT / "aiomos", ROOT / "tests" / "native")
    sources = sorted(str(path.relative_to(ROOT)) for folder in folders for path in folder.rglob("*.pyx"))
    with ProcessPoolExecutor() as processes:
        found = "".join(processes.map(remarks, sources))
    sys.stderr.write(found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
