"""Record the captures of real traffic beside this script; README.md tells what each is for.

Run as root on Linux, with iproute2, tcpdump, nginx, curl, openssl and editcap installed::

    python tests/data/record.py            # all of them
    python tests/data/record.py http reset # some

All traffic stays in network namespaces that the script makes and removes. The client is 192.0.2.1 and
2001:db8::1, the server 192.0.2.2 and 2001:db8::2; a wire between them can lose, repeat and reorder frames.
"""

from __future__ import annotations

import ctypes
import fcntl
import gzip
import os
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
CLIENT, SERVER = "192.0.2.1", "192.0.2.2"
CLIENT6, SERVER6 = "2001:db8::1", "2001:db8::2"
NOBODY = "192.0.2.9"

CLONE_NEWNET = 0x4000_0000
SIOCETHTOOL = 0x8946
ETHTOOL_SET = {"tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}
PACKET_OUTGOING = 4
QUIET = ("--silent", "--show-error", "--output", "/dev/null")
TCP_FASTOPEN_SERVER = 23

Recording = Callable[["Network"], None]
RECORDINGS: dict[str, Recording] = {}


def recording(function: Recording) -> Recording:
    """Register a recording under its function's name."""
    RECORDINGS[function.__name__] = function
    return function


# --- the network --------------------------------------------------------------------------------------


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Make this thread's new sockets and processes belong to *namespace*."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(descriptor: int) -> None:
        if libc.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter network namespace {namespace}")

    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{namespace}") as there:
        enter(there.fileno())
        try:
            yield
        finally:
            enter(home.fileno())


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def set_offloads(interface: str, on: bool) -> None:
    """Switch checksum and segmentation offload of an interface of this namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in ETHTOOL_SET.values():
            value = ctypes.create_string_buffer(struct.pack("=II", command, on))
            fcntl.ioctl(sock, SIOCETHTOOL, struct.pack("16sP8x", interface.encode(), ctypes.addressof(value)))


class Wire(threading.Thread):
    """Carry frames between two interfaces, with faults drawn from a seeded generator."""

    def __init__(self, ends: tuple[socket.socket, socket.socket]) -> None:
        super().__init__(daemon=True)
        self.ends = ends
        self.lossy = False
        self._random = random.Random(9293)
        self._held: list[tuple[socket.socket, bytes]] = []
        self._stopped = threading.Event()

    def run(self) -> None:
        other = dict(zip(self.ends, reversed(self.ends), strict=True))
        while not self._stopped.is_set():
            ready, _, _ = select.select(self.ends, [], [], 0.05)
            for end in ready:
                frame, address = end.recvfrom(65536)
                if address[2] != PACKET_OUTGOING:
                    self._carry(other[end], frame)
            if not ready:
                self._release()

    def _carry(self, end: socket.socket, frame: bytes) -> None:
        dice = self._random.random() if self.lossy else 1.0
        if dice < 0.06:
            return
        if dice < 0.12:
            self._held.append((end, frame))
            return
        end.send(frame)
        if dice < 0.15:
            end.send(frame)
        if len(self._held) > 1 or dice < 0.5:
            self._release()

    def _release(self) -> None:
        for end, frame in self._held:
            end.send(frame)
        self._held.clear()

    def stop(self) -> None:
        self._stopped.set()
        self.join()
        for end in self.ends:
            end.close()


class Network:
    """Namespaces `client` and `server`, each with an interface `eth0`, and the wire between them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """For files that only live as long as the network."""
        self.client = f"aiomos-client-{os.getpid()}"
        self.server = f"aiomos-server-{os.getpid()}"
        self._middle = f"aiomos-wire-{os.getpid()}"
        self.wire: Wire

    def __enter__(self) -> Network:
        for namespace in (self.client, self.server, self._middle):
            run("ip", "netns", "add", namespace)
        addresses = {self.client: (CLIENT, CLIENT6, "02::1"), self.server: (SERVER, SERVER6, "02::2")}
        ends = []
        for number, (namespace, (address, address6, _)) in enumerate(addresses.items()):
            near = ("ip", "-n", namespace)
            middle = f"wire{number}"
            run(*near, "link", "add", "eth0", "address", f"02:00:00:00:00:0{number + 1}", "type", "veth",
                "peer", "name", middle, "netns", self._middle)  # fmt: skip
            run(*near, "addr", "add", f"{address}/24", "dev", "eth0")
            run(*near, "addr", "add", f"{address6}/64", "dev", "eth0", "nodad")
            run(*near, "link", "set", "lo", "up")
            run(*near, "link", "set", "eth0", "addrgenmode", "none", "up")
            with inside(namespace):
                set_offloads("eth0", on=False)
            with inside(self._middle):
                run("ip", "link", "set", middle, "addrgenmode", "none", "up")
                end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
                end.bind((middle, 0))
                ends.append(end)
        run("ip", "-n", self.client, "neigh", "add", NOBODY, "lladdr", "02:00:00:00:00:09", "dev", "eth0")
        self.wire = Wire((ends[0], ends[1]))
        self.wire.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.stop()
        for namespace in (self.client, self.server, self._middle):
            run("ip", "netns", "del", namespace)

    def sysctl(self, namespace: str, name: str, value: object) -> None:
        with inside(namespace):
            Path("/proc/sys/net", *name.split(".")).write_text(str(value))

    @contextmanager
    def straight(self) -> Iterator[None]:
        """Join the two ends by a bridge, with all offloads on, for the time of the block."""
        self.wire.stop()
        with inside(self._middle):
            run("ip", "link", "add", "bridge0", "type", "bridge")
            for middle in ("wire0", "wire1"):
                run("ip", "link", "set", middle, "master", "bridge0")
            run("ip", "link", "set", "bridge0", "addrgenmode", "none", "up")
        for namespace in (self.client, self.server):
            with inside(namespace):
                set_offloads("eth0", on=True)
        yield

    @contextmanager
    def capture(self, namespace: str, name: str, *options: str, link: str = "eth0") -> Iterator[None]:
        """Write what passes *namespace*'s interface during the block to the capture file *name*."""
        command = ["tcpdump", "-i", link, "-w", str(HERE / name), "-Z", "root", "-U", "--immediate-mode"]
        with inside(namespace):
            tcpdump = subprocess.Popen([*command, *(options or ("tcp",))], stderr=subprocess.PIPE, text=True)
        assert tcpdump.stderr
        while "listening on" not in tcpdump.stderr.readline():
            if tcpdump.poll() is not None:
                raise RuntimeError(f"tcpdump did not start for {name}")
        yield
        time.sleep(0.3)
        tcpdump.send_signal(signal.SIGINT)
        tcpdump.communicate()
        print(f"{name}: {(HERE / name).stat().st_size} bytes")

    def listen(self, port: int, *, ipv6: bool = False) -> socket.socket:
        with inside(self.server):
            family = socket.AF_INET6 if ipv6 else socket.AF_INET
            return socket.create_server(("", port), family=family)

    def connect(self, port: int, *, local_port: int = 0, host: str = SERVER) -> socket.socket:
        with inside(self.client):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((CLIENT, local_port))
            sock.connect((host, port))
            return sock

    def pair(self, port: int, *, local_port: int = 0) -> tuple[socket.socket, socket.socket]:
        """Connect; return the client's and the server's socket."""
        with self.listen(port) as listener:
            client = self.connect(port, local_port=local_port)
            return client, listener.accept()[0]

    def curl(self, *arguments: str) -> None:
        with inside(self.client):
            run(
                "curl",
                "--silent",
                "--show-error",
                "--fail",
                "--insecure",
                "--output",
                "/dev/null",
                *arguments,
            )

    @contextmanager
    def nginx(self) -> Iterator[None]:
        """Serve three files of known content on ports 80 and 443."""
        root = self.directory / "www"
        root.mkdir(exist_ok=True)
        (root / "index.html").write_text("<!doctype html><title>aiomos</title><p>Hello, middlebox.\n")
        (root / "words.txt").write_bytes(words(20_000))
        (root / "noise.bin").write_bytes(random.Random(1).randbytes(12_000))
        make_certificate(self.directory)
        configuration = self.directory / "nginx.conf"
        configuration.write_text(NGINX_CONFIGURATION.format(directory=self.directory))
        with inside(self.server):
            command = ["nginx", "-p", str(self.directory), "-c", str(configuration), "-e", "stderr"]
            nginx = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        with inside(self.server):
            while True:
                try:
                    socket.create_connection(("127.0.0.1", 80)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
        try:
            yield
        finally:
            nginx.terminate()
            nginx.wait()


NGINX_CONFIGURATION = """
daemon off; master_process off; pid {directory}/nginx.pid; worker_processes 1; error_log stderr crit;
events {{ }}
http {{
  access_log off; gzip on; gzip_types text/plain; default_type text/plain; types {{ text/html html; }}
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{
    listen 80; listen [::]:80; listen 443 ssl; listen [::]:443 ssl;
    ssl_certificate {directory}/certificate.pem; ssl_certificate_key {directory}/key.pem;
    root {directory}/www;
    location /upload {{ return 204; }}
  }}
}}
"""


def make_certificate(directory: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "36500", "-subj", "/CN=server.example", "-addext", "subjectAltName=DNS:server.example",
         "-keyout", str(directory / "key.pem"), "-out", str(directory / "certificate.pem")],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def words(size: int) -> bytes:
    """Return compressible text that is the same every time."""
    rng = random.Random(2)
    vocabulary = ["flow", "half", "frame", "packet", "segment", "window", "gap", "hole", "state", "event"]
    return " ".join(rng.choice(vocabulary) for _ in range(size))[:size].encode()


def read_all(sock: socket.socket) -> bytes:
    """Read to the end and close."""
    with sock:
        return b"".join(iter(lambda: sock.recv(65536), b""))


def send_all(sock: socket.socket, data: bytes) -> None:
    """Send and close."""
    with sock:
        sock.sendall(data)


def in_background(function: Callable[..., object], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


def reset(sock: socket.socket) -> None:
    """Close by RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- the recordings -------------------------------------------------------------------------------------


@recording
def http(net: Network) -> None:
    """Two connections: three requests kept alive, the second compressed; then an upload."""
    body = net.directory / "body.bin"
    body.write_bytes(random.Random(3).randbytes(6_000))
    base = f"http://{SERVER}"
    with net.nginx(), ExitStack() as stack:
        stack.enter_context(net.capture(net.client, "http.pcap"))
        stack.enter_context(net.capture(net.server, "one_sided.pcap", f"tcp and src host {SERVER}"))
        net.curl(f"{base}/", "--next", "--compressed", *QUIET, f"{base}/words.txt", "--next", *QUIET,
                 f"{base}/noise.bin")  # fmt: skip
        net.curl("--data-binary", f"@{body}", f"{base}/upload")
    capture = (HERE / "http.pcap").read_bytes()
    (HERE / "http.pcap.gz").write_bytes(gzip.compress(capture, mtime=0))
    run("editcap", "-F", "pcapng", str(HERE / "http.pcap"), str(HERE / "http.pcapng"))


@recording
def ipv6(net: Network) -> None:
    with net.nginx(), net.capture(net.client, "ipv6.pcap"):
        net.curl(f"http://[{SERVER6}]/words.txt")


@recording
def tls(net: Network) -> None:
    name = ("--resolve", f"server.example:443:{SERVER}")
    with net.nginx(), net.capture(net.client, "tls.pcap"):
        net.curl(*name, "https://server.example/")
        net.curl(*name, "--tls-max", "1.2", "https://server.example/")


@recording
def cooked(net: Network) -> None:
    """The pseudo-interface `any`: Linux cooked capture, version 2."""
    with net.nginx(), net.capture(net.client, "cooked.pcap", link="any"):
        net.curl(f"http://{SERVER}/")


@recording
def half_close(net: Network) -> None:
    """The client ends its half first; the server answers with 40 kB after that."""
    with net.capture(net.client, "half_close.pcap", "--time-stamp-precision=nano", "tcp"):
        client, server = net.pair(7000)
        client.sendall(b"SORT\n" + words(3000))
        client.shutdown(socket.SHUT_WR)
        reader = in_background(read_all, client)
        while server.recv(65536):
            pass
        server.sendall(words(40_000))
        server.close()
        reader.join()


@recording
def resets(net: Network) -> None:
    """The client resets; the server resets because of unread data; a port nobody listens on."""
    with net.capture(net.client, "reset.pcap"):
        client, server = net.pair(7001)
        client.sendall(b"hello\n")
        server.recv(100)
        server.sendall(b"goodbye\n")
        client.recv(100)
        reset(client)
        server.close()

        client, server = net.pair(7001)
        client.sendall(b"never read\n")
        time.sleep(0.1)
        server.close()
        client.close()

        for _ in range(2):
            try:
                net.connect(7009)
            except ConnectionRefusedError:
                continue


@recording
def unanswered(net: Network) -> None:
    """A SYN that is sent three times and never answered."""
    with net.capture(net.client, "unanswered.pcap"), inside(net.client), socket.socket() as sock:
        sock.settimeout(4)
        try:
            sock.connect((NOBODY, 80))
        except TimeoutError:
            return


@recording
def reuse(net: Network) -> None:
    """Four connections with the same ports, one right after the other."""
    with net.capture(net.client, "reuse.pcap"):
        for number in range(4):
            client, server = net.pair(7002, local_port=40_000)
            server.sendall(b"connection %d\n" % number)
            if number == 1:
                client.recv(100)
                reset(client)
                server.close()
                continue
            server.close()  # first, so that TIME_WAIT is the server's and the client's port is free
            read_all(client)
            time.sleep(0.05)


@recording
def loss(net: Network) -> None:
    """One transfer seen before and after a wire that loses, repeats and reorders frames."""
    with ExitStack() as stack:
        stack.enter_context(net.capture(net.server, "loss_sender.pcap"))
        stack.enter_context(net.capture(net.client, "loss_receiver.pcap"))
        client, server = net.pair(7003)
        net.wire.lossy = True
        writer = in_background(send_all, server, random.Random(4).randbytes(60_000))
        read_all(client)
        writer.join()
        time.sleep(1)
    net.wire.lossy = False


@recording
def keepalive(net: Network) -> None:
    with net.capture(net.client, "keepalive.pcap"):
        client, server = net.pair(7004)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            client.setsockopt(socket.IPPROTO_TCP, option, 1)
        client.sendall(b"still there?\n")
        server.recv(100)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        time.sleep(3.5)
        client.close()
        server.close()


@recording
def zero_window(net: Network) -> None:
    """The server stops reading until the window is shut and has been probed, then reads on."""
    with net.capture(net.client, "zero_window.pcap"), net.listen(7005) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client = net.connect(7005)
        server = listener.accept()[0]
        writer = in_background(send_all, client, words(40_000))
        time.sleep(2)
        read_all(server)
        writer.join()


@recording
def urgent(net: Network) -> None:
    with net.capture(net.client, "urgent.pcap"):
        client, server = net.pair(7006)
        client.sendall(b"before")
        client.send(b"!", socket.MSG_OOB)
        client.sendall(b"after")
        client.close()
        read_all(server)


@recording
def fastopen(net: Network) -> None:
    """The first connection fetches a cookie, the second sends data in its SYN."""
    net.sysctl(net.client, "ipv4.tcp_fastopen", 1)
    net.sysctl(net.server, "ipv4.tcp_fastopen", 2)
    with net.capture(net.client, "fastopen.pcap"), net.listen(7007) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_SERVER, 5)
        for _ in range(2):
            with inside(net.client):
                client = socket.socket()
            client.sendto(b"GET / in the SYN\n", socket.MSG_FASTOPEN, (SERVER, 7007))
            server = listener.accept()[0]
            server.recv(100)
            server.sendall(b"200 early\n")
            server.close()
            read_all(client)


@recording
def ecn(net: Network) -> None:
    """A transfer that negotiated ECN (RFC 3168)."""
    for namespace in (net.client, net.server):
        net.sysctl(namespace, "ipv4.tcp_ecn", 1)
    with net.capture(net.client, "ecn.pcap"):
        client, server = net.pair(7008)
        server.sendall(words(5000))
        server.close()
        read_all(client)


@recording
def offload(net: Network) -> None:
    """Super-segments of up to 64 kB whose checksums nobody filled in, as captured with offloads on."""
    with net.straight(), net.capture(net.client, "offload.pcap"):
        client, server = net.pair(7010)
        writer = in_background(send_all, server, words(130_000))
        read_all(client)
        writer.join()


def main(names: Sequence[str]) -> None:
    if unknown := set(names) - set(RECORDINGS):
        sys.exit(f"no such recording: {', '.join(sorted(unknown))}; there are {', '.join(RECORDINGS)}")
    needed = ("ip", "tcpdump", "nginx", "curl", "openssl", "editcap")
    if missing := [program for program in needed if not shutil.which(program)]:
        sys.exit(f"please install: {', '.join(missing)}")
    for name in names or RECORDINGS:
        with tempfile.TemporaryDirectory() as directory, Network(Path(directory)) as net:
            RECORDINGS[name](net)


if __name__ == "__main__":
    main(sys.argv[1:])
