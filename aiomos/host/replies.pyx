"""What addresses of ours are asked, and what is answered: where they are, echoes, and what could not be done.

All of it is limited, since whoever asks chooses to whom it goes. What neighbours say of themselves on the way is told
to the table of neighbours, by the rules of RFC 826 and RFC 4861 section 7.2.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from aiomos.host.interfaces cimport MOST_LINKS, OwnAddress, own_find
from aiomos.host.neighbours cimport (
    NEIGHBOUR_INCOMPLETE, NEIGHBOUR_PROBE, Neighbour, NeighbourKey, neighbours_heard, neighbours_lookup,
    neighbours_told)
from aiomos.line.outlet cimport Outlet
from aiomos.wire.arp cimport ARP_FRAME, ARP_REPLY, ARP_REQUEST, MAC_BYTES, ArpMessage, arp_read, arp_write
from aiomos.wire.frame cimport Frame
from aiomos.wire.icmp cimport MAX_ICMP_ERROR, build_echo_reply, build_icmp_error, icmp_read
from aiomos.wire.ndp cimport (
    NDP_ADVERTISEMENT, NDP_FRAME, NDP_OVERRIDE, NDP_ROUTER, NDP_SOLICITATION, NDP_SOLICITED, NdpMessage, group_mac,
    ndp_read, ndp_write)
from aiomos.wire.numbers cimport LINKTYPE_ETHERNET
from aiomos.wire.rewriting cimport rewrite_begin
from aiomos.wire.wire cimport WIRE_ICMP, Address

cdef enum:
    ANSWERS = 1000             # a second, and at once
    ECHOES = 1000
    ERRORS = 1000              # as Linux: icmp_msgs_per_sec, icmp_msgs_burst
    ERROR_BURST = 50


cdef void bucket_open(Bucket* b, int64_t each_second, int64_t burst) noexcept nogil:
    b.step_ns = 1_000_000_000 // each_second
    b.burst_ns = burst * b.step_ns
    b.full_ns = 0


cdef bint bucket_take(Bucket* b, int64_t now_ns) noexcept nogil:
    cdef int64_t full_ns = max(b.full_ns, now_ns) + b.step_ns
    if full_ns - now_ns > b.burst_ns:
        return False
    b.full_ns = full_ns
    return True


cdef void replies_open(Replies* r, Interfaces* interfaces, Neighbours* neighbours) noexcept nogil:
    memset(r, 0, sizeof(Replies))
    r.interfaces, r.neighbours = interfaces, neighbours
    bucket_open(&r.answering, ANSWERS, ANSWERS)
    bucket_open(&r.echoing, ECHOES, ECHOES)
    bucket_open(&r.failing, ERRORS, ERROR_BURST)


cdef inline bint may(Replies* r, Bucket* bucket, int64_t now_ns) noexcept nogil:
    cdef bint allowed = bucket_take(bucket, now_ns)
    r.counters.limited += not allowed
    return allowed


# --- ARP ---------------------------------------------------------------------------------------------

cdef inline bint is_nobody(const Address* address) noexcept nogil:
    """0.0.0.0, of who probes whether an address is free (RFC 5227 section 1.1)."""
    return <uint32_t> address.lo == 0


cdef void answer_arp(Replies* r, Outlet line, const Frame* frame, const ArpMessage* question, const OwnAddress* own,
                     int64_t now_ns) noexcept nogil:
    cdef ArpMessage answer
    cdef uint8_t* out
    if not may(r, &r.answering, now_ns):
        return
    out = line.take(ARP_FRAME)
    if out == NULL:
        return
    answer.operation = ARP_REPLY
    answer.sender, answer.target = question.target, question.sender
    memcpy(answer.sender_mac, own.mac, MAC_BYTES)
    memcpy(answer.target_mac, question.sender_mac, MAC_BYTES)
    r.counters.answers += line.originate(out, arp_write(&answer, question.sender_mac, out, ARP_FRAME), frame.interface,
                                         LINKTYPE_ETHERNET)


cdef int take_arp(Replies* r, Outlet line, const Frame* frame, int64_t now_ns) noexcept nogil:
    cdef ArpMessage message
    cdef NeighbourKey sender
    cdef const OwnAddress* own
    cdef const Neighbour* known = NULL
    cdef bint ours, asked
    if not arp_read(frame.data, frame.caplen, &message):
        return REPLY_NONE
    sender.address, sender.interface = message.sender, frame.interface
    own = own_find(r.interfaces, frame.interface, &message.target)
    ours = own != NULL
    if own_find(r.interfaces, frame.interface, &message.sender) != NULL:
        r.counters.conflicts += 1
        return REPLY_DONE if ours else REPLY_NONE
    if not is_nobody(&message.sender):
        known = neighbours_lookup(r.neighbours, &sender)
        # Who was asked by nobody answers to nobody.
        ours = ours or (known != NULL and not known.source and message.operation == ARP_REPLY
                        and is_nobody(&message.target))
        asked = known != NULL and (known.state == NEIGHBOUR_INCOMPLETE or known.state == NEIGHBOUR_PROBE)
        if message.operation == ARP_REPLY and ours and asked and not frame.data[0] & 1:
            neighbours_told(r.neighbours, &sender, message.sender_mac, True, True, known.is_router, now_ns)
        else:
            neighbours_heard(r.neighbours, &sender, message.sender_mac, r.hears_all or own != NULL, now_ns)
    if own != NULL and message.operation == ARP_REQUEST:
        answer_arp(r, line, frame, &message, own, now_ns)
    return REPLY_DONE if ours else REPLY_NONE


# --- neighbour discovery -----------------------------------------------------------------------------

cdef inline bint is_unspecified(const Address* address) noexcept nogil:
    return not (address.hi or address.lo)


cdef void answer_ndp(Replies* r, Outlet line, const Frame* frame, const NdpMessage* question, const OwnAddress* own,
                     int64_t now_ns) noexcept nogil:
    """Advertise an address of ours to who asks for it, or to all if that one has none yet (RFC 4861 section 7.2.4)."""
    cdef NdpMessage answer
    cdef uint8_t to[6]
    cdef uint8_t* out
    if not may(r, &r.answering, now_ns):
        return
    out = line.take(NDP_FRAME)
    if out == NULL:
        return
    memset(&answer, 0, sizeof(NdpMessage))
    answer.type, answer.has_mac = NDP_ADVERTISEMENT, True
    answer.src = answer.target = question.target
    answer.flags = NDP_OVERRIDE
    if is_unspecified(&question.src):
        answer.dst.hi, answer.dst.lo = 0xFF02ULL << 48, 1
        group_mac(&answer.dst, to)
    else:
        answer.dst = question.src
        answer.flags |= NDP_SOLICITED
        memcpy(to, frame.data + 6, MAC_BYTES)
        if question.has_mac:
            memcpy(to, question.mac, MAC_BYTES)
    r.counters.answers += line.originate(out, ndp_write(&answer, own.mac, to, out, NDP_FRAME), frame.interface,
                                         LINKTYPE_ETHERNET)


cdef int take_ndp(Replies* r, Outlet line, const Frame* frame, NdpMessage* message,
                  int64_t now_ns) noexcept nogil:
    cdef NeighbourKey sender
    cdef const OwnAddress* own = NULL
    cdef uint8_t* mac = NULL
    cdef bint advertises = message.type == NDP_ADVERTISEMENT
    if advertises or message.type == NDP_SOLICITATION:
        own = own_find(r.interfaces, frame.interface, &message.target)
    sender.address, sender.interface = message.target if advertises else message.src, frame.interface
    if own_find(r.interfaces, frame.interface, &sender.address) != NULL:
        r.counters.conflicts += 1
        return REPLY_DONE if own != NULL else REPLY_NONE
    if message.has_mac:
        mac = message.mac
    if advertises:
        neighbours_told(r.neighbours, &sender, mac,
                        message.flags & NDP_SOLICITED != 0, message.flags & NDP_OVERRIDE != 0,
                        message.flags & NDP_ROUTER != 0, now_ns)
        own = own_find(r.interfaces, frame.interface, &message.dst)
    else:
        if mac != NULL:
            neighbours_heard(r.neighbours, &sender, mac, r.hears_all or own != NULL, now_ns)
        if own != NULL:
            answer_ndp(r, line, frame, message, own, now_ns)
    return REPLY_DONE if own != NULL else REPLY_NONE


# --- ICMP --------------------------------------------------------------------------------------------

cdef void answer_echo(Replies* r, Outlet line, const Frame* frame, PacketRecord* packet, int kind,
                      int64_t now_ns) noexcept nogil:
    cdef Rewrite request
    cdef size_t room = frame.caplen + 64
    cdef size_t length
    cdef uint8_t* out
    if packet.network_len > r.interfaces.links[frame.interface].mtu:
        r.counters.too_long += 1
        return
    if not may(r, &r.echoing, now_ns):
        return
    out = line.take(room)
    if out == NULL:
        return
    rewrite_begin(&request, packet, kind, frame, <size_t> (packet.network - frame.data))
    length = build_echo_reply(&request, out, room)
    r.counters.echoes += line.originate(out, length, frame.interface, frame.linktype)


cdef int take_icmp(Replies* r, Outlet line, const Frame* frame, PacketRecord* packet, int64_t now_ns,
                   IcmpNotice* notice) noexcept nogil:
    cdef NdpMessage message
    cdef const OwnAddress* own
    if packet.link_layers or packet.transient:         # tagged, in a tunnel, or in fragments
        return REPLY_NONE
    if ndp_read(packet, &message):
        return take_ndp(r, line, frame, &message, now_ns)
    own = own_find(r.interfaces, frame.interface, &packet.dst)
    if own == NULL or not own.is_host:
        return REPLY_NONE
    if icmp_read(packet, WIRE_ICMP, notice):
        r.counters.notices += 1
        return REPLY_NOTICE
    answer_echo(r, line, frame, packet, WIRE_ICMP, now_ns)
    return REPLY_DONE


cdef int replies_take(Replies* r, Outlet line, const Frame* frame, PacketRecord* packet, int kind, int64_t now_ns,
                      IcmpNotice* notice) noexcept nogil:
    if frame.linktype != LINKTYPE_ETHERNET or frame.interface >= MOST_LINKS:
        return REPLY_NONE
    if kind == WIRE_ICMP:
        return take_icmp(r, line, frame, packet, now_ns, notice)
    return take_arp(r, line, frame, now_ns)


cdef bint reply_error(Replies* r, Outlet line, const Rewrite* offender, int what, uint16_t interface,
                      int64_t now_ns) noexcept nogil:
    cdef uint8_t* out
    if not may(r, &r.failing, now_ns):
        return False
    out = line.take(MAX_ICMP_ERROR)
    if out == NULL or not line.originate(out, build_icmp_error(offender, what, 0, NULL, out, MAX_ICMP_ERROR), interface,
                                         offender.linktype):
        return False
    r.counters.errors += 1
    return True
