"""WSGI sessions (manual chapters 2 and 5.1.4)."""

from beaker.session.context import SessionContext as SessionContext
from beaker.session.cookies import SignedCookie as SignedCookie
from beaker.session.opening import CookieSession as CookieSession
from beaker.session.opening import Session as Session
from beaker.session.proxy import SessionObject as SessionObject

__all__ = ["CookieSession", "Session", "SessionContext", "SessionObject", "SignedCookie"]
