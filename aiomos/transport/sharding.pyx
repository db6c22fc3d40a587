"""Which worker has a flow: a symmetric hash of its two ends, in software and as a program for the kernel.

Both directions of a TCP or UDP flow over IPv4 or IPv6 have one hash. Fragments, and what is neither TCP nor UDP, go by
their addresses alone; frames without IP have 0. The shard is the hash modulo the number of shards, as the kernel takes
it for a group of sockets of PACKET_FANOUT_CBPF.

The hash has no key: traffic can be made up that all falls to one worker.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.tcp.wire cimport Address, DecodeOptions, Packet, decode_frame
from aiomos.transport.frame cimport Frame

from ipaddress import ip_address


def shard_of(const uint8_t[::1] frame not None, uint32_t count, *, uint16_t linktype=1):
    """Tell which of *count* shards a frame belongs to.

    The kernel's program (`aiomos.transport.fanout`) says the same of Ethernet with IP in it, behind up to five VLAN
    tags or PPPoE. It does not look into MPLS, SNAP and other tags, which all have hash 0 there.

    Args:
        frame: Bytes from the link layer on.
        count: How many shards there are, at least 1.
        linktype: LINKTYPE_ number of the frame.

    Returns:
        0 to *count* - 1.

    Raises:
        ValueError: *count* is 0.
    """
    cdef Frame native
    cdef Packet packet
    cdef DecodeOptions options
    native.data = &frame[0] if frame.shape[0] else NULL
    native.caplen = native.wirelen = <uint32_t> frame.shape[0]
    native.time_ns = 0
    native.linktype = linktype
    native.interface = 0
    native.offload = NULL
    options.verify_checksums = False
    options.decapsulate = False
    decode_frame(&native, &options, &packet)
    return flow_hash(&packet) % at_least_one(count)


def shard_of_ends(source, destination, uint32_t count):
    """Tell which of *count* shards a TCP or UDP flow belongs to.

    Args:
        source: Address, as text, and port of an end.
        destination: Those of the other end, of the same family.
        count: How many shards there are, at least 1.

    Returns:
        0 to *count* - 1; the same with the ends exchanged.

    Raises:
        ValueError: *count* is 0, an address is none, or they are not of one family.
    """
    cdef Address src, dst
    first, second = ip_address(source[0]), ip_address(destination[0])
    if first.version != second.version:
        raise ValueError(f"{first} and {second} are not of one family")
    src, dst = native_address(int(first)), native_address(int(second))
    return ends_hash(&src, source[1], &dst, destination[1], first.version) % at_least_one(count)


cdef Address native_address(number):
    return Address(hi=<uint64_t> (number >> 64), lo=<uint64_t> (number & 0xFFFFFFFFFFFFFFFF))


cdef uint32_t at_least_one(uint32_t count) except 0:
    if count == 0:
        raise ValueError("there must be at least one shard")
    return count
