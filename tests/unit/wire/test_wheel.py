"""The timer wheel at its bounds: in the step before, in the step itself, once round, and farther."""

import pytest

probe = pytest.importorskip("tests.native._probe_wheel", reason="needs the native test probes")

SECOND, MILLISECOND = 1_000_000_000, 1_000_000
WHEELS = pytest.mark.parametrize(("step", "slots"), [(SECOND, 8192), (SECOND, 64), (MILLISECOND, 4096)])
STARTS = pytest.mark.parametrize("start", [0, 1_700_000_000 * SECOND + 7, -5 * SECOND - 1])


def all_due(wheel: object, now_ns: int) -> list[int]:
    named: list[int] = []
    while index := wheel.due(now_ns):  # type: ignore[attr-defined]
        named.append(index)
    return named


@pytest.mark.parametrize("slots", [0, 1, 32, 63, 65, 96, 1 << 16])
def test_slots_are_a_power_of_two_within_bounds(slots: int) -> None:
    with pytest.raises(ValueError, match="no such wheel"):
        probe.Turning(SECOND, slots)


@pytest.mark.parametrize("slots", probe.BOUNDS)
def test_the_bounds_themselves_are_allowed(slots: int) -> None:
    wheel = probe.Turning(SECOND, slots)
    wheel.start(0)
    wheel.link(1, slots * SECOND)
    assert all_due(wheel, (slots - 1) * SECOND) == [1]  # asked a step early, once round


@pytest.mark.parametrize("step", [0, -1])
def test_time_moves_in_steps_of_more_than_nothing(step: int) -> None:
    with pytest.raises(ValueError, match="no such wheel"):
        probe.Turning(step, 64)


@WHEELS
@STARTS
def test_an_empty_wheel_is_never_due(step: int, slots: int, start: int) -> None:
    wheel = probe.Turning(step, slots)
    assert wheel.due(start) == 0
    assert wheel.next_ns == probe.NEVER
    assert wheel.first == 0
    assert wheel.due(start + 10 * slots * step) == 0
    assert wheel.rests_until == ((start + 10 * slots * step) // step + 1) * step


@WHEELS
@STARTS
@pytest.mark.parametrize("wait", [-5, 0, 1, 2, 3.5, 63, 64])
def test_a_record_is_named_in_the_first_step_at_or_after_its_deadline(
    step: int, slots: int, start: int, wait: float
) -> None:
    """But in none that has been looked at, nor later than the wheel reaches."""
    wheel = probe.Turning(step, slots)
    wheel.start(start)
    deadline = start + round(wait * step)
    wheel.link(1, deadline)
    first_step = -(-deadline // step) * step
    soonest, farthest = (start // step + 1) * step, (start // step + slots - 1) * step
    expected = max(soonest, min(first_step, farthest))
    assert wheel.next_ns == expected
    assert wheel.first == 1
    assert wheel.due(expected - 1) == 0
    assert wheel.next_ns == expected
    assert wheel.due(expected) == 1
    assert wheel.lists == {}
    assert wheel.next_ns == probe.NEVER


@WHEELS
def test_what_was_linked_before_the_time_was_known_is_named_at_once(step: int, slots: int) -> None:
    wheel = probe.Turning(step, slots)
    wheel.link(1, 5 * step)
    wheel.link(2, 1_700_000_000 * SECOND)
    assert wheel.next_ns == probe.AT_ONCE
    assert sorted(all_due(wheel, 1000 * SECOND)) == [1, 2]


@WHEELS
@pytest.mark.parametrize("rounds", [1, 2, 1_000_000])
def test_after_a_jump_of_any_length_each_is_named_once(step: int, slots: int, rounds: int) -> None:
    """In the order of their steps, within one round."""
    wheel = probe.Turning(step, slots)
    wheel.start(0)
    for index in range(1, 60):
        wheel.link(index, index * step)
    assert all_due(wheel, rounds * slots * step) == list(range(1, 60))


@WHEELS
def test_one_that_is_linked_again_is_not_asked_twice_in_a_step(step: int, slots: int) -> None:
    """Even when its deadline stays in the past."""
    wheel = probe.Turning(step, slots)
    wheel.start(0)
    wheel.link(1, step)
    asked = 0
    for now in range(1, 50):
        while wheel.due(now * step):
            asked += 1
            wheel.link(1, 0)
        assert asked == now
        assert wheel.next_ns == (now + 1) * step


@WHEELS
def test_one_that_is_linked_again_after_a_jump_is_not_asked_in_all_steps_of_it(step: int, slots: int) -> None:
    wheel = probe.Turning(step, slots)
    wheel.start(0)
    wheel.link(1, step)
    now = 10 * slots * step
    asked = 0
    while wheel.due(now):
        asked += 1
        wheel.link(1, now + 3 * step)
    assert asked <= 2
    assert now < wheel.next_ns <= now + 3 * step


@WHEELS
def test_a_slot_is_left_by_its_first_its_last_and_those_between(step: int, slots: int) -> None:
    wheel = probe.Turning(step, slots)
    wheel.start(0)
    for index in range(1, 6):
        wheel.link(index, 2 * step)
    assert wheel.lists == {2: [5, 4, 3, 2, 1]}
    for index, left in [(3, [5, 4, 2, 1]), (5, [4, 2, 1]), (1, [4, 2])]:
        wheel.unlink(index)
        wheel.unlink(index)
        assert wheel.lists == {2: left}
    wheel.link(4, 2 * step)  # where it is already
    assert wheel.lists == {2: [4, 2]}
    wheel.link(4, 3 * step)
    assert wheel.lists == {2: [2], 3: [4]}
    assert wheel.next_ns == 2 * step


def test_an_empty_wheel_can_be_set_back() -> None:
    wheel = probe.Turning(SECOND, 64)
    wheel.link(1, 0)
    assert all_due(wheel, 1 << 62) == [1]
    wheel.start(5 * SECOND)
    wheel.link(1, 7 * SECOND)
    assert wheel.next_ns == 7 * SECOND
    assert wheel.due(7 * SECOND - 1) == 0
    assert wheel.due(7 * SECOND) == 1


@pytest.mark.parametrize("time_ns", [(1 << 62) - 1, -((1 << 62) - 1)])
def test_times_at_the_bounds_of_all_times(time_ns: int) -> None:
    wheel = probe.Turning(MILLISECOND, 4096)
    wheel.start(time_ns)
    wheel.link(1, time_ns + 10 * MILLISECOND)
    assert wheel.next_ns == -(-(time_ns + 10 * MILLISECOND) // MILLISECOND) * MILLISECOND
    assert all_due(wheel, wheel.next_ns) == [1]


def test_a_time_before_that_of_the_last_look_names_nobody() -> None:
    wheel = probe.Turning(SECOND, 64)
    wheel.start(0)
    wheel.link(1, SECOND)
    wheel.link(2, SECOND)
    assert wheel.due(SECOND) == 2
    assert wheel.due(0) == 0
    assert wheel.next_ns == SECOND
    assert wheel.due(SECOND) == 1
