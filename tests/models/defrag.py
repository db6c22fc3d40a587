"""Reassembly of fragments in plain Python: one owner for each byte, found by the words of the policies.

``Fragment`` objects arrive in order; every byte that a later one shares with an earlier one goes to whichever
the policy favours. What is held of a fragment is a run of bytes, cut where another one won; the
policies compare the new fragment with such runs, as hosts do with the lists they keep.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

POLICIES = ("first", "last", "bsd", "linux", "windows", "solaris")


@dataclass(frozen=True)
class Fragment:
    """Bytes of one datagram."""

    offset: int
    data: bytes
    last: bool = False

    @property
    def end(self) -> int:
        """Offset behind its last byte."""
        return self.offset + len(self.data)


def favours_new(policy: str, new: range, held: range) -> bool:
    """Tell whether a new fragment's bytes replace those of a run held (Novak, 2005)."""
    match policy:
        case "first":
            return False
        case "last":
            return True
        case "bsd":  # an original with an offset less than or equal to the new one's is favoured
            return not held.start <= new.start
        case "linux":  # an original with an offset less than the new one's is favoured
            return not held.start < new.start
        case "windows":  # the new one is favoured if it begins before and ends after the original
            return new.start < held.start and new.stop > held.stop
        case "solaris":  # the same, or ends with it
            return new.start < held.start and new.stop >= held.stop
    raise ValueError(policy)


def runs(owners: dict[int, int]) -> list[tuple[range, int]]:
    """Group bytes with one owner that follow each other; returns (bytes, owner), ascending."""
    found: list[tuple[range, int]] = []
    for at in sorted(owners):
        if found and found[-1][0].stop == at and found[-1][1] == owners[at]:
            found[-1] = (range(found[-1][0].start, at + 1), owners[at])
        else:
            found.append((range(at, at + 1), owners[at]))
    return found


def reassemble(fragments: Iterable[Fragment], policy: str = "first") -> bytes | None:
    """Give the payload of the datagram as soon as its last byte has come, or None."""
    payload: dict[int, int] = {}
    owners: dict[int, int] = {}
    total: int | None = None
    for number, fragment in enumerate(fragments):
        new = range(fragment.offset, fragment.end)
        kept = set(new)
        for held, _ in runs(owners):
            if not favours_new(policy, new, held):
                kept.difference_update(held)
        for at in kept:
            owners[at] = number
            payload[at] = fragment.data[at - fragment.offset]
        if fragment.last:
            total = fragment.end
        if total is not None and len(payload) == total:
            return bytes(payload[at] for at in range(total))
    return None
