"""Plant faults, one at a time, and run the tests of the part, then wider ones, to see which are noticed.

    python -m tools.mutate --files 'aiomos/tcp/*.pyx' --count 30 --seed 1
    python -m tools.mutate --changed-since main~1

Prints a line a fault while it runs, then each that survived as a diff. Exit status: 0 if all were noticed but those
listed in docs/design/mutants.md, 1 if some were not, 2 if nothing could be told, as where tests fail without a fault.
"""

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

from tools.mutate.accepted import Accepted, Change, change, change_of, is_accepted, read_accepted
from tools.mutate.faults import Fault, diff, faults
from tools.mutate.parts import WIDER, WIDER_OPTIONS, part_of
from tools.mutate.runs import Outcome, UsageError, run_tests
from tools.mutate.tree import BuildError, Tree

ROOT = Path(__file__).parents[2]
ACCEPTED = "docs/design/mutants.md"
HOT_PATH = (
    "aiomos/wire/*",
    "aiomos/tcp/*",
    "aiomos/ude/*",
    "aiomos/line/*",
    "aiomos/face/*",
    "aiomos/engine/*",
    "aiomos/apps/*",
    "aiomos/workers/*",
    "aiomos/transport/*",
)
SUFFIXES = (".py", ".pyx", ".pxd")
FAULTS_A_TICKET = 200
MOST_TICKETS = 3
"""In each round a file is drawn once, and once more for so many faults it can be given, at most so many times."""

MOST_UNSTEADY = 3
"""So many tests that fail but once are left out, for one fault."""

BASELINE_SECONDS = 900
TRUSTED_SECONDS = 450
MOST_SECONDS = 7200
"""Of processor time: a run without a fault at most, one that nobody has measured; and at most of any, by the clock."""

_HUNK = re.compile(r"^@@ -\S+ \+(?P<first>\d+)(?:,(?P<count>\d+))? @@")


class BaselineError(Exception):
    """Tests fail without any fault; the message is their output."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a fault."""

    file: str
    line: int
    kind: str
    stage: str
    """Who noticed: ``part``, ``wider``; else ``survived`` or ``accepted``."""
    noticed: str
    seconds: float
    diff: str
    is_wide: bool = False
    """Has every test been run that is to be?"""

    @property
    def change(self) -> Change:
        """The lines it changes, wherever they stand."""
        return change(self.file, [line for line in self.diff.splitlines()[2:] if line[:1] in "+-"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as told by the command line."""
    options = parsed(arguments)
    lines = changed_lines(ROOT, options.changed_since) if options.changed_since else None
    patterns = options.files or (("*",) if lines is not None else HOT_PATH)
    candidates = collect(ROOT, patterns, lines)
    if not candidates:
        print("There is nothing to change in these files.")
        return 0
    planned = again(options.again, candidates) if options.again else draw(candidates, options.seed)
    if options.list:
        for name, fault in islice(planned, options.count):
            source = (ROOT / name).read_text()
            print(diff(name, source, fault.plant(source)))
        return 0
    campaign = Campaign(Tree(ROOT, ROOT / options.folder), options)
    if options.resume:
        campaign.resume(json.loads(Path(options.json).read_text()))
    try:
        campaign.run(candidates, planned, options.count)
    except BuildError as error:
        print(f"{error}\nThe working tree does not compile.", file=sys.stderr)
        return 2
    except (BaselineError, UsageError) as error:
        print(f"{error}\nThe tests do not pass without a fault.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        campaign.summary()
        print("Ended before all had been planted.")
        return 2
    return campaign.summary()


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutate", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--files", nargs="+", metavar="PATTERN", help="files to change; default: the hot path, apps, workers"
    )
    parser.add_argument("--changed-since", metavar="REV", help="only lines changed since a revision")
    parser.add_argument("--count", type=int, default=30, help="how many faults that compile (default 30)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other faults (default 0)")
    parser.add_argument("--narrow", action="store_true", help="run the tests of the part only")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="do without runs without a fault at first; at the end, those tests that noticed one are run without it",
    )
    parser.add_argument(
        "--processes", default="0", metavar="N", help="pytest's -n for the wider tests (default 0)"
    )
    parser.add_argument(
        "--again", metavar="PATH", help="plant what survived by a JSON report, in place of new ones"
    )
    parser.add_argument("--json", metavar="PATH", help="write the report as JSON, too, after every fault")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on where the run ended, or was cut off, that wrote this report",
    )
    parser.add_argument(
        "--folder", default="build/mutate", help="where the copy is kept (default build/mutate)"
    )
    parser.add_argument(
        "--list", action="store_true", help="print the faults that would be planted, and stop"
    )
    options = parser.parse_args(arguments)
    if options.resume and not (options.json and Path(options.json).exists()):
        parser.error("--resume needs --json, with a report that there is")
    return options


# --- which faults ---------------------------------------------------------------------------------


def collect(
    root: Path, patterns: Sequence[str], lines: dict[str, set[int]] | None = None
) -> dict[str, list[Fault]]:
    """Return the faults of each file that fits a pattern, of certain lines only if those are given."""
    names = sorted(
        str(path.relative_to(root)) for path in (root / "aiomos").rglob("*") if path.suffix in SUFFIXES
    )
    found = {}
    for name in names:
        if not any(
            fnmatch(name, pattern) or name.startswith(pattern.rstrip("/") + "/") for pattern in patterns
        ):
            continue
        if lines is not None and name not in lines:
            continue
        possible = faults((root / name).read_text(), cython=not name.endswith(".py"))
        if lines is not None:
            possible = [fault for fault in possible if fault.line in lines[name]]
        if possible:
            found[name] = possible
    return found


def changed_lines(root: Path, revision: str) -> dict[str, set[int]]:
    """Return the numbers of the lines of each file that are not as in a revision."""
    command = ["git", "diff", "--unified=0", "--no-color", "--no-ext-diff", revision, "--", "aiomos"]
    found: dict[str, set[int]] = {}
    name = ""
    for line in subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        if line.startswith("+++ "):
            name = line.removeprefix("+++ ").removeprefix("b/")
        elif hunk := _HUNK.match(line):
            first, count = int(hunk["first"]), int(hunk["count"] or 1)
            found.setdefault(name, set()).update(range(first, first + count))
    return found


def draw(candidates: dict[str, list[Fault]], seed: int) -> Iterator[tuple[str, Fault]]:
    """Go through faults in an order that the seed tells: spread over files, and in a file over kinds."""
    chance = random.Random(seed)
    left = {name: list(found) for name, found in candidates.items()}
    while left:
        tickets = [name for name, some in left.items() for _ in range(tickets_of(some))]
        chance.shuffle(tickets)
        for name in tickets:
            if name not in left:
                continue
            kind = chance.choice(sorted({fault.kind for fault in left[name]}))
            fault = chance.choice([fault for fault in left[name] if fault.kind == kind])
            left[name].remove(fault)
            if not left[name]:
                del left[name]
            yield name, fault


def tickets_of(possible: list[Fault]) -> int:
    """Return how often a file is drawn in a round."""
    return min(1 + len(possible) // FAULTS_A_TICKET, MOST_TICKETS)


def again(report: str, candidates: dict[str, list[Fault]]) -> Iterator[tuple[str, Fault]]:
    """Go through the faults that survived by a report, where they still can be planted."""
    for known in json.loads(Path(report).read_text())["results"]:
        result = Result(**known)
        if result.stage == "survived" and (fault := fault_of(result, candidates)):
            yield result.file, fault


def fault_of(result: Result, candidates: dict[str, list[Fault]]) -> Fault | None:
    """Return the fault that a report is about, the one nearest to its line, if it still can be planted."""
    if result.file not in candidates:
        return None
    source = (ROOT / result.file).read_text()
    near = sorted(candidates[result.file], key=lambda fault: abs(fault.line - result.line))
    found = (f for f in near if change_of(result.file, source, f.plant(source)) == result.change)
    return next(found, None)


# --- planting them --------------------------------------------------------------------------------


class Campaign:
    """Plants faults in a copy and keeps what became of each."""

    def __init__(self, tree: Tree, options: argparse.Namespace) -> None:
        self.results: list[Result] = []
        self.not_counted: list[Result] = []
        self.unsteady: Counter[str] = Counter()
        self._tree = tree
        self._options = options
        self._wider_options = ("-n", options.processes, *WIDER_OPTIONS)
        accepted = tree.project / ACCEPTED
        self._accepted: Accepted = read_accepted(accepted.read_text()) if accepted.exists() else set()
        self._work: dict[tuple[str, ...], float] = {}

    def resume(self, report: dict[str, Any]) -> None:
        """Take over what a report tells: none of its faults is drawn again."""
        self.results = [Result(**known) for known in report["results"]]
        self.not_counted = [Result(**known) for known in report["not_counted"]]
        self.unsteady.update(report["unsteady"])

    def run(
        self, candidates: dict[str, list[Fault]], planned: Iterator[tuple[str, Fault]], count: int
    ) -> None:
        """Plant faults until *count* have been tested: each with the tests of its part, then those left with others.

        Args:
            candidates: Every fault that may be planted, by file.
            planned: Those to be planted, in order.
            count: How many are enough, those of a report that is resumed among them.

        Raises:
            BuildError: The working tree does not compile.
            BaselineError: Tests fail without a fault.
        """
        print("Copying and building ...", flush=True)
        self._tree.prepare()
        print(f"{'':>9}{'seconds':>9}  {'stage':<9} noticed by, or what it was", flush=True)
        known = {result.change for result in (*self.results, *self.not_counted)}
        for name, fault in planned:
            if len(self.results) >= count:
                break
            source = (self._tree.root / name).read_text()
            if known and change_of(name, source, fault.plant(source)) in known:
                continue
            part = tuple(part_of(name, self._tree.root)) or WIDER
            self._baseline(part)
            result = self._try(name, fault, "part", part)
            if result is not None:
                self.results.append(result)
                self._show(f"{len(self.results)}/{count}", result)
            self._report()
        if not self._options.narrow:
            self._go_wider(candidates)
        if self._options.trust:
            self._check_witnesses()

    def _go_wider(self, candidates: dict[str, list[Fault]]) -> None:
        """Try again, with wider tests, what the tests of its part have not noticed."""
        left = [
            (at, fault)
            for at, result in enumerate(self.results)
            if result.stage == "survived" and not result.is_wide
            if (fault := fault_of(result, candidates))
        ]
        if left:
            self._baseline(WIDER, *self._wider_options)
        for done, (at, fault) in enumerate(left, 1):
            name = self.results[at].file
            part = (f"--ignore={path}" for path in part_of(name, self._tree.root))
            result = self._try(name, fault, "wider", WIDER, *self._wider_options, *part)
            if result is not None:
                self.results[at] = replace(result, is_wide=True)
                self._show(f"{done}/{len(left)}", result)
                self._report()

    def _show(self, at: str, result: Result) -> None:
        print(f"{at:>9}{result.seconds:>9.1f}  {result.stage:<9} {result.noticed}", flush=True)
        print(f"{'':>20}{result.file}:{result.line}, {result.kind}", flush=True)

    def _try(
        self, name: str, fault: Fault, stage: str, selection: tuple[str, ...], *options: str
    ) -> Result | None:
        """Plant a fault and run tests; None if it does not count."""
        source = (self._tree.root / name).read_text()
        text = fault.plant(source)
        result = Result(name, fault.line, fault.kind, "survived", "", 0, diff(name, source, text))
        began = time.monotonic()
        try:
            with self._tree.planted(name, text) as differs:
                if not differs:
                    self.not_counted.append(replace(result, stage="the same when compiled"))
                    return None
                if is_accepted(self._accepted, name, source, text):
                    return replace(result, stage="accepted")
                noticed = self._notice(selection, options)
        except BuildError:
            self.not_counted.append(replace(result, stage="not compiled"))
            return None
        return replace(
            result, stage=stage if noticed else "survived", noticed=noticed, seconds=time.monotonic() - began
        )

    def _notice(self, selection: tuple[str, ...], options: tuple[str, ...]) -> str:
        """Return what notices the planted fault, if anything; a test that fails but once does not."""
        work = self._work.get(selection, TRUSTED_SECONDS)
        for _ in range(MOST_UNSTEADY):
            noticed = self._run(selection, options, work).noticed
            if "::" not in noticed:
                return noticed
            test = noticed.split("[")[0]
            if self._run((test,), (), work).noticed:
                return noticed
            self.unsteady[test] += 1
            options = (*options, f"--deselect={test}")
        return ""

    def _run(self, selection: tuple[str, ...], options: tuple[str, ...], work: float) -> Outcome:
        """Run tests that take *work* seconds of processor time where there is no fault."""
        return run_tests(
            self._tree.root,
            selection,
            self._tree.environment,
            work_limit=4 * work + 10,
            limit=MOST_SECONDS,
            options=options,
        )

    def _baseline(self, selection: tuple[str, ...], *options: str) -> None:
        """See that tests pass without a fault, and how long they take.

        Raises:
            BaselineError: They do not.
        """
        if self._options.trust or selection in self._work:
            return
        outcome = self._run(selection, options, BASELINE_SECONDS)
        if outcome.noticed:
            raise BaselineError(outcome.output)
        self._work[selection] = outcome.work
        print(
            f"{'':>9}{outcome.seconds:>9.1f}  {'no fault':<9} {len(selection)} files or folders of tests",
            flush=True,
        )

    def _check_witnesses(self) -> None:
        """Run the tests that noticed a fault without it.

        Raises:
            BaselineError: One of them fails all the same.
        """
        witnesses = sorted(
            {result.noticed.split("[")[0] for result in self.results if "::" in result.noticed}
        )
        if witnesses:
            outcome = self._run(tuple(witnesses), (), BASELINE_SECONDS)
            if outcome.noticed:
                raise BaselineError(outcome.output)
            print(
                f"{'':>9}{outcome.seconds:>9.1f}  {'no fault':<9} {len(witnesses)} tests that noticed one",
                flush=True,
            )

    # --- what came out ----------------------------------------------------------------------------

    def summary(self) -> int:
        """Print the survivors and the counts; returns the exit status."""
        stages = Counter(result.stage for result in self.results)
        for result in self.results:
            if result.stage == "survived":
                print(f"\n{result.kind}\n{result.diff}", end="")
        noticed = stages["part"] + stages["wider"]
        print(
            f"\n{len(self.results)} faults: {noticed} noticed, {stages['part']} of them by the tests of the part; "
            f"{stages['accepted']} without effect as listed in {ACCEPTED}; {stages['survived']} survived."
        )
        for why, times in sorted(Counter(result.stage for result in self.not_counted).items()):
            print(f"Not counted: {times} {why}.")
        for test, times in sorted(self.unsteady.items()):
            print(f"Failed among others, but not alone: {test}, {times} times.")
        return 1 if stages["survived"] else 0

    def _report(self) -> None:
        """Write all that is known as JSON, if that is wanted."""
        if self._options.json:
            known = {
                "seed": self._options.seed,
                "stages": dict(Counter(result.stage for result in self.results)),
                "unsteady": dict(self.unsteady),
                "results": [asdict(result) for result in self.results],
                "not_counted": [asdict(result) for result in self.not_counted],
            }
            path = Path(self._options.json)
            written = path.with_name(f"{path.name}.new")
            written.write_text(json.dumps(known, indent=2) + "\n")
            written.replace(path)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
