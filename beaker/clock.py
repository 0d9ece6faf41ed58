"""The one clock everything reads unless it was given another.

``beaker.container`` binds the source to its own ``time`` attribute, which test suites of client
frameworks replace to move the time.
"""

from __future__ import annotations

import sys
import time
from types import ModuleType

_holder: ModuleType


def now() -> float:
    """Seconds since the epoch as a float, from ``time.time`` of the bound module."""
    seconds: float = _holder.time.time()
    return seconds


def sleep(seconds: float) -> None:
    """``time.sleep`` as it is when called: gevent's, put there after Beaker was imported, lets other greenlets run."""
    time.sleep(seconds)


def bind(module: ModuleType) -> None:
    """Make ``time`` as that ``module`` has it what :func:`now` asks, for the whole process."""
    global _holder
    _holder = module


bind(sys.modules[__name__])
