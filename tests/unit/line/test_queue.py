"""What waits for room on a wire: copies, in order, within bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

probe: Any = pytest.importorskip("tests.native._probe_queue", reason="needs the native test probes")


class QueueMachine(RuleBasedStateMachine):
    """A queue beside a list."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = probe.Queue()
        self.model: list[tuple[bytes, tuple[int, int] | None]] = []

    @rule(data=st.binary(max_size=100), csum=st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99)))
    def put(self, data: bytes, csum: tuple[int, int] | None) -> None:
        """Its memory, and that of its offload, is another's afterwards."""
        assert self.queue.put(data, csum)
        self.model.append((data, csum))

    @rule(count=st.integers(0, 10))
    def drop(self, count: int) -> None:
        """More than there are, too."""
        self.queue.drop(count)
        del self.model[:count]

    @rule(room=st.integers(0, 64))
    def peek(self, room: int) -> None:
        assert self.queue.peek(room) == self.model[:room]

    @invariant()
    def counts(self) -> None:
        assert self.queue.held == (len(self.model), sum(len(data) for data, _ in self.model))


TestQueue = QueueMachine.TestCase


def test_frames_are_bounded() -> None:
    queue = probe.Queue()
    for number in range(probe.most_frames):
        assert queue.put(number.to_bytes(4, "big"))
    assert not queue.put(b"more")
    assert queue.held == (probe.most_frames, 4 * probe.most_frames)
    queue.drop(1)
    assert queue.put(b"more")
    assert queue.peek(1) == [((1).to_bytes(4, "big"), None)]


def test_bytes_are_bounded() -> None:
    queue = probe.Queue()
    half = bytes(probe.most_bytes // 2)
    assert queue.put(half)
    assert queue.put(half)
    assert not queue.put(b"x")
    assert queue.put(b"")
    queue.drop(1)
    assert not queue.put(half + b"x")
    assert queue.put(half)
