"""What a terminal can show: colours, and so many columns. The standard library alone."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import TextIO

__all__ = ["Painter", "table", "width"]

_CODES = {"error": "1;31", "warning": "33", "note": "36", "title": "1", "faint": "2"}
_WIDEST = 44
_NARROWEST = 24
"""Columns below which the last cell of a row goes to a line of its own."""


class Painter:
    """Colours words, or leaves them as they are."""

    def __init__(self, colours: bool = False) -> None:
        self.colours = colours

    @classmethod
    def of(cls, out: TextIO, environ: Mapping[str, str]) -> Painter:
        """Colours on a terminal, unless ``NO_COLOR`` (https://no-color.org) is set or the terminal is ``dumb``."""
        plain = bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
        return cls(not plain and out.isatty())

    def __call__(self, kind: str, text: str) -> str:
        """``text`` in the colour of ``kind``: ``error``, ``warning``, ``note``, ``title``, ``faint``."""
        return f"\x1b[{_CODES[kind]}m{text}\x1b[0m" if self.colours else text


def width() -> int:
    """Columns of the terminal, or what ``COLUMNS`` says; 100 in a pipe, 60 at least."""
    return max(60, shutil.get_terminal_size((100, 24)).columns)


def table(rows: Sequence[Sequence[str]], columns: int, *, right: frozenset[int] = frozenset()) -> list[str]:
    """``rows`` as lines of at most ``columns`` where words allow it: the last cell wraps below itself.

    ``right``: the columns that hold numbers.
    """
    if not rows:
        return ["  none"]
    widest = min(_WIDEST, columns // 3)
    widths = [min(max(len(row[column]) for row in rows), widest) for column in range(len(rows[0]))]
    lines: list[str] = []
    for row in rows:
        cells = [
            cell.rjust(size) if index in right else cell.ljust(size)
            for index, (cell, size) in enumerate(zip(row, widths, strict=True))
        ]
        start = "  " + "".join(cell + "  " for cell in cells[:-1])
        if len(start) + len(row[-1]) <= columns:
            lines.append((start + cells[-1]).rstrip())
            continue
        room = columns - len(start)
        if room < _NARROWEST:
            lines.append(start.rstrip())
            start, room = " " * 6, columns - 6
        pieces = textwrap.wrap(row[-1], room, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [(start + pieces[0]).rstrip(), *(" " * len(start) + piece for piece in pieces[1:])]
    return lines
