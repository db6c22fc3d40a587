"""Which flows somebody watches, and so which frames the kernel may leave out of a live run."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiomos.runtime.prefilter import prefilter
from aiomos.transport.transport import Transport
from aiomos.ude.filters import Filter


class Wanted:
    """The filters of all rules, by who has added them.

    Args:
        bounded: Whether filters tell what is wanted at all; where flows in tunnels are looked for, they do not.
    """

    def __init__(self, *, bounded: bool) -> None:
        self._bounded = bounded
        self._filters: dict[object, dict[int, Filter | None]] = {}
        self._transport: Transport | None = None
        self._changing = 0

    def add(self, owner: object, rule: int, chosen: Filter | None) -> None:
        """Note the flows of a rule; None: packets that belong to no flow."""
        with self.changing():
            self._filters.setdefault(owner, {})[rule] = chosen

    def remove(self, owner: object, rule: int) -> None:
        """Note that a rule is gone."""
        with self.changing():
            self._filters[owner].pop(rule, None)

    def forget(self, owner: object) -> None:
        """Note that all rules of an owner are gone."""
        with self.changing():
            self._filters.pop(owner, None)

    def apply_to(self, transport: Transport) -> None:
        """Have the kernel leave out from now on, if it can, what nobody watches."""
        self._transport = transport
        self._apply()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Have the kernel be told once, at the end of a ``with`` block, of all changes within it."""
        self._changing += 1
        try:
            yield
        finally:
            self._changing -= 1
            if not self._changing:
                self._apply()

    def _apply(self) -> None:
        if self._transport is None:
            return
        filters = [chosen for rules in self._filters.values() for chosen in rules.values()]
        flows_only = [chosen for chosen in filters if chosen is not None]
        bounded = self._bounded and len(flows_only) == len(filters)
        self._transport.set_prefilter(prefilter(flows_only) if bounded and flows_only else None)
