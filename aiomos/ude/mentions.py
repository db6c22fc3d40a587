"""Whether a function's code mentions a name: its own, and that of the functions which it calls by name."""

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType

MOST_FUNCTIONS = 500
"""How many functions are looked into, so that registering one stays quick."""


def mentions(function: Callable[..., object], name: str) -> bool:
    """Tell whether a function may use an attribute or global of a name, as far as its code tells.

    Functions that it names are looked into as well: globals, those of modules, methods of its object, those it closes
    over, nested ones; not those of the standard library and of installed packages, unless they are of its own. What is
    called by other ways (through a container, say) is not seen. A mention need not mean anything: ``text.replace`` is
    one of ``replace``.
    """
    waiting: list[Callable[..., object]] = [function]
    seen = set[object]()
    own = next((_root(plain) for plain, _ in _unwrapped(function)), "")
    while waiting and len(seen) < MOST_FUNCTIONS:
        for plain, owner in _unwrapped(waiting.pop()):
            if plain in seen or (_root(plain) != own and _is_foreign(plain)):
                continue
            seen.add(plain)
            names, texts = _words(plain.__code__)
            if name in names or name in texts:
                return True
            waiting += _named(plain, owner, names)
    return False


def _unwrapped(function: object) -> Iterator[tuple[FunctionType, object]]:
    """Give the plain functions behind a callable, each with the object that it is a method of, or None."""
    owner: object = None
    for _ in range(16):
        if isinstance(function, FunctionType):
            yield function, owner
            function = vars(function).get("__wrapped__")
        elif isinstance(function, MethodType):
            owner = function.__self__
            function = function.__func__
        elif isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, type) or not callable(function):
            return
        else:  # an object with __call__, or one of ours that stands for a function
            function = _attribute(function, "__call__")


def _root(function: FunctionType) -> str:
    return (function.__module__ or "").partition(".")[0]


def _is_foreign(function: FunctionType) -> bool:
    """Whether a function is of the standard library, of an installed package, or of this one."""
    root = _root(function)
    installed = not {"site-packages", "dist-packages"}.isdisjoint(Path(function.__code__.co_filename).parts)
    return installed or root == "aiomos" or (root in sys.stdlib_module_names and root != "__main__")


def _words(code: CodeType) -> tuple[set[str], set[str]]:
    """The names that code uses, and its constant strings; of functions within it, too."""
    names, texts = {*code.co_names, *code.co_freevars}, set[str]()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner_names, inner_texts = _words(constant)
            names |= inner_names
            texts |= inner_texts
        elif isinstance(constant, str):
            texts.add(constant)
    return names, texts


def _named(function: FunctionType, owner: object, names: set[str]) -> Iterator[Callable[..., object]]:
    """Give the functions that names can stand for within a function."""
    closed = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    modules = []
    for name in names:
        found = []
        if name in closed:
            try:
                found.append(closed[name].cell_contents)
            except ValueError:  # not set yet: a function that is being defined
                continue
        elif name in function.__globals__:
            found.append(function.__globals__[name])
        if owner is not None:
            found.append(_attribute(owner, name))
        for value in found:
            if isinstance(value, ModuleType):
                modules.append(value)
            elif callable(value) and not isinstance(value, type):
                yield value
    for module in modules:
        yield from (value for name in names if isinstance(value := vars(module).get(name), FunctionType))


def _attribute(owner: object, name: str) -> object:
    """A method of an object, or a function that it holds, without running any of its code."""
    held = getattr(owner, "__dict__", {}).get(name)
    if held is not None:
        return held
    for kind in type(owner).__mro__:
        if name in vars(kind):
            value = vars(kind)[name]
            return (
                MethodType(value, owner)
                if isinstance(value, FunctionType)
                else getattr(value, "__func__", None)
            )
    return None
