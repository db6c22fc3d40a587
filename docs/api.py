"""mkdocs hook that writes the reference from live docstrings.

A line ``::: aiomos.Name`` in a page becomes the name's signature, docstring and members. They are read from
the imported package, so compiled modules are as complete as the others; types come from a module's stub where
it is compiled. Public names between single backticks become links. ``::: options aiomos.Name`` becomes a
table of a record's options, and ``::: protocols GROUP`` one of what is read.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache
from itertools import pairwise
from pathlib import Path
from posixpath import dirname, relpath
from types import ModuleType
from typing import Any

from aiomos.options import describe
from aiomos.wire.protocols import READ

DOCS = Path(__file__).parent
DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
OPTIONS = re.compile(r"^::: options ([\w.]+)$", re.MULTILINE)
PROTOCOLS = re.compile(r"^::: protocols (.+)$", re.MULTILINE)
SECTIONS = ("Args:", "Attributes:", "Returns:", "Yields:", "Raises:")
LISTED = ("Args:", "Attributes:", "Raises:")
QUALIFIED = re.compile(r"\b(?:\w+\.)+(?=[A-Z]\w*)")


def on_page_markdown(markdown: str, /, *, page: Any, **_: Any) -> str:
    """Fill the directives of a page in."""
    markdown = OPTIONS.sub(lambda found: _options(_resolve(found[1])), markdown)
    markdown = PROTOCOLS.sub(lambda found: _protocols(found[1]), markdown)
    return DIRECTIVE.sub(lambda found: _link(document(found[1]), page.file.src_uri), markdown)


def documented() -> dict[str, str]:
    """Every name with a directive, and its page."""
    return {
        name: page.relative_to(DOCS).as_posix()
        for page in sorted(DOCS.glob("reference/*.md"))
        for name in DIRECTIVE.findall(page.read_text())
    }


def document(name: str) -> str:
    """Write the reference of one name as Markdown."""
    thing = _resolve(name)
    if isinstance(thing, ModuleType):
        return _prose(inspect.getdoc(thing) or "")
    heading = f"## {name.rpartition('.')[2]} {{ #{name} }}"
    if inspect.isclass(thing):
        return "\n\n".join((heading, *_class(name, thing)))
    if isinstance(thing, Enum):
        return "\n\n".join((heading, _prose(_member_docs(type(thing))[thing.name])))
    if callable(thing):
        return "\n\n".join((heading, *_function(name, thing)))
    return f"{heading}\n\n`{thing!r}`"


def _resolve(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


def _options(record: type) -> str:
    rows = (f"| `{info.name}` | {info.default} | {info.help} |" for info in describe(record))
    return "\n".join(("| name | default | meaning |", "|---|---|---|", *rows))


def _protocols(group: str) -> str:
    rows = [
        f"| {row.number} | {row.name} | {row.when} | {row.source} |" for row in READ if row.group == group
    ]
    return "\n".join(("| number | what | read | layout |", "|---|---|---|---|", *rows))


# --- classes and functions ------------------------------------------------------------------------


def _class(name: str, cls: type) -> Iterator[str]:
    bases = [base.__name__ for base in cls.__bases__ if base.__name__ not in ("object", "Generic")]
    if cls.__init__ is not object.__init__ and not issubclass(cls, (Enum, bytes)):
        yield _code(*(f"class {name}{text.removesuffix(' -> None')}" for text in _signatures(cls)))
    if bases:
        yield "Bases: " + ", ".join(f"`{base}`" for base in bases)
    yield _prose(_docstring(cls))
    if issubclass(cls, Enum):
        docs = _member_docs(cls)
        yield "\n".join(
            f"- `{member.name}` = `{member.value!r}`{': ' + docs[member.name] if member.name in docs else ''}"
            for member in cls
        )
        return
    for member, value in vars(cls).items():
        if member.startswith("_") or not (doc := _docstring(value)):
            continue
        yield f"### {member} {{ #{name}.{member} }}"
        if isinstance(value, property) or inspect.isgetsetdescriptor(value):
            yield _prose(doc)
        else:
            yield from _function(f"{cls.__name__}.{member}", getattr(cls, member))
    inherited = [base for base in cls.__bases__ if issubclass(base, bytes)]
    if inherited:
        yield "All methods of `bytes`."


def _function(name: str, function: Callable[..., Any]) -> Iterator[str]:
    prefix = "async def" if inspect.iscoroutinefunction(function) else "def"
    yield _code(*(f"{prefix} {name}{text}" for text in _signatures(function)))
    yield _prose(_docstring(function))


def _signatures(thing: Any) -> list[str]:
    """The signature, or one for each overload of a stub."""
    if stub := _stub(thing):
        return stub
    try:
        text = str(inspect.signature(thing))
    except ValueError:
        embedded = re.match(r"\w+(\(.*\))", inspect.getdoc(thing) or "")
        return [embedded[1] if embedded else "(...)"]
    text = re.sub(r"'([A-Z]\w*)'", r"\1", text.replace("~", "").replace("= NOTHING", "= ..."))
    text = re.sub(r"<(?:Level\.)?([A-Z]+): \d>", r"Level.\1", QUALIFIED.sub("", text))
    return [text.replace("(self, ", "(").replace("(self)", "()")]


def _stub(thing: Any) -> list[str]:
    """The signatures of a compiled class or method as its module's stub has them."""
    tree = _stub_tree(getattr(thing, "__module__", None) or "")
    nodes = [tree] if tree else []
    names = getattr(thing, "__qualname__", "").split(".")
    for name in [*names, "__init__"] if inspect.isclass(thing) else names:
        nodes = [below for node in nodes for below in node.body if getattr(below, "name", None) == name]
    return [
        _stub_signature(node) for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def _stub_signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = ast.unparse(node.args).removeprefix("self").removeprefix(", ")
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    return f"({arguments}){returns}"


@cache
def _stub_tree(module: str) -> Any:
    path = DOCS.parent.joinpath(*module.split(".")).with_suffix(".pyi")
    return ast.parse(path.read_text()) if path.is_file() else None


# --- docstrings -----------------------------------------------------------------------------------


def _docstring(thing: Any) -> str:
    """The docstring without the signature that Cython puts in front."""
    doc = inspect.getdoc(inspect.unwrap(thing) if callable(thing) else thing) or ""
    if isinstance(thing, (str, int, float, tuple, list, dict)):
        return ""
    first, _, rest = doc.partition("\n")
    return rest.strip() if re.fullmatch(r"[\w.]+\(.*\)( -> .*)?", first) else doc


@cache
def _member_docs(cls: type) -> dict[str, str]:
    """The texts below the members of an enum, which only its source has."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body if _has_source(cls) else (None,)
    docs: dict[str, str] = {}
    body = getattr(node, "body", [])
    for member, below in pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(below, ast.Expr):
            (target,) = member.targets
            docs[ast.unparse(target)] = inspect.cleandoc(ast.literal_eval(below.value))
    return docs


def _has_source(cls: type) -> bool:
    try:
        inspect.getsource(cls)
    except (OSError, TypeError):
        return False
    return True


def _prose(doc: str) -> str:
    """Google style as Markdown."""
    out: list[str] = []
    section, items = "", []
    for line in doc.splitlines():
        if line in SECTIONS:
            out += _close(section, items)
            section, items = line, []
        elif section and (line.startswith("    ") or not line):
            items.append(line[4:])
        else:
            out += _close(section, items)
            section, items = "", []
            out.append(line[:-1] if line.endswith("::") and line != "::" else "" if line == "::" else line)
    return "\n".join((*out, *_close(section, items))).strip()


def _close(section: str, lines: list[str]) -> list[str]:
    if not section:
        return []
    if section not in LISTED:
        return ["", f"**{section}** {' '.join(line.strip() for line in lines)}".rstrip(), ""]
    listed: list[str] = []
    for line in lines:
        if found := re.match(r"([\w*., ]+): +(.*)|([\w*., ]+):$", line):
            names = (found[1] or found[3]).split(", ")
            listed.append(f"- {', '.join(f'`{name}`' for name in names)}: {found[2] or ''}".rstrip())
        elif line.strip() and listed:
            listed[-1] += f" {line.strip()}"
    return ["", f"**{section}**", "", *listed, ""]


def _code(*lines: str) -> str:
    return "\n".join(("```python", *lines, "```"))


def _link(markdown: str, page: str) -> str:
    """Make public names between single backticks links, except in code and headings."""
    places = {name.removeprefix("aiomos."): f"{where}#{name}" for name, where in documented().items()}

    def link(found: re.Match[str]) -> str:
        place = places.get(found[1].removeprefix("aiomos.").partition(".")[0])
        if place is None:
            return found[0]
        _, _, member = found[1].removeprefix("aiomos.").partition(".")
        target = f"{place}.{member}" if member and _has_heading(found[1]) else place
        return f"[{found[0]}]({relpath(target, dirname(page))})"

    return re.sub(r"(?<![`\[])`((?:aiomos\.)?[A-Z]\w*(?:\.\w+)?)`(?!`)", link, markdown)


def _has_heading(member: str) -> bool:
    owner, _, name = member.removeprefix("aiomos.").partition(".")
    cls = _resolve(f"aiomos.{owner}")
    value = vars(cls).get(name) if inspect.isclass(cls) and not issubclass(cls, Enum) else None
    return value is not None and bool(_docstring(value))
