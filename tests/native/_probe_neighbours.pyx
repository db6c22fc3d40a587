"""Shows the table of neighbours to pytest, with a log of what it has done by others."""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from aiomos.host.neighbours cimport (
    MOST_FRAME_BYTES, NEIGHBOUR_STATES, Neighbour, NeighbourCalls, NeighbourKey, Neighbours, WaitingFrame, neighbour_at,
    neighbours_clear, neighbours_close, neighbours_confirm, neighbours_find, neighbours_heard, neighbours_lookup,
    neighbours_next_due, neighbours_open, neighbours_pass_time, neighbours_told)
from aiomos.wire.addresses cimport address_read, address_text
from aiomos.wire.frame cimport Frame, Offload

STATES = ("incomplete", "reachable", "stale", "delay", "probe", "failed")
assert len(STATES) == NEIGHBOUR_STATES
VERDICTS = ("known", "waits", "gone")
LONGEST_FRAME = MOST_FRAME_BYTES - sizeof(WaitingFrame)


cdef class Table:
    """A table of neighbours; *log* holds what it has called for since it was taken last."""

    cdef Neighbours native
    cdef readonly list log

    def __init__(self, capacity, bytes key not None, frame_bytes=1 << 20):
        cdef NeighbourCalls calls
        calls.context, calls.ask, calls.release = <void*> self, on_ask, on_release
        self.log = []
        assert len(key) == 16 and neighbours_open(&self.native, capacity, frame_bytes, key, &calls)

    def __dealloc__(self):
        neighbours_close(&self.native)

    def take_log(self):
        log, self.log = self.log, []
        return log

    def find(self, interface, address, int64_t now_ns, bytes frame=None, source=0, gso_size=None):
        """Verdict and MAC address; *frame* is what is to be sent."""
        cdef NeighbourKey key = key_of(interface, address)
        cdef uint8_t[6] mac
        cdef Frame record
        cdef Offload offload
        memset(&record, 0, sizeof(record))
        memset(&offload, 0, sizeof(offload))
        if frame is not None:
            record.data, record.interface = frame, interface
            record.caplen = record.wirelen = len(frame)
        if gso_size is not None:
            offload.gso_size = gso_size
            record.offload = &offload
        verdict = VERDICTS[neighbours_find(&self.native, &key, source, NULL if frame is None else &record, now_ns, mac)]
        return verdict, mac[:6].hex(":") if verdict == "known" else None

    def told(self, interface, address, bytes mac, bint solicited, bint override, bint router, int64_t now_ns):
        cdef NeighbourKey key = key_of(interface, address)
        cdef const uint8_t* octets = NULL
        if mac is not None:
            octets = mac
        neighbours_told(&self.native, &key, octets, solicited, override, router, now_ns)

    def heard(self, interface, address, bytes mac not None, bint make, int64_t now_ns):
        cdef NeighbourKey key = key_of(interface, address)
        neighbours_heard(&self.native, &key, mac, make, now_ns)

    def confirm(self, interface, address, int64_t now_ns):
        cdef NeighbourKey key = key_of(interface, address)
        neighbours_confirm(&self.native, &key, now_ns)

    def clear(self):
        neighbours_clear(&self.native)

    def pass_time(self, int64_t now_ns):
        neighbours_pass_time(&self.native, now_ns)

    def state(self, interface, address):
        """State, MAC address, whether it is a router; None for one that is not known."""
        cdef NeighbourKey key = key_of(interface, address)
        cdef const Neighbour* found = neighbours_lookup(&self.native, &key)
        if found == NULL:
            return None
        return STATES[found.state], found.mac[:6].hex(":") if found.has_mac else None, bool(found.is_router)

    @property
    def next_due(self):
        due_ns = neighbours_next_due(&self.native)
        return None if due_ns == INT64_MAX else due_ns

    @property
    def counters(self):
        counters = self.native.counters
        return dict(counters)

    def check(self):
        """See that lists, heap and counts agree; how many there are, how many frames wait."""
        cdef uint32_t index, place, seen = 0, timed = 0
        cdef const Neighbour* it
        for state in range(NEIGHBOUR_STATES):
            index, before, count = self.native.first[<int> state], 0, 0
            while index:
                it = neighbour_at(&self.native, index)
                assert it.state == state and it.before == before
                assert (it.place != 0) == (STATES[state] != "stale")
                assert not it.place or self.native.heap[it.place] == index
                timed += it.place != 0
                before, index, count = index, it.after, count + 1
            assert self.native.last[<int> state] == before
            assert self.native.counts[<int> state] == count
            seen += count
        assert seen == self.native.pool.in_use and timed == self.native.heap_count
        for place in range(2, self.native.heap_count + 1):
            assert (neighbour_at(&self.native, self.native.heap[place // 2]).due_ns
                    <= neighbour_at(&self.native, self.native.heap[place]).due_ns)
        return seen, self.native.slabs.blocks


cdef NeighbourKey key_of(interface, address) except *:
    cdef NeighbourKey key
    memset(&key, 0, sizeof(key))
    key.interface = <uint16_t> interface
    address_read(address, &key.address)
    return key


cdef object name_of(const Neighbour* neighbour):
    version = 4 if neighbour.key.address.hi == 0 and neighbour.key.address.lo >> 32 == 0xFFFF else 6
    return neighbour.key.interface, address_text(&neighbour.key.address, version)


cdef void on_ask(void* context, const Neighbour* neighbour) noexcept with gil:
    to = neighbour.mac[:6].hex(":") if neighbour.has_mac else None
    (<Table> context).log.append(("ask", *name_of(neighbour), to, neighbour.source))


cdef void on_release(void* context, const Neighbour* neighbour, const Frame* frame) noexcept with gil:
    gso_size = None if frame.offload == NULL else frame.offload.gso_size
    what = "send" if neighbour.has_mac else "give back"
    (<Table> context).log.append((what, *name_of(neighbour), frame.data[:frame.caplen], gso_size))
