"""WSGI sessions (manual chapters 2 and 5.1.4)."""

from beaker.session.client import CookieSession as CookieSession
from beaker.session.context import SessionContext as SessionContext
from beaker.session.proxy import SessionObject as SessionObject
from beaker.session.server import Session as Session
from beaker.session.transport import SignedCookie as SignedCookie

__all__ = ["CookieSession", "Session", "SessionContext", "SessionObject", "SignedCookie"]
