"""Shows the building of a connection's segments to pytest."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from aiomos.wire.building cimport Envelope
from aiomos.wire.frame cimport Offload
from aiomos.wire.layers cimport OPT_FASTOPEN, OPT_MSS, OPT_SACK, OPT_SACK_OK, OPT_TIMESTAMP, OPT_WSCALE, Span
from aiomos.wire.numbers cimport LINKTYPE_ETHERNET, LINKTYPE_RAW
from aiomos.wire.segments cimport (
    MOST_SEGMENT_HEADERS, TEMPLATE_LINK, SegmentFields, Template, segment_options_len, segment_write, template_link,
    template_open)
from aiomos.wire.wire cimport Address

from ipaddress import ip_address

LINK, HEADERS = TEMPLATE_LINK, MOST_SEGMENT_HEADERS
ROOM = 1 << 17


cdef Address address_of(text):
    cdef Address address
    number = int(ip_address(text))
    if ip_address(text).version == 4:
        number |= 0xFFFF << 32
    address.hi = number >> 64
    address.lo = number & 0xFFFF_FFFF_FFFF_FFFF
    return address


cdef class Connection:
    """A template, and the identifications of its connection.

    Raises:
        ValueError: the link header does not fit.
    """

    cdef Template template
    cdef public uint16_t ids

    def __init__(self, link, src, dst, uint16_t sport=1234, uint16_t dport=80, *, uint8_t ttl=64, uint8_t tos=0,
                 uint32_t flow_label=0, bint dont_fragment=True, uint16_t length_at=0):
        cdef Envelope envelope
        memset(&envelope, 0, sizeof(envelope))
        memcpy(envelope.link.bytes, <const uint8_t*> <const char*> link, len(link))
        envelope.link.length = len(link)
        envelope.link.length_at, envelope.link.longest = length_at, 1500
        envelope.link.linktype = LINKTYPE_ETHERNET if link else LINKTYPE_RAW
        envelope.src, envelope.dst = address_of(src), address_of(dst)
        envelope.sport, envelope.dport = sport, dport
        envelope.ip_version, envelope.ttl, envelope.tos = ip_address(src).version, ttl, tos
        if not template_open(&self.template, &envelope, flow_label, dont_fragment):
            raise ValueError("no template")

    def move(self, bytes link not None):
        return template_link(&self.template, <const uint8_t*> <const char*> link, len(link))

    def write(self, payload=(), *, uint32_t seq=0, uint32_t ack=0, uint16_t flags=0x10, uint16_t window=65535,
              mss=None, wscale=None, bint sack_ok=False, timestamps=None, sack=None, cookie=None,
              bint experimental=False, uint16_t gso_size=0, uint8_t ecn=0, bint partial=False, bint count=True,
              size_t room=ROOM):
        """The frame, what is left to the network card (None without *partial*), and bytes of options; None: refused.

        *payload* is a sequence of bytes; *sack* of pairs; without *count* the identification is 0.
        """
        cdef SegmentFields fields
        cdef Offload offload
        cdef Span stretches[64]
        cdef uint32_t edges[32]
        cdef size_t size, i
        memset(&fields, 0, sizeof(fields))
        memset(&offload, 0xA5, sizeof(offload))
        fields.seq, fields.ack, fields.flags, fields.window = seq, ack, flags, window
        fields.gso_size, fields.ecn, fields.cookie_experimental = gso_size, ecn, experimental
        if mss is not None:
            fields.options |= OPT_MSS
            fields.mss = mss
        if wscale is not None:
            fields.options |= OPT_WSCALE
            fields.wscale = wscale
        if sack_ok:
            fields.options |= OPT_SACK_OK
        if timestamps is not None:
            fields.options |= OPT_TIMESTAMP
            fields.tsval, fields.tsecr = timestamps
        if sack is not None:
            fields.options |= OPT_SACK
            fields.block_count = len(sack)
            fields.blocks = edges
            for i, (left, right) in enumerate(sack):
                edges[2 * i], edges[2 * i + 1] = left, right
        if cookie is not None:
            fields.options |= OPT_FASTOPEN
            fields.cookie, fields.cookie_len = <const uint8_t*> <const char*> cookie, len(cookie)
        payload = list(payload)
        for i, stretch in enumerate(payload):
            stretches[i].p, stretches[i].n = <const uint8_t*> <const char*> stretch, len(stretch)
        out = bytearray(b"\xa5" * (room + 1))
        size = segment_write(&self.template, &fields, stretches, len(payload), &self.ids if count else NULL,
                             &offload if partial else NULL, <uint8_t*> <char*> out, room)
        assert size <= room
        assert out[size or room] == 0xA5, "written beyond its end"
        if size == 0:
            return None
        left = None
        if partial:
            left = (offload.flags, offload.gso_type, offload.hdr_len, offload.gso_size, offload.csum_start,
                    offload.csum_offset)
        return bytes(out[:size]), left, segment_options_len(&fields)
