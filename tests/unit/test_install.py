"""How an editable install looks from outside: to type checkers and editors, which run no code of it."""

import json
import subprocess
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

import pytest

SITE = Path(sysconfig.get_path("purelib"))


@pytest.fixture(autouse=True)
def editable() -> None:
    installed = next(iter(distributions(name="aiomos", path=[str(SITE)])), None)
    origin = json.loads((installed and installed.read_text("direct_url.json")) or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        pytest.skip("is not installed as editable: make install")


def paths() -> list[Path]:
    """What the files *.pth add to the path, without running the code that they may hold."""
    lines = (line for file in SITE.glob("*.pth") for line in file.read_text().splitlines())
    return [Path(line) for line in lines if line and not line.startswith(("#", "import "))]


def test_it_is_found_by_reading_paths_alone() -> None:
    """As Pyright and mypy do, and Pylance and Jedi: hooks of the import system mean nothing to them."""
    (package,) = [path / "aiomos" for path in paths() if (path / "aiomos" / "__init__.py").is_file()]
    assert (package / "py.typed").is_file()
    compiled = sorted(path.relative_to(package) for path in package.rglob("*.pyx"))
    assert [path for path in compiled if not (package / path).with_suffix(".pyi").is_file()] == []


@pytest.mark.interop
def test_a_program_elsewhere_is_checked_against_its_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed: pip install .[lint]")
    (tmp_path / "program.py").write_text(
        "import aiomos\n"
        "async def f(conn: aiomos.MonitorConnection) -> int:\n"
        "    return await conn.client.readline()\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 'program.py:3: error: Incompatible return value type (got "bytes", expected "int")' in done.stdout
    assert "Found 1 error in 1 file" in done.stdout
