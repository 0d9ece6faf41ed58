"""Tables, colours and bars on a terminal, by the extra ``cli``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal, TextIO

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.style import StyleType
from rich.table import Column, Table
from rich.text import Text
from rich_argparse import RichHelpFormatter

from beaker.operations.terminal import Progress, Rows, Severity, Silence, is_sentence, printable, whole, wrapped

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["RichTerminal", "help_formatter"]

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_CELLS = ("cyan", "", "dim")
"""Of a table without heads: what something is called, what it is, what is said about it."""
_INDENT = 2
_GAP = 2
_BAR = 20
_UNBROKEN = "\N{NO-BREAK SPACE}"


def console_on(out: TextIO, columns: int, *, colours: bool) -> Console:
    """A console of ``columns``, with the sixteen colours that a person has chosen for the terminal, or none at all.

    Nothing is guessed: not from variables, and not from what a text looks like.
    """
    return Console(
        file=out,
        width=columns,
        color_system="standard" if colours else None,
        no_color=not colours,
        force_terminal=True,
        force_interactive=True,
        force_jupyter=False,
        markup=False,
        emoji=False,
        highlight=False,
    )


class RichTerminal:
    """A terminal of ``columns``; without ``colours`` it has the same words in the same places."""

    is_seen = True

    def __init__(self, out: TextIO, columns: int, *, colours: bool) -> None:
        self.columns = columns
        self._out = out
        self._console = console_on(out, columns, colours=colours)
        self._is_fresh = True

    def title(self, text: str) -> None:
        if not self._is_fresh:
            self._print(Text(""))
        self._print(Text(printable(text), "bold"))

    def table(self, rows: Rows, *, heads: Sequence[str] = (), right: frozenset[int] = frozenset()) -> None:
        if not rows:
            self._print(Text("  none", "dim"))
            return
        cells = [[printable(cell) for cell in row] for row in rows]
        every = [heads, *cells] if heads else cells
        if _room(self.columns, every) >= _needed(every, 20 if heads else 40):
            ascii_only = self._console.options.ascii_only
            self._indented(_headed(cells, heads, right, ascii_only) if heads else _grid(map(_dim_reasons, cells)))
        elif heads:
            name = max(index for index in range(len(heads)) if index not in right)
            for row in cells:
                self._print(Text("  " + row[name], "bold"), soft_wrap=True)
                self._pairs(pair for index, pair in enumerate(zip(heads, row, strict=True)) if index != name)
        else:
            self._indented(_grid(map(_stacked, cells), widest=self.columns // 2))

    def _indented(self, table: Table) -> None:
        self._print(Padding(table, (0, 0, 0, _INDENT), expand=False))

    def _pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        # A head and its cell stay on one line.
        text = ", ".join(f"{head} {cell}".replace(" ", _UNBROKEN) for head, cell in pairs)
        for line in wrapped(text, self.columns, "    ", "    "):
            self._print(Text(line.replace(_UNBROKEN, " ")), soft_wrap=True)

    def say(self, text: str, severity: Severity | None = None) -> None:
        self._hanging(_marked(printable(text), severity), "", "   ")

    def line(self, text: str) -> None:
        # Without a look at words and widths: it may be long.
        self._is_fresh = False
        print(whole(text), file=self._out)

    def finding(self, severity: Severity, code: str, message: str, fix: str) -> None:
        text = Text(printable(f"{severity.upper()} {code}: {message}"))
        text.stylize(_STYLES[severity], 0, len(severity))
        text.stylize("bold", len(severity) + 1, len(severity) + 1 + len(code))
        self._hanging(text, "  ", "    ")
        for line in fix.splitlines():
            text = Text(printable(line), "green")
            if is_sentence(line):
                self._hanging(text, "    ", "    ")
            else:
                self._print(Text("    ") + text, soft_wrap=True)

    @contextmanager
    def progress(self, *, wanted: bool = True) -> Iterator[Progress]:
        if not wanted:
            yield Silence()
            return
        # Half of what rich takes to load.
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        bar = Bar(
            BarColumn(_BAR, complete_style="cyan", finished_style="green", pulse_style="cyan"),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="crop")),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with bar:
            yield _Barred(bar)

    def _hanging(self, text: Text, first: str, rest: str) -> None:
        # rich would divide or cut a word that is too long, such as a path: a terminal goes on with it, and copies it.
        lines = wrapped(text.plain, self.columns, first, rest)
        shown = Text("\n".join(lines), text.style)
        for span in text.spans:
            shown.stylize(span.style, len(first) + span.start, len(first) + span.end)
        self._print(shown, soft_wrap=True)

    def _print(self, shown: Text | Padding, *, soft_wrap: bool = False) -> None:
        self._is_fresh = False
        self._console.print(shown, soft_wrap=soft_wrap)


def _room(columns: int, cells: Rows) -> int:
    """What is left for the last column beside the others, which are never divided."""
    taken = [max(cell_len(row[index]) + _GAP for row in cells) for index in range(len(cells[0]) - 1)]
    return columns - _INDENT - sum(taken)


def _needed(cells: Rows, enough: int) -> int:
    """Columns for the last column: for its longest word, and for a cell in two lines; but ``enough`` will do."""
    words = max((cell_len(word) for row in cells for word in row[-1].split()), default=0)
    return min(enough, max(words, *(cell_len(row[-1]) // 2 for row in cells)))


def _headed(cells: Rows, heads: Sequence[str], right: frozenset[int], ascii_only: bool) -> Table:
    # Of its characters rich would draw lines between columns, too.
    box, gap = (None, _GAP) if ascii_only else (SIMPLE_HEAD, _GAP - 1)
    table = Table(box=box, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for index, head in enumerate(heads):
        justify: Literal["left", "right"] = "right" if index in right else "left"
        table.add_column(head, justify=justify, no_wrap=index < len(heads) - 1, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def _grid(rows: Iterable[Sequence[Text]], widest: int | None = None) -> Table:
    """``widest``: what all columns but the last take at most; without it they are never divided."""
    table = Table.grid(padding=(0, _GAP, 0, 0))
    for row in rows:
        while len(table.columns) < len(row):
            last = len(table.columns) == len(row) - 1
            table.add_column(no_wrap=not last and widest is None, max_width=None if last else widest, overflow="fold")
        table.add_row(*row)
    return table


def _dim_reasons(row: Sequence[str]) -> list[Text]:
    return [Text(cell, _CELLS[min(index, 2)]) for index, cell in enumerate(row)]


def _stacked(row: Sequence[str]) -> list[Text]:
    """A name and, one below the other, its value and what is said about it."""
    value, about = Text(row[1]), ", ".join(filter(None, row[2:]))
    return [Text(row[0], _CELLS[0]), value.append(f"\n{about}", _CELLS[2]) if about else value]


def _marked(text: str, severity: Severity | None) -> Text:
    marked = Text(text)
    if severity is not None:
        marked.stylize(_STYLES[severity], 0, text.find(": ") + 1)
    return marked


class _Barred:
    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def __call__(self, text: str, *, done: int = 0, total: int | None = None) -> None:
        if self._task is None:
            self._task = self._bar.add_task("", total=None)
        self._bar.update(self._task, description=printable(text), completed=done, total=total)


def help_formatter(out: TextIO, columns: int, *, colours: bool) -> type[RichHelpFormatter]:
    """The formatter of an ArgumentParser's help for ``out``; what it says is argparse's, word for word."""

    class Formatter(RichHelpFormatter):
        group_name_formatter = staticmethod(str)
        help_markup = False
        text_markup = False
        styles: ClassVar[dict[str, StyleType]] = {
            **RichHelpFormatter.styles,
            "argparse.args": "cyan",
            "argparse.groups": "bold",
            "argparse.metavar": "green",
            "argparse.prog": "bold",
            "argparse.syntax": "bold",
        }

        def __init__(self, prog: str) -> None:
            super().__init__(prog, width=columns - 2, console=console_on(out, columns, colours=colours))

    return Formatter
