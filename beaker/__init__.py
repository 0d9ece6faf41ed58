"""Beaker: WSGI sessions and caching for Google App Engine, serverless and laptops."""

from importlib import import_module
from typing import Any

__version__ = "2.0.0.dev0"

_MODULES = [
    "cache",
    "container",
    "converters",
    "crypto",
    "exceptions",
    "ext",
    "middleware",
    "session",
    "synchronization",
    "util",
]


def __getattr__(name: str) -> Any:
    # Programs say ``import beaker`` and then ``beaker.cache.CacheManager``; nothing is loaded before.
    if name in _MODULES:
        return import_module(f"beaker.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
