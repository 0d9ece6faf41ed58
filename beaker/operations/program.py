"""The end of a program of the command line: what a closed pipe, a full disk or Ctrl-C make of its exit status."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable

__all__ = ["status_of"]

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def status_of(main: Callable[[], int]) -> int:
    """The exit status of ``main``, once stdout has all that it printed.

    141 when the reader of stdout has gone away, as after SIGPIPE (``| head``); 3 when stdout cannot be written, which
    is reported; 130 after Ctrl-C. What stdout's encoding lacks is written as an escape.
    """
    # A closed stream is None.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            status = main()
        except SystemExit as stopped:
            # argparse's: its help is in the buffer, too.
            if not isinstance(stopped.code, int):
                raise
            status = stopped.code
        sys.stdout.flush()
    except BrokenPipeError:
        _drop()
        return 141
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        _drop()
        with contextlib.suppress(OSError):
            print(f"stopped: the output cannot be written: {os.strerror(error.errno)}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("stopped: interrupted", file=sys.stderr)
        return 130
    return status


def _drop() -> None:
    """What is still in stdout's buffer goes nowhere, or the interpreter complains about it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
