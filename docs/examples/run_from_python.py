import aiomos

app = aiomos.App("run_from_python")


@app.monitor(level=aiomos.Level.STATE)
async def watch(conn: aiomos.MonitorConnection) -> None:
    print(conn.flow, await conn.closed())


if __name__ == "__main__":
    report = aiomos.run(app, pcap=["tests/data/http.pcap", "tests/data/reset.pcap"])
    print(report.frames, "frames,", report.counters["flows"], "connections")
