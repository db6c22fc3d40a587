"""Has pytest send what no kernel would hand over: frames with any `Offload`."""

from libc.stdint cimport uint32_t
from libc.string cimport memset

from aiomos.transport.ports cimport Port
from aiomos.wire.frame cimport OFFLOAD_NEEDS_CSUM, Frame, Offload


def send(Port port not None, bytes data not None, *, gso_type=None, gso_size=0, csum=None):
    """Send one frame by a port.

    Args:
        port: The port.
        data: Its bytes.
        gso_type: That of its Offload, 0 if it is no super-segment; None for a frame as it stands.
        gso_size: Bytes of payload of each segment.
        csum: Where its sum is to be taken from, and put: csum_start and csum_offset; None if it has one.

    Returns:
        Whether the wire took it.
    """
    cdef Frame frame
    cdef Offload offload
    memset(&frame, 0, sizeof(frame))
    memset(&offload, 0, sizeof(offload))
    frame.data = <const unsigned char*> <const char*> data
    frame.caplen = frame.wirelen = <uint32_t> len(data)
    frame.linktype = port.linktype
    if gso_type is not None:
        offload.gso_type, offload.gso_size = gso_type, gso_size
        if csum is not None:
            offload.flags = OFFLOAD_NEEDS_CSUM
            offload.csum_start, offload.csum_offset = csum
        frame.offload = &offload
    return port.send_frames(&frame, 1) == 1


def give_up(Port port not None):
    """Say that the frame for which a port had no room is not sent again."""
    port.count_full(1)
