import dpkt

import aiomos
from aiomos import PKT_IN, App, Hook, Packet, Runtime
from aiomos.testing.hosts import DatagramHost
from aiomos.transport.sim import Network

app = App("answer_pings")


@app.on(PKT_IN, hook=Hook.RAW)
def answer(pkt: Packet, engine: Runtime) -> None:
    if pkt.dst != "10.0.0.99" or pkt.proto != dpkt.ip.IP_PROTO_ICMP:
        return
    frame = dpkt.ethernet.Ethernet(pkt.frame)
    frame.src, frame.dst = frame.dst, frame.src
    frame.ip.src, frame.ip.dst = frame.ip.dst, frame.ip.src
    frame.ip.sum = 0  # dpkt takes sums that are 0 anew
    frame.ip.icmp.type, frame.ip.icmp.sum = dpkt.icmp.ICMP_ECHOREPLY, 0
    engine.send(bytes(frame), pkt.interface)
    pkt.drop()


if __name__ == "__main__":
    network = Network()
    asking, other = DatagramHost("10.0.0.1"), DatagramHost("10.0.0.2")
    middlebox = network.middlebox(asking, other)
    asking.ping("10.0.0.99", data=b"anybody there?")
    report = aiomos.run(app, transport=middlebox)
    print(asking.received[0].kind, asking.received[0].data)
    print({name: count for name, count in report.counters.items() if name.startswith("in_line.") and count})
