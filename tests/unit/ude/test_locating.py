"""Where wrong registrations were written is part of their message."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import aiomos
from aiomos.apps import dump
from aiomos.errors import FilterSyntaxError, RegistrationError
from aiomos.runtime.runtime import Runtime

DATA = Path(__file__).parents[2] / "data"

MODULE = """\
import aiomos
from aiomos.ude import ude

app = aiomos.App("watch")
{code}
"""

HANDLER = '@app.monitor(\n    "tcp prt 80",\n    midstream=True,\n)\nasync def heads(conn): ...'
WRONG = {
    "handler": (HANDLER, 5, "heads()"),
    "callback": ('@app.on(aiomos.PKT_IN, filter="prt 80")\ndef seen(pkt): ...', 5, "seen()"),
    "event of an app": ('@app.ude(aiomos.PKT_IN, filter="prt 80")\ndef odd(pkt): ...', 5, "odd()"),
    "event": ('@ude(aiomos.PKT_IN, filter="prt 80")\ndef odd(pkt): ...', 5, "odd()"),
    "stacked": (
        '@app.monitor("port 80")\n@app.monitor("prt 80")\nasync def heads(conn): ...',
        6,
        "heads()",
    ),
    "track": ('\n\napp.track("prt 80")', 7, ""),
    "in a function": (
        'def install():\n    @app.monitor("prt 80")\n    async def heads(conn): ...\ninstall()',
        6,
        "heads()",
    ),
}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_filter_says_file_line_and_function(what: str, tmp_path: Path) -> None:
    code, line, function = WRONG[what]
    path = tmp_path / "located.py"
    path.write_text(MODULE.format(code=code))
    with pytest.raises(FilterSyntaxError) as caught:
        load(path)
    place = f"{path}:{line}{f', {function}' if function else ''}: expected "
    assert str(caught.value).startswith(place)
    _, text, caret = str(caught.value).splitlines()
    assert text[caret.index("^") :] == "prt 80"


@pytest.mark.parametrize(
    ("code", "function"),
    [
        ("@app.monitor(level=3)\nasync def heads(conn): ...", "heads()"),
        ("@app.monitor()\ndef heads(conn): ...", "heads()"),
        ("@app.on(aiomos.PKT_IN)\ndef seen(packet): ...", "seen()"),
        ("@app.startup\ndef begin(x): ...", "begin()"),
        ("@ude(3)\ndef odd(pkt): ...", "odd()"),
        ('@app.on(aiomos.FRAME, filter="port 80")\ndef seen(pkt): ...', "seen()"),
    ],
)
def test_so_does_every_other_wrong_registration(code: str, function: str, tmp_path: Path) -> None:
    path = tmp_path / "located.py"
    path.write_text(MODULE.format(code=code))
    with pytest.raises(RegistrationError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:5, {function}: ")
    assert str(caught.value).count("located.py") == 1


def test_the_command_line_shows_it_by_the_path_from_here(tmp_path: Path) -> None:
    (tmp_path / "located.py").write_text(MODULE.format(code=HANDLER))
    command = [sys.executable, "-m", "aiomos", "run", "located.py", "--pcap", DATA / "http.pcap"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: located.py:5, heads(): expected ")
    assert "did you mean 'port'" in done.stderr


async def test_a_listener_says_where_it_was_asked_for() -> None:
    async with Runtime(pcap=[DATA / "http.pcap"]) as runtime:
        with pytest.raises(FilterSyntaxError, match=r"test_locating.py:\d+: expected"):
            runtime.monitor("prt 80")


def test_code_without_a_source_names_itself_as_far_as_it_can() -> None:
    with pytest.raises(FilterSyntaxError, match=r"^<nowhere>:1: expected"):
        exec(compile('app.monitor("prt 80")', "<nowhere>", "exec"), {"app": aiomos.App("x")})


async def test_a_filter_that_is_an_option_is_not_blamed_on_the_app_that_has_it(tmp_path: Path) -> None:
    dump.app.configure(["filter=prt 80", f"directory={tmp_path}"])
    try:
        with pytest.raises(FilterSyntaxError, match=r"^expected"):
            await aiomos.serve(dump.app, pcap=[DATA / "http.pcap"])
    finally:
        dump.app.configure([])
