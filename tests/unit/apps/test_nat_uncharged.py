"""Sessions that no host inside is charged for: who makes way for whom, and that one packet looks at few."""

from __future__ import annotations

from typing import Any

from aiomos.apps.nat.uncharged import MOST_LOOKED_AT, Uncharged


class Stub:
    """A session.

    Args:
        transitory: Whether it is half open.
    """

    def __init__(self, *, transitory: bool = True) -> None:
        self.transitory = transitory
        self.closed = False

    def close(self) -> None:
        """Note that it made way."""
        self.closed = True


def filled(*sessions: Stub, limit: int) -> Uncharged:
    uncharged: Any = Uncharged(limit)
    for session in sessions:
        assert uncharged.make_room()
        uncharged.add(session)
    return uncharged  # type: ignore[no-any-return]


def test_the_oldest_that_is_half_open_makes_way() -> None:
    open_, first, second = Stub(transitory=False), Stub(), Stub()
    uncharged = filled(open_, first, second, limit=3)
    assert uncharged.make_room()
    assert [session.closed for session in (open_, first, second)] == [False, True, False]
    assert len(uncharged) == 2
    assert uncharged.make_room()
    assert not second.closed


def test_what_was_open_once_is_left_alone_when_it_closes() -> None:
    session = Stub(transitory=False)
    uncharged = filled(session, limit=1)
    assert not uncharged.make_room()
    session.transitory = True
    assert not uncharged.make_room()
    uncharged.remove(session)  # type: ignore[arg-type]
    assert uncharged.make_room()


def test_what_has_ended_counts_no_more() -> None:
    session = Stub()
    uncharged = filled(session, limit=1)
    uncharged.remove(session)  # type: ignore[arg-type]
    uncharged.remove(session)  # type: ignore[arg-type]
    assert len(uncharged) == 0
    assert uncharged.make_room()
    assert not session.closed


def test_one_packet_looks_at_few() -> None:
    sessions = [Stub(transitory=False) for _ in range(MOST_LOOKED_AT)]
    last = Stub()
    uncharged = filled(*sessions, last, limit=MOST_LOOKED_AT + 1)
    assert not uncharged.make_room()
    assert not last.closed
    assert uncharged.make_room()
    assert last.closed
