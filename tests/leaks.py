"""A pytest plugin that looks for secrets in everything the library says, during the whole suite.

What counts as secret, from the moment it exists: session ids, cookies' tokens, keys and what is derived from them,
and values that a test created with :func:`canary`. Where it looks: log records, exceptions with all they were raised
from, warnings, reprs of the library's objects, and what pytest captured of stdout, stderr and logs. A test in
which 24 characters of a secret are found in a row fails, with the place and the kind of the secret, not the secret.

A secret is looked for raw and in hex, base64 and Python's spelling of bytes, by pieces of 16 characters: every
second half of one is in an index, every place of a text is looked up in it, so that a scan is linear in the text.
"""

from __future__ import annotations

import base64
import secrets
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any, Final

import pytest

__all__ = ["Plugin", "Scan", "canary"]

PIECE: Final = 16
STEP: Final = 8
DISTINCT: Final = 8
"""Characters a piece must have at least, so that a run of one byte counts as no secret."""
SAMPLES: Final = 3
"""Objects of a class whose reprs are looked at in one test."""


def canary() -> str:
    """A value to put into sessions: random text that nothing of the library may ever show."""
    made = "canary" + secrets.token_hex(16)
    Scan.current.secret("session value", made)
    return made


def _spellings(secret: bytes | str) -> Iterator[str]:
    if isinstance(secret, str):
        yield secret
        return
    yield secret.decode("latin-1")
    yield repr(secret)[2:-1]
    yield secret.hex()
    yield base64.b64encode(secret).decode()
    yield base64.urlsafe_b64encode(secret).decode()


def _pieces(text: str, step: int) -> Iterator[str]:
    return (text[at : at + PIECE] for at in range(0, len(text) - PIECE + 1, step))


class Scan:
    """What is secret, and what was said, in one test; ``lasting`` secrets stay secret in the following ones."""

    current: Scan

    def __init__(self) -> None:
        self.index: dict[str, str] = {}
        self.fresh: set[tuple[str, bytes | str]] = set()
        self.pending: set[tuple[str, bytes | str]] = set()
        self.said: dict[str, str] = {}
        self.heard: set[int] = set()
        self.made: set[tuple[type, Any]] = set()
        self.samples: dict[type, int] = {}
        self.texts = self.secrets = 0

    def secret(self, kind: str, value: bytes | str) -> None:
        """Look for ``value``, of at least 16 bytes, until the test ends."""
        if len(value) >= PIECE:
            self.fresh.add((kind, value))

    def lasting(self, kind: str, value: bytes | str) -> None:
        """Look for ``value`` until the run ends: keys, and what a fixture created."""
        if len(value) >= PIECE:
            self.pending.add((kind, value))

    def note(self, where: str, text: str) -> None:
        """Something was said; it is looked at when the test ends."""
        if len(text) >= PIECE:
            self.said.setdefault(text, where)

    def hits(self) -> list[str]:
        """Where which kind of secret was found since the last call; the test's own secrets are then forgotten."""
        found: set[str] = set()
        # A text that was looked at before holds nothing that was created since.
        said = {text: where for text, where in self.said.items() if hash(text) not in self.heard}
        self.said = {}
        fresh, self.fresh = self.fresh, set()
        self.made.clear()
        self.samples.clear()
        self.texts += len(said)
        self.secrets += len(fresh)
        if said:
            self.secrets += len(self.pending)
            self._add(self.index, self.pending)
            self.pending = set()
            index: dict[str, str] = {}
            self._add(index, fresh)
            for text, where in said.items():
                self.heard.add(hash(text))
                for piece in _pieces(text, 1):
                    kind = index.get(piece) or self.index.get(piece)
                    if kind is not None:
                        found.add(f"a {kind} in {where}")
        return sorted(found)

    @staticmethod
    def _add(index: dict[str, str], values: set[tuple[str, bytes | str]]) -> None:
        for kind, value in values:
            for spelling in _spellings(value):
                for piece in _pieces(spelling, STEP):
                    if len(set(piece)) >= DISTINCT:
                        index[piece] = kind

    # -- what is said --------------------------------------------------------------------------------

    def exception(self, where: str, error: BaseException | None) -> None:
        """Note an exception and everything a traceback would show with it."""
        known: set[int] = set()
        while error is not None and id(error) not in known:
            known.add(id(error))
            kind = type(error).__name__
            self.note(f"{where}: {kind}", str(error))
            self.note(f"{where}: repr of {kind}", repr(error))
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

    def created(self, error: Exception, args: tuple[Any, ...]) -> None:
        """Note one of our own exceptions or warnings when it is created, whoever catches it."""
        try:
            mark = (type(error), args)
            if mark in self.made:
                return
            self.made.add(mark)
        except TypeError:
            # An unhashable argument: then it is looked at each time.
            pass
        self.note(f"the arguments of {type(error).__name__}", repr(args))

    def sample(self, thing: Any) -> None:
        """Note the repr of an object, of the first few of its class."""
        kind = type(thing)
        seen = self.samples.get(kind, 0)
        if seen < SAMPLES:
            self.samples[kind] = seen + 1
            self.note(f"the repr of {kind.__module__}.{kind.__qualname__}", repr(thing))


Scan.current = Scan()


class Plugin:
    """The scan as a pytest plugin; tests/conftest.py registers it."""

    def __init__(self) -> None:
        from tests import leak_watch

        self.reprs = leak_watch.install()
        self.tests = self.found = 0
        self.workers: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        self.reprs.update()
        try:
            return (yield)
        finally:
            # A fixture may serve other tests too.
            scan = Scan.current
            scan.pending |= scan.fresh

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        scan = Scan.current
        if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
            scan.exception(f"an exception of {call.when}", call.excinfo.value)
        if call.when == "teardown":
            for title, content in report.sections:
                scan.note(title.lower(), content)
            self.tests += 1
            hits = scan.hits()
            self.found += len(hits)
            if hits and report.outcome == "passed":
                report.outcome = "failed"
                report.longrepr = "secrets were shown: " + "; ".join(hits)
        return report

    @pytest.hookimpl
    def pytest_warning_recorded(self, warning_message: Any, nodeid: str) -> None:
        Scan.current.note("a warning", str(warning_message.message))

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A worker of pytest-xdist hands its counts to the process that prints the summary."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["leaks"] = self.counts()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for name, count in getattr(node, "workeroutput", {}).get("leaks", {}).items():
            self.workers[name] += count

    def counts(self) -> dict[str, int]:
        scan = Scan.current
        return {"texts": scan.texts, "tests": self.tests, "secrets": scan.secrets, "found": self.found}

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        total = self.workers + Counter(self.counts())
        terminalreporter.write_line(
            f"leak scan: {total['texts']} texts of {total['tests']} tests looked through for {total['secrets']} "
            f"secrets: {total['found']} found"
        )
