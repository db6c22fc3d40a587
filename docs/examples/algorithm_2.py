from aiomos import CONN_NEW_DATA, App, Flow, Half

app = App("algorithm_2")
BUF_LEN = 2048


@app.on(CONN_NEW_DATA)
def on_new_data(flow: Flow, half: Half) -> None:
    offset = flow.ctx.get(half.name, 0)
    while data := half.peek(offset, BUF_LEN):
        offset += len(data)
    flow.ctx[half.name] = offset
    print(f"{half.address}: up to {offset}, {half.state.name}, {half.retransmits} segments sent again")
