"""The values in a connection filter: addresses, networks, ranges, ports and the names of services."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiomos.errors import did_you_mean
from aiomos.ude.expressions import TCP, UDP, And, Expression, Host, Port, Protocol, Side

MAX_PORT = 65535

#: Service names: port, and the protocol where the service has only one.
SERVICES: dict[str, tuple[int, int | None]] = {
    "amqp": (5672, TCP),
    "bgp": (179, TCP),
    "bootpc": (68, UDP),
    "bootps": (67, UDP),
    "domain": (53, None),
    "domain-s": (853, None),
    "finger": (79, TCP),
    "ftp": (21, TCP),
    "ftp-data": (20, TCP),
    "git": (9418, TCP),
    "http": (80, TCP),
    "http-alt": (8080, TCP),
    "https": (443, None),
    "imap": (143, TCP),
    "imap2": (143, TCP),
    "imaps": (993, TCP),
    "ipp": (631, TCP),
    "ircs-u": (6697, TCP),
    "isakmp": (500, UDP),
    "kerberos": (88, None),
    "ldap": (389, None),
    "ldaps": (636, None),
    "mdns": (5353, UDP),
    "microsoft-ds": (445, TCP),
    "ms-wbt-server": (3389, TCP),
    "mysql": (3306, TCP),
    "netbios-ssn": (139, TCP),
    "nfs": (2049, None),
    "nntp": (119, TCP),
    "ntp": (123, UDP),
    "openvpn": (1194, None),
    "pop3": (110, TCP),
    "pop3s": (995, TCP),
    "postgresql": (5432, TCP),
    "radius": (1812, None),
    "redis": (6379, TCP),
    "rsync": (873, TCP),
    "rtsp": (554, None),
    "sip": (5060, None),
    "sip-tls": (5061, None),
    "smtp": (25, TCP),
    "snmp": (161, None),
    "snmp-trap": (162, None),
    "socks": (1080, TCP),
    "ssh": (22, TCP),
    "submission": (587, TCP),
    "submissions": (465, TCP),
    "sunrpc": (111, None),
    "syslog": (514, UDP),
    "telnet": (23, TCP),
    "tftp": (69, UDP),
    "whois": (43, TCP),
    "xmpp-client": (5222, TCP),
}


class BadValue(Exception):  # noqa: N818
    """A value that its qualifiers cannot take; the parser adds the place."""


def decimal(text: str, most: int) -> int | None:
    """Read a number from 0 to *most*; None for others and for leading zeros (octal to tcpdump)."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,4}", text) or int(text) > most:
        return None
    return int(text)


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        pass
    if text.isdigit():
        raise BadValue(f"{text} is not an address; did you mean 'port {text}' or 'net {text}'?")
    if _full_ipv4(text):
        raise BadValue(f"{text} is not a full address; did you mean 'net {text}'?")
    if ":" in text or text.replace(".", "").isdigit():
        raise BadValue(f"{text} is not a valid address")
    raise BadValue(f"'{text}' is not an address; host names are not looked up")


def _network(text: str) -> IPv4Network | IPv6Network:
    """Read ``address/length``; the address may be cut as `_full_ipv4` allows."""
    start, _, length = text.partition("/")
    address = _address(_full_ipv4(start) or start)
    if decimal(length, address.max_prefixlen) is None:
        raise BadValue(f"the prefix length must be 0 to {address.max_prefixlen}, not '{length}'")
    return _exact_network(text, address, int(length))


def _exact_network(text: str, address: IPv4Address | IPv6Address, length: int) -> IPv4Network | IPv6Network:
    network = ip_network((address, length), strict=False)
    if network.network_address != address:
        raise BadValue(f"{text} has bits set beyond its prefix; did you mean {network}?")
    return network


def _full_ipv4(text: str) -> str | None:
    """Fill up a cut IPv4 network number, as in ``net 10.1``; None if it is none."""
    if not re.fullmatch(r"\d+(\.\d+){0,2}", text):
        return None
    return text + ".0" * (3 - text.count("."))


def hosts(side: Side, text: str) -> Host:
    """Read an address, a network or a range."""
    if "/" in text:
        return _whole(side, _network(text))
    low, dash, high = text.partition("-")
    first = last = _address(low)
    if dash:
        last = _address(high)
    if first.version != last.version:
        raise BadValue(f"range {text} mixes IPv4 and IPv6")
    if int(first) > int(last):
        raise BadValue(f"range {text} is reversed; did you mean {high}-{low}?")
    return Host(side, first, last)


def net(side: Side, text: str) -> Host:
    """Read a network; without a length, pcap-filter(7) takes it from the number of octets."""
    if "/" in text:
        return _whole(side, _network(text))
    if "-" in text:
        raise BadValue(f"a net is not a range; did you mean 'host {text}'?")
    if full := _full_ipv4(text):
        return _whole(side, _network(f"{full}/{8 * (text.count('.') + 1)}"))
    address = _address(text)
    return Host(side, address, address)


def masked_net(side: Side, text: str, mask: str) -> Host:
    """Read ``net X mask Y``, which is for IPv4 only."""
    address = _address(_full_ipv4(text) or text)
    bits = _address(_full_ipv4(mask) or mask)
    if address.version != 4 or bits.version != 4:
        raise BadValue("'mask' is for IPv4; give the prefix length instead, such as 2001:db8::/32")
    beyond = ~int(bits) & 0xFFFF_FFFF
    if beyond & (beyond + 1):
        raise BadValue(f"mask {mask} is not a row of ones and then zeros")
    return _whole(side, _exact_network(f"{text} mask {mask}", address, 32 - beyond.bit_length()))


def _whole(side: Side, network: IPv4Network | IPv6Network) -> Host:
    return Host(side, network.network_address, network.broadcast_address)


def _port_number(text: str) -> int:
    if not text.isdigit():
        raise BadValue(f"unknown port '{text}'{did_you_mean(text, SERVICES)}")
    number = decimal(text, MAX_PORT)
    if number is None:
        raise BadValue(f"a port is a decimal number from 0 to {MAX_PORT}, not {text}")
    return number


def ports(side: Side, text: str) -> Expression:
    """Read a port, a range or the name of a service, which also tells the protocol if there is only one."""
    if text in SERVICES:
        port, protocol = SERVICES[text]
        named = Port(side, port, port)
        return named if protocol is None else And((Protocol(protocol), named))
    low, dash, high = text.partition("-") if text[0].isdigit() else (text, "", "")
    first = last = _port_number(low)
    if dash:
        if not high.isdigit():
            raise BadValue(f"a port range is two numbers, not '{text}'")
        last = _port_number(high)
    if first > last:
        raise BadValue(f"port range {text} is reversed; did you mean {high}-{low}?")
    return Port(side, first, last)
