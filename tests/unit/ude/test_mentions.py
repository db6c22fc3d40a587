"""What a function's code mentions, and that of functions it names."""

from __future__ import annotations

import functools
import json
import types
from collections.abc import Callable
from typing import Any

import pytest

from aiomos import PKT_IN, App
from aiomos.ude.mentions import MOST_FUNCTIONS, mentions


def plainly(pkt: Any) -> None:
    pkt.replace(b"")


def not_at_all(pkt: Any) -> None:
    pkt.drop()
    json.dumps({})  # where there may be anything


def by_another(pkt: Any) -> None:
    plainly(pkt)


def by_a_third(pkt: Any) -> None:
    by_another(pkt)


def by_a_text(pkt: Any) -> None:
    getattr(pkt, "replace")(b"")  # noqa: B009


def within(pkt: Any) -> None:
    def inner() -> None:
        plainly(pkt)

    inner()


def in_a_lambda(pkt: Any) -> None:
    (lambda: pkt.replace(b""))()


helpers = types.ModuleType("helpers")
helpers.plainly = plainly  # type: ignore[attr-defined]


def by_a_module(pkt: Any) -> None:
    helpers.plainly(pkt)


def closing_over() -> Callable[[Any], None]:
    edit = plainly
    return lambda pkt: edit(pkt)


def waits_for_itself() -> Callable[[Any], None]:
    def one(pkt: Any) -> None:
        other(pkt)

    def other(pkt: Any) -> None:
        one(pkt)

    return one


class Judge:
    def __init__(self) -> None:
        self.held = plainly

    def by_a_method(self, pkt: Any) -> None:
        self.edit(pkt)

    def edit(self, pkt: Any) -> None:
        plainly(pkt)

    def by_what_it_holds(self, pkt: Any) -> None:
        self.held(pkt)

    def by_a_static_one(self, pkt: Any) -> None:
        self.static(pkt)

    @staticmethod
    def static(pkt: Any) -> None:
        plainly(pkt)

    def innocent(self, pkt: Any) -> None:
        not_at_all(pkt)

    @property
    def raises(self) -> None:
        raise AssertionError("no code is run")

    def by_a_property(self, pkt: Any) -> None:
        assert pkt is self.raises

    def __call__(self, pkt: Any) -> None:
        self.edit(pkt)


app: App[None] = App("mentions")


@app.on(PKT_IN)
def registered(pkt: Any) -> None:
    plainly(pkt)


@functools.wraps(plainly)
def wrapping(pkt: Any) -> None:
    not_at_all(pkt)


YES = [
    plainly,
    by_another,
    by_a_third,
    by_a_text,
    within,
    in_a_lambda,
    by_a_module,
    closing_over(),
    Judge().by_a_method,
    Judge().by_what_it_holds,
    Judge().by_a_static_one,
    Judge(),
    functools.partial(plainly),
    functools.partial(Judge().edit),
    registered.function,
    wrapping,
]
NO = [not_at_all, waits_for_itself(), Judge().innocent, Judge().by_a_property, print, json.dumps, int]


@pytest.mark.parametrize(
    "function", YES, ids=lambda function: getattr(function, "__qualname__", type(function).__name__)
)
def test_what_is_mentioned_is_found(function: Callable[..., object]) -> None:
    assert mentions(function, "replace")


@pytest.mark.parametrize(
    "function", NO, ids=lambda function: getattr(function, "__qualname__", type(function).__name__)
)
def test_what_is_not_mentioned_is_not(function: Callable[..., object]) -> None:
    assert not mentions(function, "replace")


def test_no_search_is_without_end() -> None:
    names: dict[str, Any] = {}
    lines = [f"def f{at}(): f{at + 1}()" for at in range(MOST_FUNCTIONS + 5)]
    exec("\n".join([*lines, f"def f{len(lines)}(): replace()"]), names)
    assert mentions(names["f10"], "replace")
    assert not mentions(names["f0"], "replace")
