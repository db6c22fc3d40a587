# Bytes held beyond a hole: a skip list of pieces for each half, and who wins where segments overlap.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos.tcp.pool cimport Pool, pool_at

cdef enum Policy:              # who wins bytes that two held segments share: docs/reference/overlap.md
    OVERLAP_FIRST = 0
    OVERLAP_LAST = 1
    OVERLAP_BSD = 2
    OVERLAP_LINUX = 3
    OVERLAP_WINDOWS = 4
    OVERLAP_SOLARIS = 5

cdef enum:
    SMALL_BLOCK = 2048
    LARGE_BLOCK = 65536

# A held stretch of bytes beyond a hole; ordered by start, disjoint.
ctypedef struct Piece:
    uint64_t start             # stream offsets
    uint64_t end
    uint64_t seg_start         # edges of the segment it came in
    uint64_t seg_end
    int64_t time_ns
    const uint8_t* data        # byte `start`; NULL at level BYTES, and where the snap length cut the bytes off
    uint64_t captured_end      # of a segment being held: data reaches to here; in a piece, `end`
    uint32_t next[4]
    uint32_t block             # where data lives
    bint large                 # of the pool of large blocks
    bint cut                   # its bytes were on the wire, but are not in the capture

# What the pieces of all halves are made of.
ctypedef struct Store:
    Pool pieces
    Pool small                 # blocks of SMALL_BLOCK bytes
    Pool large                 # blocks of LARGE_BLOCK bytes
    uint32_t half_budget       # Pieces.bytes of one half
    uint32_t random            # state of the skip list's coin

# The pieces of one half.
ctypedef struct Pieces:
    uint32_t head[4]           # skip list
    uint32_t count
    uint32_t bytes             # memory of their blocks

cdef bint store_open(Store* store, size_t flows, size_t held_bytes, size_t half_budget, uint32_t seed) noexcept nogil
cdef void store_close(Store* store) noexcept nogil
cdef uint32_t first_overlap(const Store* store, const Pieces* held, uint64_t offset) noexcept nogil
cdef uint64_t bytes_held(const Store* store, const Pieces* held, uint64_t start, uint64_t end) noexcept nogil
cdef bint has_blocks(const Store* store, uint64_t length) noexcept nogil
cdef bint has_room(const Store* store, const Pieces* held, uint64_t length, bint with_data) noexcept nogil
cdef uint64_t hold_segment(Store* store, Pieces* held, const Piece* new, int policy, bint* differs) noexcept nogil
cdef void drop_piece(Store* store, Pieces* held, uint32_t index) noexcept nogil
cdef void drop_pieces(Store* store, Pieces* held) noexcept nogil
cdef void drop_blocks(Store* store, Pieces* held) noexcept nogil

cdef inline Piece* piece_at(const Store* store, uint32_t index) noexcept nogil:
    return <Piece*> pool_at(&store.pieces, index)

cdef inline Piece* first_piece(const Store* store, const Pieces* held) noexcept nogil:
    """There must be one."""
    return piece_at(store, held.head[0])

cdef inline Pool* block_pool(Store* store, bint large) noexcept nogil:
    return &store.large if large else &store.small

cdef inline uint32_t block_size(bint large) noexcept nogil:
    return LARGE_BLOCK if large else SMALL_BLOCK
