"""The command that removes: ``purge``. Bounded, resumable, and Ctrl-C loses no count."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beaker.config.coerce import as_count, as_seconds
from beaker.exceptions import ConfigError
from beaker.operations.choice import terminal_of
from beaker.operations.looking import add_store
from beaker.operations.purging import Outcome, estimated, purge, purgeable
from beaker.operations.selection import configured_stores, named_stores
from beaker.operations.terminal import Progress, Terminal

__all__ = ["add_command"]

_PURGE = """\
Removes expired records of the sessions and caches that BEAKER_SESSION_... and BEAKER_CACHE_... variables configure, or
of one store named by --type and --option. Safe beside a running application; bounded by --limit and --deadline, and
resumable: what is printed as the cursor goes into --cursor of the next run. Datastore's own TTL policies do the same
later and for a fee (docs/operations.md has the gcloud command). Exit status 3 when --limit, --deadline or Ctrl-C ended
it or a store failed before the end, 2 for a store, an option or a variable that is not there: nothing is touched then.
"""
_BEGIN = "0:"
"""The cursor of a run that has removed nothing yet."""


def add_command(commands: Any, environ: Callable[[], Mapping[str, str]]) -> None:
    """Add ``purge``; ``environ()`` is asked when it runs."""
    purging = commands.add_parser("purge", help="remove expired records", description=_PURGE)
    add_store(purging)
    purging.add_argument("--limit", type=int, help="records to remove at the most")
    purging.add_argument("--deadline", help="how long to work, as seconds or like 5m")
    purging.add_argument("--cursor", help="where an earlier run ended")
    purging.add_argument("--json", action="store_true", help="print a JSON object")
    purging.set_defaults(run=lambda asked, out: _purge(asked, out, environ()))


def _purge(asked: argparse.Namespace, out: Terminal, environ: Mapping[str, str]) -> int:
    if asked.option and not asked.type:
        raise ConfigError("--option belongs to a store", option="--option", hint="name it: --type")
    limit = None if asked.limit is None else as_count("--limit", asked.limit)
    deadline = None if asked.deadline is None else _positive("--deadline", asked.deadline)
    if asked.type:
        stores = purgeable(named_stores(asked.type, asked.option, purpose="purge"))
    else:
        stores = configured_stores(environ, purgeable, purpose="purge")
    if not stores and not asked.json:
        out.say("no store here keeps expired records; nothing to purge")
        return 0
    errors, run = terminal_of(sys.stderr, environ), _Run(asked.cursor, deadline)
    with errors.progress(wanted=not asked.json) as progress:
        run.go(stores, limit, progress)
    if asked.json:
        out.line(json.dumps(run.as_dict(), indent=2))
    else:
        for name, count in run.done.removed.items():
            out.say(f"{name}: {count} expired records removed")
        if run.done.cursor is not None:
            out.line(f"cursor: {run.done.cursor}")
    if run.why:
        errors.say(f"stopped: {run.why}", "error")
    return 0 if run.done.cursor is None else 3


def _positive(option: str, text: str) -> float:
    seconds = as_seconds(option, text)
    if not seconds:
        raise ConfigError(f"{option} leaves no time", option=option, expected="more than 0 seconds")
    return seconds


class _Run:
    """One run from ``cursor`` on: what it has ``done`` so far, also when it is stopped, and ``why`` it was."""

    def __init__(self, cursor: str | None, deadline: float | None) -> None:
        self.done = Outcome(cursor=cursor or _BEGIN)
        self.why = ""
        self._cursor = cursor
        self._deadline = deadline
        self._estimate: int | None = None
        self._begun = time.monotonic()

    def go(self, stores: Sequence[Any], limit: int | None, progress: Progress) -> None:
        """Purge ``stores``. Raises StoreError where one cannot count, ConfigError for a cursor of another run."""

        def removed(outcome: Outcome) -> None:
            self.done = outcome
            self._show(progress)

        try:
            self._estimate = estimated(stores, limit=limit)
            self.done = purge(stores, limit=limit, deadline=self._deadline, cursor=self._cursor, progress=removed)
            self.why = "" if self.done.error is None else str(self.done.error)
        except ValueError as error:
            raise ConfigError(str(error), option="--cursor", code="purge.bad-cursor") from error
        except KeyboardInterrupt:
            # Unless it came when all was done.
            if self.done.cursor is not None:
                self.why = "interrupted; the records of the last batch may be gone and are not counted"

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        seconds = round(time.monotonic() - self._begun, 3)
        return {**self.done.as_dict(), "error": self.why or None, "estimate": self._estimate, "seconds": seconds}

    def _show(self, progress: Progress) -> None:
        """How much is done, of how many where a store can count them, and how long it may still take."""
        total, estimate, spent = self.done.total, self._estimate, time.monotonic() - self._begun
        ends = [] if self._deadline is None else [self._deadline - spent]
        if estimate is not None and total:
            ends.append(spent / total * (estimate - total))
        left = f", {max(0.0, min(ends)):.0f} s left" if ends else ""
        expected = None if estimate is None else max(estimate, total)
        of = "" if expected is None else f" of about {expected:,}"
        progress(f"{total:,}{of} expired records removed{left}", done=total, total=expected)
