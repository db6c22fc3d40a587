"""Build sdist and wheel, look into them, install the wheel afresh and run it: ``python tools/check_package.py``.

The wheel is built from the sdist, so nothing that it needs is missing there.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CAPTURE = ROOT / "tests" / "data" / "http.pcap"


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a program and return what it prints; end with it if it fails."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def suffixes(names: list[str]) -> set[str]:
    """Return how the files of the package itself end."""
    return {Path(name).suffix for name in names if "aiomos/" in name and not name.endswith("/")}


def expect(what: str, found: set[str], wanted: set[str], unwanted: set[str]) -> None:
    """End with a message unless all that is wanted is there and nothing that is not."""
    if not wanted <= found or found & unwanted:
        sys.exit(f"{what}: lacks {sorted(wanted - found)}, should not hold {sorted(found & unwanted)}")


def main() -> None:
    """Build and check."""
    os.environ.pop("AIOMOS_TEST_NATIVE", None)  # as a user builds it
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", "build")
        run(python, "-m", "build", "--outdir", folder, ROOT)
        sdist, wheel = next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))
        with tarfile.open(sdist) as archive:
            expect(
                "sdist",
                suffixes(archive.getnames()),
                {".py", ".pyi", ".pyx", ".pxd", ".typed"},
                {".c", ".so"},
            )
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        expect("wheel", suffixes(names), {".py", ".pyi", ".pxd", ".typed", ".so"}, {".c", ".pyx"})
        if strangers := [name for name in names if not name.startswith(("aiomos/", "aiomos-"))]:
            sys.exit(f"wheel: holds more than the package: {strangers}")
        run(python, "-m", "pip", "install", "--quiet", wheel)
        print(run(folder / "venv" / "bin" / "aiomos", "run", "flowlog", "--pcap", CAPTURE, cwd=folder))


if __name__ == "__main__":
    main()
