"""When an end reduces, recovers and takes it back, over the plain list of `tests.models.scoreboard`.

Shares no code with `aiomos.end.rack` and `aiomos.end.recovery`. Times in nanoseconds, counts in segments.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.models.scoreboard import NEVER, ScoreboardModel, Told

FLOOR = 2_000_000
INFINITE = 0x7FFFFFFF


class RackModel:
    """RFC 8985, section 6.2, as its text has it, but for the timer, which is that of `rack_detect()`."""

    def __init__(self) -> None:
        self.xmit: tuple[int, int] | None = None
        self.rtt = 0
        self.reordering = False
        self.round: int | None = None
        self.multiple, self.persist = 1, 0
        self.probe: tuple[int, bool] | None = None

    def is_probes(self, told: Told) -> bool:
        return self.probe is not None and self.probe[1] and told.dsack_end == self.probe[0]

    def ack(self, board: ScoreboardModel, told: Told, now: int) -> None:
        if self.xmit and now < self.xmit[0]:
            self.xmit = None
        if latest := told.latest:
            self.rtt = max(0, now - latest.sent_ns)
            self.xmit = max(self.xmit or (latest.sent_ns, latest.end), (latest.sent_ns, latest.end))
        self.reordering |= "reordered" in told.flags
        if self.round is not None and board.una >= self.round:
            self.round = None
        if "dsack" in told.flags and self.round is None and not self.is_probes(told):
            self.round, self.multiple, self.persist = board.nxt, min(255, self.multiple + 1), 16

    def probe_ack(self, ack: int, told: Told, duplicate: bool) -> bool:
        if self.probe is None or ack < self.probe[0]:
            return False
        end, again = self.probe
        no_loss = not again or self.is_probes(told)
        if no_loss or ack > end or (duplicate and not told.flags & {"advanced", "had_sack"}):
            self.probe = None
        return not no_loss and ack > end

    def recovered(self) -> None:
        self.persist = max(0, self.persist - 1)
        self.multiple = self.multiple if self.persist else 1

    def window(self, board: ScoreboardModel, min_rtt: int, srtt: int, recovering: bool) -> int:
        if not self.reordering and (recovering or board.total("sacked") >= 3):
            return 0
        return max(0, min(self.multiple * (min_rtt // 4), srtt))

    def detect(self, board: ScoreboardModel, window: int, now: int) -> tuple[int, int]:
        lost = 0
        if self.xmit is None:
            return 0, 0
        for stretch in board.in_order_of_time:
            if self.xmit <= (stretch.sent_ns, stretch.end):
                break
            if stretch.sent_ns + self.rtt + window > now:
                return lost, max(FLOOR, self.xmit[0] + self.rtt + window - now)
            lost += board.lose(stretch.seq)
        return lost, 0


@dataclass
class Advised:
    """What recovery says of an ACK."""

    flags: set[str] = field(default_factory=set)
    lost: int = 0
    wait: int = 0


class SenderModel:
    """An end, as seen by its congestion control; with SACK, or without."""

    def __init__(self, seq: int, mss: int, sack: bool) -> None:
        self.board = ScoreboardModel(seq, mss)
        self.rack = RackModel()
        self.sack = sack
        self.dupacks = 0
        self.state, self.high_seq = "open", 0
        self.cwnd, self.ssthresh, self.cut = 10, INFINITE, 5
        self.marker: int | None = None
        self.undo_retrans = 0
        self.prior_cwnd = self.prior_ssthresh = 0
        self.first_again: int | None = None
        self.frto = self.ece = False
        self.wanted: str | None = None
        self.delivered = self.out = 0
        self.recover_fs = 0
        self.srtt = self.min_rtt = 100_000_000

    @property
    def in_flight(self) -> int:
        there = self.board.in_flight - self.board.total("again")
        return there - min(there, self.dupacks) + self.board.total("again")

    @property
    def ended(self) -> bool:
        return self.board.una >= self.high_seq

    @property
    def held(self) -> bool:
        return not self.sack and self.board.una == self.high_seq

    def hear(
        self,
        ack: int,
        now: int,
        blocks: list[tuple[int, int]],
        echo: int,
        duplicate: bool,
        more: bool,
        ece: bool,
    ) -> Advised:
        board, advised = self.board, Advised()
        flight = board.packets_out - board.total("sacked")
        flight -= min(flight, self.dupacks)
        told = board.ack(ack, now, blocks, echo, self.min_rtt)
        told.dsack_end = blocks[0][1] if "dsack" in told.flags else None
        if ece:
            self.prior_ssthresh = 0
            if self.state in ("open", "disorder"):
                self.ece, self.wanted = True, "cwr"
        if "beyond" not in told.flags:
            self.judge(ack, now, told, echo, duplicate, more, advised)
        if self.wanted and (advised.flags & {"reduce"} or ece):
            self.reduce(flight)
        if self.state in ("recovery", "cwr") and told.delivered and self.recover_fs:
            self.prr(told.delivered, "advanced" in told.flags and not advised.lost)
        return advised

    def judge(
        self, ack: int, now: int, told: Told, echo: int, duplicate: bool, more: bool, advised: Advised
    ) -> None:
        board = self.board
        duplicate = duplicate and ack == board.una and "advanced" not in told.flags and bool(board.all)
        if not self.sack:
            self.use_dupacks(told)
            if duplicate and self.state != "loss":
                self.add_dupack(told, now)
        self.rack.ack(board, told, now)
        if (
            told.dsack_end is not None
            and self.marker is not None
            and self.undo_retrans > 0
            and told.dsack_end > self.marker
        ):
            self.undo_retrans = max(0, self.undo_retrans - told.duplicates)
        if self.rack.probe_ack(ack, told, duplicate) and self.state in ("open", "disorder"):
            self.wanted = "cut"
            advised.flags.add("reduce")
        delayed = self.first_again is None or echo < self.first_again
        may_undo = self.marker is not None and (self.undo_retrans == 0 or delayed)
        if self.leave(may_undo, advised):
            return
        if self.state == "recovery":
            self.in_recovery(told, now, delayed, advised)
        elif self.state == "loss":
            self.in_loss(told, now, may_undo, duplicate, more, advised)
            before = board.total("again")
            self.find(told, now, advised)
            if self.state == "open" or board.total("again") < before:
                self.otherwise(told, now, advised)
        else:
            self.otherwise(told, now, advised)

    def use_dupacks(self, told: Told) -> None:
        if told.acked:
            fresh = max(1, told.acked - self.dupacks)
            self.board.delivered -= told.delivered - fresh
            told.delivered = fresh
            self.dupacks = max(0, self.dupacks - (told.acked - 1))

    def add_dupack(self, told: Told, now: int) -> None:
        if self.dupacks + max(1, self.board.total("lost")) < self.board.packets_out:
            self.dupacks += 1
            told.delivered += 1
            self.board.delivered += 1
            self.board.delivered_ns = now

    def become_open(self, advised: Advised) -> None:
        if self.state in ("recovery", "loss"):
            self.rack.recovered()
        self.state = "open"
        advised.flags.add("ended")

    def undo(self, forgive: bool, advised: Advised) -> None:
        if forgive:
            self.board.forgive()
        if self.prior_ssthresh:
            self.cwnd = max(self.cwnd, self.prior_cwnd)
            self.ssthresh = max(self.ssthresh, self.prior_ssthresh)
            advised.flags.add("undone")
        self.marker = None

    def leave(self, may_undo: bool, advised: Advised) -> bool:
        """True: the ACK has nothing more to say, since recovery without SACK is not over yet."""
        if self.state == "open":
            self.first_again = None
        elif self.state == "cwr" and self.board.una > self.high_seq:
            self.cwnd = self.ssthresh
            self.become_open(advised)
        elif self.state == "recovery" and self.ended:
            self.dupacks = 0
            if may_undo:
                self.undo(False, advised)
            if self.held:
                return True
            self.become_open(advised)
            if self.marker is not None:
                self.cwnd = self.ssthresh
        return False

    def find(self, told: Told, now: int, advised: Advised) -> None:
        recovering = self.state in ("recovery", "loss")
        if self.sack:
            window = self.rack.window(self.board, self.min_rtt, self.srtt, recovering)
            lost, advised.wait = self.rack.detect(self.board, window, now)
            advised.lost += lost
        elif (self.state == "recovery" and "advanced" in told.flags) or (
            not recovering and self.dupacks >= 3
        ):
            first = self.board.all[:1]
            if first and not first[0].lost:
                self.board.split(first[0].seq, 1)
                advised.lost += self.board.lose(first[0].seq)

    def keep_open(self, advised: Advised) -> None:
        board = self.board
        again = any(s.again for s in board.all) or (bool(board.all) and board.all[0].ever_again)
        if not again:
            self.first_again = None
        bad = again or self.dupacks or any(s.sacked or s.lost for s in board.all)
        if self.state in ("recovery", "loss"):
            self.become_open(advised)
        if self.state != ("disorder" if bad else "open"):
            self.state = "disorder" if bad else "open"
            self.high_seq = board.nxt

    def enter(self, advised: Advised) -> None:
        if self.state == "cwr":
            self.prior_ssthresh = 0
            self.begin_undo()
            self.state = "recovery"
        else:
            self.wanted = "recovery"
            advised.flags.add("reduce")

    def begin_undo(self) -> None:
        self.marker = self.board.una
        self.undo_retrans = self.board.total("again") or -1

    def in_recovery(self, told: Told, now: int, delayed: bool, advised: Advised) -> None:
        if "advanced" in told.flags and self.marker is not None and delayed:
            self.rack.reordering = True
            if self.board.total("again"):
                advised.flags.add("new_only")
                return
            self.undo(True, advised)
            self.keep_open(advised)
        if self.marker is not None and self.undo_retrans == 0:
            self.undo(False, advised)
            self.keep_open(advised)
        self.find(told, now, advised)
        if self.state != "recovery" and self.board.total("lost"):
            self.enter(advised)

    def in_loss(
        self, told: Told, now: int, may_undo: bool, duplicate: bool, more: bool, advised: Advised
    ) -> None:
        advanced = "advanced" in told.flags
        once = [s.end for s, _ in told.arrived if not s.ever_again]
        original = bool(once) and min(once) <= self.high_seq and (self.sack or "again" not in told.flags)
        if advanced and may_undo:
            self.undo(True, advised)
            if self.sack:
                self.become_open(advised)
            return
        if self.frto and original:
            self.undo(True, advised)
            if not self.held:
                self.become_open(advised)
            return
        if self.frto and self.board.nxt > self.high_seq:
            self.frto = not (told.newly_sacked or duplicate)
        elif self.frto and advanced and not self.ended:
            self.high_seq = self.board.nxt
            self.frto = more
            if more:
                advised.flags.add("new_only")
                return
        if self.ended:
            if may_undo:
                self.undo(False, advised)
            if not self.held:
                self.become_open(advised)
        elif not self.sack and duplicate and self.board.nxt > self.high_seq:
            self.add_dupack(told, now)
        elif not self.sack and advanced:
            self.dupacks = 0

    def otherwise(self, told: Told, now: int, advised: Advised) -> None:
        if not self.sack and "advanced" in told.flags:
            self.dupacks = 0
        if self.state in ("open", "disorder") and self.marker is not None and self.undo_retrans == 0:
            self.undo(False, advised)
        self.find(told, now, advised)
        if self.board.total("lost"):
            self.enter(advised)
        elif self.state != "cwr":
            self.keep_open(advised)

    @property
    def kept(self) -> int:
        """ssthresh for an undo."""
        return max(self.ssthresh, self.cwnd // 2 + self.cwnd // 4)

    def reduce(self, flight: int | None) -> None:
        wanted, self.wanted = self.wanted, None
        self.rack.probe, self.marker = None, None
        self.prior_cwnd = self.cwnd
        self.prior_ssthresh = self.kept if wanted == "recovery" and not self.ece else 0
        self.ece = False
        self.ssthresh = self.cut
        if wanted == "cut":
            self.cwnd = self.cut
            return
        if wanted == "recovery":
            self.begin_undo()
        self.state, self.high_seq = wanted or "", self.board.nxt
        self.delivered = self.out = 0
        self.recover_fs = max(
            1, self.board.packets_out - self.board.total("sacked") if flight is None else flight
        )
        if flight is None:
            self.prr(1, False)

    def prr(self, delivered: int, safe: bool) -> None:
        self.delivered += delivered
        there = self.in_flight
        if there > self.ssthresh:
            room = -(-self.delivered * self.ssthresh // self.recover_fs) - self.out
        else:
            room = min(self.ssthresh - there, max(self.delivered - self.out, delivered) + safe)
        self.cwnd = there + max(room, 0 if self.out else 1)

    def reordered(self, now: int) -> tuple[int, int]:
        window = self.rack.window(self.board, self.min_rtt, self.srtt, self.state in ("recovery", "loss"))
        lost, wait = self.rack.detect(self.board, window, now)
        advised = Advised()
        if lost and self.state != "recovery":
            self.enter(advised)
        if "reduce" in advised.flags:
            self.reduce(None)
        return lost, wait

    def expire(self, now: int, again: bool) -> bool:
        fresh = self.state in ("open", "disorder", "cwr")
        reduce = self.state in ("open", "disorder") or self.ended or (self.state == "loss" and not again)
        sent_by = NEVER
        if self.sack and self.rack.xmit is not None:
            sent_by = now - self.rack.rtt
            sent_by -= self.rack.window(self.board, self.min_rtt, self.srtt, not fresh)
        self.board.timeout(sent_by)
        self.dupacks, self.rack.probe = 0, None
        self.frto = fresh or again
        if reduce:
            self.prior_cwnd, self.prior_ssthresh = self.cwnd, self.kept
            self.ssthresh = self.cut
            self.begin_undo()
        self.cwnd = self.in_flight + 1
        self.state, self.high_seq, self.wanted, self.ece = "loss", self.board.nxt, None, False
        return reduce

    def resent(self, segments: int, now: int) -> None:
        self.out += segments
        if self.first_again is None:
            self.first_again = now
        self.undo_retrans = max(0, self.undo_retrans) + segments
