"""The advice on rights: one, safe, and such that a shell can carry it out."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import aiomos
from aiomos.transport.rights import Interpreter, how_to_get

ROOT = Path(aiomos.__file__).parents[1]


@pytest.mark.parametrize("environment", ["/home/a b/.venv", None])
def test_the_right_goes_to_a_copy_never_to_the_interpreter_itself(environment: str | None) -> None:
    advice = Interpreter("/usr/bin/python3.12", environment).how_to_get("CAP_NET_RAW", "CAP_NET_ADMIN")
    target = re.search(r"sudo setcap cap_net_raw,cap_net_admin\+ep ('[^']+'|\S+),", advice)
    assert target is not None
    assert target[1].strip("'") == (
        "/home/a b/.venv/bin/python-live" if environment else str(Path.home() / "python-live")
    )


def test_its_commands_make_a_copy_that_only_the_owner_runs_and_that_finds_aiomos(tmp_path: Path) -> None:
    environment = tmp_path / "an environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    advice = Interpreter(os.path.realpath(sys.executable), str(environment)).how_to_get("CAP_NET_RAW")
    commands = re.search(r": (install .*) && sudo setcap .*, then (.*) -m aiomos", advice)
    assert commands is not None
    subprocess.run(commands[1], shell=True, check=True)
    copy = environment / "bin" / "python-live"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    shown = subprocess.check_output(
        f'{commands[2]} -c "import sys; print(sys.prefix)"', shell=True, text=True
    )
    assert shown == f"{environment}\n"


def test_nothing_else_gives_such_advice() -> None:
    """Whoever says it in words of his own says it differently after a while."""
    sources = [path for suffix in ("py", "pyx") for path in (ROOT / "aiomos").rglob(f"*.{suffix}")]
    assert [path.name for path in sources if "setcap" in path.read_text()] == ["rights.py"]
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    for line in (line for page in pages for line in page.read_text().splitlines() if "setcap" in line):
        assert line.endswith("/python-live"), line


def test_this_interpreter_is_meant() -> None:
    assert os.path.realpath(sys.executable) in how_to_get("CAP_NET_RAW")


def test_its_environment_is_where_it_runs_if_that_is_another_than_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    for prefix, environment in (("/home/a/.venv", "/home/a/.venv"), ("/usr", None)):
        monkeypatch.setattr(sys, "prefix", prefix)
        assert Interpreter.current() == Interpreter(os.path.realpath(sys.executable), environment)


def test_a_copy_that_runs_this_is_not_copied_onto_itself(tmp_path: Path) -> None:
    copy = tmp_path / "bin" / "python-live"
    advice = Interpreter(str(copy), str(tmp_path)).how_to_get("CAP_NET_RAW", "CAP_NET_ADMIN")
    assert advice == (
        "run with sudo, or give this copy of the interpreter the right: "
        f"sudo setcap cap_net_raw,cap_net_admin+ep {copy}, then {copy} -m aiomos run ..."
    )
