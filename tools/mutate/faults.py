"""What faults a source can be given: Python and Cython, found by their tokens.

Comments, docstrings, imports, decorators, signatures and declarations of types are left alone.
Every fault keeps the number of lines, so that what is compiled differs by the fault alone.
"""

import difflib
import io
import keyword
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

COMPARISONS = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
}
ARITHMETIC = {
    "+": "-",
    "-": "+",
    "*": "+",
    "/": "*",
    "//": "*",
    "%": "//",
    "<<": ">>",
    ">>": "<<",
    "&": "|",
    "|": "&",
    "^": "&",
}
IN_PLACE = {f"{old}=": f"{new}=" for old, new in ARITHMETIC.items()}
LEFT_ALONE = frozenset(
    {"import", "from", "cimport", "include", "global", "nonlocal", "@", "class", "def", "async"}
)
LEFT_ALONE_TOO = frozenset({"cpdef", "ctypedef", "pass", "type", "case", "match"})
COMPOUND = frozenset({"if", "elif", "else", "for", "while", "with", "try", "except", "finally"})
OPENING, CLOSING = frozenset("([{"), frozenset(")]}")
BETWEEN_TERMS = frozenset(
    {"and", "or", "if", "elif", "while", "else", "return", "assert", "for", "in", "lambda"}
) | frozenset({",", ":", "=", "yield"})
SYMMETRIC = frozenset({"min", "max"})
"""Functions whose arguments may stand in any order."""

LAYOUT = frozenset({tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENCODING, tokenize.ENDMARKER})


@dataclass(frozen=True, slots=True)
class Fault:
    """A change of the text from *start* to *end*."""

    kind: str
    line: int
    start: int
    end: int
    new: str

    def plant(self, source: str) -> str:
        """Return the source with this fault."""
        return source[: self.start] + self.new + source[self.end :]


def diff(name: str, before: str, after: str) -> str:
    """Return a unified diff of two texts of the file *name*."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"a/{name}", f"b/{name}", n=2, lineterm=""
    )
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class Token:
    """One word of a source, between two offsets."""

    type: int
    text: str
    start: int
    end: int
    line: int
    depth: int = 0
    """How many brackets it stands in; a bracket itself stands outside."""
    fixed: bool = False
    """Is it part of a type, or otherwise not to be changed?"""

    @property
    def is_operand(self) -> bool:
        """Can a binary operator follow?"""
        if self.fixed:
            return False
        if self.type in (tokenize.NUMBER, tokenize.STRING) or self.text in CLOSING:
            return True
        return self.type == tokenize.NAME and (
            self.text in ("True", "False", "None") or not keyword.iskeyword(self.text)
        )


@dataclass(slots=True)
class Line:
    """A logical line, and the blocks it stands in, from the outermost."""

    tokens: list[Token]
    blocks: list[str] = field(default_factory=list)

    def position(self, text: str) -> int:
        """Return the index of the first such token outside brackets, or -1."""
        return next((i for i, token in enumerate(self.tokens) if token.text == text and not token.depth), -1)

    @property
    def is_header(self) -> bool:
        """Does a block follow?"""
        return self.tokens[-1].text == ":"


def faults(source: str, *, cython: bool) -> list[Fault]:
    """Return every fault this source can be given, in order.

    Args:
        source: The text of a module; it must be without errors.
        cython: Is it Cython? There, ``x[0]`` reads through a pointer, and its 0 is no number to be changed.
    """
    found: list[Fault] = []
    for line in lines(source):
        tokens = mutable(line)
        if tokens:
            found += operators(tokens)
            found += constants(tokens, cython=cython)
            found += dropped_terms(source, tokens)
            found += swapped_arguments(source, tokens)
        found += removed(source, line)
    return sorted(found, key=lambda fault: (fault.start, fault.end, fault.new))


# --- logical lines --------------------------------------------------------------------------------


def lines(source: str) -> Iterator[Line]:
    """Go through the logical lines that hold code."""
    offsets = [0]
    for text in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(text))
    blocks: list[str] = []
    opened = "block"
    tokens: list[Token] = []
    depth = 0
    for kind, text, (row, column), (end_row, end_column), _ in tokenize.generate_tokens(
        io.StringIO(source).readline
    ):
        if kind == tokenize.INDENT:
            blocks.append(opened)
        elif kind == tokenize.DEDENT:
            blocks.pop()
        elif kind == tokenize.NEWLINE and tokens:
            line = Line(tokens, list(blocks))
            mark_fixed(line)
            yield line
            opened = block_of(line)
            tokens = []
        elif kind not in LAYOUT and text.strip():
            depth -= text in CLOSING
            start, end = offsets[row - 1] + column, offsets[end_row - 1] + end_column
            tokens.append(Token(kind, text, start, end, row, depth))
            depth += text in OPENING


def block_of(line: Line) -> str:
    """Return what kind of block a header opens."""
    words = [token.text for token in line.tokens if not token.depth]
    if words[0] in ("cdef", "ctypedef", "cpdef"):
        if "enum" in words[:3]:
            return "enum"
        if {"extern", "struct", "union", "fused", "cppclass"} & set(words[:3]):
            return "declarations"
        return "class" if "class" in words[:4] else "def"
    if words[0] in ("def", "async") and "def" in words[:2]:
        return "def"
    return "class" if words[0] == "class" else "block"


def mark_fixed(line: Line) -> None:
    """Mark the types of casts and of sizeof(), and the ``in`` of each ``for``."""
    tokens = line.tokens
    for i, token in enumerate(tokens):
        before = tokens[i - 1] if i else None
        if token.text == "<" and not (before and before.is_operand):
            close = next((j for j in range(i, len(tokens)) if tokens[j].text == ">"), i)
            for inner in tokens[i : close + 1]:
                inner.fixed = True
        elif token.text == "sizeof":
            close = next((j for j in range(i + 2, len(tokens)) if tokens[j].depth == token.depth), i)
            for inner in tokens[i + 1 : close]:
                inner.fixed = True
        elif token.text == "for":
            rest = (t for t in tokens[i:] if t.text == "in" and t.depth == token.depth)
            for inner in rest:
                inner.fixed = True
                break


def mutable(line: Line) -> list[Token]:
    """Return those tokens of a line that compute something."""
    tokens = line.tokens
    first = tokens[0].text
    if "declarations" in line.blocks or first in LEFT_ALONE or first in LEFT_ALONE_TOO:
        return []
    if all(token.type == tokenize.STRING for token in tokens):
        return []
    if first == "cdef":
        return [] if line.is_header else values(tokens)
    if line.blocks[-1:] == ["enum"]:
        return values(tokens)
    if first not in COMPOUND and (colon := line.position(":")) > 0 and line.position("lambda") < 0:
        return values(tokens[colon + 1 :])  # the annotation of a variable
    return tokens


def values(tokens: list[Token]) -> list[Token]:
    """Return what stands behind each = outside brackets, up to the next comma there."""
    kept: list[Token] = []
    taking = False
    for token in tokens:
        if not token.depth and token.text in ("=", ","):
            taking = token.text == "="
            kept.append(token)
        elif taking:
            kept.append(token)
    return kept if any(token.text == "=" for token in kept) else []


# --- kinds of faults ------------------------------------------------------------------------------


def operators(tokens: list[Token]) -> Iterator[Fault]:
    """Another comparison, arithmetic or boolean operator."""
    for i, token in enumerate(tokens):
        if token.fixed:
            continue
        before = tokens[i - 1] if i else None
        after = tokens[i + 1] if i + 1 < len(tokens) else None
        binary = before is not None and before.is_operand
        if token.text in COMPARISONS and binary:
            for new in COMPARISONS[token.text]:
                yield replaced("comparison", token, new)
        elif token.text in ARITHMETIC and binary:
            yield replaced("arithmetic", token, ARITHMETIC[token.text])
        elif token.text in IN_PLACE:
            yield replaced("arithmetic", token, IN_PLACE[token.text])
        elif token.text in ("-", "~") and after is not None and not binary:
            yield replaced("arithmetic", token, "")
        elif token.text in ("and", "or"):
            yield replaced("boolean", token, "or" if token.text == "and" else "and")
        elif token.text == "is" and after is not None:
            negated = after.text == "not"
            yield Fault(
                "comparison",
                token.line,
                token.start,
                after.end if negated else token.end,
                "is" if negated else "is not",
            )
        elif token.text == "in" and before is not None:
            negated = before.text == "not"
            yield Fault(
                "comparison",
                token.line,
                before.start if negated else token.start,
                token.end,
                "in" if negated else "not in",
            )
        elif (
            token.text == "not"
            and after is not None
            and after.text != "in"
            and not (before and before.text == "is")
        ):
            yield Fault("boolean", token.line, token.start, after.start, "")


def replaced(kind: str, token: Token, new: str) -> Fault:
    """Return the fault of another text for one token."""
    return Fault(kind, token.line, token.start, token.end, new)


def constants(tokens: list[Token], *, cython: bool) -> Iterator[Fault]:
    """A number that is one more or one less; the other truth value."""
    for i, token in enumerate(tokens):
        if token.fixed:
            continue
        if token.text in ("True", "False"):
            yield replaced("constant", token, str(token.text == "False"))
        elif token.type == tokenize.NUMBER:
            around = [other.text for other in tokens[max(i - 1, 0) : i + 2]]
            if cython and around == ["[", "0", "]"] and i > 1 and tokens[i - 2].is_operand:
                continue
            for step in (1, -1):
                if (new := changed_number(token.text, step)) is not None:
                    yield replaced("constant", token, new)


def changed_number(text: str, step: int) -> str | None:
    """Return a literal changed by *step*, in the notation it had; None if there is none."""
    digits = text.replace("_", "").lower()
    if digits.startswith("0x"):
        value = int(digits, 16) + step
        return hex(value) if value >= 0 else None
    try:
        number = int(digits, 0)
    except ValueError:
        return None if digits.endswith("j") else repr(float(digits) + step)
    return str(number + step) if number + step >= 0 else None


def dropped_terms(source: str, tokens: list[Token]) -> Iterator[Fault]:
    """A condition that is forgotten: one operand of ``and`` or ``or`` is left out."""
    for i, token in enumerate(tokens):
        if token.text not in ("and", "or"):
            continue
        first = i
        while first and not ends_term(tokens[first - 1], token.depth):
            first -= 1
        last = i
        while last + 1 < len(tokens) and not ends_term(tokens[last + 1], token.depth):
            last += 1
        for start, end in ((tokens[first].start, tokens[i + 1].start), (tokens[i - 1].end, tokens[last].end)):
            yield Fault("dropped term", token.line, start, end, "\\\n" * source.count("\n", start, end))


def ends_term(token: Token, depth: int) -> bool:
    """Does a term of a condition at *depth* end at this token?"""
    if token.depth < depth:
        return True
    return token.depth == depth and (token.text in BETWEEN_TERMS) and not token.fixed


def swapped_arguments(source: str, tokens: list[Token]) -> Iterator[Fault]:
    """Two neighbouring arguments of a call, each in the other's place."""
    for i, token in enumerate(tokens):
        if (
            token.text != "("
            or not i
            or not tokens[i - 1].is_operand
            or tokens[i - 1].type == tokenize.STRING
            or tokens[i - 1].text in SYMMETRIC
        ):
            continue
        arguments: list[list[Token]] = [[]]
        for inner in tokens[i + 1 :]:
            if inner.depth <= token.depth:
                break
            if inner.depth == token.depth + 1 and inner.text == ",":
                arguments.append([])
            else:
                arguments[-1].append(inner)
        for one, other in pairwise(arguments):
            if not (is_positional(one) and is_positional(other)):
                continue
            if (one[0].text == "&") != (other[0].text == "&"):
                continue  # of a pointer and a number, which does not compile
            texts = [source[argument[0].start : argument[-1].end] for argument in (one, other)]
            if texts[0] != texts[1]:
                between = source[one[-1].end : other[0].start]
                yield Fault(
                    "swapped arguments",
                    one[0].line,
                    one[0].start,
                    other[-1].end,
                    texts[1] + between + texts[0],
                )


def is_positional(argument: list[Token]) -> bool:
    """Is this an argument without a name, and of one value?"""
    if not argument or argument[0].text in ("*", "**"):
        return False
    depth = argument[0].depth
    return not any(token.depth == depth and token.text in ("=", "for", ":=") for token in argument)


def removed(source: str, line: Line) -> Iterator[Fault]:
    """A statement that is not there: a call, an assignment to what outlives the function, an early way out."""
    first = line.tokens[0]
    if line.is_header or "def" not in line.blocks or "declarations" in line.blocks or first.text == "cdef":
        return
    if first.text in ("continue", "break", "raise", "del"):
        yield left_out(source, line, "removed statement")
    elif first.text == "return":
        if line.blocks[-1] != "def":
            yield left_out(source, line, "removed return")
    elif first.type == tokenize.NAME and first.text not in LEFT_ALONE | LEFT_ALONE_TOO | COMPOUND | {
        "assert",
        "yield",
    }:
        texts = [token.text for token in line.tokens if not token.depth]
        assigned = texts.index("=") if "=" in texts else -1
        is_call = assigned < 0 and texts[-1] == ")"
        if is_call or set(texts) & IN_PLACE.keys() or {".", "["} & set(texts[: max(assigned, 0)]):
            yield left_out(source, line, "removed statement")


def left_out(source: str, line: Line, kind: str) -> Fault:
    """Return the fault of a line that does nothing, as many lines as it has."""
    start, end = line.tokens[0].start, line.tokens[-1].end
    return Fault(kind, line.tokens[0].line, start, end, "pass" + "\n" * source.count("\n", start, end))
