"""The choice of what stands behind a terminal: rich, or plain text."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

from beaker.operations.plain_terminal import PlainTerminal
from beaker.operations.terminal import Terminal

__all__ = ["columns_of", "is_rich", "terminal_of"]

_COLUMNS = 80
_NARROWEST = 40


def terminal_of(out: TextIO, environ: Mapping[str, str]) -> Terminal:
    """What ``out`` can show: tables, colours and bars by rich where :func:`is_rich`, else plain text."""
    if is_rich(out, environ):
        try:
            # Not before it is wanted: it takes its time.
            from beaker.operations.rich_terminal import RichTerminal
        except ImportError:
            # The extra is not installed.
            pass
        else:
            return RichTerminal(out, columns_of(out, environ), colours=not environ.get("NO_COLOR"))
    return PlainTerminal(out, columns_of(out, environ), draws=environ.get("TERM") != "dumb")


def is_rich(out: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether ``out`` is a terminal that can do more than show one line after the other."""
    return out.isatty() and environ.get("TERM") != "dumb"


def columns_of(out: TextIO, environ: Mapping[str, str]) -> int:
    """Columns of a terminal, or what ``COLUMNS`` says, 40 at least."""
    said = environ.get("COLUMNS", "")
    try:
        columns = int(said) if said.isdecimal() and int(said) else os.get_terminal_size(out.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return max(_NARROWEST, columns or _COLUMNS)
