"""The command line: argument parsing only.

What a command needs beyond click is imported where it is used, so that ``--help`` and usage errors are quick.
"""

import os
import stat
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from errno import EPIPE
from typing import TYPE_CHECKING, Any, Literal

import click

from aiomos import __version__
from aiomos.errors import ADVICE, AiomosError, EngineBug, OptionError, OutputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from aiomos.app import App
    from aiomos.control_client import ControlClient
    from aiomos.runtime.statistics import Report
    from aiomos.transport.wires import Wire

TABLE_ROWS = 50  # of flows, unless --limit says otherwise

# A capture below this is through before a progress bar has said anything.
WORTH_PROGRESS = 64 << 20
ONCE = ("--bridge", "--tap", "--control", "--metrics")
"""Options of which all but the last would be left out in silence."""

INTERRUPTED = 128 + 2  # as shells report SIGINT

# click re-wraps paragraphs unless they start with a backspace.
EXAMPLES = """\b
Examples:
  aiomos run watch.py --pcap trace.pcap
  aiomos run watch:app watch:other --pcap *.pcap.gz --set other.limit=3
  aiomos run flowlog --iface eth0
  aiomos run firewall --set rules=firewall.toml --bridge eth0 eth1
"""


MOST_SECONDS = 10**8
"""Three years: what a timer takes, and nobody outwaits."""


class Seconds(click.FloatRange):
    """So many that one can wait for them."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(min=0, max=MOST_SECONDS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what is no number, which compares with none."""
        number = super().convert(value, param, ctx)
        if number != number:
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return number


class Program(click.Group):
    """The command group; turns errors into a message and an exit status."""

    _chosen = False

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command line."""
        from aiomos import outputs

        outputs.hold_standard_descriptors()
        with outputs.naming_standard_output():
            try:
                return super().main(*args, **kwargs)
            except OutputError as error:
                if self._chosen:  # and a traceback asked for
                    raise
                _report(error)
                sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was chosen."""
        from aiomos import outputs

        self._chosen = True
        try:
            result = super().invoke(ctx)
            outputs.flush_standard_output()
            return result
        except click.exceptions.Exit:
            _finish_output()
            raise
        except KeyboardInterrupt:
            _finish_output()
            ctx.exit(INTERRUPTED)
        except (AiomosError, OSError) as error:
            if ctx.meta.get("traceback") or isinstance(error, EngineBug):
                raise
            _report(error)
            ctx.exit(1)


def _report(error: Exception) -> None:
    """Say what ended the run, behind the results so far; nothing where the reader of standard output has gone."""
    from aiomos import outputs

    if isinstance(error, OutputError) and error.path == outputs.STANDARD_OUTPUT:
        outputs.give_up_standard_output()
        if error.errno == EPIPE:  # as of `| head`
            return
    else:
        _finish_output()
    click.echo(f"error: {_message(error)}", err=True)


def _finish_output() -> None:
    """Have what was printed be seen, or say that it cannot be."""
    from aiomos import outputs

    try:
        outputs.flush_standard_output()
    except OutputError as error:
        _report(error)


def _message(error: Exception) -> str:
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    advice = ADVICE.get(error.errno or 0)
    return f"{error.filename}: {error.strerror}{f'; {advice}' if advice else ''}"


class RunCommand(click.Command):
    """A command whose ``--pcap`` takes every file up to the next option, as shells expand ``*.pcap``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments."""
        for option in ONCE:
            if sum(arg == option or arg.startswith(f"{option}=") for arg in args) > 1:
                raise click.UsageError(f"{option} is given twice; it can be given once", ctx)
        return super().parse_args(ctx, _repeat("--pcap", args))


def _repeat(option: str, args: Sequence[str]) -> list[str]:
    """Write ``--option A B`` as ``--option A --option B``, the form that click reads."""
    repeated: list[str] = []
    in_list = False
    for arg in args:
        if arg.startswith("-") and arg != "-":
            in_list = arg == option
            if in_list:
                continue
        elif in_list:
            repeated.append(option)
        repeated.append(arg)
    return repeated


def _keep_traceback(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    ctx.meta["traceback"] = value


traceback_option = click.option(
    "--traceback",
    is_flag=True,
    expose_value=False,
    callback=_keep_traceback,
    help="On an error, show the Python traceback.",
)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aiomos")
def main() -> None:
    """Run network middleboxes written with aiomos."""


@main.command(cls=RunCommand, epilog=EXAMPLES)
@click.argument("names", metavar="APP...", nargs=-1)
@click.option(
    "--pcap",
    "captures",
    metavar="FILE...",
    multiple=True,
    help="Read these captures, merged by time: pcap or pcapng, also compressed; - is standard input.",
)
@click.option(
    "--iface",
    "interfaces",
    metavar="NAME[,NAME...]",
    multiple=True,
    help="Watch these interfaces, live; may be given again.",
)
@click.option(
    "--bridge",
    metavar="A B",
    nargs=2,
    help="Stand between two interfaces: what comes in by one leaves by the other, as the apps decide. "
    "tap:NAME and tun:NAME are such devices.",
)
@click.option("--tap", metavar="NAME", help="Take the frames that the kernel sends into a TAP device.")
@click.option(
    "--busy-poll",
    metavar="MICROSECONDS",
    type=click.IntRange(min=0),
    default=0,
    help="Poll the network card for so long when nothing waits: less delay, more processor time.",
)
@click.option(
    "--set",
    "options",
    metavar="NAME=VALUE",
    multiple=True,
    help="Set an option of the apps that have it; APP.NAME=VALUE: of that app. See: aiomos apps APP.",
)
@click.option(
    "--setting",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    help="Change a setting of the engine, such as timeouts.established=60. A wrong name lists them all.",
)
@click.option(
    "--checksums", type=click.Choice(["ignore", "verify"]), help="What to do with IPv4 and TCP checksums."
)
@click.option(
    "--decapsulate", is_flag=True, help="Look into tunnels: GRE, IP-in-IP, VXLAN, GTP-U, L2TP and so on."
)
@click.option(
    "--control",
    metavar="PATH",
    help="Listen for aiomos ctl at this UNIX socket; then the run may begin without apps.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Share the flows out among so many processes, each on a processor of its own.",
)
@click.option(
    "--watchdog",
    metavar="SECONDS",
    type=Seconds(),
    default=30,
    show_default=True,
    help="Replace a worker that is stuck for so long, with live traffic; 0: never.",
)
@click.option(
    "--grace",
    metavar="SECONDS",
    type=Seconds(),
    default=10,
    show_default=True,
    help="How long handlers may take to end after Ctrl-C, before they are cut short.",
)
@click.option(
    "--metrics",
    metavar="[HOST]:PORT",
    help="Answer Prometheus there; :9187 is that port of all addresses of this host.",
)
@click.option(
    "--loop",
    type=click.Choice(["uvloop", "asyncio"]),
    default="uvloop",
    show_default=True,
    help="The event loop.",
)
@click.option(
    "--progress/--no-progress",
    default=None,
    help="Show a progress bar. By default on a terminal, from 64 MiB of captures on.",
)
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    default="console",
    show_default=True,
    help="For people, or one JSON object a line.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least severity to log, to standard error.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the closing summary even without a terminal.")
@traceback_option
def run(
    names: tuple[str, ...],
    captures: tuple[str, ...],
    interfaces: tuple[str, ...],
    bridge: tuple[str, str] | None,
    tap: str | None,
    busy_poll: int,
    options: tuple[str, ...],
    settings: tuple[str, ...],
    checksums: str | None,
    decapsulate: bool,
    control: str | None,
    workers: int,
    watchdog: float,
    grace: float,
    metrics: str | None,
    loop: Literal["uvloop", "asyncio"],
    progress: bool | None,
    log_format: Any,
    log_level: Any,
    verbose: bool,
) -> None:
    """Run apps over captured or live traffic.

    An APP is MODULE:ATTRIBUTE, MODULE for MODULE:app, path/to/file.py, or the name of an app that ships with
    aiomos (see: aiomos apps). Several apps share one engine.
    """
    from aiomos import logging
    from aiomos.console import running
    from aiomos.settings import Settings

    if not names and control is None:
        raise click.UsageError("name an APP; only with --control can apps come later")
    if captures.count("-") > 1:
        raise click.UsageError("standard input (-) can be read only once")
    if workers > 1 and "-" in captures:
        raise click.UsageError("--workers: each worker reads the captures, so none can be standard input (-)")
    if workers > 1 and (pipe := next(filter(_is_read_once, captures), None)):
        raise click.UsageError(f"--workers: each worker reads the captures, so {pipe} cannot be a pipe")
    wire = _wire(interfaces, bridge, tap, busy_poll)
    if (wire is None) == (not captures):
        raise click.UsageError("say where frames come from: --pcap, --iface, --bridge or --tap, one of them")
    engine_settings = Settings.from_pairs(
        [
            *settings,
            *([f"checksums={checksums}"] if checksums else []),
            *(["decapsulate=true"] if decapsulate else []),
        ]
    )
    logging.configure(log_format, log_level)
    apps = _load(names)
    chosen = _configure(apps, options)
    alone = [app.name for app in apps if app.one_worker]
    if workers > 1 and alone:
        raise click.UsageError(f"--workers: {', '.join(alone)} must see all traffic in one process")
    if workers > 1:
        from aiomos.workers.plan import AppPlan, Plan
        from aiomos.workers.supervisor import run_workers

        plan = Plan(
            workers=workers,
            apps=tuple(AppPlan(name, tuple(chosen[app])) for name, app in zip(names, apps, strict=True)),
            captures=captures,
            wire=wire,
            settings=engine_settings,
            loop=loop,
            log_format=log_format,
            log_level=log_level,
            watchdog=watchdog if wire is not None else 0,
            grace=grace,
        )
        _tell(run_workers(plan, control=control, metrics=metrics), verbose)
        return
    if progress is None:
        progress = wire is None and sys.stderr.isatty() and _size(captures) >= WORTH_PROGRESS
    with _progress(progress) as advance:
        report = running.run(
            *apps,
            pcap=captures if wire is None else None,
            transport=None if wire is None else wire.open(),
            settings=engine_settings,
            loop=loop,
            progress=advance,
            control=control,
            metrics=metrics,
            grace=grace,
            force=True,
        )
    _tell(report, verbose)


def _is_read_once(path: str) -> bool:
    """Tell whether a capture is a pipe or a device, of which nobody else gets what one has read."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False  # opening it says what is wrong
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _tell(report: "Report", verbose: bool) -> None:
    """Show the closing summary, if it is wanted; what was not followed is told in any case."""
    from aiomos.console.shortfalls import shortfalls
    from aiomos.logging import get_logger, log_format
    from aiomos.outputs import flush_standard_output

    flush_standard_output()  # here, where it can still be said that it fails
    wanted = verbose or sys.stderr.isatty()
    missing = shortfalls(report.counters)
    if log_format() == "json":
        if wanted:
            flows = report.counters.get("flows", 0)
            get_logger("aiomos").info("done", frames=report.frames, flows=flows, seconds=report.seconds)
        if missing:
            told = {shortfall.name: shortfall.text for shortfall in missing}
            get_logger("aiomos").warning("incomplete", **told)
        _end_with_status(report)
        return
    if wanted:
        click.echo(_summary(report), err=True)
    for shortfall in missing:
        click.echo(f"incomplete: {shortfall}", err=True)
    _end_with_status(report)


def _end_with_status(report: "Report") -> None:
    """End with status 1 if an app did nothing but fail, or handlers were cut short."""
    if report.failed:
        failed = ", ".join(f"{name} ({report.calls[name][1]:,})" for name in report.failed)
        click.echo(f"error: every handler and callback failed of: {failed}", err=True)
    if report.failed or report.counters.get("handlers_cut_short"):
        click.get_current_context().exit(1)


@main.command()
@click.argument("names", metavar="[APP]...", nargs=-1)
@click.option(
    "--explain",
    is_flag=True,
    help="Show instead which of their user-defined events run native, and what keeps the others in Python.",
)
@click.option("-v", "--verbose", is_flag=True, help="With --explain: also the compiled programs.")
@traceback_option
def apps(names: tuple[str, ...], explain: bool, verbose: bool) -> None:
    """List the apps that ship with aiomos, or the options of the apps given."""
    from aiomos.console import terminal
    from aiomos.loader import shipped_apps

    if explain and not names:
        raise click.UsageError("--explain needs an APP")
    for app in _load(names):
        if explain:
            terminal.show_events(app, programs=verbose)
        else:
            terminal.show_options(app)
    if not names:
        terminal.show_apps(shipped_apps())


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")


@main.group()
@click.argument("path")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=30,
    show_default=True,
    help="How long to wait for an answer.",
)
@traceback_option
@click.pass_context
def ctl(ctx: click.Context, path: str, timeout: float) -> None:
    """Control the run that listens at the socket PATH: aiomos run ... --control PATH."""
    from aiomos.control_client import ControlClient

    ctx.obj = ControlClient(path, timeout=timeout)


@ctl.command()
@click.argument("app")
@click.option("--set", "options", metavar="NAME=VALUE", multiple=True, help="Set an option of the app.")
@json_option
@click.pass_obj
def attach(client: "ControlClient", app: str, options: tuple[str, ...], as_json: bool) -> None:
    """Attach an app, named as for aiomos run.

    A module is one that the run finds, from the folder it was started in; a file is looked for from here.
    """
    name = client.attach(app, options)
    click.echo(_json({"name": name}) if as_json else f"attached {name}")


@ctl.command()
@click.argument("name")
@json_option
@click.pass_obj
def detach(client: "ControlClient", name: str, as_json: bool) -> None:
    """Detach the app that goes by NAME in the list of apps."""
    client.detach(name)
    click.echo(_json({"name": name}) if as_json else f"detached {name}")


@ctl.command("apps")
@json_option
@click.pass_obj
def attached_apps(client: "ControlClient", as_json: bool) -> None:
    """List the attached apps."""
    from aiomos.console import terminal

    listed = client.apps()
    if not as_json:
        terminal.show_attached(listed)
        return
    for attached in listed:
        click.echo(_json(attached))


@ctl.command()
@click.argument("filter", nargs=-1)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    help=f"How many at most: in a table {TABLE_ROWS}, else all.",
)
@json_option
@click.pass_obj
def flows(client: "ControlClient", filter: tuple[str, ...], limit: int | None, as_json: bool) -> None:  # noqa: A002
    """List open flows: all, or those that a FILTER picks, such as "server port 443"."""
    from aiomos.console import terminal

    chosen = " ".join(filter)
    if not as_json:
        rows = limit or TABLE_ROWS
        terminal.show_flows(list(client.flows(chosen, limit=rows + 1)), rows=rows)
        return
    for flow in client.flows(chosen, limit=limit):
        click.echo(_json(flow))


@ctl.command()
@json_option
@click.pass_obj
def stats(client: "ControlClient", as_json: bool) -> None:
    """Show the counters of the engine and of each app."""
    from aiomos.console import terminal

    counters = client.stats()
    if as_json:
        click.echo(_json(counters))
    else:
        terminal.show_counters(**counters)


@main.command()
@click.argument("interfaces", metavar="[IFACE]...", nargs=-1)
@json_option
@traceback_option
@click.pass_context
def doctor(ctx: click.Context, interfaces: tuple[str, ...], as_json: bool) -> None:
    """Look at this machine and its interfaces: whether they are fit for live traffic, and what to change.

    Without an IFACE, all interfaces that are up are looked at. The exit status is 1 if anything fails.
    """
    import attrs

    from aiomos.console import terminal
    from aiomos.console.doctor import examine, read_interfaces, read_machine

    findings = examine(read_machine(), read_interfaces(interfaces))
    if as_json:
        for finding in findings:
            click.echo(_json(attrs.asdict(finding)))
    else:
        terminal.show_findings(findings)
    if any(finding.verdict == "fail" for finding in findings):
        ctx.exit(1)


def _json(value: object) -> bytes:
    import orjson

    return orjson.dumps(value)


def _load(names: Sequence[str]) -> "list[App]":
    from aiomos.loader import load_app

    loaded: list[App] = []
    for name in names:
        app = load_app(name)
        if app in loaded:
            raise click.UsageError(f"{name} is named twice")
        loaded.append(app)
    return loaded


def _wire(
    interfaces: Sequence[str], bridge: tuple[str, str] | None, tap: str | None, busy_poll: int
) -> "Wire | None":
    """Return the wire of a live run; None for captures."""
    if [interfaces or None, bridge, tap].count(None) < 2:
        raise click.UsageError("--iface, --bridge and --tap cannot be given together")
    if not interfaces and bridge is None and tap is None:
        return None
    from aiomos.transport.wires import InLine, TapDevice, Watch

    if interfaces:
        return Watch(tuple(name for several in interfaces for name in several.split(",")), busy_poll)
    return InLine(*bridge, busy_poll) if bridge is not None else TapDevice(str(tap))


def _configure(apps: "Sequence[App]", pairs: Sequence[str]) -> "dict[App, list[str]]":
    """Give each app the options meant for it, and return them."""
    from aiomos.options import split_pair

    chosen: dict[App, list[str]] = {app: [] for app in apps}
    for name, value in map(split_pair, pairs):
        app_name, _, rest = name.partition(".")
        named = [app for app in apps if rest and app.name == app_name]
        for app in named or _takers(apps, name):
            chosen[app].append(f"{rest if named else name}={value}")
    for app in apps:
        app.configure(chosen[app])
    return chosen


def _takers(apps: "Sequence[App]", option: str) -> "Sequence[App]":
    from aiomos.options import describe

    if len(apps) == 1:  # says itself what is wrong with an option that it does not have
        return apps
    takers = [
        app
        for app in apps
        if app.options_type and option in {info.name for info in describe(app.options_type)}
    ]
    if not takers:
        known = [info.name for app in apps if app.options_type for info in describe(app.options_type)]
        raise OptionError(
            f"none of the apps {', '.join(app.name for app in apps)} has an option {option!r}"
            f"{did_you_mean(option, known)}"
        )
    return takers


def _progress(shown: bool) -> "AbstractContextManager[Callable[[int, int | None, int], None] | None]":
    if not shown:
        return nullcontext()
    from aiomos.console import terminal

    return terminal.progress_bar()


def _size(captures: Sequence[str]) -> int:
    """Sum the sizes of captures in bytes; standard input and pipes count as large, since they may be."""
    return sum(os.path.getsize(path) if os.path.isfile(path) else WORTH_PROGRESS for path in captures)


def _summary(report: "Report") -> str:
    """Say in a line what was read, and how the connections in it ended."""
    ended = ", ".join(
        f"{n:,} by {name.partition('.')[2].replace('_', ' ')}"
        for name, n in report.counters.items()
        if name.startswith("ended.") and n
    )
    midstream = report.counters.get("midstream", 0)
    connections = (
        f"{report.counters.get('flows', 0):,} TCP connections"
        f"{f', {midstream:,} of them without their SYN' if midstream else ''}{f' (ended {ended})' if ended else ''}"
    )
    return f"{report.frames:,} frames, {connections} in {report.seconds:.2f} s"
