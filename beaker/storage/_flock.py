"""A lock file held for a block, with a limit to the waiting."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from beaker.locking.files import lock_file, unlock_file

__all__ = ["file_lock"]


@contextlib.contextmanager
def file_lock(path: str, *, timeout: float, shared: bool = False) -> Iterator[None]:
    """Hold the lock file ``path``; ``TimeoutError`` when it was not free within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.0005
    while (descriptor := lock_file(path, exclusive=not shared, wait=False)) is None:
        if time.monotonic() >= deadline:
            raise TimeoutError("the lock file is held by another process")
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
    try:
        yield
    finally:
        unlock_file(descriptor)
