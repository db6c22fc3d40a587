import socket
import threading
import time
from collections.abc import Iterator, Sequence
from select import EPOLLIN, epoll

import aiomos
from aiomos import CONN_TEARDOWN, App, Flow, Transport, logging
from aiomos.transport.captures import open_captures
from aiomos.transport.interfaces import Interface

ETHERNET = 1  # LINKTYPE_ number
AT_ONCE = 1000


class Messages(Transport):
    """In line between two UNIX sockets (SOCK_SEQPACKET), a frame a message."""

    forwards = (1, 0)

    def __init__(self, first: socket.socket, second: socket.socket) -> None:
        self.sockets = [first, second]
        self.counts = {"received": 0, "sent": 0, "unsent": 0}
        self.poll = epoll()
        for number, sock in enumerate(self.sockets):
            sock.setblocking(False)
            self.poll.register(sock, EPOLLIN)
            self.interfaces.append(Interface("", f"socket{number}", ETHERNET, 0))
        self.open = {0, 1}

    def fileno(self) -> int:
        return self.poll.fileno()

    def receive(self) -> Sequence[tuple[int, bytes, int]]:
        return [frame for number in sorted(self.open) for frame in self._read(number)]

    def _read(self, number: int) -> Iterator[tuple[int, bytes, int]]:
        for _ in range(AT_ONCE):
            try:
                frame = self.sockets[number].recv(65536)
            except BlockingIOError:
                return
            if not frame:  # the other end was closed
                self.open.remove(number)
                self.ended = not self.open
                if self.open:  # the last one stays readable, and the end is seen
                    self.poll.unregister(self.sockets[number])
                return
            self.counts["received"] += 1
            yield time.time_ns(), frame, number

    def send(self, frame: bytes, interface: int = 0) -> None:
        try:
            self.sockets[interface].send(frame)
            self.counts["sent"] += 1
        except OSError:  # counted, not raised
            self.counts["unsent"] += 1

    def statistics(self) -> dict[str, int]:
        return self.counts

    def close(self) -> None:
        super().close()
        self.poll.close()
        for sock in self.sockets:
            sock.close()


app = App("own_transport")


@app.on(CONN_TEARDOWN)
def tell(flow: Flow) -> None:
    print(flow, flow.client.packets, flow.server.packets)


def play(path: str, client: socket.socket, server: socket.socket) -> None:
    """Be both hosts of a capture."""
    with open_captures([path]) as capture:
        for _, frame, _, _ in capture:
            here, there = (client, server) if frame[26:30] == bytes([192, 0, 2, 1]) else (server, client)
            here.send(frame)
            assert there.recv(65536) == frame
    client.close()
    server.close()


if __name__ == "__main__":
    (client, first), (server, second) = (
        socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)
    )
    logging.configure(level="warning")
    threading.Thread(target=play, args=("tests/data/http.pcap", client, server)).start()
    report = aiomos.run(app, transport=Messages(first, second))
    print({name: count for name, count in report.counters.items() if name.startswith("transport.")})
