"""A program that sends SYNs, each of another source, as fast as it can: python -m tests.live.flood IFACE MAC ADDRESS N.

From frame to frame the low half of the source address grows while the source port and the IP identification shrink, so
one right checksum stays right for all.
"""

import socket
import struct
import sys

from aiomos.testing.packets import mac_bytes, mss, tcp_frame

BLOCK = 50_000
IP_ID, SRC_LOW, SPORT = 18, 28, 34
"""Where these are in a frame."""


def main(interface: str, mac: str, address: str, frames: int) -> None:
    """Send *frames* SYNs to port 9 of an address."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((interface, 0))
        for first in range(0, frames, BLOCK):
            frame = bytearray(syn(f"198.{18 + first // BLOCK}.0.0", address))
            frame[:6] = mac_bytes(mac)
            for number in range(min(BLOCK, frames - first)):
                struct.pack_into("!H", frame, IP_ID, 0xFFFF - number)
                struct.pack_into("!H", frame, SRC_LOW, number)
                struct.pack_into("!H", frame, SPORT, 0xFFFF - number)
                sender.send(frame)


def syn(src: str, dst: str) -> bytes:
    """Build the first SYN of a block."""
    return tcp_frame(src, dst, 0xFFFF, 9, flags="S", ip_id=0xFFFF, options=mss(1460))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
