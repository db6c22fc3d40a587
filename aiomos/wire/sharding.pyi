from enum import IntEnum

from typing_extensions import Buffer

class Mix(IntEnum):
    MIX_WORD = 0xCC9E2D51
    MIX_END = 0x85EBCA6B
    MIX_ENDS = 0xC2B2AE35

def shard_of(frame: Buffer, count: int, *, linktype: int = 1) -> int: ...
def shard_of_ends(source: tuple[str, int], destination: tuple[str, int], count: int) -> int: ...
