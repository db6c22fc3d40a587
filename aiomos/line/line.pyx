"""The line: what becomes of the packet in hand, and what is sent."""

cimport cython

from aiomos.line.changes cimport new_changes
from aiomos.line.hand cimport new_hand
from aiomos.line.ordering cimport new_ordering
from aiomos.line.outlet cimport new_outlet
from aiomos.line.passing cimport new_passing
from aiomos.line.paths cimport new_paths
from aiomos.line.translation cimport new_translation
from aiomos.sealing cimport seal

from aiomos.line.changes import REFUSAL_NAMES


@cython.final
cdef class Line:
    """The line: what leaves, and as what. Its parts have fields of their own; it joins them."""

    def open(self, forwards, interfaces, flows):
        """Have frames sent; in line, if *forwards* says by which interface those of each go on.

        Args:
            forwards: As `Transport.forwards`.
            interfaces: Their names.
            flows: Most flow records there can be.

        Raises:
            MemoryError: the address space for the budgets cannot be had.
        """
        if self.outlet.may_send:
            raise ValueError("the line is open already")
        if not self.paths.open_paths(flows) or not self.translation.open_sessions():
            raise MemoryError(f"no address space for the paths of {flows} flows; lower budgets.flows")
        self.outlet.open(forwards, interfaces)

    @property
    def in_line(self):
        """Whether frames go on, unless they are dropped."""
        return self.outlet.forwards

    @property
    def interfaces(self):
        """Names of the interfaces; None before it is open."""
        return self.outlet.interfaces

    @property
    def session_count(self):
        """How many sessions are open."""
        return self.translation.session_count

    @property
    def queued(self):
        """How many frames wait for room on a wire, and their bytes."""
        return self.outlet.queued

    def room(self, interface):
        """Return how many frames, and bytes, may be sent by an interface now; see `Outlet.room`."""
        return self.outlet.room(interface)

    def statistics(self):
        """Return counters of frames by name."""
        return self.outlet.statistics() | {
            "altered": self.passing.altered, "rejected": self.changes.rejected, "resets": self.paths.resets,
            "refused": self.translation.refused, "refragmented": self.passing.refragmented, "held": self.passing.held,
            "nowhere": self.passing.nowhere, "sessions": self.session_count,
            "sessions_evicted": self.translation.evicted, "edited": self.paths.edits.halves.in_use,
            "waiting_bytes": self.paths.waiting_bytes, "given_up": self.paths.given_up,
            "bare_syns": self.ordering.bare_syns, "plain_syns": self.passing.plain_syns,
            "doubted": self.ordering.doubts, "unprepared_edits": self.changes.unprepared_edits,
        } | {f"edits_refused.{name}": self.changes.edits_refused[i] for i, name in enumerate(REFUSAL_NAMES)}


cdef Line new_line(settings, bytes key):
    """The line of an engine.

    Args:
        settings: Budgets.
        key: 16 secret bytes for the hash of the session table.
    """
    cdef Line line = Line.__new__(Line)
    line.outlet = new_outlet()
    line.hand = new_hand(line.outlet)
    line.translation = new_translation(line.outlet, line.hand, settings, key)
    line.paths = new_paths(line.outlet, line.hand, line.translation, settings)
    line.passing = new_passing(line.outlet, line.hand, line.translation, line.paths)
    line.ordering = new_ordering(line.outlet, line.hand, line.translation, line.paths, line.passing)
    line.changes = new_changes(line.outlet, line.hand, line.translation, line.paths, line.passing, line.ordering)
    return line


seal(Line)
