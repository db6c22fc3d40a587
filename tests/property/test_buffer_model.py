"""The send buffer beside its model: whatever is written, sent, sent again and acknowledged."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.models.buffer import BufferModel

probe = pytest.importorskip("tests.native._probe_buffer", reason="needs the native test probes")

KINDS = (bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data)))
LENGTHS = st.one_of(st.sampled_from([0, 1, 3, 100, 512, 1023, 1024, 1025, 4096, 5000]), st.integers(0, 3000))


class SendBufferMachine(RuleBasedStateMachine):
    """All that an end does to its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    @initialize(limit=st.sampled_from([1, 2000, 20_000, 1 << 40]))
    def open(self, limit: int) -> None:
        self.buffer: Any = probe.Buffer(limit)
        self.model = BufferModel(limit)

    def bytes_of(self, n: int) -> bytes:
        """Others each time."""
        self.count += 1
        return bytes((self.count * 7 + at) % 251 for at in range(n))

    @rule(n=LENGTHS, kind=st.sampled_from(KINDS), offset=st.integers(0, 5))
    def write(self, n: int, kind: Any, offset: int) -> None:
        data = self.bytes_of(n)
        written = kind(bytes(offset) + data)[offset:]
        assert self.buffer.write(written) == self.model.write(data)
        if not isinstance(written, bytes) and not (isinstance(written, memoryview) and written.readonly):
            memoryview(written)[:] = bytes(n)  # the application goes on to use its memory

    @rule(times=st.integers(1, 40), n=st.integers(1024, 1100))
    def write_much(self, times: int, n: int) -> None:
        for _ in range(times):
            data = self.bytes_of(n)
            assert self.buffer.write(data) == self.model.write(data)

    @rule(n=st.integers(0, 70_000), most=st.integers(0, 64))
    def send(self, n: int, most: int) -> None:
        """The next that is unsent."""
        stretches = self.buffer.find(self.model.sent, n, most=most)
        found = b"".join(stretches)
        assert found == self.model.find(self.model.sent, len(found))
        if len(stretches) < most:
            assert len(found) == min(n, self.model.end - self.model.sent)
        self.buffer.sent(len(found))
        self.model.send(len(found))

    @rule(at=st.floats(0, 1), n=st.integers(0, 5000), again=st.booleans())
    def find(self, at: float, n: int, again: bool) -> None:
        """Anywhere, also before what is acknowledged and behind the end."""
        offset = round(at * (self.model.end + 10))
        found = b"".join(self.buffer.find(offset, n, again))
        assert found == self.model.find(offset, n)[: len(found)]
        expected = self.model.find(offset, n)
        assert found == expected or len(self.buffer.find(offset, n, again)) == 64

    @rule(at=st.floats(0, 1))
    def release(self, at: float) -> None:
        offset = round(at * (self.model.end + 10))
        self.buffer.release(offset)
        self.model.release(offset)

    @rule()
    def collect(self) -> None:
        self.buffer.collect()
        assert not self.buffer.owes

    @rule(n=st.integers(0, 100_000))
    def sent(self, n: int) -> None:
        self.buffer.sent(n)
        self.model.send(n)

    @invariant()
    def counts(self) -> None:
        if not hasattr(self, "buffer"):
            return
        assert self.buffer.unsent == self.model.end - self.model.sent
        assert self.buffer.unacked == self.model.sent - self.model.acked
        blocks = self.buffer.blocks
        if self.model.acked == self.model.end:
            assert blocks == []
        else:
            assert blocks[0][0] <= self.model.acked < blocks[0][0] + blocks[0][1]

    def teardown(self) -> None:
        if hasattr(self, "buffer"):
            found = b""
            at = self.model.acked
            while stretches := self.buffer.find(at, 1 << 20, again=True):
                found += b"".join(stretches)
                at = self.model.acked + len(found)
            assert found == self.model.written[self.model.acked :]


TestSendBuffer = SendBufferMachine.TestCase
TestSendBuffer.settings = settings(max_examples=150, stateful_step_count=60)
