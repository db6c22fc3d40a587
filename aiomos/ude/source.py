"""From a function to the syntax tree of its source, if it is certain that this is its source."""

import ast
import inspect
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType, FunctionType

__all__ = ["Definition", "SourceUnknown", "source_of"]

Definition = ast.FunctionDef | ast.Lambda


class SourceUnknown(Exception):  # noqa: N818  not an error by itself
    """The source cannot be had, or not with certainty; the message is why."""


def source_of(function: Callable[..., object]) -> Definition:
    """Find the definition of a plain function.

    Args:
        function: Made by ``def`` or ``lambda``.

    Returns:
        Its syntax tree, with the line numbers of its file.

    Raises:
        SourceUnknown: It is no such function, or its source is not there or not the one it was compiled from.
    """
    if not isinstance(function, FunctionType):
        raise SourceUnknown("it is not a plain function")
    code = function.__code__
    try:
        lines, _ = inspect.findsource(code)
        candidates, meanings = _read("".join(lines))
    except (OSError, SyntaxError, ValueError):
        raise SourceUnknown("its source cannot be found") from None
    if _meaning(code) not in meanings:
        raise SourceUnknown("its source has changed since it was loaded")
    definitions = [definition for definition in candidates if _stands_at(definition, code)]
    if len(definitions) != 1:
        raise SourceUnknown("its source stands in one line with that of others")
    return definitions[0]


@lru_cache(maxsize=8)
def _read(text: str) -> tuple[list[Definition], frozenset[object]]:
    """Parse a file for its functions, and compile it to see what they mean."""
    with warnings.catch_warnings(action="ignore"):  # they were given when it was loaded
        tree = ast.parse(text)
        module = compile(text, "<source>", "exec", dont_inherit=True)
    definitions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)]
    return definitions, frozenset(map(_meaning, _codes(module)))


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _meaning(code: CodeType) -> object:
    """Tell where a function stands, and what it does."""
    constants = tuple(
        (type(constant), constant.co_name if isinstance(constant, CodeType) else repr(constant))
        for constant in code.co_consts
    )
    names = (code.co_names, code.co_varnames, code.co_freevars)
    return (code.co_name, code.co_firstlineno, code.co_code, constants, names)


def _stands_at(definition: Definition, code: CodeType) -> bool:
    if isinstance(definition, ast.Lambda):
        return (
            code.co_name == "<lambda>"
            and definition.lineno == code.co_firstlineno
            and _returns(definition, code)
        )
    first = min([definition.lineno, *(decorator.lineno for decorator in definition.decorator_list)])
    return definition.name == code.co_name and first == code.co_firstlineno


def _returns(definition: ast.Lambda, code: CodeType) -> bool:
    """Tell lambdas of one line apart: some instruction stands for the whole of what is returned."""
    body = definition.body
    return (body.lineno, body.end_lineno, body.col_offset, body.end_col_offset) in code.co_positions()
