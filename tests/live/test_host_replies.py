"""A kernel finds an address of ours, by ARP and by neighbour discovery, and is found."""

import pytest

from aiomos import App, Runtime
from tests.live.conftest import Line
from tests.live.middlebox import Middlebox
from tests.live.programs import ping, until

MAC = "02:00:00:00:00:77"


@pytest.mark.parametrize(("address", "prefix"), [("192.0.2.77", 24), ("2001:db8::77", 64)])
def test_a_kernel_finds_us_and_is_found(in_line: Line, address: str, prefix: int) -> None:
    box = Middlebox(in_line.middle, App("silent"))
    peer = in_line.client.address if "." in address else "2001:db8::1"

    def host(runtime: Runtime) -> None:
        assert runtime.engine.host is not None
        runtime.engine.host.add_address(0, address, MAC, prefix, True)

    def state(runtime: Runtime) -> tuple[str, str | None] | None:
        runtime.neighbours.find(peer, "eth0", own=address)
        return runtime.neighbours.state(peer, "eth0")

    box.call(host)
    ping(in_line.client, address)
    until("it has answered the probe", lambda: (box.call(state) or ("",))[0] == "reachable")
    counters = box.call(lambda runtime: runtime.neighbours.statistics())
    assert counters["reply_echoes"] >= 1
    assert counters["reply_answers"] >= 1
    assert counters["asked"] >= 1
    box.stop()
