from collections.abc import Iterable, Sequence
from typing import final

from aiomos.ude.verifier import Step

@final
class Program:
    def __new__(cls, steps: Iterable[Sequence[int | bytes]]) -> Program: ...
    def __len__(self) -> int: ...
    def steps(self) -> list[Step]: ...
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

@final
class Predicates:
    def __new__(cls, program: Program, guard: Sequence[int], native: int, asks_flow: bool) -> Predicates: ...
    @property
    def program(self) -> Program: ...
    @property
    def native(self) -> int: ...
    @property
    def guard(self) -> list[int]: ...
