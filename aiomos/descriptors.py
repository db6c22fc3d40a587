"""Many files, of which few are open at once."""

import os
import resource
from collections import OrderedDict
from collections.abc import Callable, Hashable
from errno import EMFILE, ENFILE

MOST = 1024
LEAST = 4


def fair_limit() -> int:
    """Return how many files to keep open: a quarter of what this process may, since others need some, too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(LEAST, min(soft // 4, MOST))


class Descriptors:
    """Keep the descriptors open that were used last; the others are opened again when they are used.

    Args:
        limit: How many; where the system allows fewer, as many as it does. None for `fair_limit`.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = fair_limit() if limit is None else limit
        self._open: OrderedDict[Hashable, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def use(self, key: Hashable, opened: Callable[[], int]) -> int:
        """Return the descriptor of a file, which stays open until others are used.

        Args:
            key: What it is known by.
            opened: Opens it, if it is not open.

        Raises:
            OSError: it cannot be opened.
        """
        descriptor = self._open.get(key)
        if descriptor is not None:
            self._open.move_to_end(key)
            return descriptor
        while len(self._open) >= self._limit:
            self._close_oldest()
        while True:
            try:
                descriptor = opened()
            except OSError as error:
                if error.errno not in (EMFILE, ENFILE) or not self._open:
                    raise
                self._close_oldest()
            else:
                self._open[key] = descriptor
                return descriptor

    def close(self, key: Hashable) -> None:
        """Close a file, if it is open."""
        descriptor = self._open.pop(key, None)
        if descriptor is not None:
            os.close(descriptor)

    def close_all(self) -> None:
        """Close all files."""
        while self._open:
            self._close_oldest()

    def _close_oldest(self) -> None:
        _, descriptor = self._open.popitem(last=False)
        os.close(descriptor)
