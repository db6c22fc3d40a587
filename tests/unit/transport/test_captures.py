"""Opening captures by path, pattern and standard input."""

import gzip
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import zstandard

from aiomos.descriptors import Descriptors
from aiomos.errors import CaptureError
from aiomos.transport import captures
from aiomos.transport.captures import open_captures
from tests.unit.transport.formats import Sample, pcap, pcapng, rows, samples

COUNT_FRAMES = (
    "from aiomos.transport.captures import open_captures; print(sum(1 for _ in open_captures(['-'])))"
)


def write(path: Path, *seconds: int) -> Path:
    path.write_bytes(pcap(at(*seconds)))
    return path


def at(*seconds: int) -> list[Sample]:
    return [Sample(second, 0, b"%d" % second, 1) for second in seconds]


def test_one_file_by_string_or_path(tmp_path: Path) -> None:
    file = write(tmp_path / "a", 1, 2)
    assert list(open_captures([file])) == list(open_captures([str(file)])) == rows(at(1, 2))


def test_files_are_merged(tmp_path: Path) -> None:
    files = [write(tmp_path / "a", 1, 4), write(tmp_path / "b", 2, 3)]
    assert list(open_captures(files)) == rows(at(1, 2, 3, 4))


def test_pattern_stands_for_its_files_in_order_of_name(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.pcap", "a.pcap", "deep/c.pcap", "other"):
        write(tmp_path / name, 1)
    with open_captures([tmp_path / "**" / "*.pcap"]) as source:
        assert [Path(entry.path).name for entry in source.interfaces] == ["a.pcap", "b.pcap", "c.pcap"]


def test_pattern_without_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="pattern") as caught:
        open_captures([tmp_path / "*.pcap"])
    assert caught.value.filename == str(tmp_path / "*.pcap")


def test_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    file = write(tmp_path / "eth[0].pcap", 1)
    assert list(open_captures([file])) == rows(at(1))


def test_bad_file_among_good_ones_is_told_at_once(tmp_path: Path) -> None:
    good = write(tmp_path / "good", 1)
    bad = tmp_path / "bad"
    bad.write_text("not a capture")
    with pytest.raises(CaptureError) as caught:
        open_captures([good, bad])
    assert caught.value.path == str(bad)
    with pytest.raises(FileNotFoundError):
        open_captures([good, tmp_path / "missing"])


def test_arguments_that_cannot_be_meant(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        open_captures([])
    with pytest.raises(ValueError, match="standard input"):
        open_captures(["-", "-"])
    with pytest.raises(TypeError, match="list"):
        open_captures(str(tmp_path))
    with pytest.raises(ValueError, match="block_size"):
        open_captures([write(tmp_path / "a", 1)], block_size=1)


def test_hundreds_of_files(tmp_path: Path) -> None:
    for number in range(300):
        write(tmp_path / f"{number:03}.pcap", number, number + 1000)
    source = open_captures([tmp_path / "*.pcap"])
    assert list(source) == rows(at(*range(300), *range(1000, 1300)))


@pytest.mark.parametrize("block_size", [4096, 1 << 20])
def test_block_size_changes_no_frame(tmp_path: Path, block_size: int) -> None:
    (tmp_path / "a").write_bytes(pcap(samples(2000)))
    assert list(open_captures([tmp_path / "a"], block_size=block_size)) == rows(samples(2000))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("build", [pcap, pcapng])
def test_standard_input_is_a_pipe_or_a_file(tmp_path: Path, compress: object, build: object) -> None:
    assert callable(compress)
    assert callable(build)
    data = compress(build(samples(3000)))
    command = [sys.executable, "-c", COUNT_FRAMES]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    piped = subprocess.run(command, input=data, capture_output=True, check=True, env=environment)
    (tmp_path / "a").write_bytes(data)
    with open(tmp_path / "a", "rb") as file:
        redirected = subprocess.run(command, stdin=file, capture_output=True, check=True, env=environment)
    assert piped.stdout == redirected.stdout == b"3000\n"


# --- more captures than may be open ------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let eight captures be open at once."""
    monkeypatch.setattr(captures, "Descriptors", partial(Descriptors, 8))


def rotated(folder: Path, count: int, *, apart: int) -> list[Path]:
    """Captures of ten frames each, of all kinds, whose frames lie *apart* seconds from each other."""
    packed = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
    files = []
    for number in range(count):
        start = number * (10 if apart == 1 else 1)
        data = pcap(at(*range(1 + start, 1 + start + 10 * apart, apart)))
        suffix = list(packed)[number % 3]
        files.append(folder / f"{number:04}.pcap{suffix}")
        files[-1].write_bytes(packed[suffix](data))
    return files


@pytest.mark.parametrize("apart", [1, 50], ids=["one after the other", "all at once"])
@pytest.mark.usefixtures("few")
def test_many_captures_are_merged_though_few_are_open(tmp_path: Path, apart: int) -> None:
    files = rotated(tmp_path, 50, apart=apart)
    before = len(os.listdir("/proc/self/fd"))
    with open_captures(files, block_size=4096) as source:
        seconds = []
        for time_ns, *_ in source:
            seconds.append(time_ns // 10**9)
            assert len(os.listdir("/proc/self/fd")) <= before + 8
        assert seconds == list(range(1, 501))
        assert source.position() == source.total() == sum(file.stat().st_size for file in files)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.usefixtures("few")
def test_a_capture_that_was_replaced_meanwhile_is_not_read_on(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}" for number in range(20)]
    frame = bytes(60)
    for number, file in enumerate(files):
        file.write_bytes(pcap([Sample(number * 1000 + n, 0, frame, 1) for n in range(500)]))
    source = open_captures(files, block_size=4096)
    files[0].rename(tmp_path / "moved")
    files[0].write_bytes(files[1].read_bytes())
    files[1].unlink()
    with pytest.raises(CaptureError, match=f"^{files[0]}: another file has taken its place") as caught:
        list(source)
    assert any(str(files[1]) in note for note in caught.value.__notes__)
    assert source.frames_read > 18 * 500


def test_a_limit_of_the_shell_is_no_limit_on_captures(tmp_path: Path) -> None:
    for number in range(400):
        write(tmp_path / f"{number:03}.pcap", number)
    script = "import sys; " + COUNT_FRAMES.replace("['-']", "sys.argv[1:]")
    command = f"ulimit -n 24; exec {sys.executable} -c '{script}' {tmp_path}/*.pcap"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("400\n", "")
