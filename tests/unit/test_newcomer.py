"""What tools/newcomer.py types, and what it makes of the answers; that it does so in a fresh clone is a step of CI."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def newcomer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("newcomer", ROOT / "tools" / "newcomer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_commands_are_read_from_a_page_with_what_they_print(newcomer: ModuleType) -> None:
    page = (
        "Text\n\n```sh\nmake demo\n. x\n```\n\n```console\n$ a b\n1\n\n2\n$ c # d\n```\n\n```python\nx\n```\n"
    )
    assert list(newcomer.steps(page)) == [
        ("make demo", None),
        (". x", None),
        ("a b", "1\n\n2\n"),
        ("c # d", None),
    ]


def test_they_are_typed_into_one_shell(newcomer: ModuleType, tmp_path: Path) -> None:
    listed = [("X=5  # a remark", None), ("echo $X; echo y >&2", "5\ny\n"), ("false", None), ("cat", None)]
    assert list(newcomer.typed(listed, tmp_path)) == [(0, ""), (0, "5\ny\n"), (1, ""), (0, "")]


def test_a_shell_that_ends_early_is_noticed(newcomer: ModuleType, tmp_path: Path) -> None:
    assert len(list(newcomer.typed([("true", None), ("exit 3", None), ("true", None)], tmp_path))) == 1


def test_nothing_of_this_environment_is_there(newcomer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("AIOMOS_REQUIRE", "native")
    monkeypatch.setenv("AIOMOS_C_CACHE", "/c")
    monkeypatch.setenv("PATH", f"{ROOT / '.venv' / 'bin'}:{Path(sys.prefix, 'bin')}:/usr/bin:/bin")
    environment = newcomer.environment()
    assert not {"PYTHONPATH", "AIOMOS_REQUIRE"} & environment.keys()
    assert environment["AIOMOS_C_CACHE"] == "/c"  # it saves time, and changes nothing
    assert environment["PATH"] == "/usr/bin:/bin"


def test_outside_of_an_environment_the_programs_stay(
    newcomer: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", "/usr")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setenv("PATH", f"{ROOT / '.venv' / 'bin'}:/usr/bin:/bin")
    assert newcomer.environment()["PATH"] == "/usr/bin:/bin"


def test_the_pages_set_up_before_they_run_anything(newcomer: ModuleType) -> None:
    for name in newcomer.PAGES:
        commands = [command.split("#")[0].strip() for command, _ in newcomer.steps((ROOT / name).read_text())]
        assert commands[:2] == ["make demo", "source .venv/bin/activate"], name
        assert len(commands) > 10
