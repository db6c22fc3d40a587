"""What tests are held to, shown by tests that do not keep to it: leaks, skips, reruns, examples that differ."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiomos import CONN_TEARDOWN, Filter, Flow, Hook, Level, Settings
from aiomos.engine.engine import Engine
from aiomos.testing.batches import feed_frames
from aiomos.testing.scenario import Watcher
from tests import leftovers, rules
from tests.traffic import Traffic

ROOT = Path(__file__).parents[2]


def left() -> Iterator[None]:
    return leftovers.left_by_test("a test")


def conclude(test: Iterator[None]) -> str:
    """End a test; what it is blamed for."""
    with pytest.raises((StopIteration, AssertionError)) as ended:
        next(test)
    return str(ended.value)


def test_no_two_files_of_tests_have_the_same_name() -> None:
    """They are imported by it: a run of both would end before its first test."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


# --- engines --------------------------------------------------------------------------------------


def test_an_engine_that_was_not_finished_is_and_holds_nothing() -> None:
    test = left()
    next(test)
    traffic = Traffic()
    traffic.connection().client(b"hello")
    watcher = Watcher(level=Level.STREAM)
    watcher.feed(traffic.frames)
    assert watcher.engine.statistics()["open"] == 1
    assert conclude(test) == ""
    assert watcher.engine.statistics()["open"] == 0
    assert len(watcher.records) == 1


@pytest.mark.parametrize("gone", [False, True], ids=["alive", "gone"])
def test_a_record_that_is_not_given_back_is_found(gone: bool) -> None:
    probe = pytest.importorskip("tests.native._probe_engine", reason="needs the native test probes")
    test = left()
    next(test)
    engine = Engine(Settings(), bytes(16), print)
    engine.add_rule(Filter("").program, Level.BYTES)
    probe.leak(engine)
    if gone:
        del engine
    assert conclude(test).startswith("left behind: an engine of a test still holds tracks: 1")


def test_a_callback_that_raises_at_the_end_hides_nothing() -> None:
    probe = pytest.importorskip("tests.native._probe_engine", reason="needs the native test probes")

    def fail(_callback: object, _flow: Flow | None, error: Exception) -> None:
        raise error

    raised: list[Flow] = []

    def ended(flow: Flow) -> None:
        raised.append(flow)
        raise AssertionError

    test = left()
    next(test)
    traffic = Traffic()
    traffic.connection()
    engine = Engine(Settings(), bytes(16), fail)
    engine.add_call(
        engine.add_rule(Filter("").program, Level.BYTES), CONN_TEARDOWN, Hook.RECEIVER, ended, ("flow",)
    )
    feed_frames(engine, traffic.frames)
    probe.leak(engine)
    assert "tracks: 1" in conclude(test)
    assert len(raised) == 1


def test_what_an_app_keeps_is_found() -> None:
    class Kept:
        def __init__(self) -> None:
            self.things = [1, 2]

    test = left()
    next(test)
    module: Any = type(sys)("somewhere")
    leftovers.keep_track(Kept, "Kept", lambda kept: len(kept.things), module)
    kept = module.Kept()
    assert conclude(test) == "left behind: Kept still keeps 2"
    assert kept.things


# --- the process ----------------------------------------------------------------------------------


def test_a_descriptor_is_found() -> None:
    test = left()
    next(test)
    reading, writing = os.pipe()
    blamed = conclude(test)
    os.close(reading)
    os.close(writing)
    assert blamed.startswith(f"left behind: descriptors: {min(str(reading), str(writing))} to pipe:[")


def test_a_thread_is_found() -> None:
    test = left()
    next(test)
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="forgotten")
    thread.start()
    blamed = conclude(test)
    done.set()
    thread.join()
    assert blamed.startswith("left behind: threads: <Thread(forgotten, ")


def test_a_child_is_found_also_when_it_has_ended() -> None:
    test = left()
    next(test)
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    blamed = conclude(test)
    os.waitpid(child, 0)
    assert blamed == f"left behind: children: {child}: "


def test_a_task_is_found() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    test = left()
    next(test)
    loop = asyncio.new_event_loop()
    task = loop.create_task(wait(), name="forgotten")
    blamed = conclude(test)
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()
    assert "tasks: <Task pending name='forgotten'" in blamed


def test_what_the_collector_frees_is_not_left() -> None:
    class Cycle:
        def __init__(self, *descriptors: int) -> None:
            self.itself, self.descriptors = self, descriptors

        def __del__(self) -> None:
            for descriptor in self.descriptors:
                os.close(descriptor)

    test = left()
    next(test)
    Cycle(*os.pipe())
    assert conclude(test) == ""


# --- runs -----------------------------------------------------------------------------------------

TESTS = {
    "leaks": "import os\ndef test():\n    os.open('/dev/null', os.O_RDONLY)\n",
    "skips": "import pytest\n@pytest.mark.interop\ndef test():\n    pytest.skip('no tshark')\n",
    "unmarked": "import pytest\ndef test():\n    pytest.skip('no reason')\n",
    "does_not_apply": (
        "import pytest\nfrom tests.rules import does_not_apply\n"
        "@pytest.mark.interop\ndef test():\n    does_not_apply('empty')\n"
    ),
    "probes": "import pytest\npytest.importorskip('tests.native._probe_nothing', reason='not built')\n",
    "rerun": (
        "import pytest\nruns = []\n@pytest.mark.live\n@pytest.mark.flaky(reruns=1, reason='it is')\n"
        "def test():\n    runs.append(1)\n    assert len(runs) > 1, 'not yet'\n"
    ),
    "flaky": "import pytest\n@pytest.mark.flaky(reruns=1, reason='it is')\ndef test():\n    pass\n",
    "reasonless": "import pytest\n@pytest.mark.live\n@pytest.mark.flaky(reruns=1)\ndef test():\n    pass\n",
    "draws": (
        "import sys\nfrom pathlib import Path\nfrom hypothesis import given, strategies as st\n"
        "sys.path.append(str(Path(__file__).parent))\n{}"
        "drawn = []\n@given(st.integers(), st.text())\ndef test(number, text):\n    drawn.append((number, text))\n"
        "def test_print():\n    print(drawn)\n"
    ),
}


def run(folder: Path, *names: str, option: str = "-q", **environment: str) -> str:
    """Run tests by pytest, under the rules of these; what it prints."""
    (folder / "conftest.py").write_text("from tests.conftest import *\n")
    for name in names:
        (folder / f"test_{name}.py").write_text(TESTS[name])
    options = ["-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}", option]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_run_tells_of_leaks_skips_and_reruns(tmp_path: Path) -> None:
    printed = run(
        tmp_path, "leaks", "skips", "unmarked", "does_not_apply", "probes", "rerun", AIOMOS_REQUIRE=""
    )
    assert "left behind: descriptors: " in printed
    assert "to /dev/null" in printed
    assert "= 1 failures that were given another chance =" in printed
    assert "test_rerun.py::test: AssertionError: not yet\n" in printed
    assert "2 passed, 4 skipped, 1 error, 1 rerun in" in printed


def test_what_is_required_is_not_skipped(tmp_path: Path) -> None:
    printed = run(tmp_path, "skips", "unmarked", "does_not_apply", AIOMOS_REQUIRE="live,interop,native")
    assert "AIOMOS_REQUIRE has interop, and this was skipped: no tshark" in printed
    assert "1 failed, 2 skipped in" in printed


@pytest.mark.parametrize(
    ("name", "require", "printed"),
    [
        ("probes", "native", "AIOMOS_REQUIRE has native, and this was skipped: not built"),
        ("skips", "nothing", "AIOMOS_REQUIRE: nothing: none of live, interop, captures, docs, native"),
        ("flaky", "", "test_flaky.py::test: only a live test may be flaky"),
        ("reasonless", "", "test_reasonless.py::test: flaky(reruns=1, reason=...) needs a reason"),
    ],
)
def test_what_breaks_the_rules_is_refused(tmp_path: Path, name: str, require: str, printed: str) -> None:
    assert printed in run(tmp_path, name, AIOMOS_REQUIRE=require)


def test_what_is_imported_does_not_change_what_hypothesis_draws(tmp_path: Path) -> None:
    drawn = []
    for number, imports in enumerate(("", "import constants\n")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "constants.py").write_text(
            f"THESE = {list(range(70_001, 70_200))}, 'not drawn by itself'\n"
        )
        (folder / "test_draws.py").write_text(TESTS["draws"].format(imports))
        printed = run(folder, option="-s", HYPOTHESIS_PROFILE="repeatable")
        drawn += [line.partition("[(")[2] for line in printed.splitlines() if "[(" in line]
    assert len(drawn) == 2
    assert drawn[0] == drawn[1]


def test_how_examples_are_drawn_is_left_to_the_profile() -> None:
    """A test that is repeatable by itself would have nothing new to `explore`."""
    decorated = {
        str(path.relative_to(ROOT)): re.findall(r"^ *@settings\((.*)\)$", path.read_text(), re.MULTILINE)
        for path in (ROOT / "tests").rglob("test_*.py")
    }
    assert sum(len(found) for found in decorated.values()) > 20
    own = re.compile("derandomize|deadline|database|phases")
    assert [name for name, found in decorated.items() if any(own.search(each) for each in found)] == []


def test_modules_older_than_their_sources_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, time in {
        "aiomos/base.pxd": 30,
        "aiomos/fresh.pyx": 10,
        "aiomos/old.pyx": 21,
        "aiomos/older.pyx": 10,
        "aiomos/unbuilt.pyx": 10,
        "tests/native/_probe.pyx": 10,
    }.items():
        source = tmp_path / name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text("from aiomos.base cimport thing\n" if "older" in name or "_probe" in name else "")
        os.utime(source, (time, time))
        if source.stem not in ("base", "unbuilt"):
            module = source.with_suffix(".cpython-311.so")
            module.touch()
            os.utime(module, (20, 20))
    monkeypatch.setattr(rules, "ROOT", tmp_path)
    assert rules.stale() == ["aiomos/old", "aiomos/older", "tests/native/_probe"]
