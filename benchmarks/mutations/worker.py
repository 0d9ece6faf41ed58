"""Runs the mutants of one target. For the environment that the command creates; prints a line of JSON for each.

The tests are collected once; each mutant is a fork in which the changed function has its new code, and runs those tests
that reach the changed statement, the fastest first, until one fails. A change that only importing the module again
shows (a constant, a decorator, a default) runs in a fork of a process that has not imported Beaker yet.
"""

from __future__ import annotations

import dataclasses
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import pickle
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mutations.changing import Changed, Unimportable, change
from benchmarks.mutations.mutants import Mutant, mutants_of
from benchmarks.mutations.targets import TARGETS, Target

LIMIT = float(os.environ.get("BEAKER_MUTATION_SECONDS", "3"))
"""Seconds of tests that one mutant may cost, by how long they took before."""
PATIENCE, WAIT = 15.0, 5.0
"""Seconds within which each test must end, beside five times what it took before, or else the mutant hangs; and how
long a test waits for a thread that will never come."""
EXAMPLES = 25
"""Of each property, where its test says no other number."""
# By marks and by words: needs a server, or starts a process, which would import the unchanged module. A word is in the
# names of files and parameters, too.
SERVERS = ("google", "postgres", "redis", "memcached", "firestore")
STARTING = ("test_another_process_voids", "test_stats_adds_up_processes", "test_a_fork_after_the_loop")
DESELECTED = ("not server and not emulator", " and ".join(f"not {word}" for word in (*SERVERS, *STARTING)))


def in_fork(work: Callable[[Callable[[], object]], Any], patience: float = PATIENCE) -> Any:
    """What ``work(alive)`` returned in a forked process; ``None`` when it died, or did not call ``alive()`` for as long
    as ``patience``. Its exceptions end this process."""
    here, there = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setsid()
            try:
                data = pickle.dumps(work(lambda: os.write(there, b".")))
            except BaseException:
                data = pickle.dumps(_Broken(traceback.format_exc()))
            while data:
                data = data[os.write(there, data) :]
        finally:
            os._exit(0)
    os.close(there)
    chunks = []
    while select.select([here], [], [], patience)[0]:
        chunk = os.read(here, 1 << 20)
        if not chunk:
            break
        chunks.append(chunk)
    os.close(here)
    os.killpg(child, signal.SIGKILL) if _is_leader(child) else os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        result = pickle.loads(b"".join(chunks).lstrip(b"."))
    except (EOFError, pickle.UnpicklingError):
        return None
    if isinstance(result, _Broken):
        raise SystemExit(result.text)
    return result


@dataclasses.dataclass
class _Broken:
    text: str


def _is_leader(child: int) -> bool:
    try:
        return os.getpgid(child) == child
    except ProcessLookupError:
        return False


@dataclasses.dataclass
class Baseline:
    """What the tests do to the code as it is: seconds of each, the longest by the clock, and which reach a line."""

    seconds: dict[str, float]
    waited: float
    failed: list[str]
    reached: dict[str, dict[int, list[str]]]

    def chosen(self, mutant: Mutant) -> list[str]:
        """The tests for ``mutant``, the fastest of each file first, within the limit."""
        if mutant.function:
            lines = self.reached.get(mutant.module, {})
            names = {name for line in range(mutant.first, mutant.last + 1) for name in lines.get(line, ())}
        else:
            names = set(self.seconds)
        chosen: list[str] = []
        total = 0.0
        for name in self._by_turns(names):
            total += self.seconds.get(name, 0.0)
            if total > LIMIT and chosen:
                break
            chosen.append(name)
        return chosen

    def _by_turns(self, names: set[str]) -> list[str]:
        # A file after another, by the time they had: what the cheap tests of one miss, those of the next may see.
        ranked: list[tuple[float, str]] = []
        spent: dict[str, float] = {}
        for name in sorted(names, key=lambda name: (self.seconds.get(name, 0.0), name)):
            file = name.partition("::")[0]
            spent[file] = spent.get(file, 0.0) + self.seconds.get(name, 0.0)
            ranked.append((spent[file], name))
        return [name for _, name in sorted(ranked)]


class Runner:
    """A pytest plugin that, once the tests are collected, calls ``work(self)`` instead of running them."""

    def __init__(self, late: tuple[str, ...], work: Callable[[Runner], None]) -> None:
        self.work = work
        self.late = late
        self.items: dict[str, pytest.Item] = {}
        self.failed = False
        self.broken: list[str] = []
        self.alive: Callable[[], object] = bool

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if self.broken:
            return True
        self.items = {item.nodeid: item for item in session.items if not self._is_left_out(item)}
        self.last = [name for name in self.items if self._is_late(name)]
        self.work(self)
        return True

    def _is_late(self, name: str) -> bool:
        return any(part in name for part in self.late)

    def _is_left_out(self, item: pytest.Item) -> bool:
        return "test_every_interleaving" in item.nodeid and not self._is_late(item.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        import hypothesis

        from beaker.testing import lock

        lock.PATIENCE = WAIT
        # A failure is enough, it need not be the smallest.
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutations", deadline=None, derandomize=True, database=None, max_examples=EXAMPLES, phases=phases
        )
        hypothesis.settings.load_profile("mutations")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        # The tests of the other files would run all the same, and what these would have killed survive.
        if report.failed:
            self.broken.append(f"{report.nodeid}: {report.longreprtext.splitlines()[-1]}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed

    def pytest_runtest_logstart(self) -> None:
        self.alive()

    def run(self, names: list[str]) -> bool:
        """Run until one fails; whether none did."""
        self.failed = False
        items = [self.items[name] for name in names if name in self.items]
        for item, following in zip(items, [*items[1:], None], strict=False):
            try:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            except Exception:
                # What reports a failure may fail itself, at a changed __str__ for instance.
                self.failed = True
            if self.failed:
                return False
        return True

    def baseline(self, modules: tuple[str, ...]) -> Baseline:
        import coverage

        measure = coverage.Coverage(data_file=None, include=[str(Path(module).resolve()) for module in modules])
        measure.start()
        found = Baseline({}, 0.0, [], {})
        for name in self.items.keys() - set(self.last):
            measure.switch_context(name)
            begun = time.process_time()
            clock = time.monotonic()
            if not self.run([name]):
                found.failed.append(name)
            # A test that waits costs the clock's time, one on a busy machine the processor's.
            waited = time.monotonic() - clock
            found.seconds[name] = max(time.process_time() - begun, waited / (1 + os.getloadavg()[0]))
            found.waited = max(found.waited, waited)
        measure.stop()
        data = measure.get_data()
        for module in modules:
            lines = data.contexts_by_lineno(str(Path(module).resolve()))
            found.reached[module] = {
                line: [name for name in names if name and name not in found.failed] for line, names in lines.items()
            }
        for name in found.failed:
            del found.seconds[name]
        return found


def collect(target: Target, work: Callable[[Runner], None]) -> None:
    options = ["-q", "-p", "no:cacheprovider", "--timeout=0", "-W", "ignore::pytest.PytestWarning"]
    marks, names = DESELECTED
    runner = Runner(target.late, work)
    with tempfile.TemporaryDirectory(prefix="mutations-", ignore_cleanup_errors=True) as folder:
        status = pytest.main(
            [*options, f"--basetemp={folder}/t", "-m", marks, "-k", names, *target.tests], plugins=[runner]
        )
    if runner.broken:
        raise SystemExit("the tests could not be collected: " + "; ".join(runner.broken))
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(f"the tests could not be collected: {status!r}")


class Run:
    """The mutants of one target; ``say`` gets each outcome. ``base``, where it is known, spares the measuring."""

    def __init__(
        self,
        target: Target,
        mutants: list[Mutant],
        say: Callable[[Mutant, str], None],
        base: Baseline | None = None,
    ) -> None:
        self.target = target
        self.mutants = mutants
        self.say = say
        self.base = base

    def all(self) -> None:
        known = in_fork(lambda alive: self.warm(), 86_400.0)
        if known is None:
            raise SystemExit(f"{self.target.name}: the tests died")
        self.base, cold = known
        for mutant in cold:
            self.judge(mutant, self.imported)

    def warm(self) -> tuple[Baseline, list[Mutant]]:
        """The tests as they are, then each mutant that is one function. The rest is returned."""
        cold: list[Mutant] = []
        runner: Any = None

        def replaced(mutant: Mutant, names: list[str], alive: Callable[[], object]) -> str:
            runner.alive = alive
            if not change(mutant):
                return "unchanged"
            return "survived" if runner.run(names) and runner.run(runner.last) else "killed"

        def work(given: Runner) -> None:
            nonlocal runner
            runner = given
            self.base = self.base or in_fork(lambda alive: runner.baseline(self.target.modules), 3_600.0)
            if self.base is None:
                return
            count = len(self.base.seconds)
            print(self.target.name, count, "tests; not", self.base.failed, file=sys.stderr, flush=True)
            for mutant in self.mutants:
                if self.judge(mutant, replaced) == "unchanged":
                    cold.append(dataclasses.replace(mutant, function=""))

        collect(self.target, work)
        if self.base is None:
            raise SystemExit(1)
        return self.base, cold

    def judge(self, mutant: Mutant, work: Callable[[Mutant, list[str], Callable[[], object]], str]) -> str:
        assert self.base is not None
        names = self.base.chosen(mutant)
        patience = PATIENCE + 5 * self.base.waited

        def outcome_of(alive: Callable[[], object]) -> str:
            try:
                return work(mutant, names, alive)
            except Unimportable:
                return "killed"

        outcome = (in_fork(outcome_of, patience) or "hung") if names else "untested"
        if outcome != "unchanged":
            self.say(mutant, outcome)
        return outcome

    def imported(self, mutant: Mutant, names: list[str], alive: Callable[[], object]) -> str:
        passed = []

        def work(runner: Runner) -> None:
            runner.alive = alive
            passed.append(runner.run(names) if runner.items.keys() >= set(names) else None)

        sys.meta_path.insert(0, Changed(mutant))
        try:
            collect(self.target, work)
        except (Exception, SystemExit):
            return "killed"
        if passed == [None]:
            raise RuntimeError(f"other tests were collected: {mutant.identity}")
        return "survived" if passed == [True] else "killed"


def main(arguments: list[str]) -> None:
    """``TARGET KNOWN [MODULE]``; what the file ``KNOWN`` has is not run again."""
    os.environ["CI"] = "true"  # draws the same examples every time
    sys.dont_write_bytecode = True
    (target,) = [target for target in TARGETS if target.name == arguments[0]]
    modules = tuple(arguments[2:]) or target.modules
    target = dataclasses.replace(target, modules=modules)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    mutants = [mutant for module in modules for mutant in mutants_of(module, Path(module).read_text("utf-8"))]
    lines = Path(arguments[1]).read_text("utf-8").splitlines() if Path(arguments[1]).is_file() else []
    known = {(one["module"], one["was"], one["now"], one["line"]) for one in map(json.loads, lines)}
    mutants = [mutant for mutant in mutants if (*mutant.identity, mutant.line) not in known]

    def say(mutant: Mutant, outcome: str) -> None:
        kept = {name: getattr(mutant, name) for name in ("module", "operator", "line", "was", "now")}
        out.write(json.dumps({**kept, "outcome": outcome}) + "\n")
        out.flush()

    # What takes long to import and is not ours is there before the first fork.
    for name in ("asyncio", "cryptography.hazmat.primitives.ciphers.aead", "hypothesis", "sqlalchemy"):
        importlib.import_module(name)
    Run(target, mutants, say).all()


if __name__ == "__main__":
    main(sys.argv[1:])
