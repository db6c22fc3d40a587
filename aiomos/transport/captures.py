"""Opening captures: patterns, standard input, compression, merging."""

import glob
import os
from collections.abc import Sequence
from errno import ENOENT

from aiomos.descriptors import Descriptors
from aiomos.transport.inputs import BLOCK_SIZE, STANDARD_INPUT, Wait, open_input
from aiomos.transport.interfaces import Interface
from aiomos.transport.merge import MergedSource
from aiomos.transport.pcap import DEFAULT_BLOCK_SIZE, CaptureReader
from aiomos.transport.source import FrameSource

SMALLEST_SHARE = 16 * 1024
"""Bytes of a block that each of many merged captures gets at least."""


def open_captures(
    paths: Sequence[str | os.PathLike[str]],
    *,
    block_size: int = DEFAULT_BLOCK_SIZE,
    wait: Wait | None = None,
) -> FrameSource:
    """Open captures as one source of frames, merged by time if they are several.

    A capture is pcap or pcapng, as it is or compressed by gzip or zstandard; its name does not matter.
    The first block of each is read at once, so opening a pipe waits for it.
    Of many captures only some are open at once: those that were read last.

    Args:
        paths: Files, patterns as of a shell (``*``, ``?``, ``[...]``, ``**``), whose files are taken in the
            order of their names, or ``-`` for standard input.
        block_size: Bytes read at once, at least 4096; what fits the processor's second-level cache is best.
            Merged captures share it out.
        wait: Called with its descriptor before each read of a pipe, to wait in another way than in the read; what it
            raises ends the opening.

    Returns:
        The source; close it, or use it as a context manager.

    Raises:
        CaptureError: a file is no capture.
        OSError: a file cannot be opened; FileNotFoundError also where a pattern matches no file.
        ValueError: no path, or standard input twice.
    """
    files = expand_patterns(paths)
    share = block_size if len(files) == 1 else max(block_size // len(files), SMALLEST_SHARE)
    descriptors = Descriptors()
    interfaces: list[Interface] = []
    readers: list[CaptureReader] = []
    try:
        for file in files:
            opened = open_input(file, descriptors, max(min(share, BLOCK_SIZE), SMALLEST_SHARE), wait)
            try:
                readers.append(CaptureReader(opened, interfaces, share))
            except BaseException:
                opened.close()
                raise
    except BaseException:
        for reader in readers:
            reader.close()
        raise
    return readers[0] if len(readers) == 1 else MergedSource(readers)


def expand_patterns(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Put the files that a pattern matches in its place; a file whose name looks like a pattern is itself.

    Raises:
        FileNotFoundError: a pattern matches no file.
        ValueError: no path, or standard input twice.
    """
    if isinstance(paths, str):
        raise TypeError(f"paths: give a list of paths, such as [{paths!r}]")
    files: list[str] = []
    for path in [os.fspath(path) for path in paths]:
        if not glob.has_magic(path) or os.path.lexists(path):
            files.append(path)
            continue
        matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            raise FileNotFoundError(ENOENT, "no file matches this pattern", path)
        files += matches
    if not files:
        raise ValueError("paths: give at least one capture")
    if files.count(STANDARD_INPUT) > 1:
        raise ValueError(f"paths: {STANDARD_INPUT!r} (standard input) can be read only once")
    return files
