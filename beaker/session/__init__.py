"""WSGI sessions (manual chapters 2 and 5.1.4)."""

from beaker.session.context import SessionContext as SessionContext
from beaker.session.cookies import SignedCookie as SignedCookie
from beaker.session.opening import CookieSession as CookieSession
from beaker.session.opening import Session as Session
from beaker.session.proxy import SessionObject as SessionObject
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
