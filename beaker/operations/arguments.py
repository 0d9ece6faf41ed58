"""A command line's parser: argparse's, with suggestions for what is misspelt and a help that suits the terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import IO, Any, NoReturn, TextIO, cast

from beaker.operations.choice import columns_of, is_rich
from beaker.operations.terminal import printable
from beaker.runtime import environ as process_environ

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """Takes no abbreviation; a wrong call ends with status 2 and the nearest word there is.

    What a person typed is repeated for options and commands only: other words can be keys.
    """

    def __init__(self, prog: str | None = None, **options: Any) -> None:
        self._names: list[str] = []
        self._commands: Mapping[str, Any] = {}
        super().__init__(prog, allow_abbrev=False, **options)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        self._names += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **options)

    def add_commands(self, dest: str) -> Any:
        """Where the commands are added, ``dest`` the attribute that holds the name of the one that was called."""
        # With a prog of its own nothing is formatted before it is asked for.
        commands = self.add_subparsers(dest=dest, required=True, metavar="COMMAND", prog=self.prog)
        self._commands = commands.choices
        return commands

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words: list[str] = list(sys.argv[1:] if args is None else args)
        # Before argparse complains about something that is missing only because of these.
        self._check_words(words)
        found, rest = super().parse_known_args(words, namespace)
        if rest:
            wrong = (
                f"there is no option {rest[0][:2]}" if rest[0].startswith("-") else f"too many words, by {len(rest)}"
            )
            self.error(f"{wrong}; see {self.prog} --help")
        return found, rest

    def _check_words(self, words: Sequence[str]) -> None:
        for word in words:
            if word == "--":
                return
            if word.startswith("--"):
                name = word.partition("=")[0]
                if name not in self._names:
                    self.error(f"there is no option {name}; {self._nearest(name, self._names)}")
            elif self._commands and not word.startswith("-"):
                if word not in self._commands:
                    self.error(f"there is no command {word!r}; {self._nearest(word, self._commands)}")
                # What follows is for that command's own parser.
                return

    def _nearest(self, word: str, known: Iterable[str]) -> str:
        near = get_close_matches(word, known, n=1)
        return f"did you mean {near[0]}?" if near else f"see {self.prog} --help"

    def print_usage(self, file: Any = None) -> None:
        self._suit(file)
        super().print_usage(file)

    def print_help(self, file: Any = None) -> None:
        self._suit(file)
        # argparse's own is silent when it cannot write.
        (file or sys.stdout).write(self.format_help())

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))

    def _suit(self, file: IO[str] | None) -> None:
        out, environ = cast(TextIO, file or sys.stdout), process_environ()
        self.formatter_class = argparse.HelpFormatter
        if is_rich(out, environ):
            try:
                from beaker.operations.rich_terminal import help_formatter
            except ImportError:
                # The extra is not installed.
                return
            self.formatter_class = help_formatter(out, columns_of(out, environ), colours=not environ.get("NO_COLOR"))
