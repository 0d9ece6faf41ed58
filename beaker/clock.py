"""The one clock everything reads unless it was given another.

``beaker.container`` binds the source to its own ``time`` attribute, which test suites of client
frameworks replace to move the time.
"""

from __future__ import annotations

import time as _time
from collections.abc import Callable

_source: Callable[[], float] = _time.time


def now() -> float:
    """Seconds since the epoch as a float, from the bound source."""
    return _source()


def sleep(seconds: float) -> None:
    """``time.sleep`` as it is when called: gevent's, put there after Beaker was imported, lets other greenlets run."""
    _time.sleep(seconds)


def bind(source: Callable[[], float]) -> None:
    """Make ``source`` (seconds since the epoch) what :func:`now` returns, for the whole process."""
    global _source
    _source = source
