"""What a run of the tests is judged by besides their results: skips, reruns, modules older than their sources."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KINDS = ("live", "interop", "captures", "docs", "native")
"""What a test may need that is not everywhere: a mark of it, but for "native", which is of whole modules."""

DOES_NOT_APPLY = "does not apply: "
CIMPORT = re.compile(r"^(?:from (aiomos[\w.]*) cimport|cimport (aiomos[\w.]*))", re.MULTILINE)


def required() -> set[str]:
    """Kinds of AIOMOS_REQUIRE, of which no test may be skipped.

    Raises:
        pytest.UsageError: one of them is none.
    """
    kinds = {kind.strip() for kind in os.environ.get("AIOMOS_REQUIRE", "").split(",")} - {""}
    if kinds - {*KINDS}:
        raise pytest.UsageError(
            f"AIOMOS_REQUIRE: {', '.join(sorted(kinds - {*KINDS}))}: none of {', '.join(KINDS)}"
        )
    return kinds


def does_not_apply(why: str) -> None:
    """Skip a test that would show nothing with what it was given; that is no lack."""
    pytest.skip(f"{DOES_NOT_APPLY}{why}")


# --- skips ----------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that was skipped though all that it is marked with is required."""
    report = yield
    if not report.skipped or hasattr(report, "wasxfail"):
        return report
    reason = reason_of(report)
    kinds = {mark.name for mark in item.iter_markers()} & {*KINDS}
    if kinds and kinds <= required() and not reason.startswith(DOES_NOT_APPLY):
        report.outcome = "failed"
        report.longrepr = f"AIOMOS_REQUIRE has {', '.join(sorted(kinds))}, and this was skipped: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that was skipped, for want of native probes, if those are required."""
    report = yield
    if report.outcome == "skipped" and "native" in required():
        report.outcome = "failed"
        report.longrepr = f"AIOMOS_REQUIRE has native, and this was skipped: {reason_of(report)}"
    return report


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    assert isinstance(report.longrepr, tuple)
    return str(report.longrepr[2]).removeprefix("Skipped: ")


# --- reruns ---------------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let only live tests be run once more, each with a reason.

    Raises:
        pytest.UsageError: another has the mark, or one that has no reason.
    """
    for item in items:
        for mark in item.iter_markers("flaky"):
            if not item.get_closest_marker("live"):
                raise pytest.UsageError(f"{item.nodeid}: only a live test may be flaky")
            if not mark.kwargs.get("reason"):
                raise pytest.UsageError(f"{item.nodeid}: flaky(reruns=1, reason=...) needs a reason")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell which tests were run once more, and for what."""
    reports = terminalreporter.stats.get("rerun", [])
    if reports:
        terminalreporter.section(f"{len(reports)} failures that were given another chance")
    for report in reports:
        crash = getattr(report.longrepr, "reprcrash", None)
        why = crash.message if crash else report.longreprtext
        terminalreporter.line(f"{report.nodeid}: {why.strip().partition(chr(10))[0]}")


# --- modules that are older than their sources ----------------------------------------------------


def pytest_report_header() -> list[str]:
    return [f"older than their sources: {', '.join(stale())}: build them"] if stale() else []


def pytest_sessionstart() -> None:
    """Go no further with probes that test what is not there any more, if they are required.

    Raises:
        pytest.UsageError: so it is.
    """
    if "native" in required():
        missing = [path.stem for path in (ROOT / "tests" / "native").glob("*.pyx") if not built(path)]
        if missing or stale():
            raise pytest.UsageError(
                f"missing, or older than their sources: {', '.join([*missing, *stale()])}: "
                "AIOMOS_TEST_NATIVE=1 python setup.py build_ext --inplace"
            )


def stale() -> list[str]:
    """Modules that were built before their sources changed."""
    return [
        path.relative_to(ROOT).with_suffix("").as_posix()
        for folder in ("aiomos", "tests/native")
        for path in sorted((ROOT / folder).rglob("*.pyx"))
        if (module := built(path))
        and module.stat().st_mtime < max(each.stat().st_mtime for each in sources(path))
    ]


def built(source: Path) -> Path | None:
    return next(source.parent.glob(f"{source.stem}.*.so"), None)


def sources(path: Path) -> Iterator[Path]:
    """A .pyx file and the declarations that it builds on, directly."""
    yield path
    for one, other in CIMPORT.findall(path.read_text()):
        declared = ROOT / f"{(one or other).replace('.', '/')}.pxd"
        if declared.exists():
            yield declared
