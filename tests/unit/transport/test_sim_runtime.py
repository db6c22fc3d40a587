"""An app between simulated hosts: in virtual time, the same each time."""

import pytest

import aiomos
from aiomos import App, MonitorConnection
from aiomos.testing.hosts import TcpHost
from aiomos.transport.sim import EPOCH_NS, Link, Network

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 80)
BAD = Link(delay=0.01, jitter=0.005, loss=0.03, reorder=0.05, duplicate=0.05)


def converse(*, seed: int, in_line: bool) -> list[object]:
    """Run a connection past an app; return what both hosts and the app saw, and when it was over."""
    network = Network(seed=seed)
    client = TcpHost(*CLIENT, peer=SERVER, data=b"question" * 2000)
    server = TcpHost(*SERVER, data=b"answer" * 9000, answers=True)
    middlebox = network.middlebox(client, server, BAD, BAD, in_line=in_line)
    app = App("watch")
    seen: list[object] = []

    @app.monitor("server port 80")
    async def watch(conn: MonitorConnection) -> None:
        question = await conn.client.read(-1)
        await aiomos.sleep(0.25)
        seen.extend((question, await conn.server.read(-1)))

    client.connect()
    report = aiomos.run(app, transport=middlebox)
    assert client.received == server.data
    assert server.received == client.data
    assert seen == [client.data, server.data]
    assert report.counters["transport.sent"] == (report.counters["transport.received"] if in_line else 0)
    return [*seen, client.retransmissions, report.frames, network.now_ns]


@pytest.mark.parametrize("in_line", [True, False])
def test_an_app_sees_what_the_hosts_say_and_again_the_same(in_line: bool) -> None:
    first = converse(seed=4, in_line=in_line)
    assert first == converse(seed=4, in_line=in_line)
    assert first != converse(seed=5, in_line=in_line)


def test_a_network_in_which_nothing_happens_is_over_at_once() -> None:
    network = Network()
    middlebox = network.middlebox(TcpHost(*CLIENT, peer=SERVER), TcpHost(*SERVER))
    report = aiomos.run(App("nothing"), transport=middlebox)
    assert report.frames == 0
    assert network.now_ns == EPOCH_NS
