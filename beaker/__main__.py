"""``beaker``, or ``python -m beaker``: explain what is configured, purge expired records, create and check keys.

Standard library only. Exit status: 0 done, 1 there are findings, 2 a wrong call or a store that cannot be used (nothing
was changed), 3 stopped before the end.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn, TextIO

from beaker import __version__
from beaker.config.coerce import as_count, as_seconds
from beaker.crypto.form import check_key, file_lines, is_made_here
from beaker.crypto.keyring import KeyRing, new_key
from beaker.exceptions import BeakerException, ConfigError
from beaker.operations import explain, looking
from beaker.operations.purging import Outcome, estimated, purge, purgeable
from beaker.operations.selection import configured_stores, named_stores
from beaker.operations.terminal import width
from beaker.runtime import environ as process_environ

__all__ = ["main"]

_EXPLAIN = """\
Reports what an application of gae.app.compose runs with here: the platform, the options that BEAKER_SESSION_... and
BEAKER_CACHE_... variables and defaults amount to, and what is wrong with them, each with the fix. With APPLICATION,
that is imported, which runs its own code, and the options of its middlewares are reported. Nothing else is connected or
written. Exit status 1 when there is an error.
"""
_COMMANDS = "beaker.commands"
"""The entry point group by which the deployment kit brings its command: this package does not know it."""
_PURGE = """\
Removes expired records of the sessions and caches that BEAKER_SESSION_... and BEAKER_CACHE_... variables configure, or
of one store named by --type and --option. Safe beside a running application; bounded by --limit and --deadline, and
resumable: what is printed as the cursor goes into --cursor of the next run. Datastore's own TTL policies do the same
later and for a fee (docs/operations.md has the gcloud command). Exit status 3 when --limit or --deadline ended it or a
store failed before the end, 2 for a store, an option or a variable that is not there: nothing is touched then.
"""


def main(arguments: Sequence[str] | None = None, *, out: TextIO | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 findings, 2 a wrong call or an unusable store (nothing was
    changed), 3 stopped before the end."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    # The deployment kit parses the rest by itself.
    asked, rest = parser.parse_known_args(arguments[:1] if arguments[:1] == ["doctor"] else arguments)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    run: Callable[[argparse.Namespace, TextIO], int] = asked.run
    try:
        if asked.command == "doctor":
            return _doctor(arguments[1:], out or sys.stdout)
        return run(asked, out or sys.stdout)
    except BeakerException as error:
        print(f"{parser.prog} {asked.command}: {error} [{error.code}]", file=sys.stderr)
        return 2


def run() -> NoReturn:
    """The console script ``beaker``."""
    sys.exit(explain.quietly(main))


def _parser() -> argparse.ArgumentParser:
    name = "python -m beaker" if Path(sys.argv[0]).name == "__main__.py" else "beaker"
    parser = argparse.ArgumentParser(name, description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    explaining = commands.add_parser(
        "explain",
        allow_abbrev=False,
        help="what was detected, every option with its origin, what is wrong",
        description=_EXPLAIN,
    )
    explain.add_arguments(explaining)
    explaining.add_argument("application", nargs="?", metavar="APPLICATION", help="module:attribute, such as main:app")
    explaining.set_defaults(run=_explain)

    doctor = commands.add_parser("doctor", help="explain, and what only a deployment knows", add_help=False)
    doctor.set_defaults(run=None)

    purging = commands.add_parser("purge", allow_abbrev=False, help="remove expired records", description=_PURGE)
    looking.add_store(purging)
    purging.add_argument("--limit", type=int, help="records to remove at the most")
    purging.add_argument("--deadline", help="how long to work, as seconds or like 5m")
    purging.add_argument("--cursor", help="where an earlier run ended")
    purging.add_argument("--json", action="store_true", help="print a JSON object")
    purging.set_defaults(run=_purge)

    looking.add_commands(commands, process_environ)

    keys = commands.add_parser("keys", help="create and check keys").add_subparsers(dest="action", required=True)
    new = keys.add_parser("new", allow_abbrev=False, help="print a new key: 32 random bytes as text")
    new.set_defaults(run=_new_key)
    check = keys.add_parser("check", allow_abbrev=False, help="judge keys without showing them")
    check.add_argument("file", help="file with one key a line, newest first; - asks for one")
    check.set_defaults(run=_check_keys)
    return parser


def _explain(asked: argparse.Namespace, out: TextIO) -> int:
    environ = process_environ()
    if asked.application is None:
        return explain.show(asked, environ, explain.of_variables, out)
    # Before anything is printed: an application that is not there is a wrong call.
    report = explain.of_application(asked.application, environ, connect=asked.check_stores)
    return explain.show(asked, environ, lambda environ, *, connect: report, out)


def _doctor(arguments: Sequence[str], out: TextIO) -> int:
    found = list(entry_points(group=_COMMANDS, name="doctor"))
    if not found:
        raise ConfigError(
            "doctor belongs to the deployment kit, and that is not installed",
            option="doctor",
            hint="install the distribution beaker-gae; explain needs nothing",
            code="config.missing-package",
        )
    command: Callable[..., int] = found[0].load()
    return command(arguments, out=out)


def _purge(asked: argparse.Namespace, out: TextIO) -> int:
    if asked.option and not asked.type:
        raise ConfigError("--option belongs to a store", option="--option", hint="name it: --type")
    limit = None if asked.limit is None else as_count("--limit", asked.limit)
    deadline = None if asked.deadline is None else _positive("--deadline", asked.deadline)
    if asked.type:
        stores = purgeable(named_stores(asked.type, asked.option, purpose="purge"))
    else:
        stores = configured_stores(process_environ(), purgeable, purpose="purge")
    if not stores and not asked.json:
        print("no store here keeps expired records; nothing to purge", file=out)
        return 0
    begun = time.monotonic()
    estimate = estimated(stores, limit=limit)
    show = _Progress(sys.stderr, estimate, deadline) if sys.stderr.isatty() else None
    try:
        outcome = purge(stores, limit=limit, deadline=deadline, cursor=asked.cursor, progress=show)
    except ValueError as error:
        raise ConfigError(str(error), option="--cursor", code="purge.bad-cursor") from error
    if show is not None:
        show.end()
    if asked.json:
        done = outcome.as_dict() | {"estimate": estimate, "seconds": round(time.monotonic() - begun, 3)}
        print(json.dumps(done, indent=2), file=out)
    else:
        for name, count in outcome.removed.items():
            print(f"{name}: {count} expired records removed", file=out)
        if outcome.cursor is not None:
            print(f"cursor: {outcome.cursor}", file=out)
    if outcome.error is not None:
        print(f"stopped: {outcome.error}", file=sys.stderr)
    return 0 if outcome.cursor is None else 3


def _positive(option: str, text: str) -> float:
    seconds = as_seconds(option, text)
    if not seconds:
        raise ConfigError(f"{option} leaves no time", option=option, expected="more than 0 seconds")
    return seconds


class _Progress:
    """Shows how much is done, of how many where a store can count them, and how long it may still take."""

    _MARKS = "|/-\\"

    def __init__(self, stream: TextIO, estimate: int | None, deadline: float | None) -> None:
        self._stream = stream
        self._estimate = estimate
        self._deadline = deadline
        self._begun = time.monotonic()
        self._batches = 0

    def __call__(self, outcome: Outcome) -> None:
        mark = self._MARKS[self._batches % len(self._MARKS)]
        self._batches += 1
        done = ", ".join(f"{name} {count}" for name, count in outcome.removed.items())
        of = "" if self._estimate is None else f" of about {max(self._estimate, outcome.total)}"
        told = f"{mark} {outcome.total}{of} expired records removed ({done}){self._left(outcome.total)}"
        self._stream.write(f"\r{told[: width() - 1]}\x1b[K")
        self._stream.flush()

    def _left(self, total: int) -> str:
        spent = time.monotonic() - self._begun
        ends = [] if self._deadline is None else [self._deadline - spent]
        if self._estimate is not None and total:
            ends.append(spent / total * (self._estimate - total))
        return f", {max(0.0, min(ends)):.0f} s left" if ends else ""

    def end(self) -> None:
        self._stream.write("\n")


def _new_key(asked: argparse.Namespace, out: TextIO) -> int:
    print(new_key(), file=out)
    return 0


def _check_keys(asked: argparse.Namespace, out: TextIO) -> int:
    if asked.file == "-":
        data = getpass.getpass("key: ").encode() if sys.stdin.isatty() else sys.stdin.buffer.read()
    else:
        try:
            data = Path(asked.file).read_bytes()
        except (OSError, ValueError) as error:
            raise ConfigError(
                "the file cannot be read", option=asked.file, got=type(error).__name__, code="config.unreadable-file"
            ) from error
    lines = file_lines(data, asked.file)
    failed = False
    for number, line in enumerate(lines, 1):
        try:
            check_key(line, f"line {number}", line=True)
            ring = KeyRing.from_option(line, option=f"line {number}", strict=True)
        except ConfigError as error:
            failed = True
            print(f"{number}: {error}", file=out)
        else:
            made = " of keys new" if is_made_here(line) else ""
            role = "seals and opens" if number == 1 else "opens"
            print(f"{number}: good, {len(line)} bytes{made}, id {ring.current.kid.hex()}, {role}", file=out)
    return int(failed)


if __name__ == "__main__":
    run()
