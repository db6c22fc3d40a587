"""A send buffer as all the bytes ever written."""


class BufferModel:
    """Offsets into one `bytearray` that only grows."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.written = bytearray()
        self.acked = self.sent = 0

    @property
    def end(self) -> int:
        return len(self.written)

    def write(self, data: bytes) -> bool:
        if self.end - self.acked + len(data) > self.limit:
            return False
        self.written += data
        return True

    def find(self, offset: int, n: int) -> bytes:
        return bytes(self.written[offset : offset + n]) if offset >= self.acked else b""

    def send(self, n: int) -> None:
        self.sent = min(self.sent + n, self.end)

    def release(self, offset: int) -> None:
        self.acked = max(self.acked, min(offset, self.sent))
