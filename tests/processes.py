"""Processes with nothing of the test's in them, started in milliseconds.

They are forked from one process that has imported the library and its clients and used neither, so each is as fresh
as one that was spawned. What they run must be importable, as with ``spawn``.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

__all__ = ["CONTEXT", "fresh"]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.preloaded"])


def fresh(target: Callable[..., object], *args: Any) -> Any:
    """A process, not yet started, that calls ``target(*args)`` in the environment of this moment."""
    return CONTEXT.Process(target=_call, args=(dict(os.environ), target, args), daemon=True)


def _call(environ: dict[str, str], target: Callable[..., object], args: tuple[Any, ...]) -> None:
    # The process that was forked has the environment of the first test that wanted one.
    os.environ.clear()
    os.environ.update(environ)
    target(*args)
