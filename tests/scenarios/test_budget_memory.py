"""Budgets are of memory: however much a flood brings, the process grows by no more than they say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 1 << 20
# By how much each may grow: its budget, and some 20 MiB for what a batch may bring, records of flows that end in it,
# kept bytes, and pages that are had at once. Each brings many times that, or would.
FLOODS = {
    "held": 48 * MIB,
    "missed": 24 * MIB,
    "kept": 24 * MIB,
    "half_open": 20 * MIB,
    "with_data": 20 * MIB,
    "flows": 24 * MIB,
    "pending": 24 * MIB,
    "fragments": 28 * MIB,
    "slow": 60 * MIB,  # 750 handlers, and what each joins for one read
    "unread": 56 * MIB,
    "sessions": 20 * MIB,
    "edited": 28 * MIB,
}
GIVE_WAY = {
    "held": "held_dropped",
    "missed": "gap.end",
    "kept": "kept_dropped",
    "half_open": "evicted",
    "with_data": "evicted",
    "flows": "evicted",
    "pending": "anomaly.syn_in_connection",
    "fragments": "defrag.evicted",
    "slow": "read",
    "unread": "gap.unread",
    "sessions": "in_line.sessions_evicted",
    "edited": "edits_refused",
}


@pytest.mark.parametrize("flood", FLOODS)
def test_memory_is_bounded_whatever_a_flood_brings(flood: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.floods", flood],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, _, counters = run.stdout.splitlines()[-1].partition(" ")
    assert int(grown) < FLOODS[flood]
    assert ast.literal_eval(counters)[GIVE_WAY[flood]] > 100
