"""abacus: who sent how much, what is charged of it, and who hides data in retransmissions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import aiomos
from aiomos import Budgets, OptionError, Settings
from aiomos.apps import abacus, flowlog
from tests.data.build import hidden_file
from tests.traffic import Connection, Traffic

DATA = Path(__file__).parents[2] / "data"
CAPTURES = sorted([*DATA.glob("*.pcap*"), *DATA.glob("hard/*.pcap*")])
CONFLICTS = {"conflicting_retransmission", "retransmission_tunnel", "overlaps", "insertion"}
"""Of the captures that are built, those with retransmissions that differ, both versions being captured."""
TUNNEL = DATA / "hard" / "retransmission_tunnel.pcap"
EVERYBODY = "0.0.0.0/0,::/0"
SIDES = ("client", "server")

Record = dict[str, Any]
Run = Callable[..., list[Record]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Run the app over a capture or traffic with options; returns what it wrote."""

    def run(source: Path | Traffic, settings: Settings | None = None, **options: Any) -> str:
        path = tmp_path / "accounts"
        capture = source if isinstance(source, Path) else source.write(tmp_path / "trace.pcapng")
        abacus.app.configure([f"path={path}", *(f"{name}={value}" for name, value in options.items())])
        aiomos.run(abacus.app, pcap=[capture], settings=settings or Settings(on_error="raise"))
        return path.read_text()

    return run


@pytest.fixture
def run(write: Callable[..., str]) -> Run:
    """Run it for its records."""
    return lambda *args, **options: [
        json.loads(line) for line in write(*args, format="jsonl", **options).splitlines()
    ]


def of_kind(records: list[Record], kind: str) -> list[Record]:
    return [record for record in records if record["record"] == kind]


def up(record: Record) -> tuple[int, ...]:
    """What a subscriber sent: in all, once, same again, differing, not compared."""
    return tuple(
        record[f"up_{name}bytes"] for name in ("", "stream_", "identical_", "differing_", "unchecked_")
    )


def long_connection(traffic: Traffic, segments: int) -> Connection:
    """A connection whose client has sent so many segments of 1000 bytes."""
    conn = traffic.connection()
    for number in range(segments):
        conn.client(bytes([number % 256]) * 1000)
        conn.server()
        traffic.cut()
    return conn


# --- accounts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_accounts_add_up_to_the_flow_records(capture: Path, run: Run, tmp_path: Path) -> None:
    flowlog.app.configure([f"path={tmp_path / 'log'}", "midstream=true"])
    aiomos.run(flowlog.app, pcap=[capture])
    flows = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    accounts = of_kind(run(capture, subscribers=EVERYBODY, policy="all"), "usage")
    for direction in ("up", "down"):
        for name in ("bytes", "stream_bytes"):
            expected = sum(flow[f"{side}_{name}"] for flow in flows for side in SIDES)
            assert sum(account[f"{direction}_{name}"] for account in accounts) == expected
    for account in accounts:
        assert account["up_charged_bytes"] == account["up_bytes"]
        again = account["up_bytes"] - account["up_stream_bytes"]
        assert account["up_identical_bytes"] + account["up_differing_bytes"] <= again


def test_both_directions_of_a_subscriber(run: Run) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"question")
    conn.client(b"question", at=0)
    conn.server(b"the answer")
    conn.close()
    (account,) = run(traffic, subscribers="10.0.0.1")
    assert account == {
        "record": "usage",
        "subscriber": "10.0.0.1",
        "flows": 1,
        "up_bytes": 16,
        "up_stream_bytes": 8,
        "up_identical_bytes": 8,
        "up_differing_bytes": 0,
        "up_unchecked_bytes": 0,
        "up_charged_bytes": 8,
        "down_bytes": 10,
        "down_stream_bytes": 10,
        "down_identical_bytes": 0,
        "down_differing_bytes": 0,
        "down_unchecked_bytes": 0,
        "down_charged_bytes": 10,
    }


@pytest.mark.parametrize(
    ("options", "subscribers"),
    [
        ({"subscribers": "10.1.0.0/16"}, ["10.1.0.1", "10.1.0.2", "10.1.1.1"]),
        ({"subscribers": "10.1.0.0/16", "prefix": 24}, ["10.1.0.0/24", "10.1.1.0/24"]),
        ({"subscribers": "10.1.0.1,10.0.0.2"}, ["10.0.0.2", "10.1.0.1"]),
        ({"subscribers": "2001:db8::/32"}, ["2001:db8:0:1::/64"]),
        ({"subscribers": "2001:db8::/32", "prefix6": 128}, ["2001:db8:0:1::7"]),
        ({"subscribers": "192.0.2.0/24"}, []),
        ({"subscribers": "10.1.0.0/16", "filter": "client host 10.1.0.2"}, ["10.1.0.2"]),
    ],
)
def test_subscribers_are_addresses_or_networks(run: Run, options: Record, subscribers: list[str]) -> None:
    traffic = Traffic()
    for client in ("10.1.0.1", "10.1.0.2", "10.1.1.1"):
        traffic.connection(client=client).close()
    traffic.connection(client="2001:db8:0:1::7", server="2001:db9::1").close()
    assert [record["subscriber"] for record in run(traffic, **options)] == subscribers


def test_who_talks_within_one_subscriber_s_network_is_one_flow(run: Run) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"question")
    conn.close()
    (account,) = run(traffic, prefix=24)
    assert (account["flows"], account["up_bytes"], account["down_bytes"]) == (1, 8, 8)


def test_connections_without_their_opening_count_too(run: Run) -> None:
    capture = DATA / "hard" / "midstream.pcap"
    assert run(capture)
    assert not run(capture, midstream=False)


@pytest.mark.parametrize(
    ("policy", "charged"), [("all", 60), ("no-retransmissions", 20), ("no-identical", 40)]
)
def test_what_is_charged(run: Run, policy: str, charged: int) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"A" * 20)
    conn.client(b"A" * 20, at=0)
    conn.client(b"B" * 20, at=0)
    conn.close()
    (account,) = run(traffic, subscribers="10.0.0.1", policy=policy)
    assert account["up_charged_bytes"] == charged


def test_an_account_for_each_interval(run: Run) -> None:
    """Those in which nothing was sent have none; 1 700 000 000 is a multiple of 10."""
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(bytes(1))
    traffic.wait(10)
    conn.client(bytes(10))
    traffic.wait(4)
    conn.client(bytes(100))
    traffic.wait(30)
    conn.client(bytes(1000))
    conn.close()
    accounts = run(traffic, subscribers="10.0.0.1", interval=10)
    assert [(int(account["start"]) - 1_700_000_000, account["up_bytes"]) for account in accounts] == [
        (0, 1),
        (10, 110),
        (40, 1000),
    ]
    assert all(account["end"] - account["start"] == 10 for account in accounts)


def test_intervals_may_be_short(run: Run) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(bytes(1))
    traffic.wait(0.25)
    conn.client(bytes(10))
    accounts = run(traffic, subscribers="10.0.0.1", interval=0.125)
    assert [account["up_bytes"] for account in accounts] == [1, 10]


def test_intervals_add_up(run: Run) -> None:
    """A flow that begins and ends in between, another that outlives it, and one picked up."""
    traffic = Traffic()
    old = traffic.connection(1000, opened=False)
    old.client(bytes(5))
    conn = traffic.connection(1001)
    for number in range(40):
        (conn if number % 3 else old).client(bytes(number))
        traffic.wait(0.7)
        if number == 20:
            conn.close()
            conn = traffic.connection(1002)
    (whole,) = run(traffic, subscribers="10.0.0.1")
    parts = run(traffic, subscribers="10.0.0.1", interval=3)
    assert len(parts) == 10
    assert sum(part["up_bytes"] for part in parts) == whole["up_bytes"]


# --- alerts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_what_a_tunnel_hides_can_be_put_together_from_the_evidence(run: Run, side: str) -> None:
    alerts = [alert for alert in of_kind(run(TUNNEL, threshold=1), "alert") if alert["sender"] == side]
    assert b"".join(bytes.fromhex(alert["new"]) for alert in alerts) == hidden_file(side)
    assert {bytes.fromhex(alert["old"])[:1] for alert in alerts} == {side[:1].upper().encode()}
    assert {alert["kind"] for alert in alerts} == {"spurious"}
    assert [alert["offset"] for alert in alerts[:3]] == [0, 200, 0]


@pytest.mark.parametrize(("policy", "charged"), [("no-retransmissions", 400), ("no-identical", 400 + 1750)])
def test_a_tunnel_is_free_unless_it_is_charged(run: Run, policy: str, charged: int) -> None:
    (account,) = of_kind(run(TUNNEL, subscribers="10.0.0.1", policy=policy), "usage")
    assert len(hidden_file("client")) == 1750
    assert up(account) == (400 + 1750 + 200, 400, 200, 1750, 0)
    assert account["up_charged_bytes"] == charged


def test_a_tunnel_is_summed_up(run: Run) -> None:
    client, server = of_kind(run(TUNNEL), "suspect")
    assert client == {
        "record": "suspect",
        "client": "10.0.0.1",
        "client_port": 40000,
        "server": "10.0.0.2",
        "server_port": 80,
        "sender": "client",
        "subscriber": "10.0.0.1",
        "segments": 9,
        "alerts": 9,
        "differing_bytes": 1750,
        "differing_share": round(1750 / 1950, 6),
    }
    assert (server["sender"], server["differing_share"]) == ("server", 1.0)


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_honest_traffic_raises_no_alert(capture: Path, run: Run) -> None:
    """Lost, repeated and reordered, cut by the snap length, probed, kept alive: not one differing byte."""
    records = run(capture, subscribers=EVERYBODY, threshold=1)
    assert bool(of_kind(records, "alert")) == (capture.stem in CONFLICTS)


def test_alerts_begin_at_the_threshold_and_tell_what_was_before(run: Run) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"A" * 100)
    for _ in range(3):
        conn.client(b"B" * 10, at=0)
    assert of_kind(run(traffic, threshold=31), "alert") == []
    assert [alert["differing_bytes"] for alert in of_kind(run(traffic, threshold=30), "alert")] == [
        10,
        10,
        10,
    ]


def test_evidence_is_bounded(run: Run) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"A" * 100)
    for _ in range(10):
        conn.client(b"B" * 100, at=0)
    records = run(traffic, subscribers="10.0.0.1", evidence=4, alerts=3)
    alerts = of_kind(records, "alert")
    assert [(alert["old"], alert["new"], alert["length"]) for alert in alerts] == [
        ("41" * 4, "42" * 4, 100)
    ] * 3
    (suspect,) = of_kind(records, "suspect")
    assert (suspect["segments"], suspect["alerts"], suspect["differing_bytes"]) == (10, 3, 1000)


def test_a_segment_is_compared_with_what_is_held_of_it(run: Run) -> None:
    """Bytes 3 to 5 are missing, and 8 and 9 are new; of the others two differ."""
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"abc")
    conn.client(b"gh", at=6)
    conn.client(b"aXc---gY--", at=0)
    (first, second), (account,) = (
        of_kind(run(traffic, subscribers="10.0.0.1", threshold=1), kind) for kind in ("alert", "usage")
    )
    assert [(first[name], second[name]) for name in ("offset", "length", "differing_bytes")] == [
        (0, 6),
        (3, 2),
        (1, 1),
    ]
    assert (bytes.fromhex(first["new"]), bytes.fromhex(second["old"])) == (b"aXc", b"gh")
    assert up(account) == (15, 10, 3, 2, 0)


def test_what_came_batches_ago_is_held(run: Run) -> None:
    traffic = Traffic()
    conn = long_connection(traffic, 10)
    conn.client(b"X" * 1000, at=0)
    (alert,) = of_kind(run(traffic), "alert")
    assert (alert["old"][:2], alert["new"][:2], alert["differing_share"]) == ("00", "58", 1.0)


def test_what_is_held_no_more_is_not_claimed_and_not_free(run: Run) -> None:
    traffic = Traffic()
    conn = long_connection(traffic, 40)
    conn.client(b"X" * 1000, at=0)
    settings = Settings(on_error="raise", budgets=Budgets(kept_bytes_half=16384))
    (account,) = run(traffic, settings, subscribers="10.0.0.1")
    assert up(account) == (41_000, 40_000, 0, 0, 1000)
    assert account["up_charged_bytes"] == 41_000


@pytest.mark.parametrize(
    ("first", "second", "compared"), [(10, None, 10), (None, 10, 10), (10, 0, 0), (0, None, 0)]
)
def test_nothing_is_claimed_of_bytes_that_were_not_captured(
    run: Run, first: int | None, second: int | None, compared: int
) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"A" * 100, captured=first)
    conn.client(b"A" * 10 + b"B" * 90, at=0, captured=second)
    records = run(traffic, subscribers="10.0.0.1", threshold=1)
    assert of_kind(records, "alert") == []
    assert records[-1]["up_identical_bytes"] == compared


def test_a_segment_that_begins_before_the_first_byte(run: Run) -> None:
    """Its garbage is not in the stream; the rest is compared with what is in the same place."""
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"ABCDEFGH")
    conn.server()
    conn.client(b"?ABCDEFGH", at=-1)
    records = run(traffic, subscribers="10.0.0.1", threshold=1)
    assert of_kind(records, "alert") == []
    assert records[-1]["up_identical_bytes"] == 8


def test_the_table_shows_accounts_and_suspects(write: Callable[..., str]) -> None:
    accounts, suspects = write(TUNNEL, subscribers="10.0.0.1").split("something else: 2")
    assert "Accounts: 1; charged: no-identical" in accounts
    row = next(line for line in accounts.splitlines() if "10.0.0.1" in line)
    assert row.replace("│", " ").split()[:5] == ["10.0.0.1", "1", "2,350", "400", "2,150"]
    assert suspects.count("10.0.0.1:40000") == 2
    assert "90%" in suspects
    assert "Halves" not in write(DATA / "http.pcap", subscribers=EVERYBODY)


def test_the_table_of_intervals_says_when(write: Callable[..., str]) -> None:
    traffic = Traffic()
    traffic.connection().client(b"question")
    assert " 1700000000 " in write(traffic, interval=10)


@pytest.mark.parametrize(
    "pair",
    [
        "subscribers=nobody",
        "prefix=33",
        "prefix6=-1",
        "policy=none",
        "interval=-1",
        "threshold=0",
        "format=csv",
    ],
)
def test_a_bad_option_is_refused(pair: str) -> None:
    with pytest.raises(OptionError):
        abacus.app.configure([pair])


def test_accounts_beyond_the_limit_are_one(run: Run) -> None:
    traffic = Traffic()
    for number in range(6):
        conn = traffic.connection(1000 + number, client=f"10.0.0.{number + 1}", server="192.0.2.1")
        conn.client(b"question")
        conn.close()
    with capture_logs() as log:
        usage = of_kind(run(traffic, limit=4), "usage")
    assert [(record["subscriber"], record["flows"], record["up_bytes"]) for record in usage] == [
        *((f"10.0.0.{number}", 1, 8) for number in range(1, 5)),
        ("others", 2, 16),
    ]
    (told,) = log
    assert (told["event"], told["accounts"], told["put_together"]) == ("limit_reached", 4, 2)
