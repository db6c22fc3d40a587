from prometheus_client import Counter

from aiomos import CONN_TEARDOWN, App, Flow

app = App("own_metric")
ends = Counter("watch_connections", "Connections by how they ended.", ["reason"])


@app.on(CONN_TEARDOWN)
def count(flow: Flow) -> None:
    ends.labels(flow.reason).inc()
