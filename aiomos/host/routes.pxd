# Ways: by which link, from which address, to which neighbour a destination is reached, and how long a packet may be.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.host.interfaces cimport Interfaces
from aiomos.wire.wire cimport Address

cdef enum:
    MOST_ROUTES = 256
    MIN_MTU = 68               # of IPv4 (RFC 791),
    MIN_PATH_MTU = 552         # that is believed of a path, as Linux does; longer packets are sent to be fragmented
    MIN_MTU_IPV6 = 1280        # RFC 8200 section 5

# To a network: on the link, or by a gateway.
ctypedef struct Route:
    Address network
    uint8_t prefix             # bits, of 128; of IPv4 96 more than one says
    uint8_t ip_version
    uint16_t interface
    bint has_gateway
    Address gateway
    uint32_t source            # number of the own address to send from; 0: by the next hop

ctypedef struct Way:
    uint16_t interface
    Address next_hop
    uint32_t source            # number of an own address; 0: there is none
    uint32_t mtu               # bytes of an IP packet
    bint may_fragment          # of IPv4: some link of the path takes less than *mtu*; do not forbid fragments

# What was learnt of the path to one destination (RFC 1191, RFC 8201).
ctypedef struct PathMtu:
    Address destination
    uint32_t mtu               # 0: nothing here
    bint may_fragment
    int64_t learnt_ns

ctypedef struct Routes:
    const Interfaces* interfaces
    Route routes[256]          # the longest prefixes first
    uint32_t count
    PathMtu* paths             # in each set of four slots by hash
    uint32_t sets
    uint64_t keys[2]
    uint64_t learnt            # path MTUs that were lowered
    uint64_t refused           # that were not believed

cdef bint routes_open(Routes* r, const Interfaces* interfaces, uint32_t paths, const uint8_t* key) noexcept nogil
cdef void routes_close(Routes* r) noexcept nogil
# Add a route, or change the one to the same network; false where there are too many.
cdef bint route_add(Routes* r, const Route* given) noexcept nogil
cdef bint route_remove(Routes* r, const Address* network, uint8_t prefix) noexcept nogil
# The way to a destination; false if there is none.
cdef bint way_to(const Routes* r, const Address* destination, uint8_t ip_version, int64_t now_ns,
                 Way* out) noexcept nogil
# A packet of *length* bytes was too big for a path that takes *mtu* (0: that was not told). That the packet was ours
# the caller has seen; false if that says nothing new.
cdef bint path_lower(Routes* r, const Address* destination, uint8_t ip_version, uint32_t mtu, uint32_t length,
                     int64_t now_ns) noexcept nogil
