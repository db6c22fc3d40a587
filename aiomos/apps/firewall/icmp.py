"""ICMP as a firewall sees it: names of types, and what they are there for."""

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58

NAMES: dict[str, frozenset[tuple[int, int]]] = {
    name: frozenset(types)
    for name, types in {
        "echo-reply": [(ICMP, 0), (ICMP6, 129)],
        "destination-unreachable": [(ICMP, 3), (ICMP6, 1)],
        "packet-too-big": [(ICMP6, 2)],
        "redirect": [(ICMP, 5), (ICMP6, 137)],
        "echo-request": [(ICMP, 8), (ICMP6, 128)],
        "router-advertisement": [(ICMP, 9), (ICMP6, 134)],
        "router-solicitation": [(ICMP, 10), (ICMP6, 133)],
        "time-exceeded": [(ICMP, 11), (ICMP6, 3)],
        "parameter-problem": [(ICMP, 12), (ICMP6, 4)],
        "timestamp-request": [(ICMP, 13)],
        "timestamp-reply": [(ICMP, 14)],
        "neighbour-solicitation": [(ICMP6, 135)],
        "neighbour-advertisement": [(ICMP6, 136)],
    }.items()
}
"""Protocol and type of each name, as IANA registers them; a name means the same in both versions of IP."""

ECHO_REQUESTS = NAMES["echo-request"]

ERRORS = frozenset({(ICMP, 3), (ICMP, 11), (ICMP, 12), (ICMP6, 1), (ICMP6, 2), (ICMP6, 3), (ICMP6, 4)})
"""Types that quote the packet they are about: RFC 792, RFC 4443 section 3."""

OF_THE_LINK = frozenset(
    (ICMP6, kind) for kind in (130, 131, 132, 133, 134, 135, 136, 141, 142, 143, 148, 149)
)
"""What IPv6 needs on a link as IPv4 needs ARP, and a bridge must not drop: RFC 4890 section 4.4.1."""
