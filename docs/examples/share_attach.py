import asyncio
import sys

import aiomos

runtime = aiomos.Runtime(pcap=[sys.argv[1]])
watch = aiomos.App("watch")
closer = aiomos.App("closer")


@watch.monitor()
async def until_it_is_long(conn: aiomos.MonitorConnection) -> None:
    async for data in conn.server:
        if data.offset + len(data) > 1_000_000:
            break
    print(f"{conn.flow} is long")
    await runtime.attach(closer)


@closer.monitor(midstream=True, gaps="mark")
async def rest(conn: aiomos.MonitorConnection) -> None:
    async for item in conn.server:
        print("missed" if isinstance(item, aiomos.Gap) else "read", "from offset", item.offset)


async def main() -> None:
    async with runtime:
        await runtime.attach(watch)
        await runtime.run()
        for app, counts in runtime.app_statistics().items():
            print(f"{app.name}: {counts['bytes']} bytes, {counts['errors']} errors")
        await runtime.detach(closer)


asyncio.run(main())
