"""A stateful firewall: rules from a TOML file for what is new, and no rule for what belongs to it.

::

    aiomos run aiomos.apps.firewall --bridge eth0 eth1 --set rules=firewall.toml

Rules are looked at for the first packet of a connection. What belongs to a connection that was accepted passes
natively, in both directions; segments that no connection accounts for are refused. Each change of the file is taken in
while traffic runs, and open connections stay.
"""

import asyncio
import signal
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from aiomos import (
    CONN_TEARDOWN,
    ERROR,
    FRAME,
    ORPHAN,
    PKT_IN,
    App,
    CallbackRegistration,
    ErrorKind,
    Hook,
    Level,
    NotInLineError,
    SessionError,
)
from aiomos.apps._tables import aside
from aiomos.apps.firewall.counters import Counters
from aiomos.apps.firewall.icmp import ECHO_REQUESTS, ERRORS, ICMP, ICMP6, NAMES, OF_THE_LINK, TCP, UDP
from aiomos.apps.firewall.limits import TokenBucket
from aiomos.apps.firewall.rules import (
    ACCEPT,
    ESTABLISHED,
    INVALID,
    NEW,
    REJECT,
    Kind,
    Policy,
    Question,
    Rule,
    read_policy,
)
from aiomos.errors import OptionError
from aiomos.line.translation import Session
from aiomos.logging import get_logger
from aiomos.options import must
from aiomos.runtime.signals import handled

if TYPE_CHECKING:
    from aiomos import Flow, Occurrence, Packet, Runtime

REFUSED = frozenset(
    {
        ErrorKind.NO_ACK,
        ErrorKind.BAD_FLAGS,
        ErrorKind.OUT_OF_WINDOW,
        ErrorKind.BAD_ACK,
        ErrorKind.BAD_RESET,
        ErrorKind.BAD_SYNACK,
        ErrorKind.PAWS,
        ErrorKind.AFTER_FIN,
        ErrorKind.UNSIGNED,
        ErrorKind.MALFORMED_TCP,
        ErrorKind.MALFORMED_TCP_CUT,
        ErrorKind.MALFORMED_CHECKSUM,
    }
)
"""Segments of a connection that are invalid. A SYN within it is not: its receiver answers by an acknowledgement of what
it has (RFC 5961 section 4), from which a client that has lost its connection learns to give the old one up."""

SLICE_SECONDS = 0.002
"""How long connections are judged again, or rules given up, before packets have their turn."""

FREED_AT_ONCE = 500
"""Rules that are given up before time is looked at."""

LINK_LOCAL_HOPS = (1, 255)
"""Hop limits of what stays on the link (RFC 3810 section 5) and has not come from elsewhere (RFC 4861 section 6.1)."""


@attrs.define
class Options:
    """Which rules, and what is told of them.

    Attributes:
        rules: The rule file.
        watch: Seconds between looks at whether the file has changed; 0 to read it again only on SIGHUP.
        bytes: Whether the bytes of TCP connections are counted for each rule.
        log_rate: Lines about packets that are logged a second; how many more there were is told.
    """

    rules: Path
    watch: float = attrs.field(default=1.0, validator=must("0 or more", lambda value: value >= 0))
    bytes: bool = False
    log_rate: float = attrs.field(default=10.0, validator=must("above 0", lambda value: value > 0))


app = App("firewall", options=Options)


@app.ude(PKT_IN, native=True)
def unknown(pkt: "Packet") -> bool:
    """Whether a packet that is not TCP belongs to nothing that was accepted."""
    return pkt.proto != TCP and not pkt.known


@app.ude(PKT_IN, native=True, once=True)
def first_seen(flow: "Flow") -> object:  # noqa: ARG001  which says that it is about flows
    """The first packet that is seen of a TCP connection, a SYN or not."""
    return True


class Firewall:
    """The firewall of one run: its policy, and the callbacks that go by it."""

    def __init__(self, options: Options, policy: Policy) -> None:
        self._options = options
        self._policy = policy
        self.counters = Counters()
        self._notices = Notices(options.log_rate)
        self._accepted: dict[Flow | Session, tuple[Question, str]] = {}  # what is judged again, and as what
        self._began: float | None = None
        self._asked = asyncio.Event()

    def register(self) -> list[CallbackRegistration]:
        """Have every packet judged that nothing accepted so far accounts for."""
        level = Level.BYTES if self._options.bytes else Level.STATE
        flows: dict[str, Any] = {"level": level, "midstream": True}
        return [
            app.on(FRAME, hook=Hook.RAW)(self.judge_frame),
            app.on(unknown, hook=Hook.RAW)(self.judge_datagram),
            app.on(first_seen, hook=Hook.SENDER, **flows)(self.judge_connection),
            app.on(ERROR, **flows)(self.judge_error),
            app.on(ORPHAN)(self.judge_orphan),
            app.on(CONN_TEARDOWN, **flows)(self.count_connection),
        ]

    # --- packets --------------------------------------------------------------------------------------

    def judge_frame(self, pkt: "Packet") -> None:
        """Refuse what is malformed; what is no IP, ARP above all, passes."""
        if pkt.malformed is not None:
            self.counters.count("malformed", packets=1)
            pkt.drop()

    def judge_datagram(self, pkt: "Packet") -> None:
        """Judge the first packet of UDP or ICMP between two ends, or one of any other protocol."""
        question = ask(pkt)
        state = NEW
        if question.icmp is not None:
            kind = question.proto, question.icmp[0]
            if kind in OF_THE_LINK and pkt.ttl in LINK_LOCAL_HOPS:
                return
            if kind in ERRORS or kind in NAMES["echo-reply"]:  # known ones do not come here
                state = INVALID
        rule = self._decide(pkt, question, state)
        idle = None if rule is None else self._idle(question)
        if rule is None or idle is None:
            return
        try:
            session = pkt.session(idle=idle, on_end=partial(self._count_session, rule.name))
        except SessionError as error:
            pkt.drop()
            self._notices.log("no_session", rule, question, state, reason=str(error))
        else:
            self._accept(rule, session, question, state)

    def judge_connection(self, pkt: "Packet", flow: "Flow") -> None:
        """Judge a TCP connection by the first packet that is seen of it."""
        question = ask(pkt)
        if flow.midstream and (pkt.src, pkt.sport) != flow.key[:2]:
            question = reverse(question)
        state = ESTABLISHED if flow.midstream else NEW
        rule = self._decide(pkt, question, state)
        if rule is not None:
            flow.ctx = rule.name
            self._accept(rule, flow, question, state)

    def judge_error(self, pkt: "Packet", flow: "Flow", event: "Occurrence") -> None:
        """Judge a segment that its receiver would not believe, of a connection that was accepted."""
        if event.kind in REFUSED and isinstance(flow.ctx, str):
            self._decide(pkt, ask(pkt), INVALID)

    def judge_orphan(self, pkt: "Packet") -> None:
        """Judge a segment of no connection."""
        self._decide(pkt, ask(pkt), INVALID)

    def count_connection(self, flow: "Flow") -> None:
        """Count what went by in a connection that has ended."""
        if isinstance(flow.ctx, str):
            packets = flow.client.packets + flow.server.packets
            payload = flow.client.bytes + flow.server.bytes if self._options.bytes else 0
            self._settle(flow, flow.ctx, packets, payload)

    def _count_session(self, rule: str, session: "Session") -> None:
        """Count what went by in a session that has ended."""
        self._settle(session, rule, sum(session.packets), sum(session.bytes))

    def _settle(self, ended: "Flow | Session", rule: str, packets: int, octets: int) -> None:
        self._accepted.pop(ended, None)
        self.counters.count(rule, packets=max(packets - 1, 0), octets=octets)  # the first is counted

    def _decide(self, pkt: "Packet", question: Question, state: str) -> Rule | None:
        """Do with a packet what the policy says; returns the rule that accepts it, or None."""
        if self._began is None:
            self._began = question.time
        verdict = self._policy.judge(question, state, age=question.time - self._began)
        rule = verdict.rule
        self.counters.count(rule.name, packets=1)
        for note in verdict.notes:
            self.counters.count(note.name, packets=1)
            self._notices.log("noted", note, question, state)
        if rule.log:
            self._notices.log(PAST[rule.action], rule, question, state)
        if rule.action == ACCEPT:
            return rule
        if rule.action == REJECT:
            pkt.reject()
        else:
            pkt.drop()
        return None

    def _accept(self, rule: Rule, accepted: "Flow | Session", question: Question, state: str) -> None:
        self.counters.count(rule.name, connections=1)
        if self._policy.recheck:
            self._accepted[accepted] = question, state

    def _idle(self, question: Question) -> float | None:
        """Tell for how long replies may come, in seconds; None where there are none that could be told."""
        if question.proto == UDP:
            return self._policy.udp_idle
        if question.icmp is not None and (question.proto, question.icmp[0]) in ECHO_REQUESTS:
            return self._policy.icmp_idle
        return None

    # --- the rule file --------------------------------------------------------------------------------

    def ask_reload(self) -> None:
        """Have the rule file taken in soon, whether it has changed or not."""
        self._asked.set()

    async def reload(self) -> None:
        """Take the rule file in; if something in it is wrong, the rules stay as they are.

        It is read while packets go by, and takes the place of the one before at once.
        """
        log = get_logger("aiomos.firewall")
        try:
            policy = await aside(read_for, self._options.rules, self._policy.kinds)
        except (OptionError, OSError) as error:
            log.error("rules_refused", reason=str(error), note="the rules before it stay")
            return
        rules = [*self._policy.rules]
        self._policy = policy
        ended = await self._recheck() if policy.recheck else 0
        log.info("rules_reloaded", path=str(self._options.rules), rules=len(policy.rules), ended=ended)
        await give_up(rules)

    async def _recheck(self) -> int:
        """End what was accepted and would not be now; returns how much that was."""
        ended = 0
        turn = Turn()
        for accepted in list(self._accepted):
            await turn.pause()
            question, state = self._accepted.get(accepted, (None, ""))
            if question is None:  # it has ended meanwhile
                continue
            rule = self._policy.judge(question, state, limited=False).rule
            if rule.action != ACCEPT:
                del self._accepted[accepted]
                end_early(accepted, reset=rule.action == REJECT)
                ended += 1
        return ended

    async def watch(self) -> None:
        """Take the file in whenever it has changed, which is looked at now and then, or that is asked for."""
        seen = identity(self._options.rules)
        while True:
            try:
                # By the clock of whoever writes it, not of packets.
                async with asyncio.timeout(self._options.watch or None):
                    await self._asked.wait()
            except TimeoutError:
                pass
            now = identity(self._options.rules)
            if self._asked.is_set() or (now is not None and now != seen):
                self._asked.clear()
                await self.reload()
            seen = now

    def close(self) -> None:
        """Tell what each rule has come to."""
        for rule, tally in self.counters.listing().items():
            get_logger("aiomos.firewall").info("rule", rule=rule, **tally)
        self._notices.close()
        self.counters.close()


class Turn:
    """A stretch of work on the event loop, that lets others have their turn when it has taken long enough."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._until = self._clock() + SLICE_SECONDS

    async def pause(self) -> None:
        """Let others have their turn, if it is time."""
        if self._clock() >= self._until:
            await asyncio.sleep(0)
            self._until = self._clock() + SLICE_SECONDS


def read_for(path: Path, kinds: tuple[Kind, ...]) -> Policy:
    """Read a rule file, and have it ready for kinds of packets that are likely to come.

    Raises:
        OptionError: something in it is wrong.
        OSError: it cannot be read.
    """
    policy = read_policy(path)
    policy.expect(kinds)
    return policy


async def give_up(rules: list[Rule]) -> None:
    """Free rules little by little, if nobody else has them: many thousand at once would hold up packets."""
    turn = Turn()
    while rules:
        del rules[-FREED_AT_ONCE:]
        await turn.pause()


def end_early(accepted: "Flow | Session", *, reset: bool) -> None:
    """Let no more pass of what was accepted; with *reset*, tell the ends of a connection."""
    if isinstance(accepted, Session):
        accepted.close()
    elif reset:
        accepted.reset()
    else:
        accepted.drop()


PAST = {"accept": "accepted", "drop": "dropped", "reject": "rejected"}


class Notices:
    """Log lines about packets, so many a second at most.

    Args:
        rate: How many.
    """

    def __init__(self, rate: float) -> None:
        self._bucket = TokenBucket(rate, max(rate, 1))
        self._held_back = 0

    def log(self, what: str, rule: Rule, question: Question, state: str, **more: str) -> None:
        """Log a packet, or count it if there were too many."""
        if not self._bucket.take(question.time):
            self._held_back += 1
            return
        facts = {name: value for name, value in question._asdict().items() if value is not None}
        facts |= {"src": str(question.src), "dst": str(question.dst)}
        if self._held_back:
            facts["held_back"] = self._held_back
            self._held_back = 0
        get_logger("aiomos.firewall").info(what, rule=rule.name, state=state, **facts, **more)

    def close(self) -> None:
        """Tell how many were held back and not told yet."""
        if self._held_back:
            get_logger("aiomos.firewall").info("held_back", lines=self._held_back)


def ask(pkt: "Packet") -> Question:
    """Write a packet down as rules see it."""
    return Question(
        enters=pkt.interface,
        leaves=pkt.out_interface,
        proto=pkt.proto,
        src=ip_address(pkt.src),
        dst=ip_address(pkt.dst),
        sport=pkt.sport,
        dport=pkt.dport,
        icmp=type_and_code(pkt.payload) if pkt.proto in (ICMP, ICMP6) else None,
        time=pkt.time,
    )


def reverse(question: Question) -> Question:
    """Look at a packet as though the other end had sent it."""
    return question._replace(
        enters=question.leaves,
        leaves=question.enters,
        src=question.dst,
        dst=question.src,
        sport=question.dport,
        dport=question.sport,
    )


def type_and_code(message: bytes) -> tuple[int, int] | None:
    """Read the first two bytes of an ICMP message."""
    return (message[0], message[1]) if len(message) > 1 else None


def identity(path: Path) -> tuple[int, int, int] | None:
    """Tell one state of a file from another; None while there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


# --- app ----------------------------------------------------------------------------------------------


@attrs.define
class Run:
    """What is to be ended with the run."""

    firewall: Firewall
    registrations: list[CallbackRegistration]
    watcher: asyncio.Task[None]
    signals: ExitStack


_running: list[Run] = []


@app.startup
async def begin(engine: "Runtime") -> None:
    """Read the rules, and watch the traffic and the file.

    Raises:
        NotInLineError: there is nothing to refuse.
    """
    policy = read_policy(app.options.rules)  # first, so that a run over a capture can check a file
    if engine.transport is None or not engine.transport.forwards:
        raise NotInLineError("a firewall stands in line: aiomos run firewall --bridge eth0 eth1")
    firewall = Firewall(app.options, policy)
    registrations = firewall.register()
    signals = ExitStack()
    if engine.signals:
        signals.enter_context(handled({signal.SIGHUP: firewall.ask_reload}))
    watcher = asyncio.get_running_loop().create_task(firewall.watch())
    _running.append(Run(firewall, registrations, watcher, signals))


@app.shutdown
async def end() -> None:
    """Watch no more, and tell what each rule has come to."""
    while _running:
        run = _running.pop()
        for registration in run.registrations:
            registration.cancel()
        run.watcher.cancel()
        run.signals.close()
        run.firewall.close()
