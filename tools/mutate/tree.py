"""The copy that faults are planted in: built once, then one module at a time, and put back after each fault.

The working tree is never touched. As long as what was built may hold a fault, the source in the copy holds it, too: a
run that was killed is mended by the next, which compares sources with the working tree.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType

BUILD_SECONDS = 1800
BUILT_FROM = ("aiomos/", "tests/native/", "setup.py")
_COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)


class BuildError(Exception):
    """The sources do not compile; the message is what the compilers said."""


class Tree:
    """A copy of a project in a folder of its own.

    Args:
        project: The working tree, under git.
        folder: Where the copy lives; it is kept from run to run.
    """

    def __init__(self, project: Path, folder: Path) -> None:
        self.project = project
        self.root = folder / "tree"
        self._pristine = folder / "pristine"
        self.environment = os.environ | {
            "AIOMOS_BUILD": "quick",
            "AIOMOS_TEST_NATIVE": "1",
            "PYTHONPATH": str(self.root),
        }

    def prepare(self) -> None:
        """Bring the copy up to date with the working tree, and build it.

        Raises:
            BuildError: The working tree itself does not compile.
        """
        changed = self._copy_sources()
        complete = self._pristine / ".complete"
        if complete.exists() and not any(name.startswith(BUILT_FROM) for name in changed):
            return
        self._discard()
        self.build()
        for path in self._built():
            kept = self._pristine / path.relative_to(self.root)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, kept)
        complete.parent.mkdir(parents=True, exist_ok=True)
        complete.touch()

    @contextmanager
    def planted(self, name: str, text: str) -> Iterator[bool]:
        """Have a file hold another text, compiled; yields whether that makes any difference to what is run.

        Raises:
            BuildError: It does not compile.
        """
        path = self.root / name
        before, times = path.read_text(), path.stat()
        self._write(path, text)
        try:
            if path.suffix == ".py":
                yield not same_bytecode(before, text)
            else:
                self.build()
                yield self._translates_otherwise()
        finally:
            self._put_back()
            self._write(path, before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def build(self) -> None:
        """Compile what has changed.

        Raises:
            BuildError: It does not compile.
        """
        if not (self.root / "setup.py").exists():
            return
        try:
            done = subprocess.run(
                [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
                cwd=self.root,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=BUILD_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BuildError(f"not built in {BUILD_SECONDS} seconds") from None
        if done.returncode:
            raise BuildError(done.stdout + done.stderr)

    def _discard(self) -> None:
        """Forget how modules were built: first of all that it is all there."""
        (self._pristine / ".complete").unlink(missing_ok=True)
        shutil.rmtree(self._pristine, ignore_errors=True)

    def _copy_sources(self) -> list[str]:
        """Copy what git knows or would add; what is the same already keeps its time, so that it is not built again.

        Returns the names of those that were not the same.
        """
        changed = []
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(command, cwd=self.project, capture_output=True, text=True, check=True).stdout
        names = {name for name in listed.split("\0") if name and (self.project / name).is_file()}
        for name in sorted(names):
            source, copy = self.project / name, self.root / name
            if copy.exists() and copy.read_bytes() == source.read_bytes():
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
            changed.append(name)
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_file() and name not in names and path.suffix in (".py", ".pyx", ".pxd", ".pyi"):
                path.unlink()
                changed.append(name)
        return changed

    def _write(self, path: Path, text: str) -> None:
        """Write a source; the bytecode of one written within the same second would be taken for its own."""
        path.write_text(text)
        for stale in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            stale.unlink()

    def _built(self) -> list[Path]:
        """Return every file that a build may write."""
        modules = (path for path in self.root.rglob("*.so") if path.is_file())
        return sorted({*modules, *(path for path in (self.root / "build").rglob("*") if path.is_file())})

    def _changed(self) -> Iterator[tuple[Path, Path]]:
        """Go through what was built otherwise than before, and where that is kept as it was."""
        for path in self._built():
            kept = self._pristine / path.relative_to(self.root)
            if not kept.exists() or kept.stat().st_mtime_ns != path.stat().st_mtime_ns:
                yield path, kept

    def _translates_otherwise(self) -> bool:
        """Is there C code that differs by more than comments?"""
        return any(
            path.suffix == ".c" and not (kept.exists() and same_c(path.read_text(), kept.read_text()))
            for path, kept in self._changed()
        )

    def _put_back(self) -> None:
        """Restore what was built of the working tree's sources."""
        for path, kept in self._changed():
            if kept.exists():
                shutil.copy2(kept, path)
            else:
                path.unlink()
        for kept in self._pristine.rglob("*"):
            path = self.root / kept.relative_to(self._pristine)
            if kept.is_file() and kept.name != ".complete" and not path.exists():
                shutil.copy2(kept, path)


def same_c(one: str, other: str) -> bool:
    """Are two C sources the same but for comments?"""
    return without_comments(one) == without_comments(other)


def without_comments(text: str) -> str:
    """Return C without its comments, in which Cython quotes the source."""
    return _COMMENT_OR_STRING.sub(lambda match: match[0] if match[0].startswith('"') else "", text)


def same_bytecode(one: str, other: str) -> bool:
    """Do two Python sources run the same instructions?

    Raises:
        BuildError: The other is no Python.
    """
    try:
        return _same_code(compile(one, "module", "exec"), compile(other, "module", "exec"))
    except SyntaxError as error:
        raise BuildError(str(error)) from error


def _same_code(one: CodeType, other: CodeType) -> bool:
    """Compare instructions, names and constants; where they stand in the source is left out."""
    if (one.co_code, one.co_names, one.co_varnames) != (other.co_code, other.co_names, other.co_varnames):
        return False
    if len(one.co_consts) != len(other.co_consts):
        return False
    for a, b in zip(one.co_consts, other.co_consts, strict=True):
        if isinstance(a, CodeType) and isinstance(b, CodeType):
            if not _same_code(a, b):
                return False
        elif repr(a) != repr(b):
            return False
    return True
