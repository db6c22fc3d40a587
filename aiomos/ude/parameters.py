"""What callbacks and predicates can ask for, by the names of their parameters, as pytest fixtures are asked for."""

import inspect
from collections.abc import Callable

from aiomos.errors import RegistrationError

PREDICATE_PARAMETERS = ("pkt", "flow", "half", "side", "time")
CALLBACK_PARAMETERS = (*PREDICATE_PARAMETERS, "event", "engine")


def callback_parameters(function: Callable[..., object]) -> tuple[str, ...]:
    """Give what a callback asks for, in its order.

    Raises:
        RegistrationError: it cannot be a callback.
    """
    return _parameters(function, "callback", CALLBACK_PARAMETERS)


def predicate_parameters(function: Callable[..., object]) -> tuple[str, ...]:
    """Give what a predicate asks for, in its order.

    Raises:
        RegistrationError: it cannot be a predicate.
    """
    return _parameters(function, "predicate", PREDICATE_PARAMETERS)


def place(function: object) -> str:
    """Name a function for a message, as ``module.function``."""
    name = getattr(function, "__qualname__", None)
    return f"{getattr(function, '__module__', '?')}.{name}" if name else repr(function)


def _parameters(function: Callable[..., object], what: str, offered: tuple[str, ...]) -> tuple[str, ...]:
    where = place(function)
    if not callable(function) or inspect.isclass(function):
        raise RegistrationError(f"{where}: a {what} must be a function")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise RegistrationError(
            f"{where}: a {what} runs inside TCP processing and cannot wait: make it a plain function, or "
            "register a handler with App.monitor"
        )
    parameters = inspect.signature(function).parameters
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY):
            raise RegistrationError(f"{where}: parameter {parameter} must be an ordinary one, without *")
        if name not in offered:
            raise RegistrationError(
                f"{where}: unknown parameter {name!r}; a {what} can ask for {', '.join(offered)}"
            )
    return tuple(parameters)
