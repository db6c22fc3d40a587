"""What workers write, put together: no processes, only records."""

from __future__ import annotations

import io
import pickle
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.workers import merging
from aiomos.workers.merging import AHEAD_BYTES, AHEAD_RECORD_BYTES, Files, Merger
from aiomos.workers.records import Reader, Record, What, written
from aiomos.workers.shared import SharedOutputs


def data(time_ns: int, text: bytes, output: int = 0) -> Record:
    return Record(What.DATA, output, time_ns, text)


def alive(time_ns: int) -> Record:
    return Record(What.TIME, 0, time_ns, b"")


def draw_sum(parts: Sequence[int], file: IO[bytes]) -> None:
    file.write(f"{parts} make {sum(parts)}\n".encode())


def draw_badly(parts: Sequence[int], file: IO[bytes]) -> None:  # noqa: ARG001
    raise ZeroDivisionError("on purpose")


@pytest.fixture
def stdout() -> io.BytesIO:
    return io.BytesIO()


# --- order ----------------------------------------------------------------------------------------


def test_a_record_waits_for_workers_that_may_send_an_earlier_one(stdout: io.BytesIO) -> None:
    merger = Merger(2, Files(2, stdout), ordered=True)
    merger.add(0, [data(5, b"five ")])
    assert stdout.getvalue() == b""
    merger.add(1, [data(3, b"three "), alive(4)])
    assert stdout.getvalue() == b"three "
    merger.add(1, [alive(6)])
    assert stdout.getvalue() == b"three five "


def test_of_one_time_the_first_worker_comes_first(stdout: io.BytesIO) -> None:
    merger = Merger(2, Files(2, stdout), ordered=True)
    merger.add(1, [data(5, b"second ")])
    merger.add(0, [alive(5)])
    assert stdout.getvalue() == b""  # it may still write something of that time
    merger.add(0, [data(5, b"first "), alive(6)])
    assert stdout.getvalue() == b"first second "


def test_a_worker_that_has_ended_is_not_waited_for(stdout: io.BytesIO) -> None:
    merger = Merger(2, Files(2, stdout), ordered=True)
    merger.add(0, [data(9, b"nine")])
    merger.end(1)
    assert stdout.getvalue() == b"nine"


def test_live_traffic_is_passed_on_as_it_comes(stdout: io.BytesIO) -> None:
    merger = Merger(2, Files(2, stdout), ordered=False)
    merger.add(0, [data(9, b"nine ")])
    merger.add(1, [data(1, b"one")])
    assert stdout.getvalue() == b"nine one"


def test_who_is_far_ahead_is_told_to_wait(stdout: io.BytesIO) -> None:
    merger = Merger(2, Files(2, stdout), ordered=True)
    merger.add(0, [data(1, bytes(AHEAD_BYTES + 1))])
    assert merger.is_ahead(0)
    merger.add(1, [alive(2)])
    assert not merger.is_ahead(0)


def test_the_bound_of_who_is_ahead_is_exact(stdout: io.BytesIO) -> None:
    merger = Merger(2, Files(2, stdout), ordered=True)
    merger.add(0, [data(1, bytes(AHEAD_BYTES - AHEAD_RECORD_BYTES))])
    assert not merger.is_ahead(0)
    merger.add(0, [data(1, b"")])
    assert merger.is_ahead(0)
    assert not merger.is_ahead(1)
    merger.end(1)
    assert not merger.is_ahead(0)


def test_records_that_have_passed_count_no_more(stdout: io.BytesIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many: each takes its bytes along, and what it takes besides."""
    monkeypatch.setattr(merging, "AHEAD_BYTES", 1000)
    merger = Merger(2, Files(2, stdout), ordered=True)
    for time in range(1000):
        for worker in range(2):
            merger.add(worker, [data(time, b"%d," % worker), alive(time)])
        assert not merger.is_ahead(0)
        assert not merger.is_ahead(1)
    for worker in range(2):
        merger.end(worker)
    assert merger._bytes == [0, 0]
    assert stdout.getvalue() == b"0,1," * 1000


def test_a_worker_s_time_does_not_go_back(stdout: io.BytesIO) -> None:
    """A record that is late passes late, and is no reason to wait for others."""
    merger = Merger(2, Files(2, stdout), ordered=True)
    merger.add(0, [alive(5), data(3, b"three ")])
    merger.add(1, [data(4, b"four ")])
    assert stdout.getvalue() == b"three four "
    merger.add(1, [data(9, b"nine "), data(7, b"seven ")])
    merger.add(0, [data(8, b"eight "), alive(10)])
    assert stdout.getvalue() == b"three four eight nine seven "
    assert merger._bytes == [0, 0]


@given(st.lists(st.lists(st.integers(0, 50)), min_size=1, max_size=4), st.randoms())
def test_any_arrival_gives_the_order_of_time(times: list[list[int]], random: object) -> None:
    """Whatever piece of whichever worker arrives next, the result is the same."""
    stdout = io.BytesIO()
    merger = Merger(len(times), Files(len(times), stdout), ordered=True)
    left = [
        [data(time, b"%d.%d " % (time, worker)) for time in sorted(own)] for worker, own in enumerate(times)
    ]
    while any(left):
        worker = random.choice([number for number, own in enumerate(left) if own])  # type: ignore[attr-defined]
        merger.add(worker, [left[worker].pop(0)])
    for worker in range(len(times)):
        merger.end(worker)
    expected = sorted((time, worker) for worker, own in enumerate(times) for time in own)
    assert stdout.getvalue().split() == [b"%d.%d" % pair for pair in expected]
    assert merger._bytes == [0] * len(times)


# --- files ----------------------------------------------------------------------------------------


def opened(path: Path) -> Record:
    return Record(What.OPEN, 1, 0, str(path).encode())


CLOSED = Record(What.CLOSE, 1, 0, b"")


def test_workers_share_a_file_until_the_last_has_closed_it(tmp_path: Path, stdout: io.BytesIO) -> None:
    path = tmp_path / "out"
    path.write_text("of an earlier run")
    files = Files(2, stdout)
    for worker in range(2):
        files.apply(worker, opened(path))
    files.apply(0, data(1, b"a", output=1))
    files.apply(0, CLOSED)
    files.apply(1, data(1, b"b", output=1))
    files.apply(1, CLOSED)
    assert path.read_bytes() == b"ab"
    files.close()


def test_a_worker_that_begins_anew_does_not_empty_the_file(tmp_path: Path, stdout: io.BytesIO) -> None:
    files = Files(1, stdout)
    files.apply(0, opened(tmp_path / "out"))
    files.apply(0, data(1, b"before ", output=1))
    files.apply(0, opened(tmp_path / "out"))
    files.apply(0, data(1, b"after", output=1))
    files.close()
    assert (tmp_path / "out").read_bytes() == b"before after"


def test_a_heading_is_written_once(stdout: io.BytesIO) -> None:
    files = Files(2, stdout)
    for worker in range(2):
        files.apply(worker, Record(What.HEADING, 0, 0, b"head "))
        files.apply(worker, data(1, b"body "))
    assert stdout.getvalue() == b"head body body "


def part(number: int, draw: object = draw_sum) -> Record:
    return Record(What.PART, 0, 0, pickle.dumps((pickle.dumps(draw), number)))


def test_a_summary_is_drawn_once_all_parts_are_there(stdout: io.BytesIO) -> None:
    files = Files(2, stdout)
    files.apply(1, part(20))
    assert stdout.getvalue() == b""
    files.apply(0, part(3))
    assert stdout.getvalue() == b"[3, 20] make 23\n"


def test_at_the_end_a_summary_is_drawn_of_the_parts_there_are(stdout: io.BytesIO) -> None:
    files = Files(2, stdout)
    files.apply(1, part(20))
    files.close()
    assert stdout.getvalue() == b"[20] make 20\n"


def test_a_summary_that_fails_is_logged_and_the_rest_goes_on(stdout: io.BytesIO) -> None:
    from structlog.testing import capture_logs

    files = Files(1, stdout)
    with capture_logs() as logs:
        files.apply(0, part(1, draw_badly))
    files.apply(0, data(1, b"more"))
    assert [record["event"] for record in logs] == ["summary_failed"]
    assert stdout.getvalue() == b"more"


# --- the way there --------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(1, 60), min_size=1))
def test_records_survive_any_cut(texts: list[bytes], cuts: list[int]) -> None:
    sent = b"".join(written(What.DATA, number, number, text) for number, text in enumerate(texts))
    reader, got = Reader(), []
    while sent:
        cut = cuts[len(got) % len(cuts)]
        got += reader.feed(sent[:cut])
        sent = sent[cut:]
    assert [record.data for record in got] == texts


def test_a_worker_sends_whole_lines_and_whole_records(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    with here, there:
        outputs = SharedOutputs(there)
        outputs.clock = lambda: 7
        file = outputs.open(tmp_path / "out")
        file.write(b"no newline")
        print("a", "b", file=outputs.stdout)
        outputs.stdout.write("begun")
        file.close()
        outputs.stdout.flush()
        outputs.beat()
        records = Reader().feed(here.recv(1 << 16))
    assert [(record.what, record.output, record.data) for record in records] == [
        (What.OPEN, 1, str(tmp_path / "out").encode()),
        (What.DATA, 1, b"no newline"),
        (What.DATA, 0, b"a b\n"),
        (What.CLOSE, 1, b""),
        (What.DATA, 0, b"begun"),
        (What.TIME, 0, b""),
    ]
    assert {record.time_ns for record in records} == {7}


def test_a_file_that_cannot_be_written_is_an_error_where_it_is_opened(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    with here, there, pytest.raises(FileNotFoundError, match="nowhere"):
        SharedOutputs(there).open(tmp_path / "nowhere" / "out")


def test_a_supervisor_that_is_gone_takes_nothing() -> None:
    here, there = socket.socketpair()
    here.close()
    with there:
        outputs = SharedOutputs(there)
        for _ in range(3):
            outputs.put(What.DATA, data=b"lost")
            outputs.flush()
            assert not outputs._waiting
