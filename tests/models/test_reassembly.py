"""The reassembly model says what docs/reference/overlap.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.models.reassembly import POLICIES, Conflict, Policy, Reassembler, Side, reassemble

ISN = 0xFFFF_FFFD  # offset 2 is sequence number 0: every example crosses the wrap
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "overlap.md"


def seq(offset: int) -> int:
    return (ISN + 1 + offset) & 0xFFFF_FFFF


def examples() -> list[tuple[Policy, str, str]]:
    """Read the page's examples: policy, segments in order of arrival, what is held after them."""
    table = PAGE.read_text().split("### Examples")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    columns: list[tuple[Policy, ...]] = [("first",), ("last",), ("bsd", "windows"), ("linux",), ("solaris",)]
    return [
        (policy, row[0], held)
        for row in rows
        for policies, held in zip(columns, row[1:], strict=True)
        for policy in policies
    ]


def push_all(half: Reassembler, segments: str) -> None:
    for data, offset in re.findall(r"(\w+)@(\d+)", segments):
        half.push(seq(int(offset)), data.encode())


@pytest.mark.parametrize(("policy", "segments", "held"), examples())
def test_example_of_the_reference_page(policy: Policy, segments: str, held: str) -> None:
    half = Reassembler(ISN, policy)
    push_all(half, segments)
    offset, data = held.replace("`", "").split(":")
    assert half.skip_hole() == (0, int(offset), data.encode())


def test_the_page_has_examples() -> None:
    assert {policy for policy, _, _ in examples()} == set(POLICIES)


@pytest.mark.parametrize("policy", POLICIES)
def test_delivered_bytes_never_change(policy: Policy) -> None:
    data, conflicts = reassemble([(seq(0), b"abcd"), (seq(1), b"XcYe")], isn=ISN, policy=policy, remember=4)
    assert data == b"abcde"
    assert conflicts == [Conflict(1, 1, b"b", b"X", "old"), Conflict(1, 3, b"d", b"Y", "old")]


@pytest.mark.parametrize("policy", POLICIES)
def test_conflicts_are_longest_runs_of_differing_bytes(policy: Policy) -> None:
    half = Reassembler(ISN, policy)
    push_all(half, "abcdef@4 aXYdZf@4")
    kept: Side = "new" if policy == "last" else "old"
    assert half.conflicts == [Conflict(1, 5, b"bc", b"XY", kept), Conflict(1, 8, b"e", b"Z", kept)]


@pytest.mark.parametrize("policy", POLICIES)
def test_segment_that_fills_the_hole_is_judged_before_delivery(policy: Policy) -> None:
    data, _ = reassemble([(seq(2), b"bbbb"), (seq(0), b"aaaa")], isn=ISN, policy=policy)
    assert data == (b"aabbbb" if policy in ("first", "solaris") else b"aaaabb")


def test_data_before_the_stream_is_ignored() -> None:
    assert reassemble([(ISN, b"?ab"), (seq(-5), b"????")], isn=ISN, policy="last", remember=9) == (b"ab", [])
