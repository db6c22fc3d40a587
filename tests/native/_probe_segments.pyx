"""Shows the segments of ends, written by a template, to pytest."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy, memset

from aiomos.wire.addresses cimport address_read
from aiomos.wire.building cimport Envelope
from aiomos.wire.frame cimport Offload
from aiomos.wire.headers cimport MOST_COOKIE, Segment, tcp_header_len, tcp_header_write
from aiomos.wire.segments cimport (
    MAX_SEGMENT_HEADERS, Stretch, Template, segment_write, template_make, template_redirect)
from aiomos.wire.wire cimport (
    MAX_SACK_BLOCKS, OPT_FASTOPEN, OPT_MSS, OPT_SACK, OPT_SACK_OK, OPT_TIMESTAMP, OPT_WSCALE)

HEADERS = MAX_SEGMENT_HEADERS


cdef int read_segment(Segment* out, seq, ack, flags, window, urgent, mss, wscale, sack_ok, timestamps, sack,
                      cookie) except -1:
    cdef size_t i
    memset(out, 0, sizeof(Segment))
    out.seq, out.ack, out.flags, out.window, out.urgent = seq, ack, flags, window, urgent
    if mss is not None:
        out.options |= OPT_MSS
        out.mss = mss
    if wscale is not None:
        out.options |= OPT_WSCALE
        out.wscale = wscale
    if sack_ok:
        out.options |= OPT_SACK_OK
    if timestamps is not None:
        out.options |= OPT_TIMESTAMP
        out.tsval, out.tsecr = timestamps
    if sack is not None:
        out.options |= OPT_SACK
        out.sack_count = len(sack)
        for i in range(min(len(sack), <size_t> MAX_SACK_BLOCKS)):
            out.sack[i][0], out.sack[i][1] = sack[i]
    if cookie is not None:
        out.options |= OPT_FASTOPEN
        out.cookie_len = len(cookie)
        memcpy(out.cookie, <const char*> <bytes> cookie, min(len(cookie), <size_t> MOST_COOKIE))
    return 0


def tcp_header(seq=0, ack=0, flags=0, window=0, urgent=0, mss=None, wscale=None, bint sack_ok=False, timestamps=None,
               sack=None, cookie=None):
    """A header from port 1 to port 2, in the middle of memory that it must not touch."""
    cdef Segment segment
    cdef bytearray out = bytearray(b"\xEE" * 80)
    cdef size_t length
    read_segment(&segment, seq, ack, flags, window, urgent, mss, wscale, sack_ok, timestamps, sack, cookie)
    length = tcp_header_write(&segment, 1, 2, <uint8_t*> <char*> out)
    assert length == tcp_header_len(&segment) and not out[length:].strip(b"\xEE")
    return bytes(out[:length])


cdef class SegmentTemplate:
    """The template of a connection."""

    cdef Template template
    cdef readonly bint made

    def __init__(self, bytes link not None, src, dst, sport, dport, uint8_t ttl=64, uint8_t tos=0, flow_label=0,
                 bint dont_fragment=True, linktype=None, length_at=0, identification=0):
        cdef Envelope envelope
        memset(&envelope, 0, sizeof(envelope))
        memcpy(envelope.link.bytes, <const char*> link, len(link))
        envelope.link.length, envelope.link.length_at = len(link), length_at
        envelope.link.longest = 1500
        envelope.link.linktype = linktype if linktype is not None else 1 if link else 101
        envelope.ip_version = <uint8_t> address_read(src, &envelope.src)
        address_read(dst, &envelope.dst)
        envelope.sport, envelope.dport, envelope.ttl, envelope.tos = sport, dport, ttl, tos
        self.made = template_make(&envelope, flow_label, dont_fragment, &self.template)
        self.template.identification = identification

    def redirect(self, bytes mac not None):
        template_redirect(&self.template, mac)

    def write(self, payload, seq=0, ack=0, flags=0, window=0, urgent=0, mss=None, wscale=None, bint sack_ok=False,
              timestamps=None, sack=None, cookie=None, uint8_t ecn=0, uint16_t gso_size=0, bint partial=False,
              room=None):
        """A frame, and what is left to do: ``(gso_type, gso_size, hdr_len, csum_start, csum_offset)`` or None.

        *payload* is a list of the bytes objects that it lies in. None where it does not fit.
        """
        cdef Segment segment
        cdef Offload offload
        cdef Stretch[16] stretches
        cdef size_t i, length
        cdef bytes part
        cdef size_t size = HEADERS + sum(map(len, payload)) if room is None else room
        cdef bytearray out = bytearray(b"\xEE" * (size + 8))
        assert self.made and len(payload) <= 16
        read_segment(&segment, seq, ack, flags, window, urgent, mss, wscale, sack_ok, timestamps, sack, cookie)
        for i in range(<size_t> len(payload)):
            part = payload[i]
            stretches[i].data, stretches[i].length = part, len(part)
        length = segment_write(&self.template, &segment, stretches, len(payload), ecn, gso_size,
                               <uint8_t*> <char*> out, size, &offload if partial else NULL)
        assert length <= size and out[size:] == b"\xEE" * 8
        if not length:
            return None
        if not partial:
            return bytes(out[:length]), None
        assert offload.flags == 1
        return bytes(out[:length]), (offload.gso_type, offload.gso_size, offload.hdr_len, offload.csum_start,
                                     offload.csum_offset)
