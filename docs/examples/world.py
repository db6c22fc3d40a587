import asyncio

import aiomos
from aiomos.testing.hosts import TcpHost
from aiomos.testing.world import World
from aiomos.transport.sim import Link


def watching(name: str) -> aiomos.App[None]:
    app = aiomos.App(name)

    @app.monitor("server port 80")
    async def watch(conn: aiomos.MonitorConnection) -> None:
        answer = await conn.server.read(-1)
        await conn.closed()
        print(f"{name}: {len(answer)} bytes back, {conn.flow.server.retransmits} segments seen again")

    return app


async def main() -> None:
    world = World(seed=7)
    client = world.host(TcpHost("10.0.0.1", 40000, peer=("10.0.0.2", 80), data=b"a question"))
    server = world.host(TcpHost("10.0.0.2", 80, data=bytes(100_000), answers=True))
    near, far = world.bridge("near", watching("near")), world.bridge("far", watching("far"))
    world.link(client, near)
    wide = world.link(near, far, Link(bandwidth=10e6, delay=0.03, loss=0.01, outages=[(0.2, 0.5)]))
    world.link(far, server)
    client.connect()
    await world.run()
    print("whole:", client.received == server.data)
    print(
        f"{world.now:.3f} s;",
        "on the way back",
        wide.back.counts["lost"],
        "lost,",
        wide.back.counts["cut"],
        "cut off",
    )
    print(
        "captured:",
        len(world.capture(near)),
        "bytes at",
        near.name + ",",
        len(world.capture(wide)),
        "on the link",
    )


if __name__ == "__main__":
    asyncio.run(main())
