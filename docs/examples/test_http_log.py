from pathlib import Path

import http_log
import pytest

import aiomos
from aiomos.testing.packets import tcp_frame
from aiomos.transport.writer import CaptureWriter

CLIENT = {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 40000, "dport": 80}
SERVER = {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 80, "dport": 40000}
ISS, IRS = 2**32 - 10, 7000  # the client's sequence numbers wrap soon


def write_capture(path: Path, *requests: bytes) -> None:
    """Write a connection on which the client sends *requests*, a segment each, and closes."""
    seq = ISS + 1
    frames = [
        tcp_frame(**CLIENT, seq=ISS, flags="S"),
        tcp_frame(**SERVER, seq=IRS, ack=seq, flags="SA"),
        tcp_frame(**CLIENT, seq=seq, ack=IRS + 1, flags="A"),
    ]
    for request in requests:
        frames.append(tcp_frame(**CLIENT, seq=seq, ack=IRS + 1, flags="PA", payload=request))
        seq += len(request)
        frames.append(tcp_frame(**SERVER, seq=IRS + 1, ack=seq, flags="A"))
    frames += [
        tcp_frame(**CLIENT, seq=seq, ack=IRS + 1, flags="FA"),
        tcp_frame(**SERVER, seq=IRS + 1, ack=seq + 1, flags="FA"),
        tcp_frame(**CLIENT, seq=seq + 1, ack=IRS + 2, flags="A"),
    ]
    with CaptureWriter(path) as writer:
        for number, frame in enumerate(frames):
            writer.write(number * 1_000_000, frame)


def logged(tmp_path: Path, *requests: bytes, options: tuple[str, ...] = ()) -> list[str]:
    """Run the app over a connection; gives the lines it wrote."""
    capture, log = tmp_path / "in.pcap", tmp_path / "out.log"
    write_capture(capture, *requests)
    http_log.app.configure([f"path={log}", *options])
    aiomos.run(http_log.app, pcap=[capture], settings=aiomos.Settings(on_error="raise"))
    return log.read_text().splitlines()


@pytest.mark.parametrize("cut", [1, 9, 17])
def test_a_request_may_come_in_any_pieces(tmp_path: Path, cut: int) -> None:
    request = b"GET /a HTTP/1.1\r\n\r\n"
    assert logged(tmp_path, request[:cut], request[cut:]) == ["10.0.0.1 GET /a HTTP/1.1"]


def test_a_body_is_no_request(tmp_path: Path) -> None:
    upload = b"PUT /a HTTP/1.1\r\nContent-Length: 10\r\n\r\nGET / HTTP"
    assert logged(tmp_path, upload) == ["10.0.0.1 PUT /a HTTP/1.1"]


def test_only_the_methods_asked_for(tmp_path: Path) -> None:
    requests = (b"GET / HTTP/1.1\r\n\r\n", b"HEAD / HTTP/1.1\r\n\r\n")
    assert logged(tmp_path, *requests, options=("methods=HEAD",)) == ["10.0.0.1 HEAD / HTTP/1.1"]


def test_a_request_cut_short_is_told(tmp_path: Path) -> None:
    assert logged(tmp_path, b"GET / HT") == ["10.0.0.1 request cut short after 8 bytes"]
