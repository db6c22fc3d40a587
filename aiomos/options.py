"""Records of options: attrs classes whose fields can be set by ``name=value`` texts.

Settings and the options of apps are such records. A field's annotation says how its text is read, and the
``Attributes:`` section of the class docstring is its help, so neither is written twice.
"""

import enum
import inspect
import re
import types
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs

from aiomos.errors import OptionError, did_you_mean

RecordT = TypeVar("RecordT")

BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
COLLECTIONS = (list, tuple, set, frozenset)
UNIONS = (Union, types.UnionType)
WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    IPv4Address: "an IPv4 address such as 10.0.0.1",
    IPv6Address: "an IPv6 address such as fd00::1",
    IPv4Network: "an IPv4 network such as 10.0.0.0/8",
    IPv6Network: "an IPv6 network such as fd00::/8",
}


@attrs.frozen
class OptionInfo:
    """One option, as the command line shows it.

    Attributes:
        name: What stands before ``=``; a field of a nested record is ``record.field``.
        kind: What may stand after it, in words.
        default: The value it has unless set, as text; None when it must be set.
        help: Its text in the class docstring, or the empty string.
    """

    name: str
    kind: str
    default: str | None
    help: str


def must(allowed: str, test: Callable[[Any], bool]) -> Callable[[Any, "attrs.Attribute[Any]", Any], None]:
    """Make an attrs validator that raises `OptionError` naming field, value and what is allowed.

    Args:
        allowed: What is allowed, in words that can follow "must be".
        test: Whether a value, of any type, is allowed.
    """

    def validate(_record: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if not test(value):
            raise OptionError(f"{field.name}={value!r}: must be {allowed}")

    return validate


def describe(cls: type) -> list[OptionInfo]:
    """List the options of a record class in the order of its fields, nested ones under their dotted names."""
    texts = _attribute_docs(cls)
    listed: list[OptionInfo] = []
    for field, kind in _fields(cls):
        if attrs.has(kind):
            listed += (attrs.evolve(info, name=f"{field.name}.{info.name}") for info in describe(kind))
        else:
            listed.append(OptionInfo(field.name, _words(kind), _default(field), texts.get(field.name, "")))
    return listed


def build(cls: type[RecordT], pairs: Iterable[str], *, owner: str) -> RecordT:
    """Make a record from its defaults and ``name=value`` texts; of two texts for one name the later counts.

    Args:
        cls: An attrs class.
        pairs: Such as ``["out=/tmp/x", "timeouts.established=60"]``.
        owner: Whose options they are, to open messages with: ``app dump``.

    Raises:
        OptionError: a text is no pair, a name is unknown, a value is not allowed, a needed option is not set.
    """
    texts = dict(map(split_pair, pairs))
    options = describe(cls)
    names = {info.name for info in options}
    for name in texts:
        if name not in names:
            raise OptionError(_unknown(name, options, owner))
    for info in options:
        if info.default is None and info.name not in texts:
            raise OptionError(f"{owner}: {info.name} must be set to {info.kind}. {info.help}".rstrip())
    return _construct(cls, texts, f"{owner}: ")


def split_pair(pair: str) -> tuple[str, str]:
    """Cut ``name=value`` at the first ``=``; dashes in the name count as underscores."""
    name, equals, value = pair.partition("=")
    if not equals or not name.strip():
        raise OptionError(f"{pair!r} is not of the form name=value")
    return name.strip().replace("-", "_"), value


def convert(text: str, kind: Any) -> Any:
    """Read *text* as an annotated type.

    Understood are str, int, float, bool, Path, enums (by member name), Literal, unions (the first member that
    fits; ``none`` for None), and lists, tuples, sets and frozensets of one such type, separated by commas.
    Any other class is called with the text.

    Raises:
        ValueError: *text* is no such value.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin in UNIONS:
        return _convert_union(text, args)
    if origin is Literal:
        return _pick(text, {str(choice): choice for choice in args})
    if (origin or kind) in COLLECTIONS:
        item = args[0] if args else str
        return (origin or kind)(convert(part.strip(), item) for part in text.split(",") if part.strip())
    if kind is bool:
        return _pick(text.lower(), BOOLEANS)
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return _pick(text.lower(), {member.name.lower(): member for member in kind})
    return kind(text)


def _convert_union(text: str, members: tuple[Any, ...]) -> Any:
    if types.NoneType in members and text.lower() in ("", "none"):
        return None
    for member in members:
        if member is not types.NoneType:
            try:
                return convert(text, member)
            except ValueError:
                continue
    raise ValueError(text)


def _pick(text: str, choices: dict[str, Any]) -> Any:
    if text not in choices:
        raise ValueError(text)
    return choices[text]


def _construct(cls: type[RecordT], texts: dict[str, str], where: str) -> RecordT:
    """Make a record whose names are known to exist; *where* opens messages."""
    values: dict[str, Any] = {}
    for field, kind in _fields(cls):
        prefix = f"{field.name}."
        if attrs.has(kind):
            inner = {name.removeprefix(prefix): texts[name] for name in texts if name.startswith(prefix)}
            values[str(field.alias)] = _construct(kind, inner, where + prefix)
        elif field.name in texts:
            text = texts[field.name]
            try:
                values[str(field.alias)] = convert(text, kind)
            except ValueError as error:
                raise OptionError(f"{where}{field.name}={text!r}: must be {_words(kind)}") from error
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:  # from a validator, ours or that of the record's author
        raise OptionError(f"{where}{error}") from error


def _fields(cls: type) -> Iterator[tuple["attrs.Attribute[Any]", Any]]:
    """Yield the fields that the constructor takes, each with its annotation; without one it is text."""
    kinds = get_type_hints(cls)
    for field in attrs.fields(cls):
        if field.init:
            yield field, kinds.get(field.name, str)


def _words(kind: Any) -> str:
    """Say what `convert` takes for a type, in words that can follow "must be"."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in UNIONS:
        return " or ".join("none" if member is types.NoneType else _words(member) for member in args)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if (origin or kind) in COLLECTIONS:
        return f"{_words(args[0] if args else str)}, or several separated by commas"
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return "one of " + ", ".join(member.name.lower() for member in kind)
    return WORDS.get(kind) or f"text for {kind.__name__}"


def _default(field: "attrs.Attribute[Any]") -> str | None:
    """Write a field's default as the text that `convert` would read it from; None when there is none."""
    value: Any = field.default
    if value is attrs.NOTHING:
        return None
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]  # the stubs call this class a function
        if value.takes_self:
            return "computed from the others"
        value = value.factory()
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, COLLECTIONS):
        return ",".join(map(_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _attribute_docs(cls: type) -> dict[str, str]:
    """Read the ``Attributes:`` section of a docstring in Google style: name to text, joined to one line."""
    _, _, section = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    docs: dict[str, str] = {}
    for line in section.splitlines():
        if not line.startswith(" "):
            break
        if start := re.match(r" {4}(\w+)(?: \(.*?\))?: *(.*)", line):
            docs[start[1]] = start[2]
        elif docs:
            docs[next(reversed(docs))] += " " + line.strip()
    return docs


def _unknown(name: str, options: list[OptionInfo], owner: str) -> str:
    if not options:
        return f"{owner} has no options, so {name!r} cannot be set"
    message = f"{owner} has no option {name!r}{did_you_mean(name, [info.name for info in options])}"
    width = max(len(info.name) for info in options)
    listing = (f"  {info.name:<{width}}  {info.help or info.kind}" for info in options)
    return "\n".join((message, "available:", *listing))
