from pathlib import Path

import aiomos
from aiomos import Budgets, Settings, Timeouts

settings = Settings(
    budgets=Budgets(flows=100_000, stream_bytes_total=64 << 20),
    timeouts=Timeouts(established=600, time_wait=0),
    checksums="verify",
    on_error="raise",
)

if __name__ == "__main__":
    app = aiomos.App("own_settings")
    app.track(level=aiomos.Level.BYTES)
    report = aiomos.run(app, pcap=[Path("tests/data/hard/insertion.pcap")], settings=settings)
    print({name: count for name, count in report.counters.items() if count})
