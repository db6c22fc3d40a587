"""Sessions that no host inside is charged for: they have a share of what there is room for, and make way by themselves.

Above all these are sessions from outside, through ports that lead to a host inside: who sends there is anybody. Without
a share, a flood would take the room of the sessions that hosts inside begin.
"""

from collections import OrderedDict

from aiomos.tcp.translation import Session

MOST_LOOKED_AT = 64
"""Sessions that are looked at for one that makes way, on one packet."""


class Uncharged:
    """Those sessions.

    Args:
        limit: How many there may be at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # In the order in which they began; those that were once found to be answered are left alone.
        self._young: OrderedDict[Session, None] = OrderedDict()
        self._settled: set[Session] = set()

    def __len__(self) -> int:
        return len(self._young) + len(self._settled)

    def make_room(self) -> bool:
        """Have room for one more: at the limit, the oldest that is half open, or was never answered, makes way.

        So does a table of SYNs received, which a flood fills as well: who is there opens within a round trip.

        Returns:
            Whether there is room.
        """
        if len(self) < self._limit:
            return True
        for _ in range(min(MOST_LOOKED_AT, len(self._young))):
            oldest, _nothing = self._young.popitem(last=False)
            if oldest.transitory:
                oldest.close()
                return True
            self._settled.add(oldest)
        return False

    def add(self, session: Session) -> None:
        """Take one in, for which there is room."""
        self._young[session] = None

    def remove(self, session: Session) -> None:
        """Note that one has ended, if it is still there."""
        self._young.pop(session, None)
        self._settled.discard(session)
