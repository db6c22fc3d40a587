"""Shows who we are on our links to pytest: own addresses, and ways to others."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, memset

from aiomos.host.host cimport Host
from aiomos.host.interfaces cimport (
    Interfaces, OwnAddress, interfaces_close, interfaces_open, own_add, own_find, own_number, own_remove, own_source)
from aiomos.host.neighbours cimport NeighbourKey, neighbours_find
from aiomos.host.replies cimport Bucket, bucket_open, bucket_take, reply_error, replies_take
from aiomos.host.routes cimport (
    Route, Routes, Way, path_lower, route_add, route_remove, routes_close, routes_open, way_to)
from aiomos.line.outlet cimport Outlet, new_outlet
from aiomos.wire.addresses cimport address_read, address_text
from aiomos.wire.frame cimport Frame
from aiomos.wire.icmp cimport UNREACHABLE_PORT, IcmpNotice
from aiomos.wire.rewriting cimport Rewrite, rewrite_begin
from aiomos.wire.wire cimport Address, DecodeOptions, PacketRecord, decode_frame


cdef bytes KEY = bytes(range(16))
MAPPED = 96


cdef class Links:
    """Own addresses, routes and paths."""

    cdef Interfaces interfaces
    cdef Routes routes

    def __init__(self, addresses=16, paths=64, mtu=1500):
        assert interfaces_open(&self.interfaces, addresses, KEY)
        assert routes_open(&self.routes, &self.interfaces, paths, KEY)
        for link in range(4):
            self.interfaces.links[<int> link].mtu = mtu

    def __dealloc__(self):
        routes_close(&self.routes)
        interfaces_close(&self.interfaces)

    def add(self, interface, address, prefix, bytes mac=bytes(6)):
        """Number of an address of ours."""
        cdef OwnAddress own
        memset(&own, 0, sizeof(own))
        own.ip_version = address_read(address, &own.address)
        own.prefix = prefix + (MAPPED if own.ip_version == 4 else 0)
        own.interface = interface
        memcpy(own.mac, <char*> mac, 6)
        return own_add(&self.interfaces, &own)

    def remove(self, interface, address):
        cdef Address sought
        address_read(address, &sought)
        return bool(own_remove(&self.interfaces, interface, &sought))

    def find(self, interface, address):
        """Number and MAC address; None if it is not ours."""
        cdef Address sought
        address_read(address, &sought)
        cdef OwnAddress* own = own_find(&self.interfaces, interface, &sought)
        return None if own == NULL else (own_number(&self.interfaces, own), own.mac[:6])

    def source(self, interface, target):
        cdef Address sought
        version = address_read(target, &sought)
        cdef OwnAddress* own = own_source(&self.interfaces, interface, &sought, version)
        return None if own == NULL else address_text(&own.address, version)

    def route(self, network, prefix, interface, gateway=None, source=0):
        cdef Route route
        memset(&route, 0, sizeof(route))
        route.ip_version = address_read(network, &route.network)
        route.prefix = prefix + (MAPPED if route.ip_version == 4 else 0)
        route.interface, route.source, route.has_gateway = interface, source, gateway is not None
        if gateway is not None:
            address_read(gateway, &route.gateway)
        return bool(route_add(&self.routes, &route))

    def unroute(self, network, prefix):
        cdef Address address
        version = address_read(network, &address)
        return bool(route_remove(&self.routes, &address, prefix + (MAPPED if version == 4 else 0)))

    def way(self, destination, int64_t now_ns=0):
        """Interface, next hop, source, MTU, whether it may be fragmented; None without a way."""
        cdef Address address
        cdef Way way
        version = address_read(destination, &address)
        if not way_to(&self.routes, &address, version, now_ns, &way):
            return None
        source = address_text(&self.interfaces.own[way.source].address, version) if way.source else None
        return way.interface, address_text(&way.next_hop, version), source, way.mtu, bool(way.may_fragment)

    def lower(self, destination, uint32_t mtu, uint32_t length=1500, int64_t now_ns=0):
        """Packet too big."""
        cdef Address address
        version = address_read(destination, &address)
        return bool(path_lower(&self.routes, &address, version, mtu, length, now_ns))

    @property
    def counts(self):
        """Path MTUs learnt, and refused."""
        return self.routes.learnt, self.routes.refused


def bucket(int64_t each_second, int64_t burst, times):
    """Whether each of some is let through at its time."""
    cdef Bucket b
    bucket_open(&b, each_second, burst)
    return [bool(bucket_take(&b, time)) for time in times]


REPLIES = ("none", "done", "notice")


cdef class Machine:
    """A host on two links, fed by hand; each call returns what has left."""

    cdef readonly Host host
    cdef Outlet line

    def __init__(self, mtu=1500):
        self.line = new_outlet()
        self.line.open((1, 0), ("a", "b"))
        self.host = Host(self.line, KEY, [("02:00:00:00:00:aa", mtu), ("", 0)])

    cdef list sent(self):
        cdef size_t i
        frames = [(self.line.frames[i].interface, self.line.frames[i].data[:self.line.frames[i].caplen])
                  for i in range(self.line.count)]
        self.line.clear()
        return frames

    def take(self, bytes data not None, interface=0, int64_t now_ns=0, linktype=1):
        """What was made of a frame, and the frames that have left."""
        cdef Frame frame
        cdef PacketRecord packet
        cdef IcmpNotice notice
        cdef int kind = self.decode(data, interface, linktype, &frame, &packet)
        reply = replies_take(&self.host.replies, self.line, &frame, &packet, kind, now_ns, &notice)
        return REPLIES[reply], self.sent()

    def fail(self, bytes data not None, interface=0, int64_t now_ns=0):
        """Tell the sender of a frame that nobody is at its port: whether it was told, and what has left."""
        cdef Frame frame
        cdef PacketRecord packet
        cdef Rewrite rewrite
        cdef int kind = self.decode(data, interface, 1, &frame, &packet)
        rewrite_begin(&rewrite, &packet, kind, &frame, <size_t> (packet.network - frame.data))
        told = reply_error(&self.host.replies, self.line, &rewrite, UNREACHABLE_PORT, interface, now_ns)
        return bool(told), self.sent()

    cdef int decode(self, bytes data, interface, linktype, Frame* frame, PacketRecord* packet) except -1:
        cdef DecodeOptions options
        memset(&options, 0, sizeof(options))
        memset(frame, 0, sizeof(Frame))
        frame.data, frame.interface, frame.linktype = data, interface, linktype
        frame.caplen = frame.wirelen = len(data)
        return decode_frame(frame, &options, packet)

    def send(self, interface, address, bytes data not None, int64_t now_ns=0):
        """Send a frame to a neighbour, once it is known where that is."""
        cdef NeighbourKey key
        cdef Frame frame
        cdef uint8_t[6] mac
        memset(&key, 0, sizeof(key))
        key.interface = interface
        address_read(address, &key.address)
        memset(&frame, 0, sizeof(Frame))
        frame.data, frame.interface, frame.linktype = data, interface, 1
        frame.caplen = frame.wirelen = len(data)
        neighbours_find(&self.host.neighbours, &key, 0, &frame, now_ns, mac)
        return self.sent()

    def find(self, interface, address, own=None, now_ns=0):
        """MAC address, and what has left."""
        return self.host.find(interface, address, own, now_ns), self.sent()

    def announce(self, interface, address):
        self.host.announce(interface, address)
        return self.sent()

    def pass_time(self, int64_t now_ns):
        self.host.pass_time(now_ns)
        return self.sent()
