"""The benchmarks: that each way of running aiomos does what its row says; never how long it takes."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
CAPTURE = ROOT / "tests" / "data" / "http.pcap"

CALLS = {"setup": 4, "new_data": 8, "peek": 8}
"""Calls of two callbacks over the two connections of the capture; of those on rare events, none."""

OWN_WAYS = ("track", "account", "read", "state", "packet", "judge")
"""Those that count no calls."""


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("figures")


def counts(*command: str) -> dict[str, Any]:
    """What a program says that it has counted."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    counted: dict[str, Any] = json.loads(done.stdout)
    return counted


def test_every_row_is_run_as_it_says(figures: ModuleType) -> None:
    ways = {way for figure in figures.FIGURES.values() for row in figure.rows for way, _ in row.ways}
    assert {*OWN_WAYS, *CALLS} < ways
    for way in sorted(ways):
        counted = counts(figures.SCRIPT, way, "2", str(CAPTURE))
        assert (counted["frames"], counted["segments"], counted["flows"]) == (46, 46, 2), way
        assert counted.get("calls", 0) == CALLS.get(way, 0), way
        assert counted["seconds"] > 0, way


def test_two_readers_read_everything_twice(figures: ModuleType) -> None:
    one, two = (counts(figures.SCRIPT, "read", number, str(CAPTURE))["bytes"] for number in "12")
    assert two == 2 * one > 0


def test_instructions_are_added_up_by_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    instructions = importlib.import_module("instructions")
    lines = [
        "events: Ir",
        "fl=flows.c",
        "fn=__pyx_f_6aiomos_3tcp_5flows_flows_insert.part.0",
        "10 7",
        "12 3",
        "fn=malloc",
        "1 40",
        "fn=__pyx_f_6aiomos_3tcp_5flows_flows_insert.part.0",
        "14 1",
        "summary: 51",
    ]
    assert instructions.by_function(lines) == {"tcp.flows.flows_insert.part.0": 11, "malloc": 40}
    before, now = {"gone": 2.0, "same": 5.0, "more": 1.0}, {"same": 5.0, "more": 4.5, "new": 3.0}
    compared = instructions.table(now, before, 2)
    assert [list(column.cells) for column in compared.columns] == [
        ["more", "new", "all"],
        ["1.0", "0.0", "8.0"],
        ["4.5", "3.0", "12.5"],
        ["+3.5", "+3.0", "+4.5"],
    ]


@pytest.mark.parametrize("mode", ["state", "stream", "handlers", "flowlog"])
def test_modes_compared_with_other_libraries_run(mode: str) -> None:
    assert counts(str(BENCHMARKS / "aiomos_modes.py"), mode, str(CAPTURE))["flows"] == 2


def test_rows_are_compared_turn_by_turn(figures: ModuleType) -> None:
    """A machine that is slow for a turn is slow for the base, too."""
    rows = figures.sharing("x", "track", (10, 30))
    base, two, apart, *_ = (figures.Turns(row) for row in rows)
    for pace in (1, 7, 1):
        base.turns.append(runs(1.0 * pace))
        two.turns.append(runs(1.5 * pace))
        apart.turns.append(runs(1.0 * pace, 1.0 * pace))
    assert (two.ratio(base), apart.ratio(base)) == (1.5, 2.0)
    assert two.nanoseconds(base) == pytest.approx(0.5e9 / 100)


def runs(*seconds: float) -> Sequence[Any]:
    run = importlib.import_module("measure").Run
    return [run(seconds=each, wall=0, cpu=0, rss=0, segments=100) for each in seconds]


def test_a_row_that_fails_is_told_and_left_out(figures: ModuleType) -> None:
    class Failing:
        def run(self, command: Sequence[str]) -> Any:
            if "packet" in command:
                raise importlib.import_module("measure").ProgramFailedError("no such way")
            return runs(1.0)[0]

    class Chosen:
        path = CAPTURE

    failures: dict[str, str] = {}
    figure = figures.FIGURES["packet"]
    results = figures.measure_figure(Failing(), figure, Chosen(), 2, failures)
    assert failures == {f"packet: {name}": "no such way" for name in ("1 callback", "5 callbacks")}
    assert [target.value for target in figures.figure_targets(figure, results)] == [None, 0.0]
    assert figures.figure_table(figure, results).row_count == 3


# --- what is needed -------------------------------------------------------------------------------


@pytest.fixture
def needs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("needs")


def test_every_section_says_what_it_needs(needs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = importlib.import_module("bench").SECTIONS
    monkeypatch.setattr(needs.shutil, "which", lambda _name: None)
    listed = needs.needs(sections, sys.executable, instructions=True)
    assert {name for names in listed for name in names.split(", ")} == {"all sections", *sections}
    missing = {need.name: need.remedy for wanted in listed.values() for need in wanted if not need.here}
    assert missing["gcc"] == "apt install gcc"
    assert missing["g++ and <tins/tins.h>"] == "apt install g++ libtins-dev"
    assert missing["nginx"] == "apt install nginx-light"
    assert {"valgrind", "tcptrace", "tcpdump", "wrk", "iperf3"} <= missing.keys()


def test_it_is_said_before_anything_else(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "bench.py"), "--quick", "--cache", str(tmp_path)]
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = done.stdout.splitlines()
    assert said[0].strip() == "What it needs"
    (wrk,) = [line for line in said if " wrk " in line]
    assert "no: apt install wrk" in wrk
    assert "all of it" in wrk
    assert said[-1] == "the launcher does not compile: no gcc"
