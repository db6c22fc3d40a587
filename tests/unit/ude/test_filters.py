"""Which texts are filters, what they mean, and how the others are refused."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from aiomos.errors import FilterSyntaxError
from aiomos.ude.filter_values import SERVICES
from aiomos.ude.filters import Filter, parse

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "filters.md"

# Text, and the same in the words that str() of an expression uses.
MEANINGS = [
    ("", ""),
    (" \t\n", ""),
    ("tcp", "tcp"),
    ("udp", "udp"),
    ("ip", "ip"),
    ("ip6", "ip6"),
    ("vlan", "vlan"),
    ("vlan 12", "vlan 12"),
    ("vlan 0", "vlan 0"),
    ("vlan 4095", "vlan 4095"),
    ("vlan and tcp", "vlan and tcp"),
    # hosts and nets
    ("host 10.0.0.1", "host 10.0.0.1"),
    ("host 10.0.0.0/8", "net 10.0.0.0/8"),
    ("host 10.0.0.1-10.0.0.99", "host 10.0.0.1-10.0.0.99"),
    ("host 10.0.0.0-10.0.0.255", "net 10.0.0.0/24"),
    ("host 10.0.0.1-10.0.0.1", "host 10.0.0.1"),
    ("host 2001:DB8::1", "host 2001:db8::1"),
    ("host 2001:db8::/32", "net 2001:db8::/32"),
    ("host 2001:db8::1-2001:db8::ff", "host 2001:db8::1-2001:db8::ff"),
    ("net 10", "net 10.0.0.0/8"),
    ("net 10.1", "net 10.1.0.0/16"),
    ("net 10.1.2", "net 10.1.2.0/24"),
    ("net 10.1.2.3", "host 10.1.2.3"),
    ("net 10/8", "net 10.0.0.0/8"),
    ("net 10.16/12", "net 10.16.0.0/12"),
    ("net 0.0.0.0/0", "net 0.0.0.0/0"),
    ("net ::/0", "net ::/0"),
    ("net 2001:db8::", "host 2001:db8::"),
    ("net 10.0.0.0 mask 255.0.0.0", "net 10.0.0.0/8"),
    ("net 192.168 mask 255.255", "net 192.168.0.0/16"),
    ("net 10.0.0.1 mask 255.255.255.255", "host 10.0.0.1"),
    ("net 0.0.0.0 mask 0.0.0.0", "net 0.0.0.0/0"),
    # ports
    ("port 80", "port 80"),
    ("port 0", "port 0"),
    ("port 8000-8100", "port 8000-8100"),
    ("portrange 8000-8100", "port 8000-8100"),
    ("portrange 80", "port 80"),
    ("port 0-65535", "port 0-65535"),
    ("port http", "tcp and port 80"),
    ("port domain", "port 53"),
    ("tcp port http", "tcp and port 80"),
    ("tcp port domain", "tcp and port 53"),
    ("ip6 port http", "ip6 and tcp and port 80"),
    ("port ftp-data", "tcp and port 20"),
    # sides
    ("client host 10.0.0.1", "client host 10.0.0.1"),
    ("src 10.0.0.1", "client host 10.0.0.1"),
    ("dst net 10", "server net 10.0.0.0/8"),
    ("server port 80", "server port 80"),
    ("src or dst port 80", "port 80"),
    ("dst or src port 80", "port 80"),
    ("src and dst port 80", "client and server port 80"),
    ("server && client net 10", "client and server net 10.0.0.0/8"),
    ("src or server port 80", "port 80"),
    ("src 10.0.0.1 or dst 10.0.0.2", "client host 10.0.0.1 or server host 10.0.0.2"),
    # protocols before other qualifiers
    ("tcp port 80", "tcp and port 80"),
    ("tcp server port 80", "tcp and server port 80"),
    ("ip host 10.0.0.1", "ip and host 10.0.0.1"),
    ("ip6 net 2001:db8::/32", "ip6 and net 2001:db8::/32"),
    ("udp src and dst port 53", "udp and client and server port 53"),
    ("tcp host 10.0.0.1", "tcp and host 10.0.0.1"),
    # bare values take the qualifiers before them
    ("port 80 or 443", "port 80 or port 443"),
    ("tcp port 80 or 443", "tcp and port 80 or (tcp and port 443)"),
    ("tcp dst port ftp or ftp-data or domain", "tcp and server port 21 or (tcp and server port 20)"
     " or (tcp and server port 53)"),
    ("src host 10.0.0.1 or 10.0.0.2", "client host 10.0.0.1 or client host 10.0.0.2"),
    ("host (10.0.0.1 or 10.0.0.2)", "host 10.0.0.1 or host 10.0.0.2"),
    ("host ((10.0.0.1) or not (10.0.0.2))", "host 10.0.0.1 or not host 10.0.0.2"),
    ("port (80 or 443) and 22", "port 80 or port 443 and port 22"),
    ("port 80 or (443 and 22)", "port 80 or (port 443 and port 22)"),
    ("port not 80", "not port 80"),
    ("port ! 80 or 22", "not port 80 or port 22"),
    ("tcp port not 80", "not (tcp and port 80)"),
    ("not host 10.0.0.1 and 10.0.0.2", "not host 10.0.0.1 and host 10.0.0.2"),
    ("port 80 and not 443", "port 80 and not port 443"),
    ("host 10.0.0.1 or port 80 or 443", "host 10.0.0.1 or port 80 or port 443"),
    ("port 80 or (tcp port 443) or 22", "port 80 or (tcp and port 443) or port 22"),
    # precedence
    ("tcp or udp and port 80", "tcp or udp and port 80"),
    ("(tcp or udp) and port 80", "tcp or udp and port 80"),
    ("tcp or (udp and port 80)", "tcp or (udp and port 80)"),
    ("not tcp and udp", "not tcp and udp"),
    ("not (tcp and udp)", "not (tcp and udp)"),
    ("!!tcp", "not not tcp"),
    ("tcp&&ip||udp", "tcp and ip or udp"),
    ("((tcp))", "tcp"),
    ("tcp and (udp and ip)", "tcp and udp and ip"),
]  # fmt: skip

# Text with ^ before the column, and a part of the message.
REFUSED = [
    ("^tpc port 80", "did you mean 'tcp'"),
    ("^TCP", "did you mean 'tcp'"),
    ("^http", "not 'http'"),
    ("^10.0.0.1", "did you mean 'host 10.0.0.1'"),
    ("^::1", "did you mean 'host ::1'"),
    ("^80", "did you mean 'port 80'"),
    ("tcp ^80", "did you mean 'port 80'"),
    ("tcp and ^80", "did you mean 'port 80'"),
    ("vlan 10 or ^12", "did you mean 'port 12'"),
    ("(port 80) or ^443", "did you mean 'port 443'"),
    ("ip ^10.0.0.1", "did you mean 'host 10.0.0.1'"),
    ("tcp ^udp", "expected 'and' or 'or' before 'udp'"),
    ("port 80 ^443", "expected 'and' or 'or'"),
    ("^ether host 1", "single packets"),
    ("^tcp [13] = 2", "'tcp[...]' is about single packets"),
    ("port 80 and ^tcp[tcpflags] & tcp-syn != 0", "@app.ude(aiomos.PKT_IN)"),
    ("tcp and (^ip6[7] < 5)", "'ip6[...]' is about single packets"),
    ("tcp and ^len > 100", "'len' is about single packets"),
    ("ip ^proto 6", "'proto' is about single packets"),
    ("ip ^broadcast", "docs/howto/udes.md"),
    ("(tcp ^less 100)", "'less' is about single packets"),
    ("^[13] = 2", "unexpected '['"),
    ("port ^=80", "unexpected '='"),
    ("host fe80::1^%eth0", "unexpected '%'"),
    ("tcp and^", "the filter ends"),
    ("not^", "the filter ends"),
    ("tcp and ^and udp", "not 'and'"),
    ("^and tcp", "not 'and'"),
    ("^mask 255.0.0.0", "not 'mask'"),
    # parentheses
    ("^(tcp", "never closed"),
    ("tcp and ^(udp or (ip)", "never closed"),
    ("tcp^)", "closes nothing"),
    ("(^)", "not ')'"),
    ("(tcp ^udp)", "expected 'and', 'or' or ')'"),
    ("port (80 or ^tcp)", "expected a value for 'port'"),
    ("port ^(80", "never closed"),
    # sides
    ("client^", "expected a value for 'host'"),
    ("client ^tcp", "expected a value for 'host'"),
    ("src ^or port 80", "expected a value for 'src'"),
    ("src or ^client port 80", "the same end"),
    ("src ^80", "did you mean 'port 80'"),
    # hosts and nets
    ("host^", "expected a value for 'host'"),
    ("host ^example.com", "not looked up"),
    ("host ^10.0.0.256", "not a valid address"),
    ("host ^010.0.0.1", "not a valid address"),
    ("host ^10.0.0.1.2", "not a valid address"),
    ("host ^1::2::3", "not a valid address"),
    ("host ^10.1", "did you mean 'net 10.1'"),
    ("host ^10.0.0.0/33", "0 to 32"),
    ("host ^10.0.0.0/", "0 to 32"),
    ("host ^10.0.0.0/8/8", "0 to 32"),
    ("host ^10.0.0.0/08", "0 to 32"),
    ("host ^10.0.0.0/255.0.0.0", "0 to 32"),
    ("net ^2001:db8::/129", "0 to 128"),
    ("host ^10.0.0.1/8", "did you mean 10.0.0.0/8"),
    ("net ^10.1/8", "did you mean 10.0.0.0/8"),
    ("net ^2001:db8::1/32", "did you mean 2001:db8::/32"),
    ("host ^10.0.0.9-10.0.0.1", "did you mean 10.0.0.1-10.0.0.9"),
    ("host ^10.0.0.1-::1", "mixes"),
    ("host ^10.0.0.1-", "not an address"),
    ("host 10.0.0.1 ^- 10.0.0.9", "expected 'and' or 'or'"),
    ("net ^10.0.0.1-10.0.0.9", "did you mean 'host 10.0.0.1-10.0.0.9'"),
    ("net ^10.0.0.1 mask 255.0.0.0", "did you mean 10.0.0.0/8"),
    ("net ^10.0.0.0 mask 255.0.255.0", "row of ones"),
    ("net ^10.0.0.0 mask 0.255.255.255", "row of ones"),
    ("net ^10.0.0.0 mask wat", "not an address"),
    ("net ^:: mask ::", "IPv4"),
    ("net 10.0.0.0 mask^", "expected a mask"),
    ("host 10.0.0.0 ^mask 255.0.0.0", "before 'mask'"),
    ("ip host ^::1", "never matches"),
    ("ip6 net ^10", "never matches"),
    # ports
    ("port^", "expected a value for 'port'"),
    ("port ^65536", "0 to 65535"),
    ("port ^123456789012345678901234567890", "0 to 65535"),
    ("port ^080", "decimal"),
    ("port ^0x50", "unknown port"),
    ("port ^-1", "unknown port"),
    ("port ^htpp", "did you mean 'http'"),
    ("port ^80-", "two numbers"),
    ("port ^80-http", "two numbers"),
    ("port ^80-70", "did you mean 70-80"),
    ("portrange ^80-70000", "0 to 65535"),
    ("port ^10.0.0.1", "unknown port"),
    ("udp port ^http", "never matches"),
    ("vlan ^4096", "0 to 4095"),
    ("vlan ^010", "decimal"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "meaning"), MEANINGS)
def test_meaning(text: str, meaning: str) -> None:
    expression = parse(text)
    assert str(expression) == meaning
    assert parse(meaning) == expression


@pytest.mark.parametrize(("marked", "message"), REFUSED)
def test_refused_at_the_column_with_a_hint(marked: str, message: str) -> None:
    text = marked.replace("^", "")
    with pytest.raises(FilterSyntaxError) as caught:
        Filter(text)
    assert caught.value.column == marked.index("^") + 1
    assert caught.value.text == text
    assert message in str(caught.value)


def flow(text: str, **options: Any) -> tuple[tuple[tuple[str, int], tuple[str, int]], dict[str, Any]]:
    client, server = (end.rsplit(",", 1) for end in text.split(" > "))
    return ((client[0], int(client[1])), (server[0], int(server[1]))), options


WEB = flow("10.0.0.1,40000 > 192.0.2.7,80")
WEB6 = flow("2001:db8::1,40000 > 2001:db8::2,80")
DNS = flow("10.0.0.1,40000 > 192.0.2.7,53", proto="udp")
TAGGED = flow("10.0.0.1,40000 > 192.0.2.7,80", vlan=12)
MAPPED = flow("::ffff:10.0.0.1,40000 > ::ffff:192.0.2.7,80")


@pytest.mark.parametrize(
    ("text", "picked"),
    [
        ("", (WEB, WEB6, DNS, TAGGED, MAPPED)),
        ("tcp", (WEB, WEB6, TAGGED, MAPPED)),
        ("udp", (DNS,)),
        ("ip", (WEB, DNS, TAGGED)),
        ("ip6", (WEB6, MAPPED)),
        ("vlan", (TAGGED,)),
        ("vlan 12", (TAGGED,)),
        ("vlan 13", ()),
        ("not vlan", (WEB, WEB6, DNS, MAPPED)),
        ("server port 80", (WEB, WEB6, TAGGED, MAPPED)),
        ("client port 80", ()),
        ("port 40000", (WEB, WEB6, DNS, TAGGED, MAPPED)),
        ("client and server port 1-65535", (WEB, WEB6, DNS, TAGGED, MAPPED)),
        ("client and server port 80-40000", (WEB, WEB6, TAGGED, MAPPED)),
        ("client and server net 10", ()),
        ("client net 10 and server net 192.0.2.0/24", (WEB, DNS, TAGGED)),
        ("host 10.0.0.1", (WEB, DNS, TAGGED)),
        ("host 10.0.0.2-192.0.2.6", ()),
        ("host ::ffff:10.0.0.1", (MAPPED,)),
        ("net 0.0.0.0/0", (WEB, DNS, TAGGED)),
        ("net ::/0", (WEB6, MAPPED)),
        ("net 2001:db8::/127", (WEB6,)),
        ("not net 2001:db8::/127", (WEB, DNS, TAGGED, MAPPED)),
        ("tcp or udp and port 53", (DNS,)),
        ("tcp or (udp and port 53)", (WEB, WEB6, DNS, TAGGED, MAPPED)),
    ],
)
def test_flows_picked(text: str, picked: tuple[Any, ...]) -> None:
    flows = (WEB, WEB6, DNS, TAGGED, MAPPED)
    assert tuple(some for some in flows if Filter(text).matches(*some[0], **some[1])) == picked


def test_client_is_not_server() -> None:
    there = flow("10.0.0.1,40000 > 10.0.0.2,80")[0]
    picked = Filter("client 10.0.0.1 and server port 80")
    assert picked.matches(*there)
    assert not picked.matches(there[1], there[0])


def test_matches_takes_address_objects() -> None:
    assert Filter("net 10").matches((IPv4Address("10.0.0.1"), 1), (IPv4Address("192.0.2.7"), 2))


@pytest.mark.parametrize(
    ("client", "server", "options"),
    [
        (("10.0.0.1", 1), ("::1", 1), {}),
        (("10.0.0.1", 65536), ("10.0.0.2", 1), {}),
        (("10.0.0.1", 1), ("10.0.0.2", -1), {}),
        (("10.0.0.1", 1), ("10.0.0.2", 1), {"vlan": 4096}),
        (("10.0.0.1", 1), ("10.0.0.2", 1), {"proto": "sctp"}),
        (("wat", 1), ("10.0.0.2", 1), {}),
    ],
)
def test_matches_refuses_what_is_no_flow(client: Any, server: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"family|range|protocol|address"):
        Filter().matches(client, server, **options)


def test_a_filter_is_a_value() -> None:
    assert Filter("tcp") == Filter("tcp") != Filter("udp")
    assert len({Filter("tcp"), Filter("tcp")}) == 1
    assert str(Filter("tcp")) == "tcp"
    assert repr(Filter("tcp")) == "Filter(text='tcp')"


@pytest.mark.parametrize("text", [None, b"tcp", 80])
def test_a_filter_is_made_of_str(text: Any) -> None:
    with pytest.raises(TypeError, match="a filter is a str"):
        Filter(text)


def test_depth_limit_counts_parentheses_not_and_changes_of_operator() -> None:
    assert parse("(" * 64 + "tcp" + ")" * 64) == parse("tcp")
    parse("not " * 64 + "tcp")
    parse("tcp" + " and udp or ip" * 32)
    for text in ("(" * 65 + "tcp" + ")" * 65, "not " * 65 + "tcp", "tcp" + " and udp or ip" * 33):
        with pytest.raises(FilterSyntaxError, match="nested more than 64 deep"):
            parse(text)


def test_length_limit_allows_a_long_list() -> None:
    text = "port 1" + " or 1" * ((64 * 1024 - 6) // 5)
    assert len(Filter(text).program) > 13_000
    with pytest.raises(FilterSyntaxError) as caught:
        Filter(text.ljust(64 * 1024 + 1))
    assert caught.value.column == 64 * 1024 + 1


def test_longest_program_fits_the_machine() -> None:
    """No text within the limit may fail in the verifier, whatever it repeats."""
    for head, bare in (("tcp net 1", " or 1"), ("tcp port 1", " or 1"), ("src and dst net 1", " or 1")):
        count = (64 * 1024 - len(head)) // len(bare)
        program = Filter(head + bare * count).program
        assert len(program) > count  # at least a test of each, and an answer


def test_simple_filters_are_short_programs() -> None:
    """A test and two answers; the empty filter is an answer alone."""
    assert len(Filter("tcp").program) == 3
    assert len(Filter("server port 80").program) == 3
    assert len(Filter("").program) == 2


def examples(heading: str) -> list[str]:
    """Read the filters from the first column of the tables in one section of the reference page."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [
        line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line.startswith("| `")
    ]
    return [cell.strip("`").replace("\\|", "|") for cell in cells]


@pytest.mark.parametrize("text", [*examples("Examples"), *examples("Primitives")])
def test_example_in_the_reference_is_a_filter(text: str) -> None:
    """It reads as itself again, and decides something."""
    chosen = Filter(text)
    assert chosen.text == text
    assert parse(str(chosen.expression)) == chosen.expression
    assert (len(chosen.program) > 2) == bool(text)


def test_reference_lists_every_service() -> None:
    section = PAGE.read_text().split("## Services\n")[1].split("\n## ")[0]
    listed = [entry.split() for entry in section.split("\n\n")[-1].replace("`", "").rstrip(".\n").split(",")]
    names = {6: "tcp", 17: "udp", None: ""}
    assert listed == [
        [name, str(port), *names[proto].split()] for name, (port, proto) in sorted(SERVICES.items())
    ]
