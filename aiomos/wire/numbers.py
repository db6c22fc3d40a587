"""Of the numbers that the wire goes by, those that Python needs; numbers.pxd has them all."""

ETHERNET_HEADER = 14
"""Bytes, without tags."""

ICMP_HEADER = 8
"""Bytes."""

LINKTYPE_ETHERNET = 1
"""The link type of captures."""
