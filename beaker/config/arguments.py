"""What is no option and can be wrong all the same: the application, and what options are given in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import FunctionType
from typing import Any, cast

from beaker.config.coerce import wrong
from beaker.exceptions import ConfigError

__all__ = [
    "check_application", "check_asgi_application", "check_environ_key", "check_mapping", "is_asgi", "is_async",
]  # fmt: skip

_VARIADIC = 0x04
_ASYNC = 0x80 | 0x200
"""Flags of code: ``*args``; a coroutine, an asynchronous generator. inspect, which knows them, takes long to import."""


def check_application(app: object, where: str) -> None:
    """Raise ConfigError, naming ``where``, for what cannot be called as a WSGI application, ASGI ones among it."""
    if not callable(app):
        raise ConfigError(
            f"{where} got no application",
            option="app",
            expected="a WSGI application: callable(environ, start_response)",
            got=type(app).__name__,
        )
    if is_async(app) or not _takes(app, 2):
        raise ConfigError(
            f"{where} got a callable that is no WSGI application",
            option="app",
            expected="callable(environ, start_response), not asynchronous",
            got=type(app).__name__,
            hint="for an ASGI application there is beaker.asgi.SessionMiddleware",
        )


def check_asgi_application(app: object, where: str) -> None:
    """Raise ConfigError, naming ``where``, for what cannot be called as an ASGI 3 application, WSGI ones among it."""
    if not callable(app):
        raise ConfigError(
            f"{where} got no application",
            option="app",
            expected="an ASGI application: async callable(scope, receive, send)",
            got=type(app).__name__,
        )
    if not _takes(app, 3):
        raise ConfigError(
            f"{where} got a callable that is no ASGI application",
            option="app",
            expected="async callable(scope, receive, send)",
            got=type(app).__name__,
            hint="for a WSGI application there is beaker.middleware.SessionMiddleware",
        )


def check_environ_key(key: object) -> None:
    """Raise ConfigError for what is no name of an item in ``environ`` or a scope."""
    if not isinstance(key, str) or not key:
        raise wrong("environ_key", key, "a name, such as 'beaker.session'")


def is_asgi(app: object) -> bool:
    """Whether ``app`` is an ASGI application, as far as that can be told: asynchronous, or called with three things."""
    return callable(app) and (is_async(app) or (_takes(app, 3) and not _takes(app, 2)))


def check_mapping(argument: str, value: object) -> None:
    """Raise ConfigError for a value of ``argument`` that is neither ``None`` nor a mapping of options by name."""
    if value is None:
        return
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise wrong(argument, value, "a dict of options by name, such as {'type': 'file'}")


def is_async(function: object) -> bool:
    """Whether calling ``function`` gives a coroutine or an asynchronous generator instead of a result."""
    while isinstance(function, functools.partial):
        function = function.func
    if _is_plain(function):
        return bool(cast("FunctionType", function).__code__.co_flags & _ASYNC)
    import inspect

    candidates: list[Any] = [function]
    if not isinstance(function, type):
        candidates.append(getattr(function, "__call__", None))  # noqa: B004
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in candidates)


def _is_plain(function: Any) -> bool:
    """Whether it is a function of Python without attributes, that may say otherwise than its code."""
    return type(function) is FunctionType and not function.__dict__


def _takes(app: Any, number: int) -> bool:
    if _is_plain(app):
        code, most = app.__code__, app.__code__.co_argcount
        fits = number <= most or bool(code.co_flags & _VARIADIC)
        needs = code.co_kwonlyargcount - len(app.__kwdefaults__ or ())
        return fits and not needs and most - len(app.__defaults__ or ()) <= number
    import inspect

    try:
        # Not of what a decorator wraps: the wrapper is what will be called.
        inspect.signature(app, follow_wrapped=False).bind(*[None] * number)
    except TypeError:
        return False
    except ValueError:
        # Written in C without a signature.
        return True
    return True
