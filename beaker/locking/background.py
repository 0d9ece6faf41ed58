"""Work that goes on in a thread of its own, where the interpreter can have another one."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable

__all__ = ["begin", "is_refusal"]

log = logging.getLogger("beaker")


def begin(name: str, work: Callable[[], object]) -> bool:
    """Begin ``work`` in a daemon thread of that name. ``False``, with a warning in the log: no thread can be had.

    That is so at the system's limit, and while the interpreter ends: a thread started then never runs, and up to
    Python 3.11 ``start()`` waits for it for ever.
    """
    before = sys.exc_info()[1]
    try:
        if sys.is_finalizing():
            raise RuntimeError("the interpreter is ending")
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError as err:
        if not is_refusal(err, before):
            raise
        log.warning("there is no thread for %s: %s", name, err)
        return False
    return True


def is_refusal(error: BaseException, before: BaseException | None) -> bool:
    """Whether ``error``, raised where ``before`` was being handled, says that a thread cannot be started.

    An exception from outside, as of a signal's handler, may leave the threading module as a RuntimeError, too.
    """
    return isinstance(error, RuntimeError) and error.__context__ is before
