"""Ways to destinations: routes, the longest prefix first, and what is known of how long packets to them may be.

Routes are few, as a host has them, and are looked through in order. Of paths, those asked about lately are remembered:
each destination has four slots it may be in, and the one learnt longest ago makes way. What was learnt ends after 10
minutes (RFC 1191 section 6.3, RFC 8201 section 4), so that a path that has become wider is found again.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memmove, memset

from aiomos.host.interfaces cimport OwnAddress, own_number, own_source, same_network
from aiomos.wire.siphash cimport siphash13

cdef enum:
    WAYS = 4                   # slots of a set
    PLATEAUS = 10

cdef int64_t PATH_AGE = 600 * <int64_t> 1_000_000_000

# MTUs of common links, for routers that do not tell theirs (RFC 1191 section 7).
cdef uint32_t[PLATEAUS] PLATEAU = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68]


cdef bint routes_open(Routes* r, const Interfaces* interfaces, uint32_t paths, const uint8_t* key) noexcept nogil:
    memset(r, 0, sizeof(Routes))
    r.interfaces = interfaces
    r.sets = max(paths // WAYS, <uint32_t> 1)
    memcpy(r.keys, key, 16)
    r.paths = <PathMtu*> calloc(<size_t> r.sets * WAYS, sizeof(PathMtu))
    return r.paths != NULL


cdef void routes_close(Routes* r) noexcept nogil:
    free(r.paths)
    memset(r, 0, sizeof(Routes))


# --- routes -------------------------------------------------------------------------------------------

cdef inline bint is_to(const Route* route, const Address* network, uint8_t prefix) noexcept nogil:
    return route.prefix == prefix and same_network(&route.network, network, prefix)


cdef bint route_add(Routes* r, const Route* given) noexcept nogil:
    cdef uint32_t at = 0
    while at < r.count and r.routes[at].prefix >= given.prefix:
        if is_to(&r.routes[at], &given.network, given.prefix):
            r.routes[at] = given[0]
            return True
        at += 1
    if r.count == MOST_ROUTES:
        return False
    memmove(&r.routes[at + 1], &r.routes[at], (r.count - at) * sizeof(Route))
    r.routes[at] = given[0]
    r.count += 1
    return True


cdef bint route_remove(Routes* r, const Address* network, uint8_t prefix) noexcept nogil:
    cdef uint32_t at
    for at in range(r.count):
        if is_to(&r.routes[at], network, prefix):
            r.count -= 1
            memmove(&r.routes[at], &r.routes[at + 1], (r.count - at) * sizeof(Route))
            return True
    return False


cdef bint way_to(const Routes* r, const Address* destination, uint8_t ip_version, int64_t now_ns,
                 Way* out) noexcept nogil:
    cdef uint32_t at
    cdef const Route* route
    cdef const PathMtu* path
    for at in range(r.count):
        route = &r.routes[at]
        if route.ip_version == ip_version and same_network(&route.network, destination, route.prefix):
            out.interface = route.interface
            out.next_hop = route.gateway if route.has_gateway else destination[0]
            out.source = route.source if route.source else source_for(r, route, &out.next_hop)
            out.mtu, out.may_fragment = r.interfaces.links[route.interface].mtu, False
            path = path_find(r, destination, now_ns)
            if path != NULL and path.mtu < out.mtu:
                out.mtu, out.may_fragment = path.mtu, path.may_fragment
            return True
    return False


cdef uint32_t source_for(const Routes* r, const Route* route, const Address* next_hop) noexcept nogil:
    """Number of the own address that a packet leaves from: that on the network of its next hop, where there is one."""
    cdef const OwnAddress* own = own_source(r.interfaces, route.interface, next_hop, route.ip_version)
    return own_number(r.interfaces, own) if own != NULL else 0


# --- path MTUs ----------------------------------------------------------------------------------------

cdef PathMtu* set_of(const Routes* r, const Address* destination) noexcept nogil:
    cdef uint64_t words[2]
    words[0], words[1] = destination.hi, destination.lo
    return &r.paths[siphash13(r.keys[0], r.keys[1], words, 2) % r.sets * WAYS]


cdef PathMtu* path_find(const Routes* r, const Address* destination, int64_t now_ns) noexcept nogil:
    """What is known, and not too old, of the path to a destination; NULL if nothing is."""
    cdef PathMtu* slot = set_of(r, destination)
    cdef int _
    for _ in range(WAYS):
        if slot.mtu and slot.destination.lo == destination.lo and slot.destination.hi == destination.hi:
            return slot if now_ns - slot.learnt_ns < PATH_AGE else NULL
        slot += 1
    return NULL


cdef PathMtu* slot_for(const Routes* r, const Address* destination) noexcept nogil:
    """Where to note what is learnt: in its own slot, an empty one, or that of which was learnt longest ago."""
    cdef PathMtu* slot = set_of(r, destination)
    cdef PathMtu* chosen = slot
    cdef int _
    for _ in range(WAYS):
        if slot.mtu and slot.destination.lo == destination.lo and slot.destination.hi == destination.hi:
            return slot
        if chosen.mtu and (not slot.mtu or slot.learnt_ns < chosen.learnt_ns):
            chosen = slot
        slot += 1
    return chosen


cdef uint32_t guess(uint32_t length) noexcept nogil:
    """The MTU of a router that does not tell it: that of the next smaller kind of link (RFC 1191 section 5)."""
    cdef uint32_t mtu
    for mtu in PLATEAU:
        if mtu < length:
            return mtu
    return MIN_MTU


cdef bint path_lower(Routes* r, const Address* destination, uint8_t ip_version, uint32_t mtu, uint32_t length,
                     int64_t now_ns) noexcept nogil:
    cdef Way way
    cdef PathMtu* slot
    cdef uint32_t least = MIN_PATH_MTU if ip_version == 4 else MIN_MTU_IPV6
    cdef bint below
    if mtu == 0 and ip_version == 4:
        mtu = guess(length)
    below = mtu < least
    # An MTU that the packet kept to says nothing; one below its version's least is a lie (RFC 1191 section 3, RFC 8201
    # section 4), and none makes a path wider.
    if (mtu >= length or mtu < MIN_MTU or (below and ip_version == 6)
            or not way_to(r, destination, ip_version, now_ns, &way)):
        r.refused += 1
        return False
    mtu = max(mtu, least)
    if mtu > way.mtu or (mtu == way.mtu and (way.may_fragment or not below)):
        r.refused += 1
        return False
    slot = slot_for(r, destination)
    slot.destination, slot.mtu, slot.learnt_ns = destination[0], mtu, now_ns
    slot.may_fragment = below
    r.learnt += 1
    return True
