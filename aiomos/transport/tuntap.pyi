from typing import ClassVar, Self, final

from aiomos.transport.ports import Port, PortTransport

class DevicePort(Port):
    kind: ClassVar[int]
    def __new__(cls, interface: str, *, offload: bool = True) -> Self: ...

@final
class TapPort(DevicePort): ...

@final
class TunPort(DevicePort): ...

@final
class Tap(PortTransport):
    def __init__(self, interface: str) -> None: ...

@final
class Tun(PortTransport):
    def __init__(self, interface: str) -> None: ...
