"""A stream that is edited under way arrives as edited, and its sender sees all of it acknowledged."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.edits import Scene

probe = pytest.importorskip("tests.native._probe_edits", reason="needs the native test probes")

u32 = st.integers(0, 2**32 - 1)


@settings(max_examples=400)
@given(seed=st.integers(0, 2**64), ordered=st.booleans(), steps=st.integers(0, 1500))
def test_the_receiver_gets_the_edited_stream(seed: int, ordered: bool, steps: int) -> None:
    Scene(probe, seed, ordered=ordered).run(steps)


class Flood:
    """Segments, edits and acknowledgements that make no sense, in numbers near and far."""

    near = st.integers(-300, 300).map(lambda distance: distance % 2**32)
    far = st.sampled_from([1 << 28, 1 << 29, 1 << 30, 1 << 31, 3 << 30])
    numbers = st.one_of(near, u32, st.tuples(near, far).map(lambda pair: sum(pair) % 2**32))
    calls = st.one_of(
        st.tuples(
            st.just("replace"), numbers, st.binary(max_size=40), st.binary(max_size=600), st.integers(0, 63)
        ),
        st.tuples(
            st.just("send"), numbers, st.binary(max_size=40), st.integers(0, 511), st.integers(0, 65535)
        ),
        st.tuples(
            st.just("acknowledge"),
            numbers,
            st.integers(0, 65535),
            st.lists(st.tuples(numbers, numbers), max_size=4),
        ),
    )


@given(
    calls=st.lists(Flood.calls, max_size=60),
    start=st.tuples(Flood.numbers, Flood.numbers),
    wscale=st.integers(0, 14),
    ordered=st.booleans(),
)
def test_no_flood_breaks_its_bounds(
    calls: list[tuple[Any, ...]], start: tuple[int, int], wscale: int, ordered: bool
) -> None:
    store = probe.Store(half_budget=4000, budget=8000)
    half = probe.Half(store, *start, 1000, wscale, ordered=ordered)
    other = probe.Half(store, 0, 0)
    other.replace(0, b"x", bytes(1000))
    for name, *args in calls:
        result = getattr(half, name)(*args)
        count, held = half.held
        assert held <= 4000
        assert count <= held // 24
        if name == "acknowledge":
            assert result[1] <= args[1]
            assert len(result[2]) <= len(args[2])
        if name == "send":
            assert sum(len(segment[3]) for segment in result["segments"]) <= len(args[1]) + 4000
    half.close()
    other.close()
    assert store.in_use == (0, 0, 0)


def test_thousands_of_edits_are_held_within_bounds() -> None:
    """Each byte replaced, nothing acknowledged: at some point it is refused, and what passes stays whole."""
    store = probe.Store(half_budget=1 << 22, budget=1 << 22)
    half = probe.Half(store, 0, 0)
    results = []
    for i in range(3000):
        results.append(half.replace(i, b"a", b"bc"))
        half.send(i, b"a")
    assert results == ["noted"] * 1024 + ["budget"] * 1976
    whole = half.send(0, b"a" * 3000)["segments"]
    assert whole == [(0, 16, 0, b"bc" * 1024 + b"a" * 1976)]
    assert half.acknowledge(4024) == (3000, 65535, [])
    half.close()
    assert store.in_use == (0, 0, 0)
