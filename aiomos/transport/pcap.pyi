from typing import Self

from aiomos.transport.inputs import CaptureInput
from aiomos.transport.interfaces import Interface
from aiomos.transport.source import FrameSource

DEFAULT_BLOCK_SIZE: int
MIN_BLOCK_SIZE: int

class CaptureReader(FrameSource):
    def __new__(cls, file: CaptureInput, interfaces: list[Interface], block_size: int = ...) -> Self: ...
    @property
    def path(self) -> str: ...
