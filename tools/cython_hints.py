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
    directives = ",".join(f"{name}={value}" for name, value in DIRECTIVES.items() if name != "language_level")
    with tempfile.TemporaryDirectory() as folder:
        command = ["-3", "-X", directives, "-I", str(ROOT), "-o", f"{folder}/out.c", str(source.relative_to(ROOT))]
        done = subprocess.run(
            [sys.executable, "-m", "cython", *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
    return done.stdout + done.stderr


def main() -> int:
    """Print all remarks."""
    sources = sorted([*(ROOT / "aiomos").rglob("*.pyx"), *(ROOT / "tests" / "native").glob("*.pyx")])
    with ThreadPoolExecutor() as threads:
        found = "".join(threads.map(remarks, sources))
    sys.stderr.write(found)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
