"""The benchmarks of live traffic: that each program sees what is sent; never how long it takes."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
CAPTURE = ROOT / "tests" / "data" / "http.pcap"
FRAMES, FLOWS = 46, 2


@pytest.fixture
def live_watch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return importlib.import_module("live_watch")


def test_every_watcher_sees_every_frame(live_watch: ModuleType, tmp_path: Path) -> None:
    entries = list(live_watch.watchers(tmp_path))
    watchers = [entry for entry in entries if isinstance(entry, live_watch.Watcher)]
    try:
        sender = live_watch.compile_peer("live_send.c", (), tmp_path)
    except live_watch.CompileError as error:
        pytest.skip(str(error))
    bed = live_watch.Bed(sender, 0)
    failures: dict[str, str] = {}
    chosen = live_watch.Input("http", CAPTURE, FRAMES, 1, (), CAPTURE, FRAMES)
    results = live_watch.watch_all(bed, chosen, watchers, 1, failures)
    assert failures.keys() <= {"tcpdump on http, live"}
    assert {live_watch.BARE, live_watch.STATE, live_watch.STREAM} <= results.keys()
    for name, watched in results.items():
        assert (watched.full[0].sent, watched.full[0].lost, watched.full[0].dropped) == (FRAMES, 0, 0), name
        assert watched.lossless in watched.full
        assert watched.cpu_ns > 0
    assert results[live_watch.STREAM].full[0].flows == FLOWS
    assert live_watch.live_table("http", results).row_count == len(results)
    targets = list(live_watch.live_targets({"mix": results}))
    assert [target.value is None for target in targets] == [False, False, True]
