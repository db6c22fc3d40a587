"""CUBIC in whole numbers beside its equations, and HyStart++ beside its words, over long random runs."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models.congestion import CubicModel, HyStartModel

probe = pytest.importorskip("tests.native._probe_congestion", reason="needs the native test probes")

SECOND, MILLISECOND = 1_000_000_000, 1_000_000


class Path:
    """A control and its model on one path: acknowledgements, losses, pauses."""

    def __init__(self, seed: int, cwnd: int) -> None:
        self.random = random.Random(seed)
        self.now = self.random.randrange(2**60)
        self.control: Any = probe.Control("cubic", now_ns=self.now)
        self.control.sent(1, limited=True)
        self.set_window(cwnd, cwnd)
        self.model = CubicModel(float(cwnd))
        self.fresh = True
        self.farthest = 0.0

    def set_window(self, cwnd: int, ssthresh: int) -> None:
        self.control.cwnd, self.control.ssthresh = cwnd, ssthresh

    def acked(self, segments: int, wait_ns: int, rtt_ns: int) -> None:
        self.now += wait_ns
        self.control.acked(segments, srtt_ns=rtt_ns, now_ns=self.now)
        self.model.acked(segments, wait_ns / 1e9, rtt_ns / 1e9)
        off = abs(self.control.cwnd - int(self.model.cwnd))
        # By how much a whole number may be off at a border is no difference.
        self.farthest = max(self.farthest, min(off, abs(self.control.cwnd + 0.5 - self.model.cwnd)))

    def reduce(self, cause: str) -> None:
        """As recovery does; the model goes on with the window of the control, since each stage depends on it."""
        self.model.cwnd = float(self.control.cwnd)
        if self.model.w_max is not None and self.model.t is not None:
            assert self.control.curve[0] == pytest.approx(self.model.w_max, abs=0.002)
        ssthresh = self.control.reduce(cause)
        assert ssthresh == int(self.model.reduce(cause) + 1e-9)
        self.set_window(ssthresh, ssthresh)
        self.model.cwnd = float(ssthresh)

    def pause(self, wait_ns: int) -> None:
        """The application has nothing to send; of this, t knows nothing."""
        self.now += wait_ns
        self.control.sent(1, limited=False, una=2, now_ns=self.now, rto_ns=2**62)
        before = self.control.cwnd
        self.control.acked(1, now_ns=self.now)
        assert self.control.cwnd == before
        self.control.sent(1, limited=True, una=2, now_ns=self.now)

    def idle(self, wait_ns: int) -> None:
        self.now += wait_ns
        self.control.idle(wait_ns, rto_ns=2**62, now_ns=self.now)


@pytest.mark.parametrize("cwnd", [2, 3, 5, 10, 50, 300, 2000, 30_000])
@pytest.mark.parametrize("rtt_ns", [200_000, 10 * MILLISECOND, 100 * MILLISECOND, 700 * MILLISECOND])
@pytest.mark.parametrize("burst", [1, 2, 44])
def test_cubic_follows_its_equations_within_a_segment(cwnd: int, rtt_ns: int, burst: int) -> None:
    path = Path(cwnd * rtt_ns + burst, cwnd)
    for _ in range(4):
        for _ in range(6000):
            segments = path.random.randint(1, burst)
            wait = rtt_ns * segments // max(int(path.model.cwnd), 1)
            path.acked(segments, path.random.randint(wait // 2, wait * 3 // 2), rtt_ns)
            if path.random.random() < 0.001:
                path.pause(path.random.randrange(5 * SECOND))
            if path.random.random() < 0.001:
                path.idle(path.random.randrange(5 * SECOND))
        assert path.farthest <= 1
        path.reduce(path.random.choice(["loss", "loss", "ecn", "timeout"]))
    assert path.control.cwnd > 2 or cwnd == 2


@given(seed=st.integers(0, 2**32), cwnd=st.integers(2, 100_000))
def test_cubic_with_losses_at_any_time(seed: int, cwnd: int) -> None:
    path = Path(seed, cwnd)
    for _ in range(300):
        rtt_ns = path.random.choice([0, 1_000, MILLISECOND, 50 * MILLISECOND, SECOND])
        path.acked(path.random.choice([1, 2, 20]), path.random.choice([0, 1000, MILLISECOND, SECOND]), rtt_ns)
        if path.random.random() < 0.05:
            path.reduce(path.random.choice(["loss", "ecn", "timeout"]))
    assert path.farthest <= 1


@given(
    acks=st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(0, 60).map(lambda ms: ms * MILLISECOND)),
            st.integers(0, 3).map(lambda n: n == 0),
        ),
        max_size=400,
    )
)
def test_hystart_follows_its_words(acks: list[tuple[int | None, bool]]) -> None:
    start, model = probe.Start(), HyStartModel()
    una = nxt = 2**32 - 20
    nxt += 10
    start.acked(una % 2**32, nxt % 2**32)
    end = nxt
    for rtt, ends in acks:
        una = end if ends else min(una, end - 1)
        nxt = una + 10
        over = start.acked(una % 2**32, nxt % 2**32, -1 if rtt is None else rtt)
        model.acked(None if rtt is None else rtt / 1e9, ends_round=ends)
        end = nxt if ends else end
        assert (start.conservative, over) == (model.css, model.over)
        if over:
            return
