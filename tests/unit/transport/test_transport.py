"""A transport written in Python: what it receives is a batch, and what it leaves out of the interface is told."""

from __future__ import annotations

import pytest

from aiomos.transport.interfaces import Interface
from aiomos.transport.transport import Transport

FAR = (1 << 62) - 1


class Written(Transport):
    """Frames from a list, by interfaces with and without a link layer; they have the times they say."""

    def __init__(self, *batches: list[tuple[int, bytes, int]]) -> None:
        self.clock = None
        self.interfaces.extend([Interface("", "raw", 101, 0), Interface("", "wire", 1, 0)])
        self.batches = list(batches)

    def receive(self) -> list[tuple[int, bytes, int]]:
        """Return the next batch."""
        return self.batches.pop(0) if self.batches else []


def test_frames_have_the_link_type_of_their_interface_and_else_ethernet() -> None:
    written = Written([(1, b"a", 0), (2, b"bc", 1), (3, b"", 2), (4, b"d", 65535)])
    assert written.read_batch()
    assert written.batch() == [
        (1, b"a", 101, 1, 0),
        (2, b"bc", 1, 2, 1),
        (3, b"", 1, 0, 2),
        (4, b"d", 1, 1, 65535),
    ]


def test_a_batch_may_be_larger_than_those_before_it_and_is_void_with_the_next() -> None:
    batches = [[(n, bytes([n]) * size, 0) for n in range(size)] for size in (1, 200, 3)]
    written = Written(*batches)
    for batch in batches:
        assert written.read_batch()
        assert [(time_ns, data, interface) for time_ns, data, _, _, interface in written.batch()] == batch
    assert not written.read_batch()
    assert written.batch() == []
    assert written.frames_read == 204
    for _ in range(2):
        written.close()
    assert written.batch() == []


def test_times_are_held_within_their_bounds() -> None:
    written = Written([(time_ns, b"a", 0) for time_ns in (FAR, FAR + 1, 10**40, -FAR, -FAR - 1, -(10**40))])
    written.read_batch()
    assert [frame[0] for frame in written.batch()] == [FAR] * 3 + [-FAR] * 3


def test_what_a_transport_does_not_do_is_an_error() -> None:
    bare = Transport()
    for call in (
        bare.fileno,
        bare.receive,
        bare.read_batch,
        lambda: bare.send(b"a"),
        lambda: bare.pass_time(None),
    ):
        with pytest.raises(NotImplementedError, match="Transport"):
            call()
    with pytest.raises(NotImplementedError, match="no clock"):
        Written().now()
    assert bare.statistics() == {}
    assert not bare.ended
    bare.set_prefilter(None)
