"""Build sdist and wheels, look into them, install each wheel afresh and use it: ``python tools/check_package.py``.

Wheels are built from the sdist, so nothing that they need is missing there, one for every Python from 3.11 on that is
found.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from check_python import OLDEST

ROOT = Path(__file__).resolve().parents[1]


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


def pythons() -> list[str]:
    """Find interpreters that a wheel can be built for, one of each version from 3.11 on; this one is the first."""
    own = [sys.executable, *(f"python3.{minor}" for minor in range(OLDEST[1], OLDEST[1] + 10))]
    kept = sorted(map(str, Path.home().glob(".pyenv/versions/3.*/bin/python3")))
    found: dict[str, str] = {}
    for python in (*own, *kept):
        if path := shutil.which(python):
            check = [path, ROOT / "tools" / "check_python.py"]
            query = [path, "-c", "import sys; print(*sys.version_info[:2])"]
            version = subprocess.run(query, capture_output=True, text=True, check=False)
            if (
                version.returncode == 0
                and subprocess.run(check, capture_output=True, check=False).returncode == 0
            ):
                found.setdefault(version.stdout, path)
    return list(found.values())


def look_into(sdist: Path, wheel: Path) -> None:
    """Make sure that each holds what it should, and nothing else."""
    with tarfile.open(sdist) as archive:
        expect(
            "sdist", suffixes(archive.getnames()), {".py", ".pyi", ".pyx", ".pxd", ".typed"}, {".c", ".so"}
        )
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    expect("wheel", suffixes(names), {".py", ".pyi", ".pxd", ".typed", ".so"}, {".c", ".pyx"})
    if strangers := [name for name in names if not name.startswith(("aiomos/", "aiomos-"))]:
        sys.exit(f"wheel: holds more than the package: {strangers}")


def try_out(python: str, wheel: Path, folder: Path) -> None:
    """Install a wheel where there is nothing but what it requires, and use all of it."""
    run(python, "-m", "venv", folder)
    clean = folder / "bin" / "python"
    run(clean, "-m", "pip", "install", "--quiet", wheel)
    run(clean, "-m", "pip", "check")
    print(run(clean, ROOT / "tools" / "try_install.py", cwd=folder), end="", flush=True)


def main() -> None:
    """Build and check, for every Python that is there."""
    os.environ.pop("AIOMOS_TEST_NATIVE", None)  # as a user builds it
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("AIOMOS_C_CACHE", str(folder / "c"))
        builder = folder / "builder" / "bin" / "python"
        run(sys.executable, "-m", "venv", folder / "builder")
        run(builder, "-m", "pip", "install", "--quiet", "build")
        run(builder, "-m", "build", "--sdist", "--outdir", folder, ROOT)
        sdist = next(folder.glob("*.tar.gz"))
        for number, python in enumerate(pythons()):
            place = folder / str(number)
            run(python, "-m", "venv", place / "builder")
            pip = (place / "builder" / "bin" / "python", "-m", "pip", "wheel", "--quiet", "--no-deps")
            run(*pip, "--wheel-dir", place, sdist)
            wheel = next(place.glob("*.whl"))
            look_into(sdist, wheel)
            try_out(python, wheel, place / "clean")


if __name__ == "__main__":
    main()
