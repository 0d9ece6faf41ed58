"""Where the tests of cache options keep values: in memory, in files, and on a server that processes share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker._typing import Clock
from beaker.cache import Cache
from tests.storage.shared import session_options

__all__ = ["PLACES", "STYLES", "Style", "options_at"]

PLACES = ("memory", "file", "redis")
STYLES = ("threads", "loops")


def options_at(place: str, request: pytest.FixtureRequest, directory: Path, clock: Clock) -> dict[str, Any]:
    """Options of a cache in ``place``, where no other test has values, that reads ``clock``."""
    own = {"type": "memory", "max_entries": 500} if place == "memory" else session_options(place, request, directory)
    return {**own, "clock": clock}


class Style:
    """The operations of a cache as threads, or as event loops, do them."""

    def __init__(self, name: str, cache: Cache) -> None:
        self.loops = name == "loops"
        self.cache = cache

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The result of an operation by its plain name."""
        if not self.loops:
            return getattr(self.cache, name)(*args, **kwargs)
        return asyncio.run(getattr(self.cache, f"a{name}")(*args, **kwargs))

    def get(self, key: str, create: Callable[[], Any], **kwargs: Any) -> Any:
        """The value of ``key``, created by ``create``."""
        return self("get", key, createfunc=create, **kwargs)
