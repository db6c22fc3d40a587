"""The hash table finds what a dictionary finds, whatever collides, grows and goes."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

probe = pytest.importorskip("tests.native._probe_table", reason="needs the native test probes")

HASHES = st.sampled_from(
    [0, 1, 2, 3, 7, 8, 15, 16, 0xFFFF, 0x1_0000, 0xFFFF_FFFE, 0xFFFF_FFFF]
) | st.integers(0, 0xFFFF_FFFF)
"""Few, so that they collide, and such as stand at the edge of tables of any size."""


class TableMachine(RuleBasedStateMachine):
    """A table and a dictionary side by side: key and hash, and the entry of both."""

    def __init__(self) -> None:
        super().__init__()
        self.table = probe.Hashed(4)
        self.model: dict[tuple[int, int], int] = {}
        self.put = 0

    @rule(hash_=HASHES)
    def insert(self, hash_: int) -> None:
        self.put += 1
        self.model[hash_, self.put] = self.put
        assert self.table.insert(hash_, self.put) == self.put

    @rule(hash_=HASHES, many=st.integers(8, 40), stride=st.sampled_from([0, 1, 2, 64]))
    def insert_a_run(self, hash_: int, many: int, stride: int) -> None:
        """Enough that the table grows in the middle of it."""
        for i in range(many):
            self.insert((hash_ + i * stride) & 0xFFFF_FFFF)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        self.table.remove(key[0], self.model.pop(key))
        assert self.table.find(*key)[0] == 0

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove_all_of_a_hash(self, data: st.DataObject) -> None:
        hash_, _ = data.draw(st.sampled_from(sorted(self.model)))
        for key in [key for key in self.model if key[0] == hash_]:
            self.table.remove(hash_, self.model.pop(key))

    @rule(hash_=HASHES)
    def find_what_is_not_there(self, hash_: int) -> None:
        assert self.table.find(hash_, None)[0] == 0

    @rule(entries=st.integers(1, 2))
    def reserve(self, entries: int) -> None:
        assert self.table.reserve(entries)
        assert len(self.model) + entries <= len(self.table.slots) // 2

    @invariant()
    def all_are_found(self) -> None:
        for key, entry in self.model.items():
            assert self.table.find(*key)[0] == entry

    @invariant()
    def each_stands_once_and_no_more_than_half_is_taken(self) -> None:
        slots: list[tuple[int, int]] = self.table.slots
        taken: list[Any] = sorted((entry, hash_) for hash_, entry in slots if entry)
        assert taken == sorted((entry, hash_) for (hash_, _), entry in self.model.items())
        assert len(self.table) == len(taken) <= len(slots) // 2
        assert len(slots) & len(slots) - 1 == 0


TestTable = TableMachine.TestCase
