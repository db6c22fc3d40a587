"""Run an app in line between a simulated client and server: between.py APP.PY [SETTING=VALUE]..."""

import sys

import aiomos
from aiomos import logging
from aiomos.loader import load_app
from aiomos.testing.hosts import TcpHost
from aiomos.transport.sim import Link, Network

app, *settings = sys.argv[1:]
logging.configure()
network = Network()
client = TcpHost("10.0.0.1", 40000, peer=("10.0.0.2", 80), data=b"GET /secret.txt HTTP/1.0\r\n\r\n", mss=1400)
server = TcpHost("10.0.0.2", 80, data=b"HTTP/1.0 200 OK\r\n\r\nThe secret is \xabbe quick\xbb.", answers=True)
middlebox = network.middlebox(client, server, Link(delay=0.01), Link(delay=0.01))
client.connect()
aiomos.run(load_app(app), transport=middlebox, settings=aiomos.Settings.from_pairs(settings))
print("client got", bytes(client.received), "and was reset" if client.reset else "")
print("server got", bytes(server.received), "from", server.peer, "and was reset" if server.reset else "")
