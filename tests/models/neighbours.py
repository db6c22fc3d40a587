"""What the table of neighbours is to do, after RFC 4861 section 7.3, in as few words as that takes."""

from dataclasses import dataclass, field

SECOND = 10**9
MASK = 2**64 - 1
Key = tuple[int, str]
Event = tuple[object, ...]


@dataclass
class Entry:
    """One neighbour."""

    key: Key
    state: str
    source: int = 0
    mac: str | None = None
    router: bool = False
    due: int | None = None
    questions: int = 0
    waiting: list[bytes] = field(default_factory=list)


class Neighbours:
    """The table; *log* holds what it has called for. Entries stand in the order in which they got their state."""

    def __init__(self, capacity: int, key: bytes) -> None:
        self.capacity = capacity
        self.random = int.from_bytes(key[:8], "little") ^ int.from_bytes(key[8:], "little") | 1
        self.entries: dict[Key, Entry] = {}
        self.log: list[Event] = []

    # --- states ------------------------------------------------------------------------------------

    def enter(self, entry: Entry, state: str, now: int) -> None:
        del self.entries[entry.key]
        self.entries[entry.key] = entry
        entry.state = state
        match state:
            case "reachable":
                self.random ^= self.random << 13 & MASK
                self.random ^= self.random >> 7
                self.random ^= self.random << 17 & MASK
                entry.due = now + 15 * SECOND + self.random % (30 * SECOND)
            case "stale":
                entry.due = None
            case "delay":
                entry.due = now + 5 * SECOND
            case "failed":
                entry.due = now + SECOND
            case "probe":
                entry.questions = 0
                self.ask(entry, now)

    def ask(self, entry: Entry, now: int) -> None:
        entry.questions += 1
        entry.due = now + SECOND
        self.log.append(("ask", *entry.key, entry.mac, entry.source))

    def settle(self, entry: Entry, mac: str, state: str, now: int) -> None:
        entry.mac = mac
        self.enter(entry, state, now)
        waiting, entry.waiting = entry.waiting, []
        for frame in waiting:
            self.log.append(("send", *entry.key, bytes.fromhex(mac.replace(":", "")) + frame[6:], None))
        if waiting and state == "stale":
            self.enter(entry, "delay", now)

    def insert(self, key: Key, state: str, source: int) -> Entry | None:
        if len(self.entries) == self.capacity:
            for spent in ("failed", "stale"):
                oldest = next((entry for entry in self.entries.values() if entry.state == spent), None)
                if oldest is not None:
                    del self.entries[oldest.key]
                    break
            else:
                return None
        entry = self.entries[key] = Entry(key, state, source)
        return entry

    # --- what is asked of it -----------------------------------------------------------------------

    def find(self, key: Key, now: int, frame: bytes | None, source: int) -> tuple[str, str | None]:
        entry = self.entries.get(key)
        if entry is None:
            asked = sum(other.state == "incomplete" for other in self.entries.values())
            entry = self.insert(key, "incomplete", source) if asked < max(self.capacity // 2, 1) else None
            if entry is None:
                return "gone", None
            self.ask(entry, now)
        if entry.mac is not None:
            if entry.state == "stale":
                entry.source = source
                self.enter(entry, "delay", now)
            return "known", entry.mac
        if entry.state == "failed":
            return "gone", None
        if frame is not None:
            entry.waiting = [*entry.waiting, frame][-3:]
        return "waits", None

    def told(
        self, key: Key, mac: str | None, now: int, *, solicited: bool, override: bool, router: bool
    ) -> None:
        entry = self.entries.get(key)
        if entry is None:
            return
        if entry.mac is None:
            if mac is not None:
                entry.router = router
                self.settle(entry, mac, "reachable" if solicited else "stale", now)
            return
        differs = mac is not None and mac != entry.mac
        if differs and not override:
            if entry.state == "reachable":
                self.enter(entry, "stale", now)
            return
        entry.mac = mac or entry.mac
        entry.router = router
        if solicited:
            self.enter(entry, "reachable", now)
        elif differs:
            self.enter(entry, "stale", now)

    def heard(self, key: Key, mac: str, now: int, *, make: bool) -> None:
        entry = self.entries.get(key)
        if entry is None and make:
            entry = self.insert(key, "stale", 0)
        if entry is not None and entry.mac != mac:
            self.settle(entry, mac, "stale", now)

    def confirm(self, key: Key, now: int) -> None:
        entry = self.entries.get(key)
        if entry is not None and entry.mac is not None:
            self.enter(entry, "reachable", now)

    def due(self) -> int | None:
        return min((entry.due for entry in self.entries.values() if entry.due is not None), default=None)

    def pass_time(self, entry: Entry, now: int) -> None:
        """Let happen what is due with one neighbour."""
        match entry.state:
            case "reachable":
                self.enter(entry, "stale", now)
            case "delay":
                self.enter(entry, "probe", now)
            case "failed":
                del self.entries[entry.key]
            case _ if entry.questions < 3:
                self.ask(entry, now)
            case _:
                entry.mac = None
                self.enter(entry, "failed", now)
                for frame in entry.waiting:
                    self.log.append(("give back", *entry.key, frame, None))
                entry.waiting = []
