"""The tool that plants faults: which ones it makes, that the copy is put back, and what it says of tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.mutate import __main__ as command
from tools.mutate import runs
from tools.mutate.accepted import is_accepted, read_accepted
from tools.mutate.faults import diff, faults
from tools.mutate.parts import PARTS, WIDER, files_of, part_of
from tools.mutate.runs import UsageError, run_tests
from tools.mutate.tree import BuildError, Tree, same_bytecode, same_c

ROOT = Path(__file__).parents[3]


def changed(source: str, kind: str, *, cython: bool = True) -> list[str]:
    """Return, for each fault of a kind, the lines that it makes, joined."""
    found = []
    for fault in faults(source, cython=cython):
        if fault.kind == kind:
            after = fault.plant(source)
            assert after.count("\n") == source.count("\n")
            lines = zip(source.splitlines(), after.splitlines(), strict=True)
            found.append("; ".join(new.strip() for old, new in lines if new != old))
    return sorted(found)


def body(*lines: str) -> str:
    return "cdef int f(int a, int b) noexcept nogil:\n" + "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("line", "kind", "expected"),
    [
        ("return a < b", "comparison", ["return a <= b", "return a >= b"]),
        ("return a <= b", "comparison", ["return a < b", "return a > b"]),
        ("return a > b", "comparison", ["return a <= b", "return a >= b"]),
        ("return a >= b", "comparison", ["return a < b", "return a > b"]),
        ("return a == b", "comparison", ["return a != b"]),
        ("return a is None", "comparison", ["return a is not None"]),
        ("return a is not None", "comparison", ["return a is None"]),
        ("return a in b", "comparison", ["return a not in b"]),
        ("return a not in b", "comparison", ["return a in b"]),
        ("return a + b", "arithmetic", ["return a - b"]),
        ("return a - -b", "arithmetic", ["return a + -b", "return a - b"]),
        (
            "return a >> 2 & ~b",
            "arithmetic",
            ["return a << 2 & ~b", "return a >> 2 & b", "return a >> 2 | ~b"],
        ),
        ("a.n += b", "arithmetic", ["a.n -= b"]),
        ("return a and not b", "boolean", ["return a and b", "return a or not b"]),
        ("return f(a and b, 1)", "dropped term", ["return f(a, 1)", "return f(b, 1)"]),
        ("if a or b and c:", "dropped term", ["if a and c:", "if a or b:", "if a or c:", "if b and c:"]),
        ("x.y = 7", "constant", ["x.y = 6", "x.y = 8"]),
        ("x.y = 0x0F", "constant", ["x.y = 0x10", "x.y = 0xe"]),
        ("x.y = 0", "constant", ["x.y = 1"]),
        ("x.y = 0.5", "constant", ["x.y = -0.5", "x.y = 1.5"]),
        ("return True", "constant", ["return False"]),
        ("return f(a, b, key=1)", "swapped arguments", ["return f(b, a, key=1)"]),
        ("return max(a, f(b, c), min(d, e))", "swapped arguments", ["return max(a, f(c, b), min(d, e))"]),
        ("return f(&a, b, &c, &d)", "swapped arguments", ["return f(&a, b, &d, &c)"]),
        ("return f(g(a, b), c)", "swapped arguments", ["return f(c, g(a, b))", "return f(g(b, a), c)"]),
    ],
)
def test_kinds_of_faults(line: str, kind: str, expected: list[str]) -> None:
    lines = [line, "    pass"] if line.endswith(":") else [line]
    assert changed(body(*lines), kind) == expected


def test_statements_are_left_out() -> None:
    source = body(
        "if a:",
        "    return b",
        "for a in b:",
        "    if b: ",
        "        continue",
        "    break",
        "release(a)",
        "a.left -= 1",
        "a.left = (1,",
        "          2)",
        "a = 3",
        "raise ValueError(a)",
        "return b",
    )
    assert [
        (fault.line, fault.kind) for fault in faults(source, cython=True) if fault.kind.startswith("removed")
    ] == [
        (3, "removed return"),
        (6, "removed statement"),
        (7, "removed statement"),
        (8, "removed statement"),
        (9, "removed statement"),
        (10, "removed statement"),
        (13, "removed statement"),
    ]
    removed = next(
        fault for fault in faults(source, cython=True) if fault.line == 10 and "removed" in fault.kind
    )
    assert removed.plant(source).splitlines()[9:12] == ["    pass", "", "    a = 3"]


def test_a_term_that_stands_on_two_lines_leaves_as_many() -> None:
    source = body("return (a", "        and b)", "return a \\", "    and b")
    for fault in faults(source, cython=False):
        if fault.kind == "dropped term":
            compile(
                fault.plant(source).replace("cdef int f(int a, int b) noexcept nogil", "def f(a, b)"),
                "",
                "exec",
            )
    assert changed(source, "dropped term") == [
        "return (\\; b)",
        "return (a\\; )",
        "return \\; b",
        "return a\\; ",
    ]


@pytest.mark.parametrize(
    "source",
    [
        '"""1 < 2 and 3."""\n',
        "from a cimport b\nimport c\n",
        "cdef int f(int a, int b=*) except -1\n",
        "cdef extern from *:\n    int PROT_READ, MAP\n    struct S:\n        int a[3]\n",
        "ctypedef struct Pool:\n    uint32_t a[1 + 2]\n",
        "cdef struct Pool:\n    uint32_t* a\n",
        "cdef class A:\n    cdef uint8_t a[4]\n    cdef readonly int b\n",
        "cdef uint32_t* a\n",
        "@lru_cache(1)\ndef f(a: int | None = 3) -> int | None:\n    pass\n",
        "def f():\n    a = <uint32_t*> b\n    return <const Half**> &b\n",
        "def f():\n    a = sizeof(uint32_t*)\n",
        "def f():\n    for a in b:\n        pass\n    a = [b for b in c]\n",
        "def f():\n    # a < b\n    a: dict[int, int | None]\n",
        "def f():\n    a = b[0]\n",
    ],
)
def test_what_does_not_run_is_left_alone(source: str) -> None:
    assert faults(source, cython=True) == []


def test_values_of_declarations_and_enums_are_changed() -> None:
    assert changed("cdef enum:\n    ROOM = 2 << 20, LEFT\n", "constant") == [
        f"ROOM = {value}, LEFT" for value in ("1 << 20", "2 << 19", "2 << 21", "3 << 20")
    ]
    assert changed("cdef int a = b + 1, c, d = e - 2\n", "arithmetic") == [
        "cdef int a = b + 1, c, d = e + 2",
        "cdef int a = b - 1, c, d = e - 2",
    ]
    assert changed("a: int = b + c\n", "arithmetic", cython=False) == ["a: int = b - c"]


def test_index_0_is_a_number_in_python_alone() -> None:
    assert changed("def f():\n    return a[0]\n", "constant", cython=False) == ["return a[1]"]
    assert changed("def f():\n    return a[0]\n", "constant", cython=True) == []
    assert changed("def f():\n    return [0]\n", "constant", cython=True) == ["return [1]"]


def test_casts_end_where_they_end() -> None:
    source = body("return <int64_t> a < <int64_t> b")
    assert changed(source, "comparison") == [
        "return <int64_t> a <= <int64_t> b",
        "return <int64_t> a >= <int64_t> b",
    ]
    assert changed(body("p = <uint8_t*> a * b"), "arithmetic") == ["p = <uint8_t*> a + b"]


def test_every_source_of_the_project_can_be_given_faults_that_keep_its_lines() -> None:
    found = command.collect(ROOT, ["aiomos/tcp/monitor.pyx", "aiomos/wire/pool.pxd", "aiomos/apps/nat"])
    assert len(found) == 2 + len(list((ROOT / "aiomos/apps/nat").glob("*.py")))
    for name, possible in found.items():
        source = (ROOT / name).read_text()
        assert len(possible) > 10
        assert all(fault.plant(source).count("\n") == source.count("\n") for fault in possible)
        assert all(fault.plant(source) != source for fault in possible)


def test_the_seed_tells_the_faults_which_spread_over_the_files() -> None:
    found = command.collect(
        ROOT, ["aiomos/tcp/monitor.pyx", "aiomos/wire/seq.pxd", "aiomos/apps/nat/mappings.py"]
    )

    def first(seed: int) -> list[tuple[str, int, str]]:
        drawn = command.draw(found, seed)
        return [(name, fault.start, fault.new) for name, fault in (next(drawn) for _ in range(10))]

    assert first(1) == first(1)
    assert first(1) != first(2)
    assert {name for name, *_ in first(1)} == set(found)
    every = list(command.draw({"a": found["aiomos/wire/seq.pxd"]}, 1))
    assert len(every) == len(set(every)) == len(found["aiomos/wire/seq.pxd"])


def test_every_line_of_the_table_names_modules_and_tests_that_there_are() -> None:
    for folder, lines in PARTS.items():
        for stems, _ in lines:
            assert all(list((ROOT / folder).glob(f"{stem}.p*")) for stem in stems.split())
    for folder, lines in PARTS.items():
        for _, tests in lines:
            for word in tests.split():
                assert files_of(word, ROOT), (folder, word)
    monitor = part_of("aiomos/tcp/monitor.pxd", ROOT)
    assert "tests/scenarios/test_windows.py" in monitor
    assert len(monitor) == len(set(monitor))
    assert part_of("aiomos/apps/top.py", ROOT)[0] == "tests/unit/apps/test_top.py"
    assert "tests/live/test_tuntap.py" in part_of("aiomos/transport/tuntap.pyx", ROOT)
    assert not any("live/" in name for name in part_of("aiomos/workers/worker.py", ROOT))
    assert part_of("aiomos/ude/machine.pyx", ROOT)[0] == "tests/unit/ude/test_machine.py"


def test_c_is_compared_without_the_source_that_it_quotes() -> None:
    assert same_c(
        '/* "a.pyx":1\n * a < b */ x = "/* kept */";', '/* "a.pyx":1\n * a > b */ x = "/* kept */";'
    )
    assert not same_c('x = "/* a */";', 'x = "/* b */";')


def test_bytecode_is_compared_without_lines_and_columns() -> None:
    assert same_bytecode("def f(a):\n    return (a + 1)\n", "def f(a):\n    return a + 1\n")
    assert not same_bytecode("def f(a):\n    return a + 1\n", "def f(a):\n    return a + True\n")
    assert not same_bytecode("def f(a):\n    return a + 1\n", "def f(a):\n    return a - 1\n")
    with pytest.raises(BuildError):
        same_bytecode("a = 1\n", "a = = 1\n")


def test_the_list_is_read_by_file_and_text() -> None:
    before = "a\nif x < y:\n    pass\n"
    after = "a\nif x <= y:\n    pass\n"
    text = "# List\n\n## `aiomos/a.py`\n\n```diff\n-     if x < y:\n+     if x <= y:\n```\n\nNever equal.\n"
    assert is_accepted(read_accepted(text), "aiomos/a.py", before, after)
    assert not is_accepted(read_accepted(text), "aiomos/b.py", before, after)
    assert not is_accepted(read_accepted(text), "aiomos/a.py", after, before)
    with pytest.raises(ValueError, match="no file is named"):
        read_accepted("```diff\n- a\n+ b\n```\n")


def test_the_list_tells_lines_that_are_alike_by_the_one_before() -> None:
    before = "if a:\n    return\nif b:\n    return\n"
    accepted = read_accepted("## `aiomos/a.py`\n\n```diff\n  if b:\n-     return\n+     pass\n```\n")
    first, second = "if a:\n    pass\nif b:\n    return\n", "if a:\n    return\nif b:\n    pass\n"
    assert not is_accepted(accepted, "aiomos/a.py", before, first)
    assert is_accepted(accepted, "aiomos/a.py", before, second)
    assert not is_accepted(accepted, "aiomos/a.py", "return\n", "pass\n")


def test_every_fault_of_the_list_can_still_be_planted_in_one_place() -> None:
    accepted = read_accepted((ROOT / command.ACCEPTED).read_text())
    assert accepted
    for one in accepted:
        (name, _, _), _ = one
        source = (ROOT / name).read_text()
        texts = {fault.plant(source) for fault in faults(source, cython=not name.endswith(".py"))}
        places = [text for text in texts if is_accepted({one}, name, source, text)]
        assert len(places) == 1, one


# --- a small project ------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a test that wakes, and a function that no test looks at."""
    root = tmp_path / "project"
    (root / "aiomos" / "workers").mkdir(parents=True)
    (root / "tests" / "unit" / "workers").mkdir(parents=True)
    for package in ("aiomos", "aiomos/workers"):
        (root / package / "__init__.py").touch()
    for name in WIDER:
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / ".keep").touch()
    (root / "docs" / "design").mkdir(parents=True)
    (root / "aiomos" / "workers" / "small.py").write_text(
        "def watched(a, b):\n    return a < b\n\n\ndef unwatched(a, b):\n    return a == b\n"
    )
    (root / "tests" / "unit" / "workers" / "test_small.py").write_text(
        "from aiomos.workers.small import watched\n\n\n"
        "def test_both_sides():\n    assert [watched(1, 2), watched(2, 2), watched(3, 2)] == [True, False, False]\n"
    )
    (root / "tests" / "unit" / "test_other.py").write_text("def test_other():\n    pass\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=first")
    return root


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


def plant_all(project: Path, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(command, "ROOT", project)
    return command.main(["--files", "aiomos/workers", "--json", str(project / "report.json"), *arguments])


def test_faults_are_noticed_or_survive(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plant_all(project, monkeypatch=monkeypatch) == 1
    report = json.loads((project / "report.json").read_text())
    assert report["stages"] == {"part": 2, "survived": 1}
    survivor = next(result for result in report["results"] if result["stage"] == "survived")
    assert (survivor["file"], survivor["line"], survivor["kind"]) == (
        "aiomos/workers/small.py",
        6,
        "comparison",
    )
    out = capsys.readouterr().out
    assert "-    return a == b\n+    return a != b\n" in out
    assert "3 faults: 2 noticed, 2 of them by the tests of the part; 0 without effect" in out
    assert "tests/unit/workers/test_small.py::test_both_sides" in out
    copy = project / "build/mutate/tree/aiomos/workers/small.py"
    assert copy.read_text() == (project / "aiomos/workers/small.py").read_text()

    (project / "docs/design/mutants.md").write_text(
        "### `aiomos/workers/small.py`\n\n```diff\n- return a == b\n+ return a != b\n```\n\nNobody asks.\n"
    )
    assert plant_all(project, "--again", str(project / "report.json"), monkeypatch=monkeypatch) == 0
    assert json.loads((project / "report.json").read_text())["stages"] == {"accepted": 1}


def test_a_run_that_was_cut_off_goes_on_where_it_ended(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = project / "aiomos/workers/small.py"
    source.write_text(source.read_text() + "\n\nNOTHING = 0 * 0\n")
    report = project / "report.json"
    tried: list[str] = []
    plant = Tree.planted
    monkeypatch.setattr(
        Tree, "planted", lambda tree, name, text: tried.append(text) or plant(tree, name, text)
    )
    with pytest.raises(SystemExit) as ended:
        plant_all(project, "--resume", monkeypatch=monkeypatch)
    assert ended.value.code == 2
    whole = ("--seed", "3", "--narrow", "--trust")
    assert plant_all(project, *whole, monkeypatch=monkeypatch) == 1
    at_once = json.loads(report.read_text())
    assert at_once["stages"] == {"part": 2, "survived": 1}
    assert len(at_once["not_counted"]) == 3, "0 * 0 is 0 + 0, 1 * 0 and 0 * 1"
    assert len(tried) == 6

    report.unlink()
    tried.clear()
    plant_all(project, *whole, "--count", "2", monkeypatch=monkeypatch)
    begun = json.loads(report.read_text())
    assert len(begun["results"]) == 2
    assert plant_all(project, *whole, "--resume", monkeypatch=monkeypatch) == 1
    assert len(tried) == 6
    gone_on = json.loads(report.read_text())
    assert gone_on["results"][:2] == begun["results"]
    for found in ("results", "not_counted"):
        assert [fault["diff"] for fault in gone_on[found]] == [fault["diff"] for fault in at_once[found]]
    assert "3 faults: 2 noticed" in capsys.readouterr().out

    for expected in (1, 0):
        tried.clear()
        assert plant_all(project, "--resume", monkeypatch=monkeypatch) == 1
        assert len(tried) == expected, "only the one that wider tests have not been run for"


def test_a_test_that_fails_but_once_has_not_noticed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    once = project / "once"
    (project / "tests/unit/workers/test_small.py").write_text(
        "from pathlib import Path\nfrom aiomos.workers import small\n\n\n"
        "def test_unsteady():\n"
        f"    once = Path({str(once)!r})\n"
        "    fails = small.unwatched(1, 2) and not once.exists()\n"
        "    if fails:\n        once.touch()\n"
        "    assert not fails\n\n\n"
        "def test_steady():\n    assert [small.watched(n, 2) for n in (1, 2, 3)] == [True, False, False]\n"
    )
    assert plant_all(project, "--narrow", "--trust", monkeypatch=monkeypatch) == 1
    assert json.loads((project / "report.json").read_text())["stages"] == {"part": 2, "survived": 1}
    assert (
        "but not alone: tests/unit/workers/test_small.py::test_unsteady, 1 times" in capsys.readouterr().out
    )


def test_only_changed_lines_are_given_faults(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plant_all(project, "--changed-since", "HEAD", "--list", monkeypatch=monkeypatch) == 0
    assert "nothing to change" in capsys.readouterr().out
    source = project / "aiomos/workers/small.py"
    source.write_text(source.read_text().replace("a == b", "a == b + 1"))
    assert plant_all(project, "--changed-since", "HEAD", "--list", monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("+ ")] != []
    assert "watched(a, b)" not in out.replace("unwatched(a, b)", "")


def test_tests_that_fail_without_a_fault_end_the_run(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "tests/unit/workers/test_small.py").write_text("def test_red():\n    assert 1 == 2\n")
    assert plant_all(project, monkeypatch=monkeypatch) == 2
    assert "do not pass without a fault" in capsys.readouterr().err


def test_what_a_killed_run_left_is_mended_by_the_next(project: Path) -> None:
    tree = Tree(project, project / "build/mutate")
    tree.prepare()
    copy = tree.root / "aiomos/workers/small.py"
    copy.write_text("planted\n")
    (tree.root / "aiomos/workers/gone.py").write_text("")
    tree.prepare()
    assert copy.read_text() == (project / "aiomos/workers/small.py").read_text()
    assert not (tree.root / "aiomos/workers/gone.py").exists()


def test_modules_are_put_back_as_they_were_built(project: Path) -> None:
    """A build that copies each source stands for the compilers."""
    (project / "setup.py").write_text(
        "from pathlib import Path\n"
        "text = Path('aiomos/fast.pyx').read_text()\n"
        "assert 'broken' not in text\n"
        "Path('build').mkdir(exist_ok=True)\n"
        "for built in ('build/fast.c', 'aiomos/fast.so'):\n"
        "    if not Path(built).exists() or Path(built).read_text() != text:\n"
        "        Path(built).write_text(text)\n"
    )
    (project / "aiomos/fast.pyx").write_text("a < b /* why */")
    tree = Tree(project, project / "build/mutate")
    tree.prepare()
    module = tree.root / "aiomos/fast.so"
    times = module.stat().st_mtime_ns
    with tree.planted("aiomos/fast.pyx", "a > b /* why */") as differs:
        assert differs
        assert module.read_text() == "a > b /* why */"
    assert (module.read_text(), module.stat().st_mtime_ns) == ("a < b /* why */", times)
    with tree.planted("aiomos/fast.pyx", "a < b /* why not */") as differs:
        assert not differs
    with pytest.raises(BuildError), tree.planted("aiomos/fast.pyx", "broken"):
        pass
    assert (tree.root / "aiomos/fast.pyx").read_text() == module.read_text() == "a < b /* why */"


@pytest.mark.parametrize(
    ("test", "noticed"),
    [
        ("pass", ""),
        ("assert 1 == 2", "test_it.py::test_it"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crash (SIGSEGV)"),
        ("while True: pass", "hang"),
        ("import threading; threading.Event().wait()", "hang"),
    ],
)
def test_crashes_and_hangs_are_noticed(tmp_path: Path, test: str, noticed: str) -> None:
    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {test}\n")
    limit, work_limit = (5 if "wait" in test else 120), (3 if "while" in test else 60)
    outcome = run_tests(
        tmp_path, ["test_it.py"], {"PATH": "/usr/bin:/bin"}, work_limit=work_limit, limit=limit
    )
    assert outcome.noticed == noticed
    assert outcome.work > 0


@pytest.mark.parametrize("test", ["while True: pass", "import threading; threading.Event().wait()"])
def test_a_test_that_does_not_end_is_not_given_the_time_of_all(
    tmp_path: Path, test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "TEST_SECONDS", 1)
    monkeypatch.setattr(runs, "IDLE_SECONDS", 5)
    (tmp_path / "test_it.py").write_text(f"def test_one():\n    pass\n\n\ndef test_it():\n    {test}\n")
    outcome = run_tests(tmp_path, ["test_it.py"], {"PATH": "/usr/bin:/bin"}, work_limit=600, limit=600)
    assert outcome.noticed == "hang"
    assert outcome.work < 60


def test_what_keeps_all_tests_from_being_loaded_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("assert False\n")
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    outcome = run_tests(tmp_path, ["test_it.py"], {"PATH": "/usr/bin:/bin"}, work_limit=60, limit=60)
    assert outcome.noticed == f"conftest '{tmp_path / 'conftest.py'}'"


def test_a_selection_without_tests_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("")
    with pytest.raises(UsageError):
        run_tests(tmp_path, ["test_it.py"], {"PATH": "/usr/bin:/bin"}, work_limit=60, limit=60)


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.mutate", "--list", "--files", "aiomos/wire/seq.pxd", "--count", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("--- a/aiomos/wire/seq.pxd") == 2
    assert diff("a", "1\n", "2\n") == "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+2\n"
