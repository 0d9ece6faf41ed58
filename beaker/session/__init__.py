"""WSGI sessions (manual chapters 2 and 5.1.4)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from beaker.session.context import SessionContext as SessionContext
from beaker.session.opening import CookieSession as CookieSession
from beaker.session.opening import Session as Session
from beaker.session.proxy import SessionObject as SessionObject

if TYPE_CHECKING:
    from beaker.session.signed_cookie import SignedCookie as SignedCookie
    from beaker.session.typed import AsyncWebSession as AsyncWebSession
    from beaker.session.typed import WebSession as WebSession
    from beaker.session.typed import get as get
    from beaker.session.typed import get_async as get_async

__all__ = [
    "AsyncWebSession",
    "CookieSession",
    "Session",
    "SessionContext",
    "SessionObject",
    "SignedCookie",
    "WebSession",
    "get",
    "get_async",
]


def __getattr__(name: str) -> Any:
    # Not what every process with sessions needs when it starts.
    if name == "SignedCookie":
        return getattr(import_module("beaker.session.signed_cookie"), name)
    if name == "_session_id":
        return import_module("beaker.compat.identity").session_id
    if name in ("AsyncWebSession", "WebSession", "get", "get_async"):
        return getattr(import_module("beaker.session.typed"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # help(), completion and documentation find names that are loaded when used.
    return sorted({*globals(), *__all__})
