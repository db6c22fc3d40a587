"""Lends packets to pytest as the engine does to callbacks, and asks for the text of addresses."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from aiomos.face.packets cimport Packet, make_packet
from aiomos.wire.addresses cimport address_text
from aiomos.wire.frame cimport Frame
from aiomos.wire.wire cimport Address, DecodeOptions, PacketRecord, decode_frame


@cython.no_gc                  # its packet is needed to the last
cdef class Loan:
    """A packet as long as the loan lasts; when it ends, what the packet was read from is overwritten."""

    cdef PacketRecord decoded
    cdef uint8_t* bytes
    cdef size_t size
    cdef readonly Packet packet

    def __init__(self, const uint8_t[::1] frame not None, int linktype=1, *, wirelen=None, bint verify=False,
                 bint decapsulate=False, int64_t time_ns=0, int interface=0, interfaces=None, bint known=False):
        cdef Frame native
        cdef DecodeOptions options
        options.verify_checksums = verify
        options.decapsulate = decapsulate
        options.separate_tunnels = False
        memset(options.vxlan_ports, 0, sizeof(options.vxlan_ports))
        options.vxlan_ports[0] = 4789
        self.size = frame.shape[0]
        self.bytes = <uint8_t*> malloc(self.size + 1)
        if self.size:
            memcpy(self.bytes, &frame[0], self.size)
        memset(&self.decoded, 0xA5, sizeof(PacketRecord))        # what is not set must show
        native.data = self.bytes
        native.caplen = native.wirelen = <unsigned int> self.size
        if wirelen is not None:
            native.wirelen = wirelen
        native.linktype = linktype
        native.time_ns = time_ns
        native.interface = <uint16_t> interface
        kind = decode_frame(&native, &options, &self.decoded)
        self.decoded.known = known
        self.packet = make_packet(&self.decoded, kind)
        self.packet.interfaces = interfaces

    def end(self):
        """Take the packet back."""
        self.packet.expire()
        memset(self.bytes, 0xA5, self.size)
        memset(&self.decoded, 0xA5, sizeof(PacketRecord))

    def __dealloc__(self):
        self.packet.expire()
        free(self.bytes)


def text_of(packed, int ip_version):
    """The text of an address of 4 or 16 bytes."""
    cdef Address address
    value = int.from_bytes(packed, "big") | (0xFFFF00000000 if ip_version == 4 else 0)
    address.hi = <uint64_t> (value >> 64)
    address.lo = <uint64_t> (value & 0xFFFFFFFFFFFFFFFF)
    return address_text(&address, <uint8_t> ip_version)


def lend(Packet source not None, Py_ssize_t times, function=None):
    """Lend a packet many times, to measure."""
    cdef Packet lent
    cdef Py_ssize_t _
    for _ in range(times):
        lent = make_packet(source.p, source.kind)
        if function is not None:
            function(lent)
        lent.expire()
