"""The command line, with the runtime replaced by one that records how it was called."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import attrs
import pytest
import structlog
from click.testing import CliRunner, Result

import aiomos.console
from aiomos import App, CaptureError, EngineBug, Event, Filter, OutputError, cli
from aiomos.runtime.statistics import Report
from aiomos.settings import Settings


@attrs.frozen
class DumpOptions:
    """Options.

    Attributes:
        out: Where to write.
        limit: How much.
    """

    out: Path = Path("out")
    limit: int = 10


@attrs.frozen
class WebOptions:
    limit: int = 5


class Runtime(ModuleType):
    """Stands in for `aiomos.console.running`."""

    def __init__(self) -> None:
        super().__init__("aiomos.console.running")
        self.apps: tuple[App, ...] = ()
        self.arguments: dict[str, Any] = {}
        self.error: BaseException | None = None
        self.counters: dict[str, int] = {}
        self.calls: dict[str, tuple[int, int]] = {}

    def run(self, *apps: App, **arguments: Any) -> Any:
        self.apps = apps
        self.arguments = arguments
        if arguments["progress"] is not None:
            arguments["progress"](1, None, 1)
        print("a result")
        if self.error is not None:
            raise self.error
        return Report(frames=12345, counters=self.counters, seconds=0.5, calls=self.calls)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    runtime = Runtime()
    monkeypatch.setitem(sys.modules, "aiomos.console.running", runtime)
    monkeypatch.setattr(aiomos.console, "running", runtime, raising=False)
    yield runtime
    structlog.reset_defaults()


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Make a module with apps: `dump` and `web` with options, `bare` without."""
    module = ModuleType("cli_apps", "Do things.\n\nAt length.")
    vars(module).update(
        dump=App("dump", options=DumpOptions), web=App("web", options=WebOptions), bare=App("bare")
    )
    for app in (module.dump, module.web, module.bare):
        app.module = "cli_apps"
    monkeypatch.setitem(sys.modules, "cli_apps", module)
    return module


Invoke = Callable[..., Result]


@pytest.fixture
def invoke(
    runtime: Runtime,  # noqa: ARG001  to be there
    apps: ModuleType,  # noqa: ARG001  to be there
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Invoke:
    """Run a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return lambda *arguments: CliRunner().invoke(cli.main, arguments)


# --- arguments ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "captures"),
    [
        (["cli_apps:bare", "--pcap", "a.pcap"], ("a.pcap",)),
        (["cli_apps:bare", "--pcap", "a.pcap", "b.pcap"], ("a.pcap", "b.pcap")),
        (["cli_apps:bare", "--pcap", "a.pcap", "--pcap", "b.pcap"], ("a.pcap", "b.pcap")),
        (
            ["cli_apps:bare", "--pcap", "a.pcap", "b.pcap", "--decapsulate", "cli_apps:web"],
            ("a.pcap", "b.pcap"),
        ),
        (["--pcap", "a.pcap", "--", "cli_apps:bare"], ("a.pcap",)),
        (["--pcap=a.pcap", "cli_apps:bare"], ("a.pcap",)),
        (["cli_apps:bare", "--pcap", "-"], ("-",)),
        (["cli_apps:bare", "--pcap", "*.pcap"], ("*.pcap",)),
    ],
)
def test_pcap_takes_all_files_up_to_the_next_option(
    invoke: Invoke, runtime: Runtime, arguments: list[str], captures: tuple[str, ...]
) -> None:
    assert invoke("run", *arguments).exit_code == 0
    assert runtime.arguments["pcap"] == captures


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["cli_apps:bare"],
        ["--pcap", "a.pcap"],
        ["cli_apps:bare", "--pcap"],
        ["cli_apps:bare", "--pcap", "-", "-"],
        ["cli_apps:bare", "--pcap", "-", "--workers", "2"],
        ["cli_apps:bare", "--pcap", "-", "--workers", "3"],
        ["cli_apps:bare", "--pcap", "/dev/null", "--workers", "2"],
        ["cli_apps:bare", "--pcap", "a.pcap", "-", "--workers", "2"],
        ["cli_apps:bare", "--pcap", "a.pcap", "--workers", "0"],
        ["cli_apps:bare", "cli_apps:bare", "--pcap", "a.pcap"],
        ["cli_apps:bare", "--pcap", "a.pcap", "--loop", "trio"],
        ["cli_apps:bare", "--bridge", "a", "b", "--bridge", "c", "d"],
        ["cli_apps:bare", "--tap", "a", "--tap=b"],
        ["cli_apps:bare", "--iface", "a", "--tap", "b"],
    ],
)
def test_wrong_usage_exits_with_2_and_runs_nothing(
    invoke: Invoke, runtime: Runtime, arguments: list[str]
) -> None:
    assert invoke("run", *arguments).exit_code == 2
    assert runtime.apps == ()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--iface", "lo,lo"], "lo"),
        (["--iface", "lo", "--iface", "lo"], "lo"),
        (["--iface", "m0,m1,m0"], "m0"),
        (["--bridge", "lo", "lo"], "lo"),
        (["--bridge", "m0", "m0"], "m0"),
        (["--bridge", "tap:m0", "tap:m0"], "m0"),
    ],
)
def test_an_interface_that_is_named_twice_is_refused(
    invoke: Invoke, runtime: Runtime, arguments: list[str], name: str
) -> None:
    result = invoke("run", "flowlog", *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert f"{name}: named twice, so that each frame" in result.stderr
    assert runtime.apps == ()


def test_interfaces_of_several_options_are_watched_together() -> None:
    from aiomos.transport.wires import Watch

    assert cli._wire(("a,b", "c"), None, None, 0) == Watch(("a", "b", "c"))


def test_settings_come_from_pairs_and_from_options_of_their_own(invoke: Invoke, runtime: Runtime) -> None:
    result = invoke(
        *("run", "cli_apps:bare", "--pcap", "a.pcap", "--loop", "asyncio", "--setting", "budgets.flows=7"),
        *("--checksums", "verify", "--decapsulate"),
    )
    assert result.exit_code == 0
    assert runtime.arguments["settings"] == Settings(
        budgets=aiomos.Budgets(flows=7), checksums="verify", decapsulate=True
    )
    assert runtime.arguments["loop"] == "asyncio"
    assert runtime.arguments["control"] is None


def test_a_run_that_can_be_controlled_may_begin_without_apps(invoke: Invoke, runtime: Runtime) -> None:
    assert invoke("run", "--pcap", "a.pcap", "--control", "socket").exit_code == 0
    assert runtime.arguments["control"] == "socket"
    assert runtime.apps == ()


# --- options of apps ------------------------------------------------------------------------------
def options_after(invoke: Invoke, runtime: Runtime, *arguments: str) -> list[Any]:
    result = invoke("run", *arguments, "--pcap", "a.pcap")
    assert result.exit_code == 0, result.output
    return [app.options for app in runtime.apps]


def test_an_option_goes_to_every_app_that_has_it(invoke: Invoke, runtime: Runtime) -> None:
    dump, web, bare = options_after(
        *(invoke, runtime, "cli_apps:dump", "cli_apps:web", "cli_apps:bare"),
        *("--set", "limit=3", "--set", "out=there"),
    )
    assert (dump, web, bare) == (DumpOptions(Path("there"), 3), WebOptions(3), None)


def test_an_option_can_name_its_app(invoke: Invoke, runtime: Runtime) -> None:
    dump, web = options_after(invoke, runtime, "cli_apps:dump", "cli_apps:web", "--set", "web.limit=3")
    assert (dump.limit, web.limit) == (10, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cli_apps:dump", "--set", "ouut=x"], "did you mean 'out'?"),
        (["cli_apps:dump", "--set", "limit=many"], "a whole number"),
        (["cli_apps:bare", "--set", "x=1"], "no options"),
        (["cli_apps:dump", "cli_apps:web", "--set", "x=1"], "none of the apps dump, web"),
        (["cli_apps:dump", "cli_apps:web", "--set", "web.out=1"], "app web has no option 'out'"),
        (["cli_apps:dump", "--setting", "budgets.flow=1"], "did you mean 'budgets.flows'?"),
        (["cli_apps:none"], "bare, dump, web"),
        (["cli_nothing"], "no module 'cli_nothing'"),
    ],
)
def test_an_error_of_ours_is_one_message_and_status_1(
    invoke: Invoke, runtime: Runtime, arguments: list[str], said: str
) -> None:
    result = invoke("run", *arguments, "--pcap", "a.pcap")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert runtime.apps == ()


# --- the end of a run -----------------------------------------------------------------------------
def test_a_broken_capture_gives_the_results_so_far_and_status_1(invoke: Invoke, runtime: Runtime) -> None:
    runtime.error = CaptureError("record cut short", path="a.pcap", offset=24, frames=7)
    result = invoke("run", "cli_apps:bare", "--pcap", "a.pcap")
    assert result.exit_code == 1
    assert result.stdout == "a result\n"
    assert result.stderr.startswith("error: a.pcap: record cut short")


def test_an_error_of_the_system_names_the_file(invoke: Invoke, runtime: Runtime) -> None:
    runtime.error = PermissionError(13, "Permission denied", "out")
    result = invoke("run", "cli_apps:bare", "--pcap", "a.pcap")
    assert (result.exit_code, result.stderr) == (1, "error: out: Permission denied\n")


def test_ctrl_c_gives_the_results_so_far_and_status_130(invoke: Invoke, runtime: Runtime) -> None:
    runtime.error = KeyboardInterrupt()
    result = invoke("run", "cli_apps:bare", "--pcap", "a.pcap")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "a result\n", "")


BROKEN_PIPE = BrokenPipeError(32, "Broken pipe")


def test_that_the_reader_of_standard_output_has_gone_is_no_message(invoke: Invoke, runtime: Runtime) -> None:
    runtime.error = OutputError.of("standard output", BROKEN_PIPE)
    result = invoke("run", "cli_apps:bare", "--pcap", "a.pcap")
    assert (result.exit_code, result.stderr) == (1, "")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OutputError.of("fifo", BROKEN_PIPE),
            "fifo: Broken pipe; what comes after the failure is not written: who read it has gone",
        ),
        (BROKEN_PIPE, "[Errno 32] Broken pipe"),  # of an app's own socket
        (
            OSError(24, "Too many open files", "out"),
            "out: Too many open files; raise the limit of open files (ulimit -n), and run again",
        ),
    ],
)
def test_another_pipe_or_file_that_fails_is_named(
    invoke: Invoke, runtime: Runtime, error: OSError, said: str
) -> None:
    runtime.error = error
    result = invoke("run", "cli_apps:bare", "--pcap", "a.pcap")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "a result\n", f"error: {said}\n")


@pytest.mark.parametrize("error", [EngineBug("hole list not sorted"), ZeroDivisionError()])
def test_a_bug_keeps_its_traceback(invoke: Invoke, runtime: Runtime, error: Exception) -> None:
    runtime.error = error
    assert invoke("run", "cli_apps:bare", "--pcap", "a.pcap").exception is error


def test_a_traceback_can_be_asked_for(invoke: Invoke, runtime: Runtime) -> None:
    runtime.error = CaptureError("record cut short", path="a.pcap", offset=24, frames=7)
    result = invoke("run", "cli_apps:bare", "--pcap", "a.pcap", "--traceback")
    assert result.exception is runtime.error


def test_the_summary_is_for_terminals_or_on_request(invoke: Invoke, runtime: Runtime) -> None:
    runtime.counters = {"flows": 3, "ended.fin": 2, "ended.end_of_capture": 1, "ended.rst": 0}
    assert invoke("run", "cli_apps:bare", "--pcap", "a.pcap").stderr == ""
    summary = invoke("run", "cli_apps:bare", "--pcap", "a.pcap", "-v").stderr
    assert summary == "12,345 frames, 3 TCP connections (ended 2 by fin, 1 by end of capture) in 0.50 s\n"


def test_the_summary_says_how_many_connections_have_no_syn(invoke: Invoke, runtime: Runtime) -> None:
    runtime.counters = {"flows": 3, "midstream": 2, "ended.fin": 3}
    summary = invoke("run", "cli_apps:bare", "--pcap", "a.pcap", "-v").stderr
    assert "3 TCP connections, 2 of them without their SYN (ended 3 by fin) in" in summary


def test_where_logs_are_json_so_is_the_summary(invoke: Invoke, runtime: Runtime) -> None:
    runtime.counters = {"flows": 3}
    (line,) = invoke(
        "run", "cli_apps:bare", "--pcap", "a.pcap", "--log-format", "json", "-v"
    ).stderr.splitlines()
    assert json.loads(line).items() >= {"event": "done", "frames": 12345, "flows": 3, "seconds": 0.5}.items()


def test_what_was_not_followed_is_told_in_any_case(invoke: Invoke, runtime: Runtime) -> None:
    runtime.counters = {"flows": 3, "malformed.bad_tcp": 2, "malformed.bad_ip": 0, "without_syn": 1}
    result = invoke("run", "cli_apps:bare", "--pcap", "a.pcap", "--log-format", "json")
    warning = json.loads(result.stderr)
    assert (result.exit_code, warning["event"], warning["level"]) == (0, "incomplete", "warning")
    assert warning["malformed"] == "2 malformed packets (bad_tcp 2)"
    assert warning["without_syn"] == "1 segment of connections whose SYN was not captured"
    assert invoke("run", "cli_apps:bare", "--pcap", "a.pcap").stderr.splitlines() == [
        "incomplete: 2 malformed packets (bad_tcp 2)",
        "incomplete: 1 segment of connections whose SYN was not captured: "
        "apps that ask for them with midstream=True follow those, too",
    ]


@pytest.mark.parametrize("log", ["console", "json"])
def test_a_run_in_which_an_app_only_failed_has_status_1(invoke: Invoke, runtime: Runtime, log: str) -> None:
    runtime.calls = {"bare": (3, 3), "idle": (0, 0)}
    result = invoke("run", "cli_apps:bare", "--pcap", "a.pcap", "--log-format", log)
    assert result.exit_code == 1
    assert result.stderr == "error: every handler and callback failed of: bare (3)\n"
    runtime.calls = {"bare": (3, 2), "idle": (0, 0)}
    result = invoke("run", "cli_apps:bare", "--pcap", "a.pcap", "--log-format", log)
    assert (result.exit_code, result.stderr) == (0, "")


# --- progress -------------------------------------------------------------------------------------
def test_progress_is_shown_when_asked_for_and_never_into_a_pipe(invoke: Invoke, runtime: Runtime) -> None:
    assert invoke("run", "cli_apps:bare", "--pcap", "a.pcap").exit_code == 0
    assert runtime.arguments["progress"] is None
    result = invoke("run", "cli_apps:bare", "--pcap", "a.pcap", "--progress")
    assert result.exit_code == 0
    assert result.stdout == "a result\n"
    assert runtime.arguments["progress"] is not None


# --- other commands -------------------------------------------------------------------------------
def test_apps_lists_what_ships(invoke: Invoke) -> None:
    from aiomos.loader import shipped_apps

    result = invoke("apps")
    assert result.exit_code == 0
    assert [app.name for app in shipped_apps() if app.name not in result.stdout] == []


def test_apps_describes_the_options_of_an_app(invoke: Invoke) -> None:
    result = invoke("apps", "cli_apps:dump", "cli_apps:bare")
    assert result.exit_code == 0
    for part in ("dump: Do things.", "limit", "10", "How much. (a whole number)", "bare", "no options"):
        assert part in result.stdout


def test_apps_explains_what_keeps_events_in_python(
    invoke: Invoke, apps: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    kinds = [
        {"name": "syn", "base": Event.CONN_SETUP, "native": True, "why_not": None, "listing": "load flags"},
        {"name": "odd", "native": False, "why_not": "line 7: a call of print()", "listing": ""},
        {"name": "told", "base": None, "native": True, "why_not": None, "listing": ""},
    ]
    kinds[1]["base"] = SimpleNamespace(name="syn")
    events = [SimpleNamespace(filter=Filter("port 80"), **kind) for kind in kinds]
    monkeypatch.setattr(apps.dump, "udes", events, raising=False)
    monkeypatch.setattr(apps.bare, "udes", [], raising=False)
    result = invoke("apps", "--explain", "cli_apps:dump", "cli_apps:bare")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[2:5] == [
        ["syn", "CONN_SETUP", "port", "80", "native"],
        ["odd", "syn", "port", "80", "in", "Python", "line", "7:", "a", "call", "of", "print()"],
        ["told", "port", "80", "when", "emitted"],
    ]
    assert "nothing to explain" in result.stdout
    assert "load flags" not in result.stdout
    assert "syn:\nload flags\n" in invoke("apps", "--explain", "-v", "cli_apps:dump").stdout


def test_explaining_needs_an_app(invoke: Invoke) -> None:
    assert invoke("apps", "--explain").exit_code == 2


def test_version_is_that_of_the_package(invoke: Invoke) -> None:
    assert aiomos.__version__ in invoke("--version").stdout


@pytest.mark.parametrize(
    "command", [[], ["run"], ["apps"], ["ctl"], *(["ctl", "PATH", name] for name in sorted(cli.ctl.commands))]
)
def test_help_fits_a_terminal(invoke: Invoke, command: list[str]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom aiomos.cli import main\nmain(['run', '--help'], standalone_mode=False)\n"
        "sys.exit(', '.join({'rich', 'structlog', 'uvloop', 'numpy', 'dpkt'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert result.stderr.strip() == ""


@pytest.mark.parametrize("option", ["--grace", "--watchdog"])
@pytest.mark.parametrize("seconds", ["nan", "inf", "1e9", "-1"])
def test_seconds_are_so_many_that_one_can_wait_for_them(
    option: str, seconds: str, invoke: Callable[..., Result]
) -> None:
    done = invoke("run", "flowlog", option, seconds, "--pcap", "none.pcap")
    assert done.exit_code == 2
    assert f"Invalid value for '{option}'" in done.stderr


@pytest.mark.parametrize("app", ["top", "account"])
@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "1e-300", "-1"])
def test_an_interval_is_one_that_a_timer_takes(app: str, seconds: str, invoke: Callable[..., Result]) -> None:
    done = invoke("run", app, "--set", f"interval={seconds}", "--pcap", "none.pcap")
    assert done.exit_code == 1
    assert f"interval={float(seconds)!r}: must be 0, or a millionth to three years" in done.stderr
