import socket
from collections.abc import Sequence
from typing import Self, final

from aiomos.transport.bpf import Program
from aiomos.transport.packet_sockets import Fanout
from aiomos.transport.transport import Transport

COUNTERS: tuple[str, ...]

@final
class PacketWatch(Transport):
    def __new__(
        cls,
        interfaces: Sequence[str],
        *,
        sockets: Sequence[socket.socket] | None = None,
        block_size: int = ...,
        blocks: int = ...,
        retire_ms: int = ...,
        busy_poll: int = 0,
        prefilter: Program | None = None,
        promiscuous: bool = True,
        fanout: Fanout | None = None,
    ) -> Self: ...
    def set_prefilter(self, prefilter: Program | None) -> None: ...
