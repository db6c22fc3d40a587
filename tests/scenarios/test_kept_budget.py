"""Memory of delivered bytes that are kept to be looked back at: its pages, where many halves share them."""

from __future__ import annotations

import pytest

from aiomos import CONN_NEW_DATA, App, Budgets, Half, Settings, Timeouts
from aiomos.testing.scenario import START, Conversation
from tests.events import play

MEMORY = 2 << 20
PAGE = 64 << 10
HALVES = MEMORY // 2048
"""So many have four small blocks each; those of 32 that follow each other lie in one page."""

LARGE = 4096 - 16
"""Bytes in a large block."""


@pytest.mark.parametrize(
    ("stay", "given_up", "whole"),
    [
        (range(0, HALVES, 32), 6, True),
        ([*range(16), *range(32, HALVES, 32)], 16 + 5, True),
        ([*range(17), *range(32, HALVES, 32)], 16, False),
    ],
    ids=["one in each page", "16 in the first page", "17 in the first page"],
)
def test_pages_that_hold_little_are_given_up_for_large_blocks(
    stay: list[int], given_up: int, *, whole: bool
) -> None:
    """16 pages are needed. There are 32, as many as the budget takes, which hold little, and ten more.

    The halves that have kept bytes for longest go, at most 16 for one block; if that brings none, so does what the half
    at hand has kept, and it begins anew.
    """
    app: App[None] = App("looks")
    seen: list[tuple[int, int]] = []

    @app.on(CONN_NEW_DATA)
    def look(half: Half) -> None:
        if half.port == 1:
            seen.append(
                (half.peek(0, MEMORY).count(b"L"), half.peek(half.stream_offset - LARGE, LARGE).count(b"L"))
            )

    frames, resets = [], []
    for number in range(HALVES):
        c = Conversation(f"10.0.{number >> 8}.{number & 255}:2", start=START + number / 100).handshake()
        for _ in range(4):
            c.client("PA", bytes(496)).server("A")
        frames += c.frames
        if number not in stay:
            resets += c.client("R").frames[-1:]
    busy = Conversation("10.1.0.0:1", start=START + 100).handshake()
    for _ in range(16 * PAGE // 4096):
        busy.client("PA", b"L" * LARGE).server("A")
    budgets = Budgets(kept_bytes=MEMORY, kept_bytes_half=MEMORY)
    settings = Settings(on_error="raise", budgets=budgets, timeouts=Timeouts(reset=0))
    report = play(frames + resets + busy.frames, app, settings=settings)
    assert report.counters["kept_dropped"] == given_up
    assert seen[-1] == (16 * PAGE // 4096 * LARGE if whole else 0, LARGE)
