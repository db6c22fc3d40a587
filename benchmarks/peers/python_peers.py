"""Follow the TCP flows of a capture with a Python library: ``python_peers.py dpkt|scapy|nfstream FILE``.

None of the three reassembles streams by itself, so each does what its users do with it: dpkt and
scapy parse every frame and add up the payload of each five-tuple; nfstream does that in C.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable

Totals = dict[str, int]
FlowKey = tuple[bytes | str, int, bytes | str, int]


def flow_key(src: bytes | str, sport: int, dst: bytes | str, dport: int) -> FlowKey:
    """Name both directions of a flow alike."""
    return (src, sport, dst, dport) if (src, sport) <= (dst, dport) else (dst, dport, src, sport)


def follow_with_dpkt(path: str) -> Totals:
    import dpkt

    frames, flows = 0, defaultdict[FlowKey, int](int)
    with open(path, "rb") as file:
        for _, data in dpkt.pcap.Reader(file):
            frames += 1
            try:
                ip = dpkt.ethernet.Ethernet(data).data
                segment = ip.data
                if isinstance(segment, dpkt.tcp.TCP):
                    flows[flow_key(ip.src, segment.sport, ip.dst, segment.dport)] += len(segment.data)
            except (dpkt.Error, AttributeError):
                continue  # malformed, or not IP
    return {"frames": frames, "flows": len(flows), "bytes": sum(flows.values())}


def follow_with_scapy(path: str) -> Totals:
    from scapy.layers.inet import TCP
    from scapy.utils import PcapReader

    frames, flows = 0, defaultdict[FlowKey, int](int)
    with PcapReader(path) as reader:
        for packet in reader:
            frames += 1
            if TCP in packet:
                segment = packet[TCP]
                ip = segment.underlayer
                flows[flow_key(ip.src, segment.sport, ip.dst, segment.dport)] += len(segment.payload)
    return {"frames": frames, "flows": len(flows), "bytes": sum(flows.values())}


def follow_with_nfstream(path: str) -> Totals:
    from nfstream import NFStreamer

    forever = 10**6  # seconds: a flow ends with the capture, as in the other programs
    streamer = NFStreamer(
        source=path,
        n_dissections=0,
        n_meters=1,
        accounting_mode=3,  # counts payload bytes
        idle_timeout=forever,
        active_timeout=forever,
    )
    totals = {"frames": 0, "flows": 0, "bytes": 0}
    for flow in streamer:
        totals["frames"] += flow.bidirectional_packets
        if flow.protocol == 6:
            totals["flows"] += 1
            totals["bytes"] += flow.bidirectional_bytes
    return totals


LIBRARIES: dict[str, Callable[[str], Totals]] = {
    "dpkt": follow_with_dpkt,
    "scapy": follow_with_scapy,
    "nfstream": follow_with_nfstream,
}


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in LIBRARIES:
        print(f"usage: {sys.argv[0]} {'|'.join(LIBRARIES)} FILE", file=sys.stderr)
        return 2
    library, path = sys.argv[1:]
    __import__(library)
    start = time.monotonic()
    totals = LIBRARIES[library](path)
    print(json.dumps({**totals, "seconds": time.monotonic() - start}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
