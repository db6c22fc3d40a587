import socket
from typing import Final, Self, final

from aiomos.transport.bpf import Program
from aiomos.transport.packet_sockets import Fanout
from aiomos.transport.ports import Port

DEFAULT_SLOTS: Final[int]

@final
class PacketPort(Port):
    def __new__(
        cls,
        interface: str,
        *,
        socket: socket.socket | None = None,
        slots: int = ...,
        busy_poll: int = 0,
        fanout: Fanout | None = None,
    ) -> Self: ...

def open_port_socket(
    interface: str,
    *,
    slots: int = ...,
    busy_poll: int = 0,
    fanout: Fanout | None = None,
    prefilter: Program | None = None,
) -> socket.socket: ...
