"""Commands about all workers: each is asked by its own control socket, and the answers are put together."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import orjson

from aiomos.console.control import Answer, Apps, Attach, Detach, Flows, Request, Send, Stats
from aiomos.control_client import describe_failure
from aiomos.errors import ControlError
from aiomos.workers.plan import AppPlan
from aiomos.workers.process import WorkerProcess

LONGEST_ANSWER = 1 << 22
"""Bytes of a line of an answer."""


async def ask(path: Path, request: Request, send: Send | None = None) -> Answer:
    """Ask the run behind a control socket.

    Args:
        path: The socket.
        request: What to ask.
        send: What takes the lines before the last.

    Returns:
        The last line.

    Raises:
        ControlError: it refuses, or cannot be reached.
    """
    async for line in _lines(path, request):
        if not line.get("ok", True):
            raise ControlError(line["error"])
        if "ok" in line:
            return line
        if send is not None:
            await send(line)
    raise ControlError("a worker ended before it had answered")


async def _lines(path: Path, request: Request) -> AsyncIterator[Answer]:
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_ANSWER)
    except OSError as error:
        raise ControlError(f"a worker is being started; try again ({describe_failure(error)})") from error
    try:
        fields = {"command": type(request).__name__.lower(), **attrs.asdict(request)}
        writer.write(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))
        async for line in reader:
            yield orjson.loads(line)
    except ConnectionError:
        return
    finally:
        writer.close()


class WorkersCommands:
    """Commands about all workers.

    Args:
        workers: The workers; those that have come to their end are asked no more.
        apps: What is attached now, in order; it is kept up to date, for workers that begin anew.
    """

    def __init__(self, workers: Sequence[WorkerProcess], apps: list[AppPlan]) -> None:
        self._workers = workers
        self._apps = apps

    @property
    def _paths(self) -> list[Path]:
        """The control sockets of the workers that run."""
        paths = [worker.control for worker in self._workers if worker.ending is None]
        if not paths:
            raise ControlError("the run has ended")
        return paths

    async def carry_out(self, request: Request, send: Send) -> Answer:
        """Carry out a request; see `aiomos.console.control.Commands`."""
        match request:
            case Attach():
                return await self._attach(request)
            case Detach():
                return await self._detach(request)
            case Apps():
                return {"apps": _sum_apps([answer["apps"] for answer in await self._ask_all(request)])}
            case Flows():
                return await self._flows(request, send)
            case Stats():
                ended = [worker.ending.counters for worker in self._workers if worker.ending is not None]
                return _sum_stats(await self._ask_all(request), ended)

    async def _attach(self, request: Attach) -> Answer:
        """Attach an app in every worker, or in none."""
        paths = self._paths
        answers = await asyncio.gather(*(ask(path, request) for path in paths), return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if failures:
            await asyncio.gather(
                *(
                    ask(path, Detach(name=answer["name"]))
                    for path, answer in zip(paths, answers, strict=True)
                    if not isinstance(answer, BaseException)
                ),
                return_exceptions=True,
            )
            raise failures[0]
        self._apps.append(AppPlan(request.app, tuple(request.set)))
        return _without_ok(answers[0])

    async def _detach(self, request: Detach) -> Answer:
        names = [app["name"] for app in (await ask(self._paths[0], Apps()))["apps"]]
        answers = await self._ask_all(request)
        del self._apps[names.index(request.name)]
        return _without_ok(answers[0])

    async def _flows(self, request: Flows, send: Send) -> Answer:
        sent = 0
        for path in self._paths:
            left = None if request.limit is None else request.limit - sent
            if left == 0:
                break
            sent += (await ask(path, attrs.evolve(request, limit=left), send))["flows"]
        return {"flows": sent}

    async def _ask_all(self, request: Request) -> list[Answer]:
        return list(await asyncio.gather(*(ask(path, request) for path in self._paths)))


def _without_ok(answer: Any) -> Answer:
    return {name: value for name, value in answer.items() if name != "ok"}


def _sum_apps(listed: Sequence[Sequence[Answer]]) -> list[Answer]:
    """List the apps of the first worker with the flows of all."""
    return [{**apps[0], "flows": sum(app["flows"] for app in apps)} for apps in zip(*listed, strict=False)]


def _sum_stats(answers: Sequence[Mapping[str, Any]], ended: Sequence[Mapping[str, int]]) -> Answer:
    apps: dict[str, Counter[str]] = {}
    for answer in answers:
        for name, figures in answer["apps"].items():
            apps.setdefault(name, Counter()).update(figures)
    return {"counters": add_counters([*ended, *(answer["counters"] for answer in answers)]), "apps": apps}


def add_counters(several: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Sum counters of the same name; those that are 0 stay."""
    total: Counter[str] = Counter()
    for counters in several:
        total.update(counters)
    return dict(total)
