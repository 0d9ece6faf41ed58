"""What commands show things on: the interface that they know, and what every kind of it does to text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

__all__ = ["Progress", "Rows", "Severity", "Silence", "Terminal", "is_sentence", "printable", "whole", "wrapped"]

Severity = Literal["error", "warning", "note"]
Rows = Sequence[Sequence[str]]


class Progress(Protocol):
    """How far something is, on one line that is drawn over and removed at the end."""

    def __call__(self, text: str, *, done: int = 0, total: int | None = None) -> None:
        """Show ``text`` and, of a known ``total``, the part that is ``done``."""


class Silence:
    """Progress that is not seen."""

    def __call__(self, text: str, *, done: int = 0, total: int | None = None) -> None:
        pass


class Terminal(Protocol):
    """Where a command shows what it found: to a person, or through a pipe to a program.

    Nothing that is shown steers the terminal or is read as markup: see :func:`printable`.
    """

    columns: int
    """Width of what is wrapped."""
    is_seen: bool
    """Whether a person looks at it: it is a terminal and not a pipe or a file."""

    def title(self, text: str) -> None:
        """The heading of a part."""

    def table(self, rows: Rows, *, heads: Sequence[str] = (), right: frozenset[int] = frozenset()) -> None:
        """``rows`` of equally many cells; ``right``: the columns that hold numbers. Without rows it says so."""

    def say(self, text: str, severity: Severity | None = None) -> None:
        """A sentence; what is before its first colon is marked as of ``severity``."""

    def line(self, text: str) -> None:
        """Something to copy or to parse, of one or several lines: it is never wrapped."""

    def finding(self, severity: Severity, code: str, message: str, fix: str) -> None:
        """Something to see to, and what to do about it: a command in ``fix``, on a line of its own, stays whole."""

    def progress(self, *, wanted: bool = True) -> AbstractContextManager[Progress]:
        """The progress of what happens inside; shows nothing where it is not ``wanted``, or no person looks."""


def is_sentence(line: str) -> bool:
    """Whether a line of a fix is prose, by its punctuation, and not a command to copy."""
    return any(mark in line for mark in (", ", "; ", ": "))


def wrapped(text: str, columns: int, first: str, rest: str) -> list[str]:
    """``text`` as lines of at most ``columns`` where words allow it, indented by ``first`` and, further ones, ``rest``.

    A word is whole, however long: a path, an address.
    """
    return textwrap.wrap(
        text, columns, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def whole(text: str) -> str:
    """:func:`printable`, line by line."""
    return "\n".join(map(printable, text.split("\n")))


def printable(text: str) -> str:
    """``text`` with what cannot be printed or would steer a terminal (controls, directions of writing) escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
