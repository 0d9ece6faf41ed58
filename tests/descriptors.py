"""Which files this process has open."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["open_under"]


def open_under(directory: str | Path) -> list[str]:
    """The files under ``directory`` that are open, those that are deleted included, once for each descriptor.

    Of the whole process a test can count nothing: what other tests have left behind opens and closes files meanwhile.
    """
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    root = os.path.realpath(directory)
    return [link for link in links if f"{link}/".startswith(f"{root}/")]
