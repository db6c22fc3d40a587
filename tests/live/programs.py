"""What talks over the wire and what watches it: servers, clients, tcpdump, and aiomos itself.

Nothing here waits for a time, only for something to happen, and for that not for ever.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aiomos.testing.packets import checksum, mss, tcp_frame
from tests.live.network import COMMAND_SECONDS, Host, run

ROOT = Path(__file__).parents[2]
"""The folder that holds the `aiomos` which is tested."""

READY = "ready"
"""The event that ``aiomos run`` logs when its sockets are open."""

MARK_PORT = 9


def program(name: str) -> str:
    """Return the path of a program, or skip the test."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def until(what: str, condition: Callable[[], Any], *, seconds: float = COMMAND_SECONDS) -> Any:
    """Look again and again until *condition* returns something true, and return that.

    Raises:
        TimeoutError: it did not in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not after {seconds} s: {what}")
        time.sleep(0.005)
    return found


def in_background(function: Callable[..., object], *arguments: object) -> threading.Thread:
    """Run a function in a thread."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def join(threads: Iterable[threading.Thread]) -> None:
    """Wait for threads that have been told to end."""
    for thread in threads:
        thread.join(COMMAND_SECONDS)
        assert not thread.is_alive(), f"{thread.name} was told to end and goes on"


# --- servers ------------------------------------------------------------------------------------------

NGINX_CONFIGURATION = """
daemon off; user root root; master_process off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; default_type application/octet-stream; sendfile on; keepalive_requests 10000;
  client_max_body_size 0; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{
    listen 80; listen [::]:80; root {directory}/www;
    location /upload {{ root {directory}/www; dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""


def start_nginx(host: Host, directory: Path, files: Mapping[str, bytes]) -> None:
    """Serve files by name at port 80 of a host, IPv4 and IPv6."""
    nginx = program("nginx")
    (directory / "www").mkdir(parents=True)
    for name, content in files.items():
        (directory / "www" / name).write_bytes(content)
    configuration = directory / "nginx.conf"
    configuration.write_text(NGINX_CONFIGURATION.format(directory=directory))
    server = host.start([nginx, "-p", directory, "-c", configuration, "-e", "stderr"])

    def ready() -> bool:
        if server.poll() is not None:
            raise RuntimeError(f"nginx ended with status {server.returncode}")
        return listens(host, 80)

    until("nginx listens", ready)


def start_iperf3(host: Host) -> None:
    """Start an iperf3 server at its port."""
    readers: list[threading.Thread] = []
    host.on_close(lambda: join(readers))  # after the server has ended
    server = host.start(
        [program("iperf3"), "--server", "--forceflush"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    said = server.stdout
    assert said
    until("iperf3 listens", lambda: "listening" in said.readline())
    readers.append(in_background(said.read))


def listens(host: Host, port: int) -> bool:
    """Say whether a TCP port of a host is open; asked over its loopback interface, which nobody watches."""
    try:
        host.connect("127.0.0.1", port).close()
    except ConnectionRefusedError:
        return False
    return True


def serve(
    host: Host, port: int, answer: Callable[[socket.socket], object], *, family: int = socket.AF_INET
) -> None:
    """Answer each TCP connection to a port by a function in a thread; it owns the connection."""
    listener = host.listen(port, family=family)
    listener.settimeout(None)
    conversations: list[tuple[socket.socket, threading.Thread]] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed with its network
                return
            conversations.append((connection, in_background(converse, connection)))

    def converse(connection: socket.socket) -> None:
        connection.settimeout(COMMAND_SECONDS)
        with suppress(OSError):  # that a client is gone is for its test to judge
            answer(connection)

    def end() -> None:
        listener.shutdown(socket.SHUT_RDWR)
        join([accepting])
        for connection, thread in conversations:
            with suppress(OSError):  # it has ended
                connection.shutdown(socket.SHUT_RDWR)
            join([thread])

    accepting = in_background(accept)
    host.on_close(end)


def echo(connection: socket.socket) -> None:
    """Send back all that comes, then close."""
    with connection:
        while data := connection.recv(1 << 16):
            connection.sendall(data)


def swallow(connection: socket.socket) -> None:
    """Read to the end, then close."""
    with connection:
        while connection.recv(1 << 16):
            pass


def echo_datagrams(host: Host, port: int) -> None:
    """Send back each datagram that comes to a UDP port."""
    sock = host.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host.address, port))
    sock.settimeout(0.1)  # nothing wakes a thread that waits for a datagram on an unconnected socket
    ending = threading.Event()

    def answer() -> None:
        while not ending.is_set():
            try:
                data, peer = sock.recvfrom(1 << 16)
                sock.sendto(data, peer)
            except TimeoutError:
                continue
            except OSError:
                return

    def end() -> None:
        ending.set()
        join([answering])

    answering = in_background(answer)
    host.on_close(end)


# --- clients ------------------------------------------------------------------------------------------


def curl(host: Host, *arguments: str) -> bytes:
    """Fetch what curl's arguments say, and return it.

    Raises:
        subprocess.CalledProcessError: curl failed; `returncode` says why.
    """
    options = ("--silent", "--show-error", "--fail", "--max-time", str(COMMAND_SECONDS))
    return host.run(program("curl"), *options, *arguments)


def iperf3(host: Host, address: str, *arguments: str) -> dict[str, Any]:
    """Run an iperf3 client, for a second if not told otherwise, and return its report."""
    arguments = arguments or ("--time", "1")
    report: dict[str, Any] = json.loads(
        host.run(program("iperf3"), "--client", address, "--json", *arguments)
    )
    return report


def read_all(sock: socket.socket) -> bytes:
    """Read a connection to its end, and close it."""
    with sock:
        return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def send_all(sock: socket.socket, data: bytes) -> None:
    """Send bytes and the end, but read on."""
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """Send bytes and the end, read the answer to its end, and close."""
    with sock:
        sender = in_background(send_all, sock, data)
        answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        sender.join()
    return answer


def wait_for_frame(sock: socket.socket, end: bytes) -> bytes:
    """Read frames of a packet socket until one ends so, and return it."""
    frame: bytes = until("the frame comes", lambda: (frame := sock.recv(1 << 16)).endswith(end) and frame)
    return frame


def talk_in_vlan(client: Host, server: Host, *, vid: int) -> None:
    """Send a connection in tagged frames, each after the one before it has come; no kernel listens to them."""
    isn = {"client": 2**32 - 3, "server": 2**32 - 4}
    nxt = dict(isn)
    ends = {"client": client.raw("eth0"), "server": server.raw("eth0")}
    addresses = {"client": ("10.9.0.1", 4242), "server": ("10.9.0.2", 99)}
    for flags, sender, data in [
        ("S", "client", b""),
        ("SA", "server", b""),
        ("A", "client", b""),
        ("PA", "client", b"question"),
        ("PA", "server", b"answer"),
        ("FA", "client", b""),
        ("FA", "server", b""),
        ("A", "client", b""),
    ]:
        receiver = "server" if sender == "client" else "client"
        (src, sport), (dst, dport) = addresses[sender], addresses[receiver]
        frame = tcp_frame(
            *(src, dst, sport, dport, nxt[sender], nxt[receiver] if "A" in flags else 0, flags, data),
            options=mss(1460) if "S" in flags else b"",
            vlan=vid,
        )
        ends[sender].send(frame)
        wait_for_frame(ends[receiver], frame[18:])  # the kernel has taken the tag out
        nxt[sender] = (nxt[sender] + len(data) + ("S" in flags) + ("F" in flags)) % 2**32


def retransmissions(host: Host) -> int:
    """Return how many segments a host's kernel has sent again (RetransSegs of proc_net(5))."""
    with host.inside():
        lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(dict(zip(names, values, strict=True))["RetransSegs"])


def ping(host: Host, address: str, data: bytes = b"are you there?") -> None:
    """Send an ICMP echo request, and wait for its reply."""
    ipv6 = ":" in address
    family, proto = (
        (socket.AF_INET6, socket.IPPROTO_ICMPV6) if ipv6 else (socket.AF_INET, socket.IPPROTO_ICMP)
    )
    request, reply, ip_header = (128, 129, 0) if ipv6 else (8, 0, 20)
    header = struct.pack("!BBHHH", request, 0, 0, os.getpid() & 0xFFFF, 1)
    if not ipv6:  # the kernel fills in that of ICMPv6
        header = header[:2] + struct.pack("!H", checksum(header + data)) + header[4:]
    with host.open_socket(family, socket.SOCK_RAW, proto) as sock:
        sock.settimeout(1)

        def answered() -> bool:
            # The network loses what it likes, a fragment of a large request for one: ask again, as ping(8) does.
            sock.sendto(header + data, (address, 0))
            with suppress(TimeoutError):
                while packet := sock.recv(1 << 16)[ip_header:]:
                    if packet[0] == reply and packet[4:] == header[4:] + data:
                        return True
            return False

        until(f"{address} answers", answered)


# --- watchers -----------------------------------------------------------------------------------------


class Capture:
    """A capture that tcpdump writes of an interface."""

    def __init__(self, host: Host, interface: str, path: Path, *arguments: str) -> None:
        if Path("/proc/self/setgroups").read_text().strip() == "deny":
            pytest.skip("tcpdump sets its groups, which this user namespace does not allow")
        self.path = path
        options = (
            "--immediate-mode",
            "-U",
            "-n",
            "-Z",
            "root",
            "--buffer-size=65536",
            "--time-stamp-precision=nano",
        )
        command = [program("tcpdump"), "-i", interface, "-w", str(path), *options, *arguments]
        self._tcpdump = host.start(command, stderr=subprocess.PIPE)
        assert self._tcpdump.stderr
        until("tcpdump listens", lambda: "listening on" in self._read_line())

    def _read_line(self) -> str:
        assert self._tcpdump.stderr
        line = self._tcpdump.stderr.readline()
        if not line:
            raise RuntimeError(f"tcpdump ended with status {self._tcpdump.wait()}")
        return line

    def finish(self, sender: Host, address: str) -> str:
        """End the capture when it holds all that has been sent so far: a datagram of *sender* marks the end.

        Returns:
            What tcpdump says at the end, its counts among it.
        """
        mark = os.urandom(16)
        with sender.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(mark, (address, MARK_PORT))
        until("tcpdump has written the end", lambda: mark in self.path.read_bytes()[-4096:])
        self._tcpdump.send_signal(signal.SIGINT)
        return self._tcpdump.communicate(timeout=COMMAND_SECONDS)[1]


class Ended(NamedTuple):
    """What a run of aiomos came to."""

    records: list[dict[str, Any]]
    """The JSON lines of its standard output."""
    log: list[dict[str, Any]]
    """The records of its log."""
    status: int


class Aiomos:
    """A process ``aiomos run ...`` in a host, ready when made.

    Args:
        host: Where it runs.
        directory: For what it writes; a fresh one.
        arguments: What follows ``aiomos run``.
    """

    def __init__(
        self, host: Host, directory: Path, *arguments: str | os.PathLike[str], ready: bool = True
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._out, self._err = directory / "stdout", directory / "stderr"
        command = [sys.executable, "-m", "aiomos", "run", "--log-format", "json", *arguments]
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = host.start(command, stdout=out, stderr=err, cwd=ROOT)
        if ready:
            self.wait_for(READY)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log so far."""
        return list(_json_lines(self._err))

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON lines of its standard output so far."""
        return list(_json_lines(self._out))

    def wait_for(self, event: str) -> dict[str, Any]:
        """Wait for a record of the log, and return it."""

        def look() -> dict[str, Any] | None:
            ended = self.process.poll() is not None
            for record in self.log:
                if record["event"] == event:
                    return record
            if ended:
                raise RuntimeError(
                    f"aiomos ended with status {self.process.returncode}:\n{self._err.read_text()}"
                )
            return None

        found: dict[str, Any] = until(f"aiomos logs {event!r}", look)
        return found

    def processor_seconds(self) -> float:
        """Return how much processor time it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, signal_number: int = signal.SIGTERM) -> Ended:
        """Ask it to end, and return what it came to."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        self.process.wait(COMMAND_SECONDS)
        return Ended(self.records, self.log, self.process.returncode)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines of a file that is still written to; others than JSON go under `text`."""
    for line in path.read_text().splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            yield json.loads(line)
        else:
            yield {"event": "", "text": line}


def ctl(socket_path: Path, *arguments: str) -> bytes:
    """Run ``aiomos ctl``, and return what it prints."""
    return run(sys.executable, "-m", "aiomos", "ctl", socket_path, *arguments, cwd=ROOT)


def offline(*arguments: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Run aiomos over captures, and return the JSON lines of its standard output."""
    output = run(sys.executable, "-m", "aiomos", "run", "--log-format", "json", *arguments, cwd=ROOT)
    return [json.loads(line) for line in output.splitlines()]
