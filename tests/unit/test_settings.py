"""Settings and the records of options beneath them."""

import enum
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from aiomos.errors import OptionError
from aiomos.options import build, convert, describe
from aiomos.settings import Budgets, Settings, Timeouts


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@attrs.frozen
class Inner:
    """Inner.

    Attributes:
        depth: How deep.
    """

    depth: int = 3


@attrs.frozen(kw_only=True)
class Record:
    """A record.

    Attributes:
        out: Where to write,
            with a second line.
        ports: Which ports.

    Not an attribute: this.
    """

    out: Path
    ports: list[int] = attrs.field(factory=lambda: [80, 8080])
    colour: Colour = Colour.RED
    inner: Inner = attrs.field(factory=Inner)
    _hidden: bool = False


# --- settings -------------------------------------------------------------------------------------
def test_defaults_are_those_of_the_design() -> None:
    settings = Settings()
    assert settings.budgets.flows == 1 << 20
    assert settings.timeouts.established == 2 * 3600 + 4 * 60
    assert (settings.checksums, settings.decapsulate, settings.on_error) == ("ignore", False, "log")


def test_settings_cannot_be_changed_behind_an_engine() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Settings().timeouts.closing = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(Budgets)])
@pytest.mark.parametrize("value", [0, -1, 1 << 63, 1.5, True, "9", None])
def test_a_wrong_budget_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(OptionError, match=field):
        Budgets(**{field: value})


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(Timeouts)])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), 1e10, True, "9", None])
def test_a_wrong_timeout_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(OptionError, match=field):
        Timeouts(**{field: value})


@pytest.mark.parametrize("field", ["time_wait", "reset", "gap_hold"])
def test_zero_means_at_once_where_that_makes_sense(field: str) -> None:
    assert getattr(Timeouts(**{field: 0}), field) == 0


@pytest.mark.parametrize("field", ["half_open", "established", "closing", "gap_age"])
def test_zero_is_refused_where_every_flow_would_end_at_once(field: str) -> None:
    with pytest.raises(OptionError, match=field):
        Timeouts(**{field: 0})


@pytest.mark.parametrize(
    "wrong", [{"checksums": "on"}, {"decapsulate": 1}, {"on_error": None}, {"budgets": {}}, {"timeouts": 3}]
)
def test_other_wrong_settings_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Settings(**wrong)


def test_pairs_change_what_they_name_and_nothing_else() -> None:
    settings = Settings.from_pairs(["timeouts.established=60", "budgets.flows=10", "decapsulate=yes"])
    assert settings == Settings(
        timeouts=Timeouts(established=60), budgets=Budgets(flows=10), decapsulate=True
    )


def test_the_later_of_two_pairs_for_one_name_counts() -> None:
    assert Settings.from_pairs(["checksums=verify", "checksums=ignore"]).checksums == "ignore"


@pytest.mark.parametrize(
    ("pair", "parts"),
    [
        ("timeouts.establishd=60", ["timeouts.establishd", "did you mean 'timeouts.established'"]),
        ("nonsense=1", ["nonsense", "budgets.flows", "on_error"]),
        ("timeouts=1", ["'timeouts'"]),
        ("timeouts.closing=soon", ["timeouts.closing", "soon", "a number"]),
        ("timeouts.closing=-1", ["timeouts.closing", "-1", "above 0"]),
        ("checksums=maybe", ["checksums", "maybe", "ignore, verify"]),
        ("checksums", ["checksums", "name=value"]),
        ("=1", ["name=value"]),
    ],
)
def test_a_wrong_pair_is_refused_with_what_is_allowed(pair: str, parts: list[str]) -> None:
    with pytest.raises(OptionError) as caught:
        Settings.from_pairs([pair])
    assert [part for part in parts if part not in str(caught.value)] == []


def test_every_setting_is_described() -> None:
    assert [info.name for info in describe(Settings) if not info.help] == []


# --- records in general ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("a,b", str, "a,b"),
        ("-12", int, -12),
        ("1e3", float, 1000.0),
        ("Yes", bool, True),
        ("0", bool, False),
        ("/tmp/x", Path, Path("/tmp/x")),
        ("blue", Colour, Colour.BLUE),
        ("2", Literal[1, 2], 2),
        ("", list[int], []),
        ("1, 2", list[int], [1, 2]),
        ("red,blue", tuple[Colour, ...], (Colour.RED, Colour.BLUE)),
        ("a,a", set[str], {"a"}),
        ("none", int | None, None),
        ("7", int | None, 7),
        ("x", int | str, "x"),
        ("10.0.0.1", IPv4Address, IPv4Address("10.0.0.1")),
        ("fd00::/8", IPv4Network | IPv6Network, IPv6Network("fd00::/8")),
    ],
)
def test_text_is_read_as_the_annotation_says(text: str, kind: Any, value: Any) -> None:
    assert convert(text, kind) == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x", int),
        ("maybe", bool),
        ("green", Colour),
        ("3", Literal[1, 2]),
        ("1,x", list[int]),
        ("x", int | None),
    ],
)
def test_text_that_is_no_such_value_is_refused(text: str, kind: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the caller words the message
        convert(text, kind)


def test_a_description_gives_name_kind_default_and_help() -> None:
    out, ports, colour, depth, hidden = describe(Record)
    assert (out.name, out.default, out.help) == ("out", None, "Where to write, with a second line.")
    assert (ports.default, ports.help) == ("80,8080", "Which ports.")
    assert (colour.default, colour.kind) == ("red", "one of red, blue")
    assert (depth.name, depth.default, depth.help) == ("inner.depth", "3", "How deep.")
    assert (hidden.default, hidden.help) == ("false", "")


def test_addresses_and_networks_are_described_by_examples() -> None:
    @attrs.frozen
    class Addressed:
        host: IPv4Address
        networks: tuple[IPv4Network | IPv6Network, ...]

    assert [info.kind for info in describe(Addressed)] == [
        "an IPv4 address such as 10.0.0.1",
        "an IPv4 network such as 10.0.0.0/8 or an IPv6 network such as fd00::/8, or several separated by commas",
    ]


def test_every_default_reads_back_as_itself() -> None:
    pairs = [f"{info.name}={info.default}" for info in describe(Record) if info.default is not None]
    assert build(Record, ["out=x", *pairs], owner="test") == Record(out=Path("x"))


def test_a_needed_option_that_is_missing_is_named() -> None:
    with pytest.raises(OptionError, match="out must be set"):
        build(Record, ["ports=1"], owner="test")


def test_a_dash_in_a_name_is_an_underscore() -> None:
    assert Settings.from_pairs(["on-error=raise"]).on_error == "raise"


def test_a_validator_of_the_records_author_is_heard() -> None:
    @attrs.frozen
    class Limited:
        size: int = attrs.field(default=1, validator=attrs.validators.le(10))

    with pytest.raises(OptionError, match="app x: 'size'"):
        build(Limited, ["size=11"], owner="app x")
