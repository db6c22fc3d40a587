"""The table of neighbours does what its model does, whatever is asked of it, said to it, and however time passes."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.models.neighbours import SECOND, Key, Neighbours

probe = pytest.importorskip("tests.native._probe_neighbours", reason="needs the native test probes")

KEYS = [(interface, address) for interface in (0, 1) for address in ("192.0.2.1", "192.0.2.2", "fe80::1")]
MACS = ["02:00:00:00:00:01", "02:00:00:00:00:02"]
keys, macs, flags = st.sampled_from(KEYS), st.sampled_from(MACS), st.booleans()


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


class Machine(RuleBasedStateMachine):
    """Both tables, side by side."""

    @initialize(capacity=st.sampled_from([1, 2, 4, 8]), key=st.binary(min_size=16, max_size=16))
    def begin(self, capacity: int, key: bytes) -> None:
        self.table = probe.Table(capacity, key)
        self.model = Neighbours(capacity, key)
        self.now = 1_000 * SECOND
        self.frames = 0

    @rule(key=keys, sends=flags, source=st.integers(0, 3))
    def find(self, key: Key, sends: bool, source: int) -> None:
        self.frames += sends
        frame = b"\0" * 14 + self.frames.to_bytes(4) if sends else None
        found = self.table.find(*key, self.now, frame, source)
        assert found == self.model.find(key, self.now, frame, source)

    @rule(key=keys, mac=st.none() | macs, solicited=flags, override=flags, router=flags)
    def told(self, key: Key, mac: str | None, solicited: bool, override: bool, router: bool) -> None:
        self.table.told(*key, None if mac is None else octets(mac), solicited, override, router, self.now)
        self.model.told(key, mac, self.now, solicited=solicited, override=override, router=router)

    @rule(key=keys, mac=macs, make=flags)
    def heard(self, key: Key, mac: str, make: bool) -> None:
        self.table.heard(*key, octets(mac), make, self.now)
        self.model.heard(key, mac, self.now, make=make)

    @rule(key=keys)
    def confirm(self, key: Key) -> None:
        self.table.confirm(*key, self.now)
        self.model.confirm(key, self.now)

    @rule(ahead=st.integers(0, 3 * SECOND) | st.integers(0, 60 * SECOND), steps=st.integers(1, 5))
    def pass_time(self, ahead: int, steps: int) -> None:
        """Time passes by itself: from one that is due to the next, a few of them."""
        end = self.now + ahead
        for _ in range(steps):
            due = self.model.due()
            if due is None or due > end:
                break
            self.now = due
            while (entry := min(self.pending(), key=lambda key: key[0], default=None)) is not None:
                self.model.pass_time(self.model.entries[entry[1]], self.now)
            self.table.pass_time(self.now)
            self.same_log()
        else:
            return
        self.now = end

    def pending(self) -> list[tuple[int, Key]]:
        return [
            (entry.due, entry.key)
            for entry in self.model.entries.values()
            if entry.due is not None and entry.due <= self.now
        ]

    def same_log(self) -> None:
        """In any order among neighbours; in the same one of each."""
        ours, theirs = self.table.take_log(), self.model.log
        self.model.log = []
        assert sorted(ours, key=lambda event: event[1:3]) == sorted(theirs, key=lambda event: event[1:3])

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "table"):
            return
        self.same_log()
        model = self.model
        waiting = sum(len(entry.waiting) for entry in model.entries.values())
        assert self.table.check() == (len(model.entries), waiting)
        assert self.table.next_due == model.due()
        for key in KEYS:
            entry = model.entries.get(key)
            expected = None if entry is None else (entry.state, entry.mac, entry.router)
            assert self.table.state(*key) == expected


TestNeighbours = Machine.TestCase
