"""The receive window beside a peer that believes all it is told, and uses it to the last byte."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

probe = pytest.importorskip("tests.native._probe_window", reason="needs the native test probes")

SIZES = st.one_of(st.integers(0, 20), st.integers(0, 5000), st.integers(0, 200_000))


class WindowMachine(RuleBasedStateMachine):
    """Offsets count from the first byte of the stream."""

    @initialize(
        mss=st.sampled_from([1, 88, 536, 1460, 9000]),
        buffer=st.sampled_from([1, 100, 1459, 3000, 65536, 1 << 20]),
        most=st.sampled_from([65535, 1 << 20, 32 << 20, 1 << 30]),
        scaled=st.booleans(),
    )
    def open(self, mss: int, buffer: int, most: int, scaled: bool) -> None:
        self.window: Any = probe.Window(mss, buffer, most)
        self.window.start(scaled=scaled)
        self.mss = mss
        self.received = self.now = 0
        self.promised = self.window.first
        """The rightmost edge that the peer was told."""
        self.largest = self.window.buffer

    def tell(self, pressed: bool) -> None:
        grain, before = 1 << self.window.shift, self.received + self.window.room
        limit = min(self.mss, max(self.window.buffer // 2, 1))
        field = self.window.tell(pressed)
        assert 0 <= field <= 65535
        told = self.received + (field << self.window.shift)
        edge = self.received + self.window.room
        assert told <= edge
        if told < self.promised:  # less than a grain is not repeated, where the buffer is overfull
            assert self.promised - told < grain
            assert self.window.held + self.promised - self.received > self.window.buffer
        moved = edge - before
        assert moved == 0 or moved < grain or moved >= limit
        self.promised = max(self.promised, told)
        assert not self.window.owes(pressed)

    @rule(pressed=st.booleans())
    def ack(self, pressed: bool) -> None:
        self.tell(pressed)

    @rule(n=SIZES, times=st.integers(1, 30), pressed=st.booleans())
    def send(self, n: int, times: int, pressed: bool) -> None:
        """The peer sends what it may, and each is acknowledged."""
        for _ in range(times):
            length = min(n, self.promised - self.received)
            assert length <= self.window.room  # what was promised is accepted
            self.window.arrived(length)
            self.received += length
            self.tell(pressed)

    @rule(n=SIZES, wait=st.integers(0, 3000), pressed=st.booleans())
    def read(self, n: int, wait: int, pressed: bool) -> None:
        self.now += wait
        before = self.window.buffer
        self.window.read(min(n, self.window.held), rtt_ns=1000, now_ns=self.now, pressed=pressed)
        assert self.window.buffer >= before
        self.largest = max(self.largest, self.window.buffer)

    @rule(buffer=st.sampled_from([1, 1000, 65536, 1 << 20]))
    def resize(self, buffer: int) -> None:
        self.window.resize(buffer)
        self.largest = max(self.largest, buffer)

    @precondition(lambda self: hasattr(self, "window") and self.window.room == 0)
    @rule()
    def read_all(self) -> None:
        """A window that is closed is opened by reading, and its peer is owed the news."""
        self.window.read(self.window.held, now_ns=self.now)
        assert self.window.owes()

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "window"):
            assert self.window.held + self.window.room <= self.largest + (3 << self.window.shift)
            assert self.promised - self.received <= self.window.room


TestWindow = WindowMachine.TestCase
TestWindow.settings = settings(stateful_step_count=50)
