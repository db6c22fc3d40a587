"""Which tests belong to which file: those of its name, then those of its part.

The wider ones use no network. Neither does a part, but where a module does nothing else: its live tests are named.
"""

from pathlib import Path

WIDER = ("tests/unit", "tests/models", "tests/property", "tests/scenarios")
WIDER_OPTIONS = ("-k", "not memory_is_bounded")
"""Left out: a test that measures memory, for minutes."""

# Folder, then modules and the tests of their part; the line without modules is for all others of the folder. Tests are
# named without their folder and "test_"; with a slash at the end, a folder of tests/unit; behind "live/", a live one.
PARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "aiomos/wire": (
        ("pool slabs", "reassembly* retention* memory *_budget rewriting* edits* in_line_order sharing"),
        ("rewriting", "edits* rewriting* in_line_edits in_line_cuts segmentation*"),
        ("protocols", "links tags tunnels unread"),
        ("headers segments", "segments building"),
        ("checksums", "rewriting* edits* building in_line_sessions"),
        ("fragmenting", "fragmenting* building in_line"),
        ("frame", "rewriting segmentation* in_line_offload pcap"),
        ("arp ndp icmp", "building in_line_sessions nat_*"),
        ("times", "wild_times pcap captures live_clock"),
        ("sharding", "sharding workers/ prefilter live/fanout"),
        ("segmentation", "segmentation* in_line_offload segments"),
        ("table", "table* flow_table sessions*"),
        ("wheel", "wheel* timer_wheel timeouts eviction sessions*"),
        ("", "packets wire* links tags tunnels building defrag* views siphash in_tunnels frames fragmenting* unread"),
    ),
    "aiomos/host": (
        ("neighbours", "neighbours neighbours_model host"),
        ("interfaces", "own_addresses routes host"),
        ("replies host", "host neighbours nat_* live/nat"),
        ("", "host/ neighbours_model"),
    ),
    "aiomos/end": (
        ("sent treap scoreboard rack recovery", "scoreboard* rack recovery*"),
        ("rto buffer window", "rto* buffer* window_model"),
        ("", "end/"),
    ),
    "aiomos/end/congestion": (("", "end/congestion/ congestion_model"),),
    "aiomos/tcp": (
        ("monitor", "windows states opening closing reset before_synack jumps pickup late_and_early_ends "
         "syn_sent_model timeouts port_reuse events"),
        ("doubts", "before_synack port_reuse jumps reset"),
        ("reassembly tracks progress rtt retention retransmissions", "reassembly* retention* retransmissions gaps "
         "streams copies *_budget conflicts evasion urgent"),
        ("pieces holdings", "reassembly* retention* memory *_budget rewriting* edits* in_line_order sharing"),
        ("flows", "flow_table timer_wheel eviction floods timeouts port_reuse memory"),
        ("copies", "copies capture_quirks accounting"),
    ),
    "aiomos/line": (
        ("edits", "edits* rewriting* in_line_edits in_line_cuts segmentation*"),
        ("sessions translation", "sessions* in_line_sessions nat_* flow_table"),
        ("passing ordering changes hand line outlet waiting", "in_line in_line_order in_line_offload firewall_states "
         "in_line_sessions in_line_edits in_line_cuts in_line_memory"),
        ("paths", "in_line defrag frames in_line_sessions in_line_edits"),
        ("", "in_line* packets wire* views"),
    ),
    "aiomos/face": (
        ("occurrences", "callbacks events"),
        ("streams chunks views pressure", "streams connections gaps views memory unread urgent"),
        ("", "packets wire* views unread"),
    ),
    "aiomos/ude": (
        ("rules", "sharing late_and_early_ends event_state events filters*"),
        ("", "ude/ predicates_model operators_table machine_model events_model filters_model event_state sharing"),
    ),
    "aiomos/apps": (
        ("_tables", "firewall_* nat_*"),
        ("", "flowlog rexmit abacus account top dump"),
    ),
    "aiomos/apps/assets": (("", "assets"),),
    "aiomos/apps/firewall": (("", "firewall_*"),),
    "aiomos/apps/nat": (("", "nat_* in_line_sessions"),),
    "aiomos/workers": (("", "workers/ workers in_line_workers"),),
    "aiomos/transport": (
        ("sim", "sim sim_runtime hosts world"),
        ("tuntap", "live/tuntap live/bridge"),
        ("packet packet_sockets", "rights live/packet live/kernel_stamps live/fanout live/faults"),
        ("packet_port linux_packet", "rights live/bridge live/packet live/tuntap live/kernel_stamps"),
        ("interfaces", "pcap merge captures"),
        ("ports bridge transport", "rights wires live/bridge live/tuntap live/packet live_pump"),
        ("impaired", "sim live/impaired"),
        ("wires", "live/live_in_line_workers"),
        ("clock", "live_clock live/kernel_stamps live/packet"),
        ("fanout", "sharding workers/ prefilter live/fanout"),
        ("bpf", "bpf prefilter prefilter_model live/kernel_prefilter live/fanout"),
        ("", "transport/ prefilter_model segmentation_model capture_quirks"),
    ),
    "aiomos/testing": (
        ("world stations stillness", "world sim"),
        ("", "testing/ packets sim"),
    ),
    "aiomos/engine": (
        ("admission", "sharing floods flow_table port_reuse eviction opening pickup firewall_states"),
        ("lifetimes", "timeouts eviction exits closing port_reuse timer_wheel flow_table events"),
        ("watching segments", "streams late_and_early_ends sharing accounting floods before_synack jumps in_line"),
        ("delivery", "streams connections gaps sharing accounting copies unread callbacks"),
        ("attention holdings_of_apps", "sharing streams connections late_and_early_ends callbacks events exits"),
        ("raising", "events event_state callbacks exits"),
        ("gate flow_timers clock", "callbacks meddling_callbacks events sharing timeouts wild_times exits"),
        ("registry", "sharing app callbacks exits events"),
        ("", "frames accounting sharing wild_times any_segments runtime metrics in_line exits snapshot"),
    ),
    "aiomos/runtime": (
        ("prefilter wanted", "bpf prefilter prefilter_model live/kernel_prefilter live/fanout"),
        ("attachments watching pickup", "registrations app runtime sharing callbacks exits pickup starting wanted"),
        ("handlers failures", "runtime exits outputs errors app callbacks"),
        ("backlog turns clock", "runtime pumps live_clock connections sim_runtime"),
        ("pumps live", "runtime pumps live_pump live_clock turn_of_the_loop sim_runtime"),
        ("", "runtime app control live_pump live_clock settings snapshot steps shortfalls"),
    ),
    "aiomos/console": (("", "runtime app control cli metrics doctor errors snapshot shortfalls"),),
    "aiomos": (
        ("app registrations", "app registrations runtime callbacks"),
        ("", "runtime app control cli errors settings steps"),
    ),
}  # fmt: skip


def part_of(name: str, root: Path) -> list[str]:
    """Return the files of tests of a file's part, those of its own name first, and slow ones, of properties, last."""
    path = Path(name)
    stem = path.parent.name if path.stem == "__init__" else path.stem.strip("_")
    lines = PARTS.get(str(path.parent), ())
    words = [stem, f"{stem}_*", f"*_{stem}"]
    words += next((tests.split() for stems, tests in lines if not stems or path.stem in stems.split()), ())
    found: list[Path] = []
    for word in words:
        found += files_of(word, root)
    names = dict.fromkeys(str(path.relative_to(root)) for path in found)
    return sorted(names, key=lambda name: name.startswith("tests/property/"))


def files_of(word: str, root: Path) -> list[Path]:
    """Return the files of tests that a word of the table stands for."""
    if word.endswith("/"):
        return sorted((root / "tests" / "unit" / word).rglob("test_*.py"))
    folder, _, name = word.rpartition("/")
    folders = (f"tests/{folder}",) if folder else WIDER
    return sorted(path for place in folders for path in (root / place).rglob(f"test_{name}.py"))
