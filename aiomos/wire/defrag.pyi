from typing import Self, final

@final
class Defragmenter:
    def __new__(
        cls,
        key: bytes,
        *,
        policy: str = "first",
        memory: int = 4194304,
        datagrams: int = 1024,
        fragments: int = 256,
        ipv4_timeout: float = 30.0,
        ipv6_timeout: float = 60.0,
    ) -> Self: ...
    def statistics(self) -> dict[str, int]: ...
