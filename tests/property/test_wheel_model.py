"""The timer wheel asks whom a dictionary of steps would ask, and tells beforehand when it will."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.models.wheel import WheelModel

probe = pytest.importorskip("tests.native._probe_wheel", reason="needs the native test probes")

SECOND, MILLISECOND = 1_000_000_000, 1_000_000
RECORDS = 12


class WheelMachine(RuleBasedStateMachine):
    """A wheel and its model side by side, and what holds whatever both of them think."""

    step = SECOND
    slots = 64

    @initialize(
        start=st.sampled_from([0, 1_700_000_000 * SECOND, -3 * SECOND]) | st.integers(-(10**12), 10**12)
    )
    def open(self, start: int) -> None:
        self.wheel = probe.Turning(self.step, self.slots, RECORDS)
        self.wheel.start(start)
        self.model = WheelModel(self.step, self.slots, start)
        self.now = start
        self.linked_at: dict[int, int] = {}
        """The deadline of each link."""
        self.far: set[int] = set()
        """Those linked at a deadline that was beyond reach."""
        self.real: dict[int, int] = {}
        """The deadline that its owner would give if asked."""

    def deadlines(self) -> st.SearchStrategy[int]:
        """Waits of a part of a step, of some, of about once round, and far beyond."""
        turn = self.slots
        steps = st.sampled_from([-1, 0, 1, 2, turn - 2, turn - 1, turn, turn + 1, 5 * turn])
        steps |= st.integers(-3, 3 * turn)
        return st.builds(
            lambda n, part: self.now + n * self.step + part, steps, st.integers(0, self.step - 1)
        )

    def link_both(self, index: int, deadline: int) -> None:
        self.wheel.link(index, deadline)
        self.model.link(index, deadline)
        self.far.discard(index)
        if deadline > (self.model.tick + self.slots - 1) * self.step:
            self.far.add(index)
        self.linked_at[index] = self.real[index] = deadline

    @rule(index=st.integers(1, RECORDS), data=st.data())
    def link(self, index: int, data: st.DataObject) -> None:
        self.link_both(index, data.draw(self.deadlines()))

    @rule(index=st.integers(1, RECORDS), data=st.data())
    def move_the_deadline_alone(self, index: int, data: st.DataObject) -> None:
        """As a packet does: the wheel hears of it when it asks."""
        if index in self.real:
            self.real[index] = max(self.real[index], data.draw(self.deadlines()))

    @rule(index=st.integers(1, RECORDS))
    def unlink(self, index: int) -> None:
        self.wheel.unlink(index)
        self.model.unlink(index)

    @rule(data=st.data(), meddles=st.booleans())
    def pass_time(self, data: st.DataObject, meddles: bool) -> None:
        """Time goes on by less than a step or by many rounds; who has run out lets go, the others are linked again."""
        turn = self.slots * self.step
        jumps = st.sampled_from(
            [0, 1, self.step - 1, self.step, turn - 1, turn, turn + 1, 3 * turn, 10**6 * turn]
        )
        self.now += data.draw(jumps | st.integers(0, 2 * turn))
        asked = 0
        while expected := self.model.due(self.now):
            index = self.wheel.due(self.now)
            assert index in expected
            self.model.unlink(index)
            asked += 1
            assert asked <= 2 * RECORDS
            # Before its deadline nobody is asked, but who was linked beyond the wheel's reach.
            assert self.linked_at[index] <= self.now or index in self.far
            if self.real[index] > self.now:
                self.link_both(index, self.real[index])
            if meddles and self.model.when and data.draw(st.booleans()):
                self.unlink(data.draw(st.sampled_from(sorted(self.model.when))))
        assert self.wheel.due(self.now) == 0
        assert self.wheel.next_ns > self.now
        assert self.wheel.rests_until == (self.now // self.step + 1) * self.step

    @precondition(lambda self: not self.model.when)
    @rule(back=st.integers(0, 10**12))
    def set_back(self, back: int) -> None:
        self.now -= back
        self.wheel.start(self.now)
        self.model.tick = self.now // self.step

    @invariant()
    def it_tells_when_it_will_ask(self) -> None:
        lists = self.wheel.lists
        assert sorted(index for some in lists.values() for index in some) == sorted(self.model.when)
        for slot, some in lists.items():
            assert {self.model.when[index] % self.slots for index in some} == {slot}
        if not self.model.when:
            assert (self.wheel.next_ns, self.wheel.first) == (probe.NEVER, 0)
            return
        assert self.wheel.next_ns == self.model.next_ns
        assert self.model.when[self.wheel.first] * self.step == self.wheel.next_ns
        for index in self.model.when:  # never later than the truth, but for what has been looked at
            truth = -(-self.linked_at[index] // self.step) * self.step
            assert self.wheel.next_ns <= max(truth, (self.now // self.step + 1) * self.step)


class MillisecondMachine(WheelMachine):
    """The wheel of TCP's ends."""

    step = MILLISECOND
    slots = 4096


TestSeconds = WheelMachine.TestCase
TestMilliseconds = MillisecondMachine.TestCase
