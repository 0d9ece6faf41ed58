"""``beaker``, or ``python -m beaker``: explain what is configured, look into stores, purge expired records, create and
check keys.

Exit status: 0 done, 1 there are findings, 2 a wrong call or a store that cannot be used (nothing was changed),
3 stopped before the end (or the output cannot be written); 130 after Ctrl-C, 141 when the reader of a pipe went away.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn, TextIO

from beaker import __version__
from beaker.crypto.form import check_key, file_lines, is_made_here
from beaker.crypto.keyring import KeyRing, new_key
from beaker.exceptions import BeakerException, ConfigError
from beaker.operations import explain, looking, removing
from beaker.operations.arguments import Parser
from beaker.operations.choice import terminal_of
from beaker.operations.program import status_of
from beaker.operations.terminal import Terminal
from beaker.runtime import environ as process_environ

__all__ = ["main"]

_ABOUT = """\
Explains what is configured and what is wrong with it, looks into stores and statistics, removes expired records,
creates and checks keys.
"""
_STATUSES = """\
Exit status: 0 done, 1 there are findings, 2 a wrong call or a store that cannot be used (nothing was changed),
3 stopped before the end.
"""
_EXPLAIN = """\
Reports what an application of gae.app.compose runs with here: the platform, the options that BEAKER_SESSION_... and
BEAKER_CACHE_... variables and defaults amount to, and what is wrong with them, each with the fix. With APPLICATION,
that is imported, which runs its own code, and the options of its middlewares are reported. Nothing else is connected or
written. Exit status 1 when there is an error.
"""
_COMMANDS = "beaker.commands"
"""The entry point group by which the deployment kit brings its command: this package does not know it."""


def main(arguments: Sequence[str] | None = None, *, out: TextIO | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 findings, 2 a wrong call or an unusable store (nothing was
    changed), 3 stopped before the end."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        parser.exit(2)
    if arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    # The deployment kit parses the rest by itself.
    asked = parser.parse_args(arguments[:1] if arguments[0] == "doctor" else arguments)
    out = out or sys.stdout
    run: Callable[[argparse.Namespace, Terminal], int] = asked.run
    try:
        if asked.command == "doctor":
            return _doctor(arguments[1:], out)
        return run(asked, terminal_of(out, process_environ()))
    except BeakerException as error:
        errors = terminal_of(sys.stderr, process_environ())
        with contextlib.suppress(OSError):
            # The status says it, too.
            errors.say(f"{parser.prog} {asked.command}: {error} [{error.code}]", "error")
        return 2


def run() -> NoReturn:
    """The console script ``beaker``."""
    sys.exit(status_of(main))


def _parser() -> Parser:
    name = "python -m beaker" if Path(sys.argv[0]).name == "__main__.py" else "beaker"
    parser = Parser(name, description=_ABOUT, epilog=_STATUSES)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_commands("command")

    explaining = commands.add_parser(
        "explain", help="what was detected, every option with its origin, what is wrong", description=_EXPLAIN
    )
    explain.add_arguments(explaining)
    explaining.add_argument("application", nargs="?", metavar="APPLICATION", help="module:attribute, such as main:app")
    explaining.set_defaults(run=_explain)

    doctor = commands.add_parser("doctor", help="explain, and what only a deployment knows", add_help=False)
    doctor.set_defaults(run=None)

    looking.add_commands(commands, process_environ)

    removing.add_command(commands, process_environ)

    keys = commands.add_parser("keys", help="create and check keys").add_commands("action")
    new = keys.add_parser("new", help="print a new key: 32 random bytes as text")
    new.set_defaults(run=_new_key)
    check = keys.add_parser("check", help="judge keys without showing them")
    check.add_argument("file", help="file with one key a line, newest first; - asks for one")
    check.set_defaults(run=_check_keys)

    commands.add_parser("help", help="how a command is called, such as: help purge")
    return parser


def _explain(asked: argparse.Namespace, out: Terminal) -> int:
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


def _new_key(asked: argparse.Namespace, out: Terminal) -> int:
    out.line(new_key())
    return 0


def _check_keys(asked: argparse.Namespace, out: Terminal) -> int:
    if asked.file == "-":
        data = getpass.getpass("key: ").encode() if sys.stdin.isatty() else sys.stdin.buffer.read()
    else:
        try:
            data = Path(asked.file).read_bytes()
        except (OSError, ValueError) as error:
            # Not repeated: it may be the key itself that was typed.
            raise ConfigError(
                f"the file cannot be read ({type(error).__name__})",
                option="FILE",
                expected="the path of a file with one key a line, or - to type one",
                code="config.unreadable-file",
            ) from error
    lines = file_lines(data, asked.file)
    failed = False
    for number, line in enumerate(lines, 1):
        try:
            check_key(line, f"line {number}", line=True)
            ring = KeyRing.from_option(line, option=f"line {number}", strict=True)
        except ConfigError as error:
            failed = True
            out.say(f"{number}: {error}", "error")
        else:
            made = " of keys new" if is_made_here(line) else ""
            role = "seals and opens" if number == 1 else "opens"
            out.say(f"{number}: good, {len(line)} bytes{made}, id {ring.current.kid.hex()}, {role}")
    return int(failed)


if __name__ == "__main__":
    run()
