import asyncio

import aiomos


async def main() -> None:
    async with (
        aiomos.Runtime(pcap=["tests/data/http.pcap"]) as engine,
        engine.monitor("server port 80") as listener,
    ):
        async for conn in listener:
            print(conn.flow, await conn.client.readline())
            conn.leave()


asyncio.run(main())
