"""The decorator: what may be cached, and what it becomes."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar, overload

from beaker.caching.decorated import CachedClassMethod, CachedFunction, CachedMethod, CachedStaticMethod
from beaker.caching.decorated_async import AsyncCachedClassMethod, AsyncCachedFunction, AsyncCachedStaticMethod
from beaker.caching.identity import shares_with
from beaker.caching.settings import Settings
from beaker.caching.tags import Tags
from beaker.exceptions import ConfigError, ConfigWarning, warn

__all__ = ["Decorator", "Key", "not_bare"]

Key = Callable[..., Any] | str | None
"""What the option ``key`` may be."""

_ASYNC: dict[Any, Any] = {
    CachedFunction: AsyncCachedFunction,
    CachedClassMethod: AsyncCachedClassMethod,
    CachedStaticMethod: AsyncCachedStaticMethod,
}

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Decorator:
    """What ``@cache_region(...)`` and its like were given, to be applied to a function.

    Functions, methods, ``classmethod`` and ``staticmethod`` objects, bound methods and objects with a
    ``__call__`` written in Python become cached ones, and those that are ``async`` become ones to be awaited.
    ConfigError for what cannot be cached: what returns something that can be used once only, and what has no name.
    """

    def __init__(
        self,
        settings: Settings,
        deco_args: tuple[Any, ...],
        ignore: Iterable[str],
        key: Key,
        version: object,
        tags: Tags = (),
    ) -> None:
        self._settings = settings
        self._deco_args = deco_args
        self._named = {"ignore": ignore, "key": key, "version": version, "tags": tags}

    @overload
    def __call__(self, function: classmethod[T, P, Coroutine[Any, Any, R]], /) -> AsyncCachedClassMethod[P, R]: ...
    @overload
    def __call__(self, function: classmethod[T, P, R], /) -> CachedClassMethod[P, R]: ...
    @overload
    def __call__(self, function: staticmethod[P, Coroutine[Any, Any, R]], /) -> AsyncCachedStaticMethod[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: staticmethod[P, R], /
    ) -> CachedStaticMethod[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncCachedFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> CachedFunction[P, R]: ...
    def __call__(self, function: Any, /) -> Any:
        if isinstance(function, classmethod):
            return self._cached(CachedClassMethod, function.__func__)
        if isinstance(function, staticmethod):
            return self._cached(CachedStaticMethod, function.__func__)
        bound = _as_method(function)
        if bound is None:
            return self._cached(CachedFunction, function)
        cached = self._cached(CachedFunction, bound.__func__)
        cached.calls.takes_instance()
        cached.calls.check(bound.__self__, strict=self._settings.strict())
        return cached.__get__(bound.__self__)

    def _cached(self, kind: type[CachedFunction[..., Any]], function: Any) -> CachedFunction[..., Any]:
        _check(function)
        if _is_async(function):
            kind = _ASYNC[kind]
        cached = kind(function, self._settings, self._deco_args, **self._named)  # type: ignore[arg-type]
        if kind in (CachedClassMethod, AsyncCachedClassMethod):
            cached.calls.takes_instance()
        why = shares_with(cached, self._deco_args)
        if why:
            message = f"two functions called {cached.namespace} share their cached results, and {why}"
            hint = "give each decorator an argument of its own, such as @cache_region('short', 'prices')"
            if self._settings.strict():
                raise ConfigError(message, option="deco_args", hint=hint, code="cache.shared-by-functions")
            warn(ConfigWarning(message, hint=hint, code="cache.shared-by-functions"))
        return cached


def _as_method(function: Any) -> types.MethodType | CachedMethod[..., Any] | None:
    # A bound method, or an object whose class can be called: its instance is part of every key.
    if isinstance(function, (types.MethodType, CachedMethod)):
        return function
    call = inspect.getattr_static(type(function), "__call__", None)
    if isinstance(call, types.FunctionType) and not hasattr(function, "__qualname__"):
        return types.MethodType(call, function)
    return None


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or isinstance(function, AsyncCachedFunction)


def _check(function: Any) -> None:
    hint = "cache a function that calls it"
    if isinstance(function, functools.partial):
        raise ConfigError(
            "a partial has no name and cannot be cached",
            option="function",
            hint=hint,
            code="cache.uncacheable-function",
        )
    if not callable(function) or not hasattr(function, "__qualname__"):
        raise ConfigError(
            "only a function can be cached",
            option="function",
            expected="a function or method",
            got=type(function).__name__,
            hint=hint,
            code="cache.uncacheable-function",
        )
    if isinstance(function, types.BuiltinMethodType) and not isinstance(function.__self__, types.ModuleType):
        raise ConfigError(
            f"{function.__qualname__} is bound to an object without a canonical form", option="function", hint=hint
        )
    for test, what, instead in (
        (inspect.isasyncgenfunction, "an asynchronous generator function", "a coroutine function that returns a list"),
        (inspect.isgeneratorfunction, "a generator function", "a function that returns the finished value"),
    ):
        if test(function):
            raise ConfigError(
                f"{function.__qualname__} is {what}: what it returns can be used once only and cannot be cached",
                option="function",
                hint=f"cache {instead}",
                code="cache.uncacheable-function",
            )


def not_bare(given: Any, right: str) -> None:
    """ConfigError where a decorator got ``given``, its function, in place of its arguments; ``right`` is how it is
    written."""
    if right != "cache()" and not isinstance(given, str):
        raise ConfigError(
            "the decorator needs a region",
            option="region",
            expected="a region's name",
            got=type(given).__name__,
            hint=f"write @{right}",
        )
    if inspect.isroutine(given):
        raise ConfigError(
            "the decorator takes its arguments before the function", option="args", hint=f"write @{right}"
        )
