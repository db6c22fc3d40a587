"""dump: each half in a file of its own, as the two ends read and wrote it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pytest
import structlog

import aiomos
from aiomos import OptionError, OutputError, outputs
from aiomos.apps import dump
from aiomos.descriptors import Descriptors
from tests.traffic import Traffic

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data"
CAPTURES = sorted([*DATA.glob("*.pcap*"), *DATA.glob("hard/*.pcap*")])
Files = dict[str, bytes]
Write = Callable[..., Files]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Run the app over captures with options; returns the files it wrote."""

    def run(*captures: Path, **options: Any) -> Files:
        directory = tmp_path / "deep" / "streams"
        shutil.rmtree(directory, ignore_errors=True)
        pairs = [f"directory={directory}", *(f"{name}={value}" for name, value in options.items())]
        dump.app.configure(pairs)
        aiomos.run(dump.app, pcap=captures)
        return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}

    return run


@pytest.fixture
def trace(tmp_path: Path) -> Callable[[Traffic], Path]:
    return lambda traffic: traffic.write(tmp_path / "trace.pcapng")


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_two_runs_write_the_same(capture: Path, write: Write) -> None:
    files = write(capture, midstream=True)
    assert len(files) % 2 == 0
    assert {name.rpartition(".")[2] for name in files} <= {"client", "server"}
    assert files == write(capture, midstream=True)


def test_each_half_is_a_file(write: Write, trace: Callable[[Traffic], Path]) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"question ")
    conn.server(b"answer")
    conn.client(b"again")
    conn.close()
    traffic.connection(1001, client="10.0.0.3").close()
    assert write(trace(traffic)) == {
        "10.0.0.1.1000-10.0.0.2.80.client": b"question again",
        "10.0.0.1.1000-10.0.0.2.80.server": b"answer",
        "10.0.0.3.1001-10.0.0.2.80.client": b"",
        "10.0.0.3.1001-10.0.0.2.80.server": b"",
    }


def test_requests_and_answers_of_real_traffic(write: Write) -> None:
    files = write(DATA / "http.pcap")
    clients = [data for name, data in files.items() if name.endswith(".client")]
    servers = [data for name, data in files.items() if name.endswith(".server")]
    assert all(data.startswith((b"GET ", b"POST ", b"PUT ")) for data in clients)
    assert all(data.startswith(b"HTTP/1.1 ") for data in servers)
    assert files == write(DATA / "http.pcap.gz") == write(DATA / "http.pcapng")


def test_the_bytes_do_not_depend_on_where_loss_was_captured(write: Write) -> None:
    """Before and after a wire that loses and reorders: the receiver read the same."""
    before, after = write(DATA / "loss_sender.pcap"), write(DATA / "loss_receiver.pcap")
    assert sorted(before.values()) == sorted(after.values())
    assert max(map(len, before.values())) > 10_000


def test_colons_of_ipv6_addresses_become_dashes(write: Write) -> None:
    names = sorted(write(DATA / "ipv6.pcap"))
    assert len(names) == 2
    assert all(name.startswith("2001-db8--1.") and "-2001-db8--2.80." in name for name in names)


def test_the_next_connection_of_the_same_name_is_numbered(
    write: Write, trace: Callable[[Traffic], Path]
) -> None:
    traffic = Traffic()
    for number in range(3):
        conn = traffic.connection()
        conn.client(b"%d" % number)
        conn.close()
        traffic.wait(300)
        traffic.cut()
    files = write(trace(traffic))
    assert {name: data for name, data in files.items() if name.endswith("client")} == {
        "10.0.0.1.1000-10.0.0.2.80.client": b"0",
        "10.0.0.1.1000-10.0.0.2.80-2.client": b"1",
        "10.0.0.1.1000-10.0.0.2.80-3.client": b"2",
    }


@pytest.mark.parametrize(("gaps", "expected"), [("skip", b"abfg"), ("zero", b"ab\0\0\0fg")])
def test_gaps_are_left_out_or_filled_and_reported(
    write: Write, trace: Callable[[Traffic], Path], gaps: str, expected: bytes
) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"ab")
    conn.client(b"fg", at=5)
    traffic.wait(2)
    conn.close()
    with structlog.testing.capture_logs() as logs:
        files = write(trace(traffic), gaps=gaps)
    assert files["10.0.0.1.1000-10.0.0.2.80.client"] == expected
    (entry,) = logs
    assert {key: entry[key] for key in ("event", "log_level", "offset", "length", "reason")} == {
        "event": "gap",
        "log_level": "warning",
        "offset": 2,
        "length": 3,
        "reason": "lost",
    }
    assert entry["file"] == "10.0.0.1.1000-10.0.0.2.80.client"


def test_zeros_stand_for_what_the_snap_length_cut_off(write: Write) -> None:
    capture = DATA / "hard" / "snapped.pcap"
    with structlog.testing.capture_logs() as logs:
        skipped, filled = write(capture), write(capture, gaps="zero")
    assert {entry["reason"] for entry in logs} == {"snaplen"}
    missing = sum(entry["length"] for entry in logs) // 2
    assert missing > 0
    assert sum(map(len, filled.values())) - sum(map(len, skipped.values())) == missing


def test_a_long_gap_is_filled_whole(write: Write, trace: Callable[[Traffic], Path]) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"ab")
    for at in range(50_000, 200_001, 50_000):
        conn.server(ack=at)
    conn.client(b"yz", at=200_000)
    traffic.wait(2)
    conn.close()
    with structlog.testing.capture_logs():
        files = write(trace(traffic), gaps="zero")
    assert files["10.0.0.1.1000-10.0.0.2.80.client"] == b"ab" + bytes(199_998) + b"yz"


def test_a_gap_takes_no_room(tmp_path: Path, trace: Callable[[Traffic], Path]) -> None:
    """However much a peer says was sent, the file holds what was captured, also where the gap is at its end."""
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"ab")
    for at in range(1, 500):
        conn.server(ack=60_000 * at)
    traffic.wait(2)
    conn.server(ack=60_000 * 500)
    conn.close()
    dump.app.configure([f"directory={tmp_path}", "gaps=zero"])
    with structlog.testing.capture_logs():
        aiomos.run(dump.app, pcap=[trace(traffic)])
    file = (tmp_path / "10.0.0.1.1000-10.0.0.2.80.client").stat()
    assert file.st_size == 30_000_000
    assert file.st_blocks * 512 < 100_000


def test_both_halves_of_a_reset_connection_are_written(
    write: Write, trace: Callable[[Traffic], Path]
) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"question")
    conn.server(b"part of an answ")
    conn.reset()
    with structlog.testing.capture_logs() as logs:
        files = write(trace(traffic))
    assert list(files.values()) == [b"question", b"part of an answ"]
    assert logs == []


def test_one_half_s_bytes_do_not_end_with_the_other_s_error(
    write: Write, trace: Callable[[Traffic], Path]
) -> None:
    """Both end in the same batch, with more to write on one side than comes in one read."""
    traffic = Traffic()
    conn = traffic.connection()
    for _ in range(100):
        conn.server(bytes(40_000))
        conn.client()
    conn.reset()
    files = write(trace(traffic))
    assert len(files["10.0.0.1.1000-10.0.0.2.80.server"]) == 4_000_000


def test_the_filter_picks_connections(write: Write) -> None:
    assert write(DATA / "http.pcap", filter="server port 81") == {}


def test_midstream_connections_are_marked_and_can_be_left_out(write: Write) -> None:
    capture = DATA / "hard" / "midstream.pcap"
    files = write(capture)
    assert [len(data) for data in files.values()] == [7, 19]
    assert [*files] == [f"10.0.0.1.40000-10.0.0.2.80-midstream.{side}" for side in ("client", "server")]
    assert write(capture, midstream=False) == {}


@pytest.mark.parametrize("pairs", [["gaps=mark"], ["speed=1"]])
def test_a_bad_option_is_refused(pairs: list[str]) -> None:
    with pytest.raises(OptionError):
        dump.app.configure(pairs)


# --- many connections, few files --------------------------------------------------------------------


def chatter(connections: int, rounds: int) -> Traffic:
    """Connections that are open together and speak in turn, so that each file is written again and again."""
    traffic = Traffic()
    opened = [traffic.connection(1000 + number) for number in range(connections)]
    for turn in range(rounds):
        for number, conn in enumerate(opened):
            conn.client(b"%d asks %d\n" % (number, turn))
            conn.server(b"%d answers %d\n" % (number, turn))
    for conn in opened:
        conn.close()
    return traffic


def test_many_connections_keep_few_files_open(
    tmp_path: Path, trace: Callable[[Traffic], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = trace(chatter(200, 5))
    most = 0

    class Watched(Descriptors):
        def use(self, key: Hashable, opened: Callable[[], int]) -> int:
            nonlocal most
            descriptor = super().use(key, opened)
            most = max(most, len(self))
            return descriptor

    monkeypatch.setattr(dump, "Descriptors", lambda: Watched(16))
    dump.app.configure([f"directory={tmp_path / 'streams'}"])
    aiomos.run(dump.app, pcap=[capture])
    assert most == 16
    for number in range(200):
        for side, verb in (("client", "asks"), ("server", "answers")):
            file = tmp_path / "streams" / f"10.0.0.1.{1000 + number}-10.0.0.2.80.{side}"
            assert file.read_text() == "".join(f"{number} {verb} {turn}\n" for turn in range(5))


def test_too_few_descriptors_are_enough(tmp_path: Path, trace: Callable[[Traffic], Path]) -> None:
    capture = trace(chatter(60, 2))
    command = f"ulimit -n 40; exec {sys.executable} -m aiomos run dump --pcap {capture} --set directory={tmp_path}/s"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "s").iterdir())) == 120


def test_a_file_that_cannot_be_made_or_written_ends_the_run(
    tmp_path: Path, trace: Callable[[Traffic], Path]
) -> None:
    capture = trace(chatter(2, 2))
    name = "10.0.0.1.1001-10.0.0.2.80.client"
    dump.app.configure([f"directory={tmp_path / 'streams'}"])
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams" / name).symlink_to("/dev/full")
    with pytest.raises(OutputError, match=f"/{name}: "):
        aiomos.run(dump.app, pcap=[capture])
    (tmp_path / "streams" / name).unlink()
    (tmp_path / "streams" / name).mkdir()
    with pytest.raises(OutputError, match=f"/{name}: Is a directory; "):
        aiomos.run(dump.app, pcap=[capture])


def test_names_are_given_once_though_few_are_remembered(
    tmp_path: Path, trace: Callable[[Traffic], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = Traffic()
    for turn in range(3):
        for number in range(10):
            conn = traffic.connection(1000 + number)
            conn.client(b"%d, turn %d" % (number, turn))
            conn.close()
        traffic.wait(300)
        traffic.cut()
    capture = trace(traffic)
    everything = {
        f"10.0.0.1.{1000 + number}-10.0.0.2.80{f'-{turn + 1}' if turn else ''}.client": f"{number}, turn {turn}"
        for number in range(10)
        for turn in range(3)
    }
    (tmp_path / "streams").mkdir()
    for name in everything:  # of an earlier run
        (tmp_path / "streams" / name).write_text("old")
        os.utime(tmp_path / "streams" / name, (1, 1))
    remembered: list[dump.Names] = []

    def few(directory: Path, **options: bool) -> dump.Names:
        remembered.append(names := kept(directory, remembered=4, **options))
        return names

    kept = dump.Names
    monkeypatch.setattr(dump, "Names", few)
    dump.app.configure([f"directory={tmp_path / 'streams'}"])
    aiomos.run(dump.app, pcap=[capture])
    assert {path.name: path.read_text() for path in (tmp_path / "streams").glob("*.client")} == everything
    assert len(remembered[0]) == 4


def test_a_worker_that_takes_the_place_of_another_overwrites_none_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there may be of the one before, which has told nobody what it had named."""
    for name in ("10.0.0.1.1000-10.0.0.2.80", "10.0.0.1.1000-10.0.0.2.80-2"):
        for side in ("client", "server"):
            (tmp_path / f"{name}.{side}").write_text("of the one before")
    monkeypatch.setattr(outputs.outputs, "continues", True, raising=False)
    dump.app.options = dump.Options(directory=tmp_path)
    traffic = Traffic()
    for _ in range(2):
        conn = traffic.connection()
        conn.client(b"new")
        conn.close()
        traffic.wait(1000)
    aiomos.run(dump.app, source=traffic.source())
    written = {path.name: path.read_text() for path in tmp_path.iterdir() if path.suffix == ".client"}
    assert written == {
        "10.0.0.1.1000-10.0.0.2.80.client": "of the one before",
        "10.0.0.1.1000-10.0.0.2.80-2.client": "of the one before",
        "10.0.0.1.1000-10.0.0.2.80-3.client": "new",
        "10.0.0.1.1000-10.0.0.2.80-4.client": "new",
    }
