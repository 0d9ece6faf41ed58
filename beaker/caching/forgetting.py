"""What forgets results of a cached function, named as the manual does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from beaker.caching.async_cache import off
from beaker.caching.cache import Cache
from beaker.caching.decorated import CachedFunction, CachedMethod
from beaker.caching.identity import namespace_of
from beaker.exceptions import ConfigError

__all__ = ["Forgetting", "forget_in_loop", "forgetting"]

Forgetting = tuple[Cache, Callable[[], None]]


def forgetting(target: Any, cache: Callable[[str], Cache] | None, args: tuple[Any, ...]) -> Forgetting:
    """What forgets, and in which cache. ``target``: a cached function, a function, or a namespace. ``cache`` opens the
    one to look in."""
    if isinstance(target, (CachedFunction, CachedMethod)):
        return target.forgetting(args, None if cache is None else cache(target.namespace))
    if cache is None:
        raise ConfigError("a namespace alone does not say which region", option="region", expected="a region's name")
    opened = cache(target if isinstance(target, str) else namespace_of(target))
    if args:
        return opened, partial(opened.namespace.discard, opened.call_key(args))
    return opened, opened.clear


async def forget_in_loop(cache: Cache, work: Callable[[], None]) -> None:
    """Do what :func:`forgetting` returned, in an event loop."""
    await off(cache.namespace, work)
