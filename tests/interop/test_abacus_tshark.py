"""The `abacus` app puts as many bytes on each address's account as tshark's tcp.len sums up to, without copies."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.interop import explained, tshark
from tests.interop.flows import run_apps

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif((tshark.version() or (0, 0)) < tshark.OLDEST, reason="needs tshark 4.0 or later"),
]

EVERYBODY = {"subscribers": "0.0.0.0/0,::/0", "prefix6": 128, "policy": "all", "format": "jsonl"}


@pytest.mark.parametrize("capture", explained.captures())
def test_accounts_agree_with_tshark(capture: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    reading = tshark.read(capture)
    path = tmp_path / "accounts.jsonl"
    run = run_apps(capture, "abacus", options={"path": path, **EVERYBODY})
    assert run.whole == reading.whole
    ours = [json.loads(line) for line in path.read_text().splitlines()]
    theirs: dict[str, Counter[str]] = {}
    for connection in reading.connections:
        ends = (connection.client, connection.server)
        for end, peer in (ends, reversed(ends)):
            account = theirs.setdefault(end.address, Counter())
            account["up_charged_bytes"] += charged(connection.halves[end])
            account["down_charged_bytes"] += charged(connection.halves[peer])
    billed = {usage["subscriber"]: usage for usage in ours if usage["record"] == "usage"}
    found = [
        explained.Difference(name, address, field, billed.get(address, {}).get(field, 0), number)
        for address, account in theirs.items()
        for field, number in account.items()
        if billed.get(address, {}).get(field, 0) != number
    ]
    found += [
        explained.Difference(name, address, "account", "there", "none")
        for address in billed
        if address not in theirs
    ]
    explained.check("abacus", name, found)


def charged(half: tshark.Half) -> int:
    """Return the bytes of a half, those of frames captured more than once but once."""
    return half.bytes - half.copied_bytes
