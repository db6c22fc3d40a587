import aiomos
from aiomos.testing.hosts import TcpHost
from aiomos.transport.sim import Link, Network

app = aiomos.App("simulate")


@app.monitor("server port 80")
async def watch(conn: aiomos.MonitorConnection) -> None:
    question = await conn.client.read(-1)
    answer = await conn.server.read(-1)
    print(f"{conn.flow}  {len(question)} bytes there, {len(answer)} back")
    await conn.closed()
    print(f"seen again: {conn.flow.client.retransmits} segments there, {conn.flow.server.retransmits} back")


if __name__ == "__main__":
    network = Network(seed=7)
    client = TcpHost("10.0.0.1", 40000, peer=("10.0.0.2", 80), data=b"a question")
    server = TcpHost("10.0.0.2", 80, data=bytes(100_000), answers=True)
    slow = Link(bandwidth=10e6, delay=0.03, jitter=0.005, loss=0.05)
    middlebox = network.middlebox(client, server, slow, Link(delay=0.001))
    client.connect()
    aiomos.run(app, transport=middlebox)
    print("whole:", client.received == server.data)
    print("lost on the way to the client:", network.wires[1].counts["lost"])
