"""In line between two ports: what comes in by one goes out by the other, once the engine has said so."""

from aiomos.transport.packet_port import PacketPort
from aiomos.transport.packet_sockets import refuse_repeats
from aiomos.transport.tuntap import TapPort, TunPort

cimport cython

from aiomos.transport.ports cimport Port, PortTransport


@cython.final
cdef class Bridge(PortTransport):
    """Join two ports, interfaces 0 and 1; it forwards nothing by itself.

    Frames lie where the kernel put them until the next `read_batch`, and are sent from there.

    Args:
        first: A port, or what `open_port` makes one of.
        second: Another one.
        fragment_ports: Of a worker among several: ports of both interfaces by which all workers hear fragments, in the
            same order; the others are not to hear them.

    Raises:
        TransportError: an interface cannot be used, or both ports are the same one.
        ValueError: one port carries Ethernet frames, the other plain IP packets.
    """

    forwards = (1, 0)

    def __init__(self, first, second, *, fragment_ports=()):
        ports = []
        try:
            if first is second or not (isinstance(first, Port) and isinstance(second, Port)):   # of two namespaces
                refuse_repeats([
                    port.interface if isinstance(port, Port) else port.rpartition(":")[2] for port in (first, second)
                ])
            for port in (first, second):
                ports.append(port if isinstance(port, Port) else open_port(port))
            if ports[0].linktype != ports[1].linktype:
                raise ValueError(
                    f"{ports[0].interface} and {ports[1].interface} cannot be joined: one carries Ethernet frames, the "
                    "other plain IP packets"
                )
            PortTransport.__init__(self, ports, fragment_ports)
        except BaseException:
            for port in (*ports, *fragment_ports):
                port.close()
            raise

    def forward_batch(self):
        """Send all frames of the current batch on, as a wire without an engine does."""
        cdef size_t i, done = 0
        for i in range(self.count):
            self.room[i].interface ^= 1
        while done < self.count:
            done += <size_t> self.send_frames(self.room + done, self.count - done)
            if done < self.count:                  # there is no room for it
                self.count_unsent(self.room[done].interface, 1)
                done += 1


def open_port(name):
    """Open a port by name, as on the command line.

    Args:
        name: ``tap:NAME`` or ``tun:NAME`` for such a device, else the name of an interface.

    Raises:
        TransportError: it cannot be opened.
    """
    kind, _, device = name.partition(":")
    if device and kind == "tap":
        return TapPort(device)
    if device and kind == "tun":
        return TunPort(device)
    return PacketPort(name)
