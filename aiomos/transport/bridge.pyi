from collections.abc import Sequence
from typing import final

from aiomos.transport.ports import Port, PortTransport

@final
class Bridge(PortTransport):
    def __init__(
        self, first: Port | str, second: Port | str, *, fragment_ports: Sequence[Port] = ()
    ) -> None: ...
    def forward_batch(self) -> None: ...

def open_port(name: str) -> Port: ...
