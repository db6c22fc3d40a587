"""Shows the messages by which hosts of a link find each other to pytest: ARP and neighbour discovery."""

from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

from aiomos.wire.addresses cimport address_read, address_text
from aiomos.wire.arp cimport ArpMessage, arp_read, arp_write
from aiomos.wire.frame cimport Frame
from aiomos.wire.ndp cimport NdpMessage, group_mac, ndp_read, ndp_write, solicited_node
from aiomos.wire.wire cimport Address, DecodeOptions, PacketRecord, WIRE_ICMP, decode_frame


def read_arp(bytes frame not None):
    """Operation, and MAC and IP address of sender and target; None for anything else."""
    cdef ArpMessage message
    if not arp_read(frame, len(frame), &message):
        return None
    return (message.operation, message.sender_mac[:6].hex(":"), address_text(&message.sender, 4),
            message.target_mac[:6].hex(":"), address_text(&message.target, 4))


def write_arp(operation, bytes sender_mac, sender, bytes target_mac, target, bytes to, size_t room=42):
    cdef ArpMessage message
    cdef bytearray out = bytearray(room)
    message.operation = operation
    memcpy(message.sender_mac, <char*> sender_mac, 6)
    memcpy(message.target_mac, <char*> target_mac, 6)
    address_read(sender, &message.sender)
    address_read(target, &message.target)
    return bytes(out[:arp_write(&message, to, <uint8_t*> <char*> out, room)])


def read_ndp(bytes frame not None):
    """The fields of a message that is to be believed; else None."""
    cdef PacketRecord packet
    cdef DecodeOptions options
    cdef Frame record
    cdef NdpMessage message
    memset(&options, 0, sizeof(options))
    memset(&record, 0, sizeof(record))
    record.data, record.linktype = frame, 1
    record.caplen = record.wirelen = len(frame)
    if decode_frame(&record, &options, &packet) != WIRE_ICMP or not ndp_read(&packet, &message):
        return None
    return {
        "type": message.type, "src": address_text(&message.src, 6), "dst": address_text(&message.dst, 6),
        "target": address_text(&message.target, 6), "flags": message.flags,
        "mac": message.mac[:6].hex(":") if message.has_mac else None,
        "router": (message.hop_limit, message.lifetime_s, message.reachable_ms, message.retransmit_ms, message.mtu),
    }


def write_ndp(type, src, dst, target, bytes own, bytes to, flags=0, bint tells_mac=True, size_t room=86):
    cdef NdpMessage message
    cdef bytearray out = bytearray(room)
    memset(&message, 0, sizeof(message))
    message.type, message.flags, message.has_mac = type, flags, tells_mac
    address_read(src, &message.src)
    address_read(dst, &message.dst)
    address_read(target, &message.target)
    return bytes(out[:ndp_write(&message, own, to, <uint8_t*> <char*> out, room)])


def group_of(target):
    """Where a target is asked for: group and MAC address."""
    cdef Address address, group
    cdef uint8_t[6] mac
    address_read(target, &address)
    solicited_node(&address, &group)
    group_mac(&group, mac)
    return address_text(&group, 6), mac[:6].hex(":")
