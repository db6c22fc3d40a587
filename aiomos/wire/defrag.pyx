"""IPv4 and IPv6 fragments put together again, within a budget.

Fragments of one datagram are kept as a sorted list of disjoint pieces, so memory follows the bytes that
came, not the offsets they claim. Where IPv4 fragments overlap, a policy says whose bytes count, since hosts
differ (Novak, "Target-Based Fragmentation Reassembly", 2005); it compares the new fragment with each piece
held. IPv6 does not allow overlap (RFC 5722): it costs the whole datagram.

The table is chained, and not that of wire/table.pxd: datagrams are few, their number is fixed when it is opened, so it
need not grow, and they are allocated within a budget of bytes, named by address and not by 32-bit index.

A datagram that broke a rule is condemned: it holds no bytes but stays until its time-out, so that
what is still to come of it cannot start it anew.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from aiomos.wire.numbers cimport FRAGMENT_HEADER, IPV6_HEADER
from aiomos.wire.siphash cimport siphash13
from aiomos.wire.wire cimport PacketRecord, checksum_add, checksum_fold

cdef enum Policy:
    POLICY_FIRST
    POLICY_LAST
    POLICY_BSD
    POLICY_LINUX
    POLICY_WINDOWS
    POLICY_SOLARIS

cdef dict POLICIES = {
    "first": POLICY_FIRST,
    "last": POLICY_LAST,
    "bsd": POLICY_BSD,
    "linux": POLICY_LINUX,
    "windows": POLICY_WINDOWS,
    "solaris": POLICY_SOLARIS,
}

# Names of DefragResult in the statistics.
cdef tuple OUTCOMES = (
    "pending", "completed", "duplicates", "cut", "bad", "too_big", "overlap_drops", "too_many", "no_memory",
    "condemned")

cdef enum:
    MAX_LENGTH = 65535             # of IPv4's total length, and of IPv6's payload length
    KEY_WORDS = 6
    KEY_BYTES = 8 * KEY_WORDS


# --- memory ---------------------------------------------------------------------------------------

cdef void* take(DefragTable* table, size_t size, const Datagram* keep) noexcept nogil:
    """Allocate within the budget, evicting the oldest datagrams but keep for it; NULL if that is not enough."""
    cdef Datagram* victim
    cdef void* memory
    while size > table.memory_budget - table.memory:
        victim = oldest_but(table, keep)
        if victim == NULL:
            return NULL
        evict(table, victim)
    memory = malloc(size)
    if memory != NULL:
        table.memory += size
    return memory


cdef void give(DefragTable* table, void* memory, size_t size) noexcept nogil:
    free(memory)
    table.memory -= size


cdef void drop_bytes(DefragTable* table, Datagram* datagram) noexcept nogil:
    """Give back all that a datagram holds but its record."""
    cdef Piece* piece
    while datagram.pieces != NULL:
        piece = datagram.pieces
        datagram.pieces = piece.next
        give(table, piece, piece.size)
    if datagram.header != NULL:
        give(table, datagram.header, datagram.header_len)
        datagram.header = NULL


# --- the table ------------------------------------------------------------------------------------

cdef inline size_t family(const Datagram* datagram) noexcept nogil:
    return 0 if datagram.ip_version == 4 else 1


cdef inline Datagram** bucket_of(DefragTable* table, const uint64_t* key) noexcept nogil:
    return &table.buckets[siphash13(table.key0, table.key1, key, KEY_WORDS) & table.mask]


cdef Datagram* oldest_but(DefragTable* table, const Datagram* keep) noexcept nogil:
    cdef Datagram* v4 = table.oldest[0]
    cdef Datagram* v6 = table.oldest[1]
    if v4 == keep and v4 != NULL:
        v4 = v4.newer
    if v6 == keep and v6 != NULL:
        v6 = v6.newer
    if v4 == NULL or v6 == NULL:
        return v6 if v4 == NULL else v4
    return v4 if v4.started_ns <= v6.started_ns else v6


cdef void forget(DefragTable* table, Datagram* datagram) noexcept nogil:
    """Take a datagram out of the table and free it."""
    cdef Datagram** link = bucket_of(table, datagram.key)
    cdef size_t which = family(datagram)
    while link[0] != datagram:
        link = &link[0].chain
    link[0] = datagram.chain
    if datagram.older != NULL:
        datagram.older.newer = datagram.newer
    else:
        table.oldest[which] = datagram.newer
    if datagram.newer != NULL:
        datagram.newer.older = datagram.older
    else:
        table.newest[which] = datagram.older
    drop_bytes(table, datagram)
    table.datagrams -= 1
    give(table, datagram, sizeof(Datagram))


cdef void evict(DefragTable* table, Datagram* datagram) noexcept nogil:
    table.evicted += 1
    forget(table, datagram)


cdef void condemn(DefragTable* table, Datagram* datagram) noexcept nogil:
    drop_bytes(table, datagram)
    datagram.condemned = True


cdef void make_key(const PacketRecord* packet, uint64_t* key) noexcept nogil:
    # RFC 791 section 3.2 joins fragments by protocol too, RFC 8200 section 4.5 does not.
    cdef uint64_t proto = packet.proto if packet.ip_version == 4 else 0
    key[0] = packet.src.hi
    key[1] = packet.src.lo
    key[2] = packet.dst.hi
    key[3] = packet.dst.lo
    key[5] = packet.tunnel
    key[4] = packet.fragment_id | <uint64_t> packet.vlan << 32 | <uint64_t> packet.ip_version << 48 | proto << 56


cdef Datagram* find(DefragTable* table, const uint64_t* key) noexcept nogil:
    cdef Datagram* datagram = bucket_of(table, key)[0]
    while datagram != NULL and memcmp(datagram.key, key, KEY_BYTES) != 0:
        datagram = datagram.chain
    return datagram


cdef Datagram* open_datagram(DefragTable* table, const uint64_t* key, const PacketRecord* packet) noexcept nogil:
    """Open a datagram with the first of its fragments to come; NULL when there is no memory."""
    cdef Datagram* datagram
    cdef Datagram** bucket
    cdef size_t which
    if table.datagrams == table.datagram_budget:
        evict(table, oldest_but(table, NULL))
    datagram = <Datagram*> take(table, sizeof(Datagram), NULL)
    if datagram == NULL:
        return NULL
    memset(datagram, 0, sizeof(Datagram))
    memcpy(datagram.key, key, KEY_BYTES)
    datagram.ip_version = packet.ip_version
    datagram.started_ns = packet.time_ns
    bucket = bucket_of(table, key)
    datagram.chain = bucket[0]
    bucket[0] = datagram
    which = family(datagram)
    datagram.older = table.newest[which]
    if datagram.older != NULL:
        datagram.older.newer = datagram
    else:
        table.oldest[which] = datagram
    table.newest[which] = datagram
    table.datagrams += 1
    table.started += 1
    return datagram


cdef size_t expire_table(DefragTable* table, int64_t now_ns) noexcept nogil:
    """Forget what has waited for too long, or began so far ahead: at a time that turned out to be wild."""
    cdef size_t which
    cdef size_t count = 0
    cdef Datagram* datagram
    for which in range(2):
        datagram = table.oldest[which]
        while datagram != NULL and not (
                -table.timeout_ns[which] < now_ns - datagram.started_ns < table.timeout_ns[which]):
            if not datagram.condemned:
                count += 1
            forget(table, datagram)
            datagram = table.oldest[which]
    table.timeouts += count
    return count


# --- pieces ---------------------------------------------------------------------------------------

cdef inline bint newer_wins(int policy, uint32_t start, uint32_t end, const Piece* held) noexcept nogil:
    """Whether the bytes of a new fragment replace those of a piece held, where both have some."""
    if policy == POLICY_FIRST:
        return False
    if policy == POLICY_LAST:
        return True
    if policy == POLICY_BSD:
        return start < held.start
    if policy == POLICY_LINUX:
        return start <= held.start
    if policy == POLICY_WINDOWS:
        return start < held.start and end > held.end
    return start < held.start and end >= held.end      # Solaris


cdef bint insert(DefragTable* table, Datagram* datagram, Piece** link, uint32_t start, uint32_t end,
                 const uint8_t* data) noexcept nogil:
    """Put a copy of data before the piece that link points to; false when there is no memory."""
    cdef size_t size = sizeof(Piece) + (end - start)
    cdef Piece* piece = <Piece*> take(table, size, datagram)
    cdef uint8_t* copy
    if piece == NULL:
        return False
    copy = <uint8_t*> (piece + 1)
    memcpy(copy, data, end - start)
    piece.start = start
    piece.end = end
    piece.data = copy
    piece.size = size
    piece.next = link[0]
    link[0] = piece
    datagram.held += end - start
    return True


cdef Piece** cut_out(DefragTable* table, Datagram* datagram, Piece** link, uint32_t start,
                     uint32_t end) noexcept nogil:
    """Take the bytes from start to end, some of them held, out of the piece link points to.

    Returns the link behind what is left in front of start; NULL when there is no memory.
    """
    cdef Piece* piece = link[0]
    if piece.start >= start and piece.end <= end:
        datagram.held -= piece.end - piece.start
        link[0] = piece.next
        give(table, piece, piece.size)
        return link
    if piece.start >= start:
        datagram.held -= end - piece.start
        piece.data += end - piece.start
        piece.start = end
        return link
    # Where something is left on both sides, what is behind needs a record of its own.
    if piece.end > end and not insert(table, datagram, &piece.next, end, piece.end, piece.data + (end - piece.start)):
        return NULL
    datagram.held -= piece.end - start
    piece.end = start
    return &piece.next


cdef inline bint same_bytes(const Piece* piece, uint32_t start, uint32_t end, const uint8_t* data) noexcept nogil:
    return piece.start == start and piece.end == end and memcmp(piece.data, data, end - start) == 0


cdef int merge(DefragTable* table, Datagram* datagram, uint32_t start, uint32_t end,
               const uint8_t* data) noexcept nogil:
    """Add the bytes from start to end of a datagram, as the overlap policy has it."""
    cdef Piece** link = &datagram.pieces
    cdef Piece* piece
    cdef uint32_t at = start                           # new bytes before it are placed, or not wanted
    cdef int result = DEFRAG_DUPLICATE
    while link[0] != NULL and link[0].end <= start:
        link = &link[0].next
    if link[0] != NULL and link[0].start < end:
        table.overlaps += 1
        if datagram.ip_version == 6:
            return DEFRAG_DUPLICATE if same_bytes(link[0], start, end, data) else DEFRAG_DROPPED_OVERLAP
    while link[0] != NULL and link[0].start < end:
        piece = link[0]
        if newer_wins(table.policy, start, end, piece):
            link = cut_out(table, datagram, link, start, end)
            if link == NULL:
                return DEFRAG_DROPPED_MEMORY
        else:
            if at < piece.start:
                if not insert(table, datagram, link, at, piece.start, data + (at - start)):
                    return DEFRAG_DROPPED_MEMORY
                result = DEFRAG_PENDING
            at = piece.end
            link = &piece.next
    if at < end:
        if not insert(table, datagram, link, at, end, data + (at - start)):
            return DEFRAG_DROPPED_MEMORY
        result = DEFRAG_PENDING
    return result


# --- whole datagrams ------------------------------------------------------------------------------

cdef inline uint32_t header_size(const PacketRecord* packet) noexcept nogil:
    """Bytes that go before the payload of the whole packet."""
    cdef uint32_t size = <uint32_t> (packet.fragment - packet.network)
    return size if packet.ip_version == 4 else size - FRAGMENT_HEADER


cdef inline uint32_t payload_room(uint8_t ip_version, uint32_t header_len) noexcept nogil:
    """Payload bytes that the length field leaves; IPv6's does not count the fixed header."""
    return MAX_LENGTH - (header_len if ip_version == 4 else header_len - IPV6_HEADER)


cdef bint keep_header(DefragTable* table, Datagram* datagram, const PacketRecord* packet) noexcept nogil:
    """Keep what goes before the payload from the first fragment at offset 0; false when there is no memory."""
    cdef uint32_t size = header_size(packet)
    datagram.header = <uint8_t*> take(table, size, datagram)
    if datagram.header == NULL:
        return False
    memcpy(datagram.header, packet.network, size)
    datagram.header_len = size
    datagram.proto = packet.proto
    if packet.ip_version == 6:
        datagram.link = <uint32_t> (packet.fragment_link - packet.network)
    return True


cdef inline void put16(uint8_t* at, uint32_t value) noexcept nogil:
    at[0] = <uint8_t> (value >> 8)
    at[1] = <uint8_t> value


cdef size_t build(DefragTable* table, const Datagram* datagram) noexcept nogil:
    """Write the whole packet into the output; its length."""
    cdef uint8_t* out = table.output
    cdef uint32_t length = datagram.header_len + datagram.total
    cdef const Piece* piece = datagram.pieces
    table.largest = datagram.largest
    memcpy(out, datagram.header, datagram.header_len)
    if datagram.ip_version == 4:
        put16(out + 2, length)
        put16(out + 6, out[6] << 8 & 0xC000)           # no offset, no MF; DF stays
        put16(out + 10, 0)
        put16(out + 10, 0xFFFF ^ checksum_fold(checksum_add(0, out, datagram.header_len)))
    else:
        put16(out + 4, length - IPV6_HEADER)
        out[datagram.link] = datagram.proto
    while piece != NULL:
        memcpy(out + datagram.header_len + piece.start, piece.data, piece.end - piece.start)
        piece = piece.next
    return length


cdef int check_fragment(const PacketRecord* packet) noexcept nogil:
    """Judge a fragment by itself; DEFRAG_PENDING when there is nothing against it."""
    if packet.fragment_len < packet.fragment_wire_len:
        return DEFRAG_DROPPED_CUT
    # RFC 791 section 3.2, RFC 8200 section 4.5: all but the last are multiples of 8, and none is empty.
    if packet.fragment_len == 0 or (packet.more_fragments and packet.fragment_len % 8):
        return DEFRAG_DROPPED_BAD
    return DEFRAG_PENDING


cdef int check_end(Datagram* datagram, uint32_t end, bint last) noexcept nogil:
    """Learn where the datagram ends; fragments that contradict each other there spoil it."""
    if datagram.total and (end > datagram.total or (last and end != datagram.total)):
        return DEFRAG_DROPPED_BAD
    if last and end < datagram.highest:
        return DEFRAG_DROPPED_BAD
    datagram.highest = max(datagram.highest, end)
    if last:
        datagram.total = end
    return DEFRAG_PENDING


cdef int add_to(DefragTable* table, Datagram* datagram, const PacketRecord* packet) noexcept nogil:
    """Add a well-formed fragment; from DEFRAG_DROPPED_CUT on the datagram is spoilt."""
    cdef uint32_t first = packet.fragment_offset
    cdef uint32_t room = payload_room(packet.ip_version, header_size(packet))
    cdef int result
    if first > room or packet.fragment_len > room - first:
        return DEFRAG_DROPPED_TOO_BIG
    if datagram.fragments == table.fragment_budget:
        return DEFRAG_DROPPED_TOO_MANY
    datagram.fragments += 1
    datagram.largest = max(datagram.largest, <uint32_t> (packet.fragment - packet.network) + packet.fragment_len)
    result = check_end(datagram, first + packet.fragment_len, not packet.more_fragments)
    if result != DEFRAG_PENDING:
        return result
    result = merge(table, datagram, first, first + packet.fragment_len, packet.fragment)
    if result > DEFRAG_DUPLICATE:
        return result
    if first == 0 and datagram.header == NULL and not keep_header(table, datagram, packet):
        return DEFRAG_DROPPED_MEMORY
    if datagram.total and datagram.held == datagram.total:
        # Each fragment fitted behind its own header; that of the first may be longer.
        room = payload_room(datagram.ip_version, datagram.header_len)
        return DEFRAG_COMPLETE if datagram.total <= room else DEFRAG_DROPPED_TOO_BIG
    return result


cdef int add_fragment(DefragTable* table, const PacketRecord* packet, size_t* length) noexcept nogil:
    cdef uint64_t[KEY_WORDS] key
    cdef Datagram* datagram
    cdef int result = check_fragment(packet)
    if result != DEFRAG_PENDING:
        return result
    expire_table(table, packet.time_ns)
    make_key(packet, key)
    datagram = find(table, key)
    if datagram == NULL:
        datagram = open_datagram(table, key, packet)
        if datagram == NULL:
            return DEFRAG_DROPPED_MEMORY
    if datagram.condemned:
        return DEFRAG_DROPPED_CONDEMNED
    result = add_to(table, datagram, packet)
    if result == DEFRAG_COMPLETE:
        length[0] = build(table, datagram)
        forget(table, datagram)
    elif result > DEFRAG_DUPLICATE:
        condemn(table, datagram)
    return result


@cython.final
cdef class Defragmenter:
    """Put IPv4 and IPv6 fragments together again.

    Args:
        key: 16 random bytes, the key of the hash table.
        policy: Whose bytes count where IPv4 fragments overlap: ``first``, ``last``, or those of
            ``bsd``, ``linux``, ``windows`` or ``solaris`` hosts.
        memory: Budget in bytes for all fragments held; at it the oldest datagrams are evicted.
        datagrams: Budget of incomplete datagrams.
        fragments: Budget of fragments of one datagram.
        ipv4_timeout: Seconds from a datagram's first fragment to its end.
        ipv6_timeout: The same for IPv6 (RFC 8200 section 4.5 says 60).

    Raises:
        ValueError: An argument is out of range, or the policy unknown.
    """

    def __cinit__(self, bytes key not None, *, str policy not None="first", size_t memory=4 << 20,
                  uint32_t datagrams=1024, uint32_t fragments=256, double ipv4_timeout=30.0,
                  double ipv6_timeout=60.0):
        cdef size_t buckets = 1
        if len(key) != 16:
            raise ValueError(f"key is {len(key)} bytes long; give 16")
        if policy not in POLICIES:
            raise ValueError(f"no overlap policy {policy!r}; choose one of {', '.join(POLICIES)}")
        if not 0 < datagrams <= 1 << 24 or fragments == 0 or not 0 < ipv4_timeout < 1e6 or not 0 < ipv6_timeout < 1e6:
            raise ValueError("budgets and time-outs must be positive, datagrams at most 2**24, time-outs below 1e6")
        while buckets < datagrams:
            buckets *= 2
        self.table.key0 = int.from_bytes(key[:8], "little")
        self.table.key1 = int.from_bytes(key[8:], "little")
        self.table.policy = POLICIES[policy]
        self.table.timeout_ns[0] = <int64_t> (ipv4_timeout * 1e9)
        self.table.timeout_ns[1] = <int64_t> (ipv6_timeout * 1e9)
        self.table.memory_budget = memory
        self.table.datagram_budget = datagrams
        self.table.fragment_budget = fragments
        self.table.mask = buckets - 1
        self.table.buckets = <Datagram**> calloc(buckets, sizeof(Datagram*))
        self.table.output = <uint8_t*> malloc(MAX_LENGTH + IPV6_HEADER)
        if self.table.buckets == NULL or self.table.output == NULL:
            raise MemoryError("no memory for the table of fragments")

    def __dealloc__(self):
        while self.table.datagrams:
            forget(&self.table, oldest_but(&self.table, NULL))
        free(self.table.buckets)
        free(self.table.output)

    cdef int add(self, const PacketRecord* packet, const uint8_t** data, size_t* captured) noexcept nogil:
        cdef int result = add_fragment(&self.table, packet, captured)
        self.table.fragments += 1
        self.table.results[result] += 1
        data[0] = self.table.output
        return result

    cdef size_t expire(self, int64_t now_ns) noexcept nogil:
        return expire_table(&self.table, now_ns)

    def statistics(self):
        """Count the fragments that came in and what became of them.

        Returns:
            Fragments in all and by outcome; datagrams begun, timed out and evicted; how often bytes
            overlapped; and the datagrams and bytes of memory held now.
        """
        cdef size_t outcome
        counts = {name: self.table.results[outcome] for outcome, name in enumerate(OUTCOMES)}
        return counts | {
            "fragments": self.table.fragments,
            "datagrams": self.table.started,
            "timeouts": self.table.timeouts,
            "evicted": self.table.evicted,
            "overlaps": self.table.overlaps,
            "held_datagrams": self.table.datagrams,
            "held_bytes": self.table.memory,
        }
