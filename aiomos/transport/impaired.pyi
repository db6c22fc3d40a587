from typing import Self, final

from aiomos.transport.sim import Link, Wire
from aiomos.transport.transport import Transport

@final
class Delayed: ...

@final
class Impaired(Transport):
    def __new__(cls, transport: Transport, *links: Link, seed: int = 0) -> Self: ...
    @property
    def transport(self) -> Transport: ...
    @property
    def wires(self) -> tuple[Wire, ...]: ...
