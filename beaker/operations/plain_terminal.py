"""Plain text: for pipes and files, and for terminals where the extra ``cli`` is not installed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from beaker.operations.terminal import Progress, Rows, Severity, Silence, is_sentence, printable, whole, wrapped

__all__ = ["PlainTerminal"]

_WIDEST = 44
_NARROWEST = 24
"""Columns below which the last cell of a row goes to a line of its own."""
_REDRAW_SECONDS = 0.1


class PlainTerminal:
    """Wraps on a terminal; elsewhere a sentence and a row of a table are a line each, for programs that read lines.

    ``draws``: a terminal can draw over its last line, where progress is shown.
    """

    def __init__(self, out: TextIO, columns: int, *, draws: bool = True) -> None:
        self.columns = columns
        self.is_seen = out.isatty()
        self._out = out
        self._draws = draws and self.is_seen
        self._is_fresh = True

    def title(self, text: str) -> None:
        if not self._is_fresh:
            self._write("")
        self._write(printable(text))

    def table(self, rows: Rows, *, heads: Sequence[str] = (), right: frozenset[int] = frozenset()) -> None:
        if not rows:
            self._write("  none")
            return
        rows = [[printable(cell) for cell in row] for row in ([heads, *rows] if heads else rows)]
        widest = min(_WIDEST, self.columns // 3) if self.is_seen else _WIDEST
        widths = [min(max(len(row[column]) for row in rows), widest) for column in range(len(rows[0]))]
        for row in rows:
            cells = [
                cell.rjust(size) if index in right else cell.ljust(size)
                for index, (cell, size) in enumerate(zip(row, widths, strict=True))
            ]
            self._row("  " + "".join(cell + "  " for cell in cells[:-1]), cells[-1].rstrip())

    def _row(self, start: str, last: str) -> None:
        room = self.columns - len(start)
        if len(last) <= room or not self.is_seen:
            self._write((start + last).rstrip())
            return
        if room < _NARROWEST:
            self._write(start.rstrip())
            start = " " * 6
        self._wrapped(last, start, " " * len(start))

    def say(self, text: str, severity: Severity | None = None) -> None:
        self._wrapped(printable(text), "", "   ")

    def line(self, text: str) -> None:
        self._write(whole(text))

    def finding(self, severity: Severity, code: str, message: str, fix: str) -> None:
        self._wrapped(printable(f"{severity.upper()} {code}: {message}"), "  ", "    ")
        for line in fix.splitlines():
            if is_sentence(line):
                self._wrapped(printable(line), "    ", "    ")
            else:
                self._write(f"    {printable(line)}")

    @contextmanager
    def progress(self, *, wanted: bool = True) -> Iterator[Progress]:
        if not (wanted and self._draws):
            yield Silence()
            return
        drawn = _Drawn(self._out, self.columns)
        try:
            yield drawn
        finally:
            drawn.end()

    def _wrapped(self, text: str, first: str, rest: str) -> None:
        self._write("\n".join(wrapped(text, self.columns, first, rest)) if self.is_seen else first + text)

    def _write(self, text: str) -> None:
        self._is_fresh = False
        print(text, file=self._out)


class _Drawn:
    def __init__(self, out: TextIO, columns: int) -> None:
        self._out = out
        self._room = columns - 1
        self._next = 0.0

    def __call__(self, text: str, *, done: int = 0, total: int | None = None) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _REDRAW_SECONDS
        self._draw(printable(text)[: self._room])

    def end(self) -> None:
        if self._next:
            self._draw("")

    def _draw(self, text: str) -> None:
        self._out.write(f"\r{text}\x1b[K")
        self._out.flush()
