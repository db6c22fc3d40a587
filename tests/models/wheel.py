"""A timer wheel as a dictionary: in which step each record is to be looked at."""


class WheelModel:
    """Records by the step in which they come due, which `aiomos.wire.wheel` finds by slots, lists and bits."""

    def __init__(self, step_ns: int, slots: int, now_ns: int) -> None:
        self.step_ns, self.slots = step_ns, slots
        self.tick = now_ns // step_ns
        """The step looked at last."""
        self.when: dict[int, int] = {}

    def link(self, index: int, deadline_ns: int) -> None:
        """The first step at or after the deadline, but none that has been looked at, nor beyond the wheel's reach."""
        first = -(-deadline_ns // self.step_ns)
        self.when[index] = max(self.tick + 1, min(first, self.tick + self.slots - 1))

    def unlink(self, index: int) -> None:
        self.when.pop(index, None)

    def due(self, now_ns: int) -> set[int]:
        """Of those whose step has come, the earliest: one of these is to be named, and is no longer linked then.

        To a wheel that has fallen behind by more than a round all are due, each in its turn of the last round.
        """
        now = now_ns // self.step_ns
        if self.when and self.tick < now - self.slots:
            self.tick = now - self.slots
            self.when = {
                index: self.tick + (when - self.tick) % self.slots for index, when in self.when.items()
            }
        soonest = min(self.when.values(), default=now + 1)
        self.tick = max(self.tick, min(soonest, now))
        return {index for index, when in self.when.items() if when == soonest <= now}

    @property
    def next_ns(self) -> int | None:
        """When somebody is to be named next; None: never."""
        return min(self.when.values()) * self.step_ns if self.when else None
