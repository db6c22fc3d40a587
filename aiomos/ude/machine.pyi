from collections.abc import Iterable
from enum import IntEnum
from typing import final

class Op(IntEnum):
    RETURN = 0
    LOAD = 1
    CONSTANT = 2
    JUMP = 3
    JUMP_EQ = 4
    JUMP_NE = 5
    JUMP_IN = 6
    JUMP_OUT = 7
    JUMP_EQ_REGISTER = 8
    JUMP_NE_REGISTER = 9
    JUMP_LT_REGISTER = 10
    JUMP_GE_REGISTER = 11

class Field(IntEnum):
    CLIENT_ADDRESS = 0
    SERVER_ADDRESS = 1
    CLIENT_PORT = 2
    SERVER_PORT = 3
    VLAN_ID = 4
    IP_VERSION = 5
    PROTOCOL = 6

@final
class Program:
    def __new__(cls, instructions: Iterable[tuple[int, int, int, int, int, int]]) -> Program: ...
    def __len__(self) -> int: ...
    def matches(
        self,
        client: int,
        server: int,
        *,
        client_port: int,
        server_port: int,
        ip_version: int,
        proto: int,
        vlan: int | None = None,
    ) -> bool: ...

class Label:
    at: int
    def __init__(self) -> None: ...

class Assembler:
    def __init__(self) -> None: ...
    def emit(
        self, op: int, a: int = 0, b: int = 0, *, low: int = 0, high: int = 0, target: Label | None = None
    ) -> None: ...
    def bind(self, label: Label) -> None: ...
    def program(self) -> Program: ...
