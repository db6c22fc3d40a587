"""What apps hold of flows: a view for each app that asked for one, and what it has been silenced for."""

cimport cython
from cpython.ref cimport Py_REFCNT
from libc.stdint cimport uint32_t

from aiomos.engine.core cimport Core, Moment, engine_of
from aiomos.engine.registry cimport Account
from aiomos.face.views cimport Flow, make_flow
from aiomos.sealing cimport seal
from aiomos.tcp.flows cimport ENDED, FlowRecord, SILENCED, flow_index
from aiomos.ude.slots cimport SLOT_TEARDOWN

from aiomos.errors import FlowClosed


@cython.final
cdef class Holdings:
    """What apps hold of flows."""

    cdef Flow app_view(self, Account account, Moment* m):
        """An app's view of the flow at hand; None without one."""
        cdef Flow view
        if m.flow == NULL:
            return None
        if m.slot != SLOT_TEARDOWN or m.flow.hold:
            return self.view_of(m.flow, account)
        if self.passing is None:                   # a flow that ends and that nobody knew needs no lasting view
            self.passing = []
        for view in self.passing:
            if view.account is account:
                return view
        view = make_flow(m.flow, &self.core.streams, 0, account, engine_of(self.core))
        view.memory = self.core
        self.passing.append(view)
        return view

    cdef Flow view_of(self, FlowRecord* flow, Account account):
        """An app's view of a flow, made when first needed; each app has its own, for what it keeps there."""
        cdef Flow first = self.views[flow.hold], view
        view = first
        while view is not None:
            if view.account is account:
                return view
            view = view.sibling
        view = make_flow(flow, &self.core.streams, flow_index(&self.core.flows, flow), account, engine_of(self.core))
        view.memory = self.core
        if first is not None:
            view.sibling = first.sibling
            first.sibling = view
            return view
        view.connections = []
        if self.free_views:
            flow.hold = self.free_views.pop()
            self.views[flow.hold] = view
        else:
            flow.hold = <uint32_t> len(self.views)
            self.views.append(view)
        return view

    cdef FlowRecord* record_of(self, Flow view) except NULL:
        """The record of a flow that is still followed.

        Raises:
            FlowClosed: it has ended.
        """
        if not is_open(view):
            raise FlowClosed(flow=view)
        return <FlowRecord*> view.r

    cdef int silence(self, object key, Account account, Moment* m) except -1:
        """Have a callback or predicate not be called again for the flow at hand."""
        cdef Flow view
        if m.flow != NULL and m.slot != SLOT_TEARDOWN:
            view = self.view_of(m.flow, account)
            m.flow.flags |= SILENCED
            if view.silenced is None:
                view.silenced = set()
            view.silenced.add(key)
        return 0

    cdef bint is_silenced(self, FlowRecord* flow, object key) except -1:
        cdef Flow view = self.views[flow.hold]
        while view is not None:
            if view.silenced is not None and key in view.silenced:
                return True
            view = view.sibling
        return False

    cdef int expire_passing(self) except -1:
        """Callbacks have returned: views made for the last ones of a flow go, or keep what they show."""
        cdef Flow view
        if self.passing is not None:
            views, self.passing = self.passing, None
            while views:
                view = views.pop()
                if Py_REFCNT(view) > 1:
                    view.detach()                  # a callback has kept it
        return 0


cdef bint is_open(Flow view) noexcept:
    """Is the flow still followed?"""
    return view is not None and view.streams != NULL and view.index != 0 and not view.r.flags & ENDED


cdef Holdings new_holdings(Core core):
    cdef Holdings holdings = Holdings.__new__(Holdings)
    holdings.core = core
    holdings.views, holdings.free_views = [None], []
    return holdings


seal(Holdings)
