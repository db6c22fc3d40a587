"""Where a wrong registration was written: file, line, and the function that it decorates.

A decorator is called before there is a function to name, and of a run only the message is shown. So an error that
leaves `located` says where the app's source has it, as read from that source.
"""

import ast
import linecache
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from aiomos.errors import FilterSyntaxError, RegistrationError

PACKAGE = f"{__name__.partition('.')[0]}."
SHIPPED = f"{PACKAGE}apps."
"""Apps that ship take their filters from options: their own lines tell the user nothing."""


@contextmanager
def located() -> Iterator[None]:
    """For the length of a ``with`` block, errors about registrations begin with the place of the call from outside."""
    try:
        yield
    except (FilterSyntaxError, RegistrationError) as error:
        if place := _place():
            error.args = (f"{place}: {error}",)
        raise


def _place() -> str:
    """Name the innermost place that is not of aiomos: ``heads.py:7, heads()``; empty if a shipped app is before it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = f"{frame.f_globals.get('__name__', '')}."
        if name.startswith(SHIPPED):
            return ""
        if not name.startswith((PACKAGE, "contextlib.")):
            path, line = frame.f_code.co_filename, frame.f_lineno
            function = _decorated(path, line)
            return f"{_shown(path)}:{line}{f', {function}()' if function else ''}"
        frame = frame.f_back
    return ""


def _decorated(path: str, line: int) -> str:
    """Name the function that a decorator at a line of a source belongs to; empty where there is none."""
    with suppress(SyntaxError, ValueError):
        for node in ast.walk(ast.parse("".join(linecache.getlines(path)))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for decorator in node.decorator_list:
                    if decorator.lineno <= line <= (decorator.end_lineno or decorator.lineno):
                        return node.name
    return ""


def _shown(path: str) -> str:
    """Shorten a path that is below the current folder."""
    with suppress(ValueError, OSError):
        relative = os.path.relpath(path)
        if not relative.startswith(os.pardir):
            return relative
    return path
