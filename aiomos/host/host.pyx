"""Who we are on our links, joined: addresses of ours, neighbours, routes and replies, and what they send.

Questions are asked in the name of an address of ours: that which the frame to be sent comes from, or of IPv6 any of the
link; of ARP in nobody's, where there is none (RFC 5227 section 1.1).
"""

cimport cython
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t
from libc.string cimport memcpy, memset

from aiomos.host.interfaces cimport (
    MOST_OWN, Link, OwnAddress, interfaces_close, interfaces_open, own_add, own_find, own_number, own_remove,
    own_source)
from aiomos.host.neighbours cimport (
    NEIGHBOUR_KNOWN, NEIGHBOUR_STATES, Neighbour, NeighbourCalls, NeighbourKey, neighbours_clear, neighbours_close,
    neighbours_find,    neighbours_lookup, neighbours_next_due, neighbours_open, neighbours_pass_time)
from aiomos.host.replies cimport REPLY_NONE, replies_open, replies_take
from aiomos.host.routes cimport routes_close, routes_open
from aiomos.line.fields cimport link_address
from aiomos.line.outlet cimport MOST_INTERFACES
from aiomos.wire.addresses cimport address_read
from aiomos.wire.arp cimport ARP_FRAME, ARP_REQUEST, MAC_BYTES, ArpMessage, arp_write
from aiomos.wire.frame cimport Offload
from aiomos.wire.icmp cimport IcmpNotice
from aiomos.wire.ndp cimport (
    NDP_ADVERTISEMENT, NDP_FRAME, NDP_OVERRIDE, NDP_SOLICITATION, NdpMessage, group_mac, ndp_write, solicited_node)
from aiomos.wire.numbers cimport LINKTYPE_ETHERNET
from aiomos.wire.wire cimport Address

cdef enum:
    MOST_NEIGHBOURS = 65536
    WAITING_BYTES = 4 << 20
    MOST_PATHS = 16384
    IPV4_MAPPED = 96           # bits before an IPv4 address

STATES = ("incomplete", "reachable", "stale", "delay", "probe", "failed")
assert len(STATES) == NEIGHBOUR_STATES

cdef uint8_t[6] EVERYBODY = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]


@cython.final
cdef class Host:
    """Who we are on our links.

    Args:
        line: By which frames leave.
        key: 16 secret bytes.
        links: MAC address, empty where it is not known, and MTU of each interface.

    Raises:
        MemoryError: there is no address space for its tables.
    """

    def __cinit__(self, Outlet line not None, const uint8_t[::1] key not None, links):
        cdef NeighbourCalls calls
        cdef Link* link
        cdef bytes octets
        calls.context, calls.ask, calls.release = <void*> self, ask_neighbour, release_frame
        if not (interfaces_open(&self.interfaces, MOST_OWN, &key[0])
                and neighbours_open(&self.neighbours, MOST_NEIGHBOURS, WAITING_BYTES, &key[0], &calls)
                and routes_open(&self.routes, &self.interfaces, MOST_PATHS, &key[0])):
            raise MemoryError("no address space for neighbours")
        replies_open(&self.replies, &self.interfaces, &self.neighbours)
        self.line = line
        for place, (mac, mtu) in enumerate(links[:MOST_INTERFACES]):
            link = &self.interfaces.links[<int> place]
            link.mtu = mtu or 1500
            link.has_mac = bool(mac)
            if mac:
                octets = link_address(mac)
                memcpy(link.mac, <const char*> octets, MAC_BYTES)

    def __dealloc__(self):
        routes_close(&self.routes)
        neighbours_close(&self.neighbours)
        interfaces_close(&self.interfaces)

    cdef bint take(self, const Frame* frame, PacketRecord* packet, int kind, int64_t now_ns) noexcept nogil:
        cdef IcmpNotice notice
        return replies_take(&self.replies, self.line, frame, packet, kind, now_ns, &notice) != REPLY_NONE

    cdef void pass_time(self, int64_t now_ns) noexcept nogil:
        neighbours_pass_time(&self.neighbours, now_ns)

    cdef int64_t next_due(self) noexcept nogil:
        return neighbours_next_due(&self.neighbours) if self.on else INT64_MAX

    cdef void end(self) noexcept nogil:
        """Ask nobody any more: there will be no answer."""
        neighbours_clear(&self.neighbours)

    # --- questions ------------------------------------------------------------------------------------

    cdef const OwnAddress* asker(self, const Neighbour* neighbour, uint8_t ip_version) noexcept nogil:
        """In whose name a neighbour is asked for; NULL for nobody's."""
        cdef const OwnAddress* own
        if neighbour.source and neighbour.source <= self.interfaces.high_water:
            own = &self.interfaces.own[neighbour.source]
            if own.ip_version == ip_version and own.interface == neighbour.key.interface:
                return own
        return NULL

    cdef const uint8_t* any_mac(self, uint16_t interface, const Address* target) noexcept nogil:
        """A MAC address of ours on a link; NULL without one."""
        cdef const OwnAddress* own = own_source(&self.interfaces, interface, target, 4)
        if own != NULL:
            return own.mac
        if self.interfaces.links[interface].has_mac:
            return self.interfaces.links[interface].mac
        return NULL

    cdef void ask_arp(self, const Neighbour* neighbour) noexcept nogil:
        cdef const OwnAddress* own = self.asker(neighbour, 4)
        cdef uint16_t interface = neighbour.key.interface
        cdef const uint8_t* mac
        cdef ArpMessage question
        memset(&question, 0, sizeof(ArpMessage))
        question.operation, question.target = ARP_REQUEST, neighbour.key.address
        if own != NULL:
            question.sender = own.address
            memcpy(question.sender_mac, own.mac, MAC_BYTES)
        else:
            mac = self.any_mac(interface, &neighbour.key.address)
            if mac == NULL:
                return
            memcpy(question.sender_mac, mac, MAC_BYTES)
        if neighbour.has_mac:
            self.send_arp(&question, neighbour.mac, interface)
        else:
            self.send_arp(&question, EVERYBODY, interface)

    cdef void send_arp(self, const ArpMessage* message, const uint8_t* to, uint16_t interface) noexcept nogil:
        cdef uint8_t* out = self.line.take(ARP_FRAME)
        if out != NULL:
            self.line.originate(out, arp_write(message, to, out, ARP_FRAME), interface, LINKTYPE_ETHERNET)

    cdef void ask_ndp(self, const Neighbour* neighbour) noexcept nogil:
        """Solicit a neighbour (RFC 4861 section 7.2.2); an address of ours is needed for that."""
        cdef const OwnAddress* own = self.asker(neighbour, 6)
        cdef NdpMessage question
        cdef uint8_t to[6]
        if own == NULL:
            own = own_source(&self.interfaces, neighbour.key.interface, &neighbour.key.address, 6)
        if own == NULL:
            return
        memset(&question, 0, sizeof(NdpMessage))
        question.type, question.has_mac = NDP_SOLICITATION, True
        question.src, question.target = own.address, neighbour.key.address
        if neighbour.has_mac:
            question.dst = neighbour.key.address
            memcpy(to, neighbour.mac, MAC_BYTES)
        else:
            solicited_node(&neighbour.key.address, &question.dst)
            group_mac(&question.dst, to)
        self.send_ndp(&question, own.mac, to, neighbour.key.interface)

    cdef void send_ndp(self, const NdpMessage* message, const uint8_t* own, const uint8_t* to,
                       uint16_t interface) noexcept nogil:
        cdef uint8_t* out = self.line.take(NDP_FRAME)
        if out != NULL:
            self.line.originate(out, ndp_write(message, own, to, out, NDP_FRAME), interface, LINKTYPE_ETHERNET)

    cdef void send_waiting(self, const Frame* frame) noexcept nogil:
        """Have a frame leave that lies in the memory of the table."""
        cdef Frame copy = frame[0]
        cdef uint8_t* data = self.line.take(frame.caplen)
        cdef Offload* offload = NULL
        if data == NULL:
            return
        memcpy(data, frame.data, frame.caplen)
        copy.data = data
        if frame.offload != NULL:
            offload = <Offload*> self.line.take(sizeof(Offload))
            if offload == NULL:
                return
            offload[0] = frame.offload[0]
            copy.offload = offload
        self.line.emit(&copy)

    # --- by hand --------------------------------------------------------------------------------------

    def add_address(self, interface, address, mac, prefix=None, is_host=False):
        """Answer for an address.

        Args:
            interface: By which it is asked for.
            address: IPv4 or IPv6.
            mac: MAC address to answer with.
            prefix: Bits that are the same of all that are on the link; by default all of them: none is.
            is_host: Whether packets to it end here.

        Raises:
            ValueError: it is no address, or there are too many.
        """
        cdef OwnAddress own
        cdef bytes octets = link_address(mac)
        memset(&own, 0, sizeof(own))
        own.ip_version = address_read(address, &own.address)
        own.prefix = 128 if prefix is None else prefix + (IPV4_MAPPED if own.ip_version == 4 else 0)
        own.interface, own.is_host = interface, is_host
        memcpy(own.mac, <const char*> octets, MAC_BYTES)
        if not own_add(&self.interfaces, &own):
            raise ValueError(f"at most {MOST_OWN} addresses are answered for")
        self.on = True

    def remove_address(self, interface, address):
        """Answer for an address no longer, if it was."""
        cdef Address sought
        address_read(address, &sought)
        own_remove(&self.interfaces, interface, &sought)

    def find(self, interface, address, own, int64_t now_ns):
        """MAC address of a neighbour; None until it has answered, which it is asked to.

        Args:
            interface: Where it is.
            address: Its address.
            own: An address of ours to ask from; None for nobody's.
            now_ns: The time.
        """
        cdef NeighbourKey key = key_of(interface, address)
        cdef Address from_address
        cdef const OwnAddress* asking = NULL
        cdef uint8_t mac[6]
        if own is not None:
            address_read(own, &from_address)
            asking = own_find(&self.interfaces, interface, &from_address)
        if neighbours_find(&self.neighbours, &key, 0 if asking == NULL else own_number(&self.interfaces, asking), NULL,
                           now_ns, mac) != NEIGHBOUR_KNOWN:
            return None
        return mac[:6].hex(":")

    def announce(self, interface, address):
        """Tell all neighbours where an address of ours is (RFC 5227 section 3, RFC 4861 section 7.2.6)."""
        cdef Address sought
        cdef const OwnAddress* own
        cdef ArpMessage arp
        cdef NdpMessage ndp
        cdef uint8_t to[6]
        address_read(address, &sought)
        own = own_find(&self.interfaces, interface, &sought)
        if own == NULL:
            raise ValueError(f"{address} is not answered for by this interface")
        if own.ip_version == 4:
            memset(&arp, 0, sizeof(ArpMessage))
            arp.operation, arp.sender, arp.target = ARP_REQUEST, own.address, own.address
            memcpy(arp.sender_mac, own.mac, MAC_BYTES)
            self.send_arp(&arp, EVERYBODY, interface)
            return
        memset(&ndp, 0, sizeof(NdpMessage))
        ndp.type, ndp.flags, ndp.has_mac = NDP_ADVERTISEMENT, NDP_OVERRIDE, True
        ndp.src, ndp.target = own.address, own.address
        ndp.dst.hi, ndp.dst.lo = <unsigned long long> 0xFF02 << 48, 1
        group_mac(&ndp.dst, to)
        self.send_ndp(&ndp, own.mac, to, interface)

    def hear_all(self, hears):
        """Whether those are remembered, too, who ask others where they are: on a bridge they are heard of so."""
        self.replies.hears_all = hears

    def neighbour(self, interface, address):
        """State and MAC address of a neighbour; None if nothing is known of it."""
        cdef NeighbourKey key = key_of(interface, address)
        cdef const Neighbour* found = neighbours_lookup(&self.neighbours, &key)
        if found == NULL:
            return None
        return STATES[found.state], found.mac[:6].hex(":") if found.has_mac else None

    def statistics(self):
        """Counters by name; see docs/design/neighbours.md."""
        cdef dict neighbours = self.neighbours.counters
        cdef dict replies = self.replies.counters
        return neighbours | {f"reply_{name}": count for name, count in replies.items()} | {
            "entries": self.neighbours.pool.in_use, "given_up": self.given_up,
        }


cdef NeighbourKey key_of(interface, address) except *:
    cdef NeighbourKey key
    key.interface = interface
    address_read(address, &key.address)
    return key


# These take the interpreter for the sake of the object alone: once a second and neighbour at most.

cdef void ask_neighbour(void* context, const Neighbour* neighbour) noexcept with gil:
    if neighbour.key.address.hi == 0 and neighbour.key.address.lo >> 32 == 0xFFFF:
        (<Host> context).ask_arp(neighbour)
    else:
        (<Host> context).ask_ndp(neighbour)


cdef void release_frame(void* context, const Neighbour* neighbour, const Frame* frame) noexcept with gil:
    if neighbour.has_mac:
        (<Host> context).send_waiting(frame)
    else:
        (<Host> context).given_up += 1
