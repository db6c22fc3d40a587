"""The retransmission time-out and the least RTT beside their models."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models.rto import (
    LEAST_RTO,
    MILLISECOND,
    MOST_RTO,
    SECOND,
    WINDOW,
    LeastModel,
    RtoModel,
)

probe = pytest.importorskip("tests.native._probe_rto", reason="needs the native test probes")

BASE = 2**32 - 5


def seq(number: int) -> int:
    return (BASE + number) % 2**32


RTTS = st.one_of(st.integers(0, 10 * SECOND), st.sampled_from([0, 1, 999, 1000, 1001, 10**8, 10**8 + 1]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sample"), RTTS, st.integers(0, 3)),
        st.tuples(st.just("expire"), st.booleans(), st.just(0)),
        st.tuples(st.just("progress"), st.just(0), st.just(0)),
    ),
    max_size=80,
)


@given(steps=STEPS)
def test_the_time_out_is_that_of_the_definition(steps: list[tuple[str, int, int]]) -> None:
    rto, model = probe.Timeout(), RtoModel()
    una = 0
    for what, value, acked in steps:
        if what == "sample":
            una += acked
            rto.sample(value, seq(una), seq(una + 2))
            model.sample(value, una, una + 2)
        elif what == "expire":
            rto.expire(bool(value))
            model.expire(bool(value))
        else:
            rto.progress()
            model.progress()
        assert (rto.backoff, rto.expired) == (model.doublings, model.expirations)
        # A few nanoseconds are lost to whole numbers, and then doubled.
        assert abs(rto.ns - model.ns) <= 64 * 2 ** min(model.doublings, 20)
        assert rto.ns <= MOST_RTO
        if model.srtt is not None:
            assert rto.ns >= LEAST_RTO


@given(
    samples=st.lists(
        st.tuples(st.integers(1, 50), st.one_of(st.integers(0, 20), st.integers(50, 400))), min_size=1
    )
)
def test_the_filter_is_never_below_the_least_and_not_far_above(samples: list[tuple[int, int]]) -> None:
    """It forgets nothing that is younger than a window and is the best since; what it says was measured within one."""
    least, model = probe.Least(), LeastModel()
    now = 0
    for rtt, wait in samples:
        now += wait * SECOND
        model.add(rtt * MILLISECOND, now)
        told = least.add(rtt * MILLISECOND, now)
        assert told >= model.within(now)
        assert any(told == value and now - time <= WINDOW for time, value in model.samples)
        assert told <= rtt * MILLISECOND


def test_the_filter_is_exact_where_samples_come_often() -> None:
    """Within a quarter of the window: a sine, of which the trough is to be told until it is 300 s old."""
    least, model = probe.Least(), LeastModel()
    for second in range(2000):
        rtt = round((20 + 10 * math.sin(second / 100)) * MILLISECOND)
        model.add(rtt, second * SECOND)
        told = least.add(rtt, second * SECOND)
        assert model.within(second * SECOND) <= told <= model.within(second * SECOND, WINDOW // 4)
