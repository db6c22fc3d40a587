"""Fields of packets as apps set them: checked, and read."""

cdef dict MOST = {
    "ttl": 0xFF, "tos": 0xFF, "sport": 0xFFFF, "dport": 0xFFFF, "seq": 0xFFFFFFFF, "ack": 0xFFFFFFFF, "flags": 0x1FF,
    "window": 0xFFFF, "urgent": 0xFFFF, "mss": 0xFFFF}


cdef uint32_t number_of(str name, object value) except? 0xFFFFFFFF:
    """The value of a field that is a number."""
    if name not in MOST:
        raise TypeError(
            f"packets have no field {name!r} to set; they have eth_src, eth_dst, src, dst, {', '.join(MOST)}")
    if not 0 <= value <= MOST[name]:
        raise ValueError(f"{name} is from 0 to {MOST[name]}, not {value}")
    return value


cdef bytes link_address(object text):
    """Six bytes of a text such as 02:00:00:00:00:01."""
    try:
        address = bytes.fromhex(text.replace(":", ""))
    except (ValueError, AttributeError):
        address = b""
    if len(address) != 6:
        raise ValueError(f"a link-layer address is such as 02:00:00:00:00:01, not {text!r}")
    return address
