from aiomos import CONN_NEW_DATA, App, Half

app = App("algorithm_1")


@app.on(CONN_NEW_DATA)
def on_new_data(half: Half) -> None:
    print(f"{half.address}: {half.stream_bytes} bytes")
