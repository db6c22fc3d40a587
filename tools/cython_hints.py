"""Translate every module to C and fail on what Cython has to say: warnings and performance hints.

A hint marks a place where code without the interpreter checks for exceptions or takes the lock after all.
"""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from setup import DIRECTIVES  # noqa: E402 - the directives stand in one place


def remarks(source: Path) -> str:
    """Return what Cython prints about a module."""
    directives = [f"--directive={name}={value}" for name, value in DIRECTIVES.items()]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "cython", *directives, f"--output-file={folder}/out.c", source],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    return done.stdout + done.stderr


def main() -> int:
    """Print all remarks."""
    folders = (ROOT / "aiomos", ROOT / "tests" / "native")
    sources = sorted(path.relative_to(ROOT) for folder in folders for path in folder.rglob("*.pyx"))
    with ThreadPoolExecutor() as threads:
        found = "".join(threads.map(remarks, sources))
    sys.stderr.write(found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
