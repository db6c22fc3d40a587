"""Super-segments and what becomes of them, built from their fields: neither is cut from the other."""

from __future__ import annotations

import attrs

from aiomos.testing.packets import ethernet, ipv4, ipv6, tcp, udp


@attrs.frozen(kw_only=True)
class SuperSegment:
    """What a host hands to its network card at once.

    Attributes:
        src: Source address; that of the other end is of the same version.
        dst: Destination address.
        proto: ``tcp`` or ``udp``.
        payload: All bytes.
        size: Bytes of each segment but the last.
        seq: Of the first byte.
        flags: All TCP flags that any of the segments has.
        options: TCP options.
        ip_id: IPv4 identification of the first.
        vlans: Tags.
        ip_options: IPv4 options.
    """

    src: str
    dst: str
    proto: str
    payload: bytes
    size: int
    seq: int = 0
    flags: str = "A"
    options: bytes = b""
    ip_id: int = 0
    vlans: tuple[int, ...] = ()
    ip_options: bytes = b""

    def whole(self) -> bytes:
        """Return the frame of all bytes."""
        return self._frame(self.payload, self.seq, self.flags, self.ip_id)

    def segments(self) -> list[bytes]:
        """Return the frames that go on the wire."""
        starts = range(0, len(self.payload), self.size)
        return [
            self._frame(
                self.payload[start : start + self.size],
                (self.seq + start) % 2**32,
                self._flags_of(first=number == 0, last=number == len(starts) - 1),
                (self.ip_id + number) % 2**16,
            )
            for number, start in enumerate(starts)
        ]

    def _flags_of(self, *, first: bool, last: bool) -> str:
        only_last = "" if last else "FP"
        only_first = "" if first else "C"
        return "".join(flag for flag in self.flags if flag not in only_last + only_first)

    def _frame(self, payload: bytes, seq: int, flags: str, ip_id: int) -> bytes:
        if self.proto == "tcp":
            carried = tcp(
                payload, src=self.src, dst=self.dst, seq=seq, flags=flags, options=self.options, ack=99
            )
        else:
            carried = udp(payload, src=self.src, dst=self.dst)
        proto = {"tcp": 6, "udp": 17}[self.proto]
        if ":" in self.src:
            return ethernet(ipv6(carried, src=self.src, dst=self.dst, proto=proto), vlan=self.vlans or None)
        packet = ipv4(carried, src=self.src, dst=self.dst, proto=proto, ip_id=ip_id, options=self.ip_options)
        return ethernet(packet, vlan=self.vlans or None)
