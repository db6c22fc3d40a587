"""The predicate compiler: what it takes, what it refuses and how it says so, and what comes of it."""

import inspect
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aiomos.face.packets import Packet
from aiomos.face.views import State
from aiomos.levels import Level
from aiomos.testing.packets import ethernet, ipv4, mss, tcp_frame
from aiomos.ude import attributes
from aiomos.ude.filters import Filter
from aiomos.ude.networks import Network
from aiomos.ude.predicates import Compiled, NotNative, combine, compile_predicate

probe = pytest.importorskip("tests.native._probe_predicates", reason="needs the native test probes")
fire = probe.fire
ALL = (1 << 64) - 1
PORTS = [80, 443, *range(8000, 8100), 9999, 11, 13, 15]
NET = Network("10.0.0.0/8", "2001:db8::/32")
HOSTS = ("10.0.0.2", "192.0.2.1", "10.0.0.3", "::1", "fe80::1", "1.1.1.1", "2001:db8::5", "8.8.8.8")
LARGE = 1 << 63
HUGE = bytes(1 << 20)
NUMBER = 1 << 100_000
FAR = 1 << 100
COUNT = itertools.count()
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
REQUEST = Packet.decode(
    tcp_frame(payload=GET, flags="PA", dport=80, seq=1000, ack=7, ttl=64, ip_id=9, vlan=12)
)
SYN = Packet.decode(tcp_frame(flags="S", options=mss(1460), dport=81, src="2001:db8::1", dst="::1"))
ICMP = Packet.decode(ethernet(ipv4(b"\x08\0\0\0", proto=1)))

Predicate = Callable[..., object]


def compiled(function: Predicate) -> Compiled | NotNative:
    return compile_predicate(function, tuple(inspect.signature(function).parameters))


def native(function: Predicate, pkt: Packet | None, side: int = 0) -> bool | None:
    """What the machine says; None if it leaves it to Python."""
    made = compiled(function)
    assert isinstance(made, Compiled), made
    fired, unsure = fire(combine([(0, None, made, None)]), pkt, None, side)
    return None if unsure else bool(fired)


# --- what it takes --------------------------------------------------------------------------------
def choose(pkt: Any) -> object:
    """Has a docstring, which does nothing."""
    head: bytes = pkt.payload[:4]
    limit = 10
    limit += 5
    if head == b"GET ":
        return pkt.ttl > limit
    if pkt.syn:
        pass
    else:
        return None
    return pkt.dport == 81


def falls_off(pkt: Any) -> object:  # noqa: RET503
    if pkt.syn:
        return True


def close_over(port: int) -> Predicate:
    def predicate(pkt: Any) -> object:
        return pkt.dport == port

    return predicate


TAKEN: dict[str, Predicate] = {
    "flags": lambda pkt: pkt.syn and not pkt.ack_flag,
    "either flag": lambda pkt: pkt.syn or pkt.fin or pkt.rst,
    "masked flags": lambda pkt: pkt.flags & 0x12 == 0x02,
    "all flags": lambda pkt: pkt.flags in (2, 24),
    "comparison": lambda pkt: pkt.ttl != 64,
    "chain": lambda pkt: 0 < pkt.ttl <= 64 < pkt.seq,
    "mirrored": lambda pkt: pkt.dport > 80,
    "arithmetic": lambda pkt: (pkt.seq - pkt.ack) % 10 == 3 and -pkt.seq // 3 < -300 and ~pkt.ttl == -65,
    "bits": lambda pkt: (pkt.seq >> 2 | 1 << 4) ^ 0xFF & pkt.ttl,
    "none": lambda pkt: pkt.mss is None,
    "not none": lambda pkt: pkt.mss is not None and pkt.mss > 1000,
    "none compared": lambda pkt: pkt.mss == 1460 or pkt.vlan == None,  # noqa: E711
    "default": lambda pkt: (pkt.mss or 536) > 1000,
    "ports": lambda pkt: pkt.dport in PORTS,
    "not in": lambda pkt: pkt.dport not in {80: "web", 443: "web"},
    "range": lambda pkt: pkt.dport in range(80, 90, 2),
    "vlans": lambda pkt: pkt.vlan in (None, 12),
    "network": lambda pkt: pkt.src in NET,
    "network in place": lambda pkt: pkt.dst in Network("10.0.0.2"),
    "address": lambda pkt: pkt.dst == "10.0.0.2",
    "addresses": lambda pkt: pkt.dst in HOSTS,
    "two addresses": lambda pkt: pkt.src != pkt.dst,
    "prefix": lambda pkt: pkt.payload[:4] == b"GET ",
    "startswith": lambda pkt: pkt.payload.startswith((b"POST", b"GET")),
    "endswith": lambda pkt: pkt.payload.endswith(b"\r\n\r\n"),
    "search": lambda pkt: b"HTTP" in pkt.payload,
    "search a byte": lambda pkt: 0 in pkt.payload,
    "find": lambda pkt: pkt.payload.find(b"HTTP") == 6,
    "slice of slice": lambda pkt: pkt.payload[4:][-4:] == b"\r\n\r\n" and pkt.payload[-2:-1] == b"\r",
    "computed slice": lambda pkt: (
        pkt.payload[pkt.ack - 1 :] > b"" or True if pkt.syn else pkt.payload[pkt.ack - 1 :]
    ),
    "one of many": lambda pkt: pkt.payload[:3] in {b"GET", b"PUT"},
    "length": lambda pkt: len(pkt.payload) == pkt.payload_len,
    "big-endian": lambda pkt: int.from_bytes(pkt.raw[2:4]) == pkt.length,
    "little-endian": lambda pkt: int.from_bytes(pkt.raw[2:4], byteorder="little") > 5,
    "functions": lambda pkt: min(pkt.ttl, 3, pkt.seq) + max(1, pkt.ttl) + abs(0 - pkt.ttl) + int(pkt.syn) > 5,
    "bool": lambda pkt: bool(pkt.payload) == True,  # noqa: E712
    "choice": lambda pkt: (pkt.ttl if pkt.syn else pkt.seq) == 64,
    "side": lambda side: side == "client",
    "sides": lambda side: side in ("server", "nobody"),
    "enum": lambda pkt: pkt.ttl != State.ESTABLISHED,
    "static": lambda pkt: len(HOSTS) > 3 and pkt.ttl,
    "presence": lambda pkt: pkt and pkt is not None,
    "statements": choose,
    "falling off the end": falls_off,
    "closure": close_over(80),
}


@pytest.mark.parametrize("name", [name for name in TAKEN if name != "computed slice"])
@pytest.mark.parametrize("pkt", [REQUEST, SYN, ICMP], ids=["request", "syn", "icmp"])
def test_answers_as_python(name: str, pkt: Packet) -> None:
    function = TAKEN[name]
    given = {"pkt": pkt, "side": "client"}
    try:
        expected = bool(function(**{name: given[name] for name in inspect.signature(function).parameters}))
    except TypeError:
        assert native(function, pkt) is None
    else:
        assert native(function, pkt) is expected


@pytest.mark.parametrize(
    "function",
    [
        lambda pkt: pkt.payload[0] == 1,
        lambda pkt: pkt.mss > 5,
        lambda pkt: pkt.ttl // pkt.ack,
        lambda pkt: (pkt.seq + 1) * (1 << 62) > 0,
        lambda pkt: 1 << pkt.seq,
        lambda pkt: pkt.ttl >> (0 - pkt.ttl),
        lambda pkt: int.from_bytes(pkt.raw) > 5,
        lambda flow: flow.client.bytes,
        lambda half: half.port,
        lambda half: half.peek(0, 4) == b"",
    ],
)
def test_leaves_to_python_what_raises_or_does_not_fit(function: Predicate) -> None:
    pkt = Packet.decode(tcp_frame(payload=b"", seq=1000, ack=0))
    assert native(function, pkt) is None


def test_without_a_packet_attributes_are_left_to_python() -> None:
    assert native(lambda pkt: pkt.syn, None) is None
    assert native(lambda pkt: pkt is None, None) is True


def test_only_what_python_evaluates_can_be_left_to_it() -> None:
    assert native(lambda pkt: pkt.payload and pkt.payload[0] == 71, SYN) is False
    assert native(lambda pkt: not pkt.payload or pkt.payload[0] == 71, SYN) is True


port = 80


def test_constants_are_those_at_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    predicates = combine([(0, None, made(lambda pkt: pkt.dport == port), None)])
    monkeypatch.setitem(globals(), "port", 81)
    assert fire(predicates, REQUEST) == (1, 0)


@pytest.mark.parametrize(
    ("function", "level"),
    [
        (lambda pkt: pkt.syn, Level.STATE),
        (lambda half: half.state == State.CLOSED, Level.STATE),
        (lambda flow: flow.client.retransmits > 3, Level.BYTES),
        (lambda half: half.peek(0, 1) == b"x", Level.STREAM),
    ],
)
def test_tells_the_level_it_needs(function: Predicate, level: Level) -> None:
    made = compiled(function)
    assert isinstance(made, Compiled)
    assert made.level is level


def test_two_lambdas_in_a_line_are_told_apart() -> None:
    both = (lambda pkt: pkt.ttl > 63, lambda pkt: pkt.ttl > 64)
    assert [native(function, REQUEST) for function in both] == [True, False]


@pytest.mark.parametrize(
    ("predicate", "starts"),
    [
        (lambda pkt: pkt.payload[:4] == b"GET ", True),
        (lambda pkt: pkt.payload[0:4] == b"GET ", True),
        (lambda pkt: pkt.payload[:3] in (b"GET", b"PUT"), True),
        (lambda pkt: pkt.payload[:3] in (b"GET", b"POST"), False),
        (lambda pkt: pkt.payload[:5] == b"GET ", False),
        (lambda pkt: pkt.payload[1:4] == b"ET ", False),
        (lambda pkt: pkt.payload[-4:] == b"GET ", False),
    ],
)
def test_a_slice_from_the_start_is_not_cut_out_to_be_compared(predicate: Any, *, starts: bool) -> None:
    made = str(compiled(predicate))
    assert ("slice" not in made) == starts
    assert (" starts " in made) == starts


def true_if_syn(pkt: Any) -> object:
    if pkt.syn:
        return True
    return pkt.rst


def false_if_syn(pkt: Any) -> object:
    if pkt.syn:
        return False
    return pkt.rst


def true_unless_syn(pkt: Any) -> object:
    if pkt.syn:
        return pkt.rst
    return True


def false_unless_syn(pkt: Any) -> object:
    if pkt.syn:
        return pkt.rst
    return False


@pytest.mark.parametrize(
    ("predicate", "tests"),
    [
        *((function, 1) for function in (true_if_syn, false_if_syn, true_unless_syn, false_unless_syn)),
        (lambda pkt: (pkt.payload_len > 9 or pkt.syn) or pkt.rst, 1),
        (lambda pkt: pkt.payload_len > 9 or (pkt.syn or pkt.rst), 1),
        (lambda pkt: (pkt.payload_len > 9 and pkt.syn) and not pkt.rst, 1),
        (lambda pkt: (pkt.syn and not pkt.rst) and pkt.payload_len > 9, 1),
        (lambda pkt: pkt.syn and (not pkt.rst and pkt.payload_len > 9), 1),
        (lambda pkt: (pkt.syn or pkt.rst) or pkt.payload_len > 9, 1),
        (lambda pkt: pkt.syn or (pkt.rst or pkt.payload_len > 9), 1),
        (lambda pkt: pkt.syn or (not pkt.rst or pkt.payload_len > 9), 1),
        (lambda pkt: pkt.syn or pkt.payload_len > 9 or pkt.rst, 2),
        (lambda pkt: pkt.syn and pkt.payload_len > 9 and pkt.rst, 2),
    ],
)
def test_flags_that_stand_side_by_side_are_one_test(predicate: Any, tests: int) -> None:
    assert str(compiled(predicate)).count("jump flags") == tests


def test_str_is_a_listing() -> None:
    made = str(compiled(lambda pkt: pkt.payload.startswith(b"GET ")))
    assert re.search(r"jump bytes not +r0 starts b'GET '", made)


# --- what it refuses ------------------------------------------------------------------------------
def loop(pkt: Any) -> object:
    for _ in pkt.payload:
        return True
    return False


def unassigned(pkt: Any) -> object:
    if pkt.syn:
        x = 1
    return x > 0


def attempt(pkt: Any) -> object:
    try:
        return pkt.ttl
    except ValueError:
        return False


def unpack(pkt: Any) -> object:
    x, y = pkt.ttl, pkt.tos
    return x > y


SPACE = SimpleNamespace(port=80)
REFUSED: dict[str, tuple[Predicate, str]] = {
    "call": (lambda pkt: re.match(b"x", pkt.payload), "calls re.match()"),
    "method": (lambda pkt: pkt.payload.count(b"x") > 1, "calls pkt.payload.count()"),
    "float": (lambda pkt: pkt.time > 5, "reads pkt.time, a float"),
    "time": (lambda time: time > 5, "reads time, a float"),
    "tuple": (lambda pkt: pkt.options, "reads pkt.options, a tuple"),
    "context": (lambda flow: flow.ctx["x"], "reads flow.ctx, an object"),
    "unknown": (lambda pkt: pkt.nothing, "no field that it knows"),
    "object": (lambda pkt: pkt.dport == SPACE.port, "only those of modules and classes"),
    "division": (lambda pkt: pkt.ttl / 2 > 1, "divides with /"),
    "power": (lambda pkt: pkt.ttl**2 > 1, "computes a power"),
    "large": (lambda pkt: pkt.seq < LARGE, "does not fit in 64 bits"),
    "large shift": (lambda pkt: pkt.seq < 1 << 1000000000, "does not fit in 64 bits"),
    "long bytes": (lambda pkt: pkt.payload == b"x" * 10000000000, "or is long"),
    "long bytes, turned round": (lambda pkt: pkt.payload == 10000000000 * b"x", "or is long"),
    "long sum": (lambda pkt: pkt.payload == HUGE + HUGE, "or is long"),
    "wide format": (lambda pkt: pkt.payload == b"%1000000000d" % 5, "or is long"),
    "long number": (lambda pkt: pkt.seq == NUMBER * NUMBER, "does not fit in 64 bits"),
    "long set": (lambda pkt: pkt.dport in frozenset(range(10000000000)), "constants that are long"),
    "long search": (lambda pkt: pkt.dport == max(range(10000000000)), "constants that are long"),
    "endless set": (lambda pkt: pkt.dport in frozenset(COUNT), "of a kind that it knows nothing of"),
    "endless search": (lambda pkt: pkt.syn and -1 in COUNT, "looks for something in a constant count"),
    "long look": (lambda pkt: pkt.syn and 5.5 in range(10000000000000), "in a long range"),
    "endless range": (lambda pkt: pkt.dport in range(0, FAR, 2), "more than 4096 items"),
    "kinds": (lambda pkt: pkt.payload + pkt.ttl, "takes bytes for a number"),
    "mixed kinds": (lambda pkt: (pkt.payload or pkt.ttl) == 5, "takes"),
    "ordered bytes": (lambda pkt: pkt.payload < b"x", "takes bytes for a number"),
    "text": (lambda pkt: pkt.src.startswith("10."), "calls pkt.src.startswith()"),
    "part of a text": (lambda pkt: pkt.src in "10.0.0.1", "looks for something in a constant str"),
    "computed address": (lambda pkt: (pkt.src or pkt.dst) in NET, "takes"),
    "float constant": (lambda pkt: pkt.ttl in (1.5, 2), "compares with a constant float"),
    "identity": (lambda pkt: pkt.syn is True, "compares with 'is'"),
    "step": (lambda pkt: pkt.payload[::2] == b"x", "takes a slice with a step"),
    "signed": (lambda pkt: int.from_bytes(pkt.payload, "big", signed=True), "calls int.from_bytes()"),
    "comprehension": (lambda pkt: any(port == pkt.dport for port in PORTS), "has a comprehension"),
    "walrus": (lambda pkt: (x := pkt.ttl) and x > 5, "assigns within an expression"),
    "format": (lambda pkt: f"{pkt.ttl}" == "5", "formats a text"),
    "undefined": (lambda pkt: pkt.ttl == nowhere, "not defined yet"),  # type: ignore[name-defined]  # noqa: F821
    "wrong constant": (lambda pkt: pkt.src in Network("10.0.0.1/8"), "raises"),
    "peek": (lambda half: half.peek(0), "an offset and a length"),
    "loop": (loop, "has a loop"),
    "try": (attempt, "has a try"),
    "unpacking": (unpack, "has `x, y = "),
    "unassigned": (unassigned, "reads x, which may not have been assigned"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_and_says_why(name: str) -> None:
    function, words = REFUSED[name]
    refused = compiled(function)
    assert isinstance(refused, NotNative)
    assert words in refused.reason
    assert refused.filename == __file__


def test_a_refusal_names_line_and_construct() -> None:
    refused = compiled(loop)
    assert isinstance(refused, NotNative)
    first = inspect.getsourcelines(loop)[1]
    assert (refused.line, refused.text.splitlines()[0]) == (first + 1, "for _ in pkt.payload:")
    assert str(refused).startswith(f"line {first + 1}: has a loop")


def test_what_has_no_source_is_refused() -> None:
    space: dict[str, Any] = {}
    exec("def f(pkt): return pkt.syn", space)
    refused = compiled(space["f"])
    assert isinstance(refused, NotNative)
    assert "source" in refused.reason


def test_what_is_no_function_is_refused() -> None:
    class Callable:
        def __call__(self, pkt: Any) -> bool:
            return bool(pkt.syn)

    assert isinstance(compile_predicate(Callable(), ("pkt",)), NotNative)
    assert isinstance(compile_predicate(len, ("pkt",)), NotNative)


def test_source_that_has_changed_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "changing.py"
    module.write_text("def f(pkt):\n    return pkt.syn\n")
    monkeypatch.syspath_prepend(tmp_path)
    import changing  # type: ignore[import-not-found]

    assert isinstance(compiled(changing.f), Compiled)
    module.write_text("def f(pkt):\n    return pkt.fin\n")
    inspect.linecache.checkcache()  # type: ignore[attr-defined]
    refused = compiled(changing.f)
    assert isinstance(refused, NotNative)
    assert "changed" in refused.reason


def test_too_large_a_predicate_is_refused() -> None:
    def doubling(pkt: Any) -> object:
        a = pkt.ttl + pkt.tos
        b = a + a + a + a
        c = b + b + b + b
        d = c + c + c + c
        e = d + d + d + d
        f = e + e + e + e
        return f > 5

    refused = compiled(doubling)
    assert isinstance(refused, NotNative)
    assert "too large" in refused.reason


@pytest.mark.parametrize("depth", [10, 149])
@pytest.mark.parametrize("form", ["not {}", "{} + 1", "(1 if {} else 0)"])
def test_what_nests_deep_is_refused_and_what_does_not_combines(tmp_path: Path, form: str, depth: int) -> None:
    """Also where the calls of functions are deep already."""
    made = defined(tmp_path, nested(form, depth))
    assert isinstance(made, Compiled)
    refused = defined(tmp_path, nested(form, 190))
    assert isinstance(refused, NotNative)
    assert "too deep" in refused.reason

    def deeper(levels: int) -> int:
        return deeper(levels - 1) if levels else combine([(0, None, made, None)]).native

    assert deeper(300) == 1


def test_a_long_choice_does_not_nest_deep(tmp_path: Path) -> None:
    for word, answer in (("or", True), ("and", False)):
        choice = f" {word} ".join(f"pkt.dport == {port}" for port in range(1, 250))
        made = defined(tmp_path, f"def p(pkt):\n    return {choice}\n")
        assert isinstance(made, Compiled)
        fired, unsure = fire(combine([(0, None, made, None)]), REQUEST, None, 0)
        assert (fired, unsure) == (int(answer), 0)


def nested(form: str, depth: int) -> str:
    text = "pkt.ttl"
    for _ in range(depth):
        text = form.format(text)
    return f"def p(pkt):\n    return {text}\n"


def defined(folder: Path, source: str) -> Compiled | NotNative:
    """Compile a function of this source."""
    path = folder / f"p{len(list(folder.iterdir()))}.py"
    path.write_text(source)
    space: dict[str, Any] = {}
    exec(compile(source, str(path), "exec"), space)
    return compiled(space["p"])


# --- together -------------------------------------------------------------------------------------
def listing_of(*events: Compiled) -> str:
    return str(combine([(bit, None, event, None) for bit, event in enumerate(events)]))


def made(function: Predicate) -> Compiled:
    result = compiled(function)
    assert isinstance(result, Compiled), result
    return result


def test_a_child_is_only_looked_at_where_its_parent_fires() -> None:
    always, get, syn = (
        made(lambda pkt: pkt.ttl > 0),
        made(lambda pkt: b"GET" in pkt.payload),
        made(lambda pkt: pkt.syn),
    )
    predicates = combine(
        [(0, None, syn, None), (1, 0, always, None), (5, None, get, None), (3, 5, always, None)]
    )
    assert fire(predicates, REQUEST) == (1 << 5 | 1 << 3, 0)
    assert fire(predicates, SYN) == (0b11, 0)
    assert predicates.native == 0b101011


def test_without_a_program_python_decides_and_children_are_judged() -> None:
    syn = made(lambda pkt: pkt.syn)
    predicates = combine([(0, None, None, None), (1, 0, syn, None), (2, 1, None, None)])
    assert fire(predicates, SYN) == (0b10, 0b101)
    assert fire(predicates, REQUEST) == (0, 0b1)
    assert predicates.native == 0b10


def test_filters_of_events_are_looked_at_natively() -> None:
    always = made(lambda pkt: pkt.ttl > 0)
    rows = [(0, None, always, Filter("port 80").expression), (1, None, None, Filter("port 81").expression)]
    assert fire(combine(rows), REQUEST) == (1, 0)
    assert fire(combine(rows), SYN) == (0, 2)


def test_what_several_have_in_common_is_computed_once() -> None:
    first = made(lambda pkt: pkt.seq * pkt.ack % 97 > 5)
    second = made(lambda pkt: pkt.dport == 80 and pkt.seq * pkt.ack % 97 > 5)
    both = combine([(0, None, first, None), (1, None, second, None)])
    assert fire(both, REQUEST) == (3, 0)
    assert fire(both, REQUEST, wanted=2) == (2, 0)
    assert "recall" in listing_of(first, second)
    assert "recall" not in listing_of(first)


def test_what_may_have_been_computed_is_asked_for_and_what_was_is_there() -> None:
    maybe = made(
        lambda pkt: (
            (pkt.syn and pkt.seq * pkt.ack % 97 > 5)
            or (pkt.seq * pkt.ack % 97 < 50 and pkt.seq * pkt.ack % 97 != 7)
        )
    )
    certain = made(lambda pkt: pkt.seq * pkt.ack % 97 > 5 and pkt.seq * pkt.ack % 97 < 50)
    assert listing_of(maybe).count("recall") == 1
    assert listing_of(certain).count("recall") == 0


def test_guard_leaves_out_what_flags_and_payload_exclude() -> None:
    rows = [
        made(lambda pkt: pkt.syn and not pkt.ack_flag),
        made(lambda pkt: pkt.payload.startswith(b"GET")),
        made(lambda pkt: pkt.payload_len > 0 and pkt.ttl > 5),
        made(lambda pkt: pkt.flags & 0x3F == 0x10 and pkt.ttl > 5),
        made(lambda pkt: pkt.payload[0] == 71),
        made(lambda pkt: pkt.ttl > 5 or pkt.rst),
    ]
    guard = combine([(bit, None, row, None) for bit, row in enumerate(rows)]).guard
    assert guard[0x002] == 0b110001
    assert guard[0x012] == 0b110000
    assert guard[0x010] == 0b111000
    assert guard[0x018 | 512] == 0b110110
    assert guard[0x010 | 512] == 0b111110


def test_guard_of_a_child_is_also_that_of_its_parent() -> None:
    syn, dport = made(lambda pkt: pkt.syn), made(lambda pkt: pkt.dport == 80)
    guard = combine([(0, None, syn, None), (1, 0, dport, None)]).guard
    assert (guard[0x02], guard[0x10]) == (3, 0)


def test_64_events_and_no_more() -> None:
    ttl = made(lambda pkt: pkt.ttl == 64)
    predicates = combine([(bit, None, ttl, None) for bit in range(64)])
    assert fire(predicates, REQUEST) == (ALL, 0)
    assert fire(predicates, REQUEST, wanted=1 << 63) == (1 << 63, 0)
    with pytest.raises(ValueError, match="at most 64"):
        combine([(0, None, ttl, None)] * 65)


@pytest.mark.parametrize(
    "rows", [[(0, 1, None, None)], [(0, None, None, None)] * 2, [(64, None, None, None)]]
)
def test_combine_refuses_rows_that_are_no_tree(rows: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"bit|event"):
        combine(rows)


def test_no_event_at_all_never_fires() -> None:
    assert fire(combine([]), REQUEST) == (0, 0)


def test_reference_has_every_attribute() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "predicates.md").read_text()
    names = {*attributes.PACKET, *attributes.FLOW, *attributes.HALVES, *attributes.HALF}
    assert not {name for name in names if f"`{name}`" not in page}
