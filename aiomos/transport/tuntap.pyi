from typing import ClassVar, final

from aiomos.transport.ports import Port, PortTransport

class DevicePort(Port):
    kind: ClassVar[int]
    def __init__(self, interface: str, *, offload: bool = True) -> None: ...

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
