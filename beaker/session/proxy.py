"""The session in ``environ``: nothing is read before the application touches it, everything is said at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

from beaker.config.parse import parse_session
from beaker.exceptions import BeakerWarning, warn
from beaker.session.backends import Carrier
from beaker.session.backends.cookie import CookieCarrier, CookieSession
from beaker.session.backends.hybrid import HybridCarrier
from beaker.session.backends.server import ServerCarrier, Session
from beaker.session.base import BaseSession
from beaker.session.context import SessionContext
from beaker.session.snapshot import id_text, raw_id

__all__ = ["SessionObject", "opener"]

_UNSENT = (
    "a session was saved in a response whose headers are not sent, as a websocket's, so that its cookie could not be: "
    "a new session, a new id, or data kept in the cookie is lost; save it in an ordinary request first"
)


class Opener(Protocol):
    """Opens the session a request's cookie names, or the one with a raw id; ``began`` is when the request did."""

    def __call__(self, request: Mapping[str, Any], id: bytes | None, began: float | None = None) -> BaseSession: ...


def opener(context: SessionContext) -> Opener:
    """What opens the sessions of one configuration."""
    own = context.options.session_class
    if own is not None:

        def open_own(request: Mapping[str, Any], id: bytes | None, began: float | None = None) -> BaseSession:
            # What the constructors of Session and CookieSession take besides the manual's options.
            named = {} if id is None else {"id": id_text(id)}
            return cast(BaseSession, own(request, context=context, began=began, **named))

        return open_own
    carriers: dict[str, type[Any]] = {"cookie": CookieCarrier, "hybrid": HybridCarrier}
    carrier: Carrier = carriers.get(context.type, ServerCarrier)(context)
    faces: dict[str, type[BaseSession]] = {"cookie": CookieSession, "hybrid": BaseSession}
    face = faces.get(context.type, Session)

    def open(request: Mapping[str, Any], id: bytes | None, began: float | None = None) -> BaseSession:
        # The faces' own constructors take options; everything is built already here.
        session = face.__new__(face)
        BaseSession.__init__(session, request, context, carrier, id, began)
        return session

    return open


class SessionObject:
    """Stands in ``environ`` for a session that is loaded at its first use (manual 2.1.1, 5.1.4).

    ``SessionObject(environ, **params)`` takes the session options as keywords; middleware passes a shared
    ``context``. Attributes and items are the session's own. :meth:`save` marks the session to be saved when
    the response's headers are due; :meth:`persist` saves now.
    """

    def __init__(self, environ: dict[str, Any], **params: Any) -> None:
        context = params.pop("context", None)
        if context is None:
            clock, runtime = params.pop("clock", None), params.pop("runtime", None)
            context = SessionContext(parse_session(kwargs=params), clock=clock, runtime=runtime)
        put = object.__setattr__
        put(self, "_environ", environ)
        put(self, "_context", context)
        put(self, "_open", params.pop("opener", None) or opener(context))
        put(self, "_began", context.clock())
        put(self, "_session", None)
        put(self, "_wanted", False)
        put(self, "_finished", False)

    def _load(self) -> BaseSession:
        session: BaseSession | None = self._session
        if session is None:
            self._context.check_processes(self._environ)
            session = self._open(self._environ, None, self._began)
            object.__setattr__(self, "_session", session)
        return session

    # -- what the manual names -----------------------------------------------------------------------

    def save(self) -> None:
        """Mark the session to be saved at the end of the request."""
        self._load()
        object.__setattr__(self, "_wanted", True)

    def persist(self) -> None:
        """Save now, if ``save()`` was called or ``auto`` is set; else record the access if that is due.

        ``__dict__["_headers"]`` then holds ``set_cookie`` and ``cookie_out``: frameworks that send the cookie
        themselves (pyramid_beaker) take them from there.
        """
        session = self._load()
        self._settle(session)
        lines = session.set_cookies()
        self.__dict__["_headers"] = {"set_cookie": bool(lines), "cookie_out": lines[0] if lines else None}

    def revert(self) -> None:
        """Go back to the values of the session's first access in this request; nothing will be saved."""
        self._load().revert()
        object.__setattr__(self, "_wanted", False)

    def get_by_id(self, id: str) -> BaseSession | None:
        """The live session with this ``id``, or ``None``. Cookie sessions cannot be found by id."""
        raw = raw_id(id)
        if raw is None:
            return None
        session = self._open({}, raw, self._began)
        return None if session.is_new else session

    def accessed(self) -> bool:
        """Whether the session was touched in this request."""
        return self._session is not None

    def dirty(self) -> bool:
        """Whether the session is marked to be saved."""
        return bool(self._wanted)

    # -- the end of the request ----------------------------------------------------------------------

    def _settle(self, session: BaseSession) -> None:
        auto = self._context.options.auto and not session.deleted and not session.fenced
        # An empty new session holds nothing worth a record, unless the application asked.
        wanted = self._wanted or session.must_save or (auto and not (session.is_new and not any(session.own_keys())))
        object.__setattr__(self, "_wanted", False)
        if wanted:
            session.write()
        else:
            session.touch()

    def commit(self) -> list[tuple[str, str]]:
        """Do what the request asked for and answer the headers the response needs; knows no WSGI.

        ``[]`` when the session was never touched. ``Vary: Cookie`` when it was; ``Set-Cookie`` when
        something about the cookie changed, and then ``Cache-Control: private, no-store``. Raises what
        :meth:`BaseSession.save` raises.
        """
        session = self._session
        if session is None:
            return []
        self._settle(session)
        object.__setattr__(self, "_finished", True)
        headers = [("Vary", "Cookie")]
        cookies = [("Set-Cookie", line) for line in session.set_cookies()]
        session.cookie_due = session.deleted = False
        session.answered = True
        if cookies:
            headers.append(("Cache-Control", "private, no-store"))
        return headers + cookies

    def commit_unsent(self) -> list[tuple[str, str]]:
        """:meth:`commit` for a response whose headers reach nobody, as a websocket's do. Warns of a lost cookie."""
        session = self._session
        if session is None:
            return []
        before, kept = (session.snapshot.id, session.is_new, session.snapshot.values), self._is_kept(session)
        headers = self.commit()
        after = (session.snapshot.id, session.is_new, session.snapshot.values)
        # A stored session of a known id needs no cookie; one that was only read loses the renewal of its end.
        if any(name == "Set-Cookie" for name, _ in headers) and before[: 2 if kept else 3] != after[: 2 if kept else 3]:
            self._context.warn_once(BeakerWarning(_UNSENT, code="session.cookie-not-sent"))
        return headers

    def _is_kept(self, session: BaseSession) -> bool:
        return self._context.type != "cookie" and (self._context.type != "hybrid" or session.in_store)

    def finish(self) -> None:
        """After the body: save what changed since :meth:`commit`. Warns when that would need a header."""
        session = self._session
        if session is None:
            return
        if not self._finished:
            self._warn("was first touched after the headers were sent")
        settled = (session.snapshot.id, session.is_new)
        if self._wanted or session.must_save or self._context.options.auto:
            if self._context.type == "cookie" and session.packed() != session.snapshot.values:
                self._warn("changed after the headers were sent; the change is lost")
                return
            self._settle(session)
        if settled != (session.snapshot.id, session.is_new) or session.set_cookies():
            self._warn("changed after the headers were sent, so that its cookie could not be")

    def _warn(self, what: str) -> None:
        path = self._environ.get("SCRIPT_NAME", "") + self._environ.get("PATH_INFO", "")
        warn(BeakerWarning(f"the session of a request to {path} {what}", code="session.changed-too-late"))

    # -- the session's own ---------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._load(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._load(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._load(), name)

    def __getitem__(self, key: Any) -> Any:
        return self._load()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._load()[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._load()[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._load()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other or self._load() == (other._load() if isinstance(other, SessionObject) else other)

    __hash__ = object.__hash__

    def get(self, key: Any, default: Any = None) -> Any:
        """The value at ``key``, else ``default``."""
        return self._load().get(key, default)

    def has_key(self, key: Any) -> bool:
        """``key in session``, under its older name."""
        return key in self._load()

    def __repr__(self) -> str:
        return "<SessionObject untouched>" if self._session is None else f"<SessionObject of {self._session!r}>"
