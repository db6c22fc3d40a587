"""Descriptors: few files are open at once, and fewer where the system allows fewer."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from aiomos import descriptors
from aiomos.descriptors import LEAST, MOST, Descriptors, fair_limit


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str], Callable[[], int]]:
    """What opens a file of this name, and notes it in the file `opened`."""

    def opener(name: str) -> Callable[[], int]:
        def open_it() -> int:
            with (tmp_path / "opened").open("a") as log:
                log.write(name)
            return os.open(tmp_path / name, os.O_CREAT | os.O_RDWR)

        return open_it

    return opener


@contextmanager
def limited(files: int) -> Iterator[None]:
    """Allow this process so many more open files than it has."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + files + 1, before[1]))
    taken = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(files):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in taken:
            os.close(descriptor)


def test_those_used_last_stay_open(opened: Callable[[str], Callable[[], int]], tmp_path: Path) -> None:
    files = Descriptors(2)
    for name in "ababcacb":
        os.write(files.use(name, opened(name)), name.encode())
        assert len(files) <= 2
    assert (tmp_path / "opened").read_text() == "abcab"
    files.close("a")
    files.close("a")
    files.close_all()
    assert len(files) == 0


def test_where_the_system_allows_fewer_there_are_fewer(opened: Callable[[str], Callable[[], int]]) -> None:
    files = Descriptors(1000)
    with limited(6):
        for number in range(100):
            files.use(number, opened(f"file{number}"))
            assert 1 <= len(files) <= 6
        assert len(files) >= 4
    files.close_all()


def test_with_none_to_close_the_error_is_told(opened: Callable[[str], Callable[[], int]]) -> None:
    files = Descriptors(1000)
    with limited(0), pytest.raises(OSError, match="Too many open files"):
        files.use("a", opened("a"))


@pytest.mark.parametrize(
    ("soft", "limit"), [(8, LEAST), (1024, 256), (1 << 20, MOST), (resource.RLIM_INFINITY, MOST)]
)
def test_a_quarter_of_what_is_allowed_is_taken(
    monkeypatch: pytest.MonkeyPatch, soft: int, limit: int
) -> None:
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: (soft, soft))
    assert fair_limit() == limit
