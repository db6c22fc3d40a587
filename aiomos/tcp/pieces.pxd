# Bytes held beyond a hole: a skip list of pieces for each half, and who wins where segments overlap.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos.wire.slabs cimport Slabs, block_at

cdef enum Policy:              # who wins bytes that two held segments share: docs/reference/overlap.md
    OVERLAP_FIRST = 0
    OVERLAP_LAST = 1
    OVERLAP_BSD = 2
    OVERLAP_LINUX = 3
    OVERLAP_WINDOWS = 4
    OVERLAP_SOLARIS = 5

# A held stretch of bytes beyond a hole; ordered by start, disjoint. It is a block of UNIT bytes, a few of its own
# behind it.
ctypedef struct Piece:
    uint64_t start             # stream offsets
    uint64_t end
    uint64_t seg_start         # edges of the segment it came in
    uint64_t seg_end
    int64_t time_ns
    const uint8_t* data        # byte `start`; NULL at level BYTES, and where the snap length cut the bytes off
    uint64_t captured_end      # of a segment being held: data reaches to here; in a piece, `end`
    uint32_t next[4]
    uint32_t block             # where data lives, 0: in the piece itself
    uint32_t older             # list of the pieces of all halves, in the order in which their segments came
    uint32_t newer
    uint32_t owner             # index of its half's track
    bint cut                   # its bytes were on the wire, but are not in the capture

# What the pieces of all halves are made of.
ctypedef struct Store:
    Slabs blocks
    uint64_t budget            # of `bytes`
    uint64_t bytes             # memory of pieces and their blocks; not of blocks that wait for delivery,
    uint64_t waiting           # which may be so much
    uint32_t oldest
    uint32_t newest
    uint32_t count             # pieces
    uint32_t half_budget       # Pieces.bytes of one half
    uint32_t random            # state of the skip list's coin

# The pieces of one half.
ctypedef struct Pieces:
    uint32_t head[4]           # skip list
    uint32_t count
    uint32_t bytes             # their memory

# The most that a segment may take, to be held.
ctypedef struct Room:
    uint32_t pieces
    uint64_t bytes
    uint64_t block             # length of the largest block

cdef bint store_open(Store* store, size_t held_bytes, size_t half_budget, uint32_t seed) noexcept nogil
cdef void store_close(Store* store) noexcept nogil
cdef uint32_t first_overlap(const Store* store, const Pieces* held, uint64_t offset) noexcept nogil
cdef uint64_t bytes_held(const Store* store, const Pieces* held, uint64_t start, uint64_t end) noexcept nogil
cdef void room_for(const Store* store, const Pieces* held, uint64_t start, uint64_t end, bint with_data,
                   Room* room) noexcept nogil
cdef bint half_has(const Store* store, const Pieces* held, const Room* room) noexcept nogil
cdef bint store_has(const Store* store, const Room* room) noexcept nogil
cdef uint64_t hold_segment(Store* store, Pieces* held, const Piece* new, int policy, bint* differs) noexcept nogil
cdef uint32_t take_piece(Store* store, Pieces* held, uint32_t index) noexcept nogil
cdef void drop_piece(Store* store, Pieces* held, uint32_t index) noexcept nogil
cdef void drop_pieces(Store* store, Pieces* held) noexcept nogil
cdef void drop_blocks(Store* store, Pieces* held) noexcept nogil

cdef inline Piece* piece_at(const Store* store, uint32_t index) noexcept nogil:
    return <Piece*> block_at(&store.blocks, index)

cdef inline Piece* first_piece(const Store* store, const Pieces* held) noexcept nogil:
    """There must be one."""
    return piece_at(store, held.head[0])
