from typing import final

from aiomos.transport.sim import Link, Wire
from aiomos.transport.transport import Transport

@final
class Delayed: ...

@final
class Impaired(Transport):
    def __init__(self, transport: Transport, *links: Link, seed: int = 0) -> None: ...
    @property
    def transport(self) -> Transport: ...
    @property
    def wires(self) -> tuple[Wire, ...]: ...
