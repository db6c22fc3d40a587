# Of the kernel's and the C library's headers, what sends and receives frames in line.
from libc.stdint cimport uint16_t, uint32_t
from posix.uio cimport iovec

cdef extern from "<linux/if_packet.h>" nogil:
    enum:
        TP_STATUS_KERNEL
        TP_STATUS_USER
        TP_STATUS_VLAN_VALID
        TP_STATUS_VLAN_TPID_VALID
    struct tpacket2_hdr:
        uint32_t tp_status
        uint32_t tp_len
        uint32_t tp_snaplen
        uint16_t tp_mac
        uint32_t tp_sec
        uint32_t tp_nsec
        uint16_t tp_vlan_tci
        uint16_t tp_vlan_tpid

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_DONTWAIT
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    int sendmmsg(int fd, mmsghdr* messages, unsigned int count, int flags)

cdef extern from *:
    """
    #define aiomos_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define aiomos_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define aiomos_prefetch(p) __builtin_prefetch((p), 1, 3)
    """
    uint32_t aiomos_load_acquire(const uint32_t* p) noexcept nogil
    void aiomos_store_release(uint32_t* p, uint32_t value) noexcept nogil
    void aiomos_prefetch(const void* p) noexcept nogil
