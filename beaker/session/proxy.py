"""The session in ``environ``: nothing is read before the application touches it, and the headers come at the end."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, TypeVar

from beaker.exceptions import BeakerWarning, SessionTooLarge, warn
from beaker.session.base import BaseSession, Work
from beaker.session.context import SessionContext
from beaker.session.exchange import Cookie
from beaker.session.opening import configured, opener
from beaker.session.snapshot import raw_id

__all__ = ["SessionObject", "Steps", "own_dict", "set_request"]

T = TypeVar("T")
Steps = Generator[Work, None, T]
"""Yields what may block, to be run where blocking is allowed, one after the other; returns the result."""

_VARY = ("Vary", "Cookie")
_UNSENT = (
    "a session was saved in a response whose headers are not sent, as a websocket's, so that its cookie could not be: "
    "a new session, a new id, or data kept in the cookie is lost; save it in an ordinary request first"
)


class _OfRequest:
    """What a session's stand-in holds before the first use: the environ, the opener of its session, and the time."""

    __slots__ = ("__dict__", "__weakref__", "_request")


own_dict: Any = vars(_OfRequest)["__dict__"].__get__
"""The attributes that an instance has, to be set without a call of ``__setattr__``, which sets the session's."""
set_request: Any = vars(_OfRequest)["_request"].__set__
"""Sets the environ, the opener of the session, and when the request began, in seconds since the epoch."""


class SessionObject(_OfRequest):
    """Stands in ``environ`` for a session that is loaded at its first use (manual 2.1.1, 5.1.4).

    ``SessionObject(environ, **params)`` takes the session options as keywords; middleware passes a shared
    ``context``. Attributes and items are the session's own. :meth:`save` marks the session to be saved when
    the response's headers are due; :meth:`persist` saves now.
    """

    __slots__ = ()
    _request: tuple[dict[str, Any], Any, float]
    _sess: Any = None
    _dirty = _finished = False
    _others: tuple[BaseSession, ...] = ()
    """What :meth:`get_by_id` has returned in this request."""

    def __init__(self, environ: dict[str, Any], **params: Any) -> None:
        given = params.pop("opener", None)
        context, began = params.get("context"), params.get("began")
        if context is None:
            context, began = configured(dict(params))
        began = context.clock() if began is None else began
        set_request(self, (environ, given or opener(context), began))
        own_dict(self)["_params"] = params

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        # Frameworks read _params, _environ, _sess, _dirty and _headers here, and set _sess to None to forget an access,
        # or to a session of their own. Most requests ask for none of it.
        own: dict[str, Any] = own_dict(self)
        if "_headers" not in own:
            own["_environ"] = self._environ
            own.setdefault("_params", {"context": self._context})
            own.setdefault("_sess", None)
            own["_headers"] = {"set_cookie": False, "cookie_out": None}
        return own

    @property
    def _environ(self) -> dict[str, Any]:
        return self._request[0]

    @property
    def _open(self) -> Any:
        return self._request[1]

    @property
    def _context(self) -> SessionContext:
        context: SessionContext = self._request[1].context
        return context

    def _session(self) -> BaseSession:
        """The session itself, loaded at the first call."""
        session: BaseSession | None = self._sess
        if session is None:
            environ, opened_by, began = self._request
            if environ.get("wsgi.multiprocess"):
                opened_by.context.check_processes(environ)
            session = own_dict(self)["_sess"] = opened_by(environ, None, began)
        return session

    # -- what the manual names -----------------------------------------------------------------------

    def save(self) -> None:
        """Mark the session to be saved at the end of the request."""
        self._session()
        own_dict(self)["_dirty"] = True

    def persist(self) -> None:
        """Save now, if ``save()`` was called or ``auto`` is set; else record the access if that is due.

        ``__dict__["_headers"]`` then holds ``set_cookie`` and ``cookie_out``: frameworks that send the cookie
        themselves (pyramid_beaker) take them from there. SessionTooLarge when the session needs several cookies
        (``session.chunks``): such a framework sends one.
        """
        _run(self._persisting())

    def _persisting(self) -> Steps[None]:
        session = self._session()
        yield from self._settling(session)
        lines = session._cookie_lines()
        if sum("; Max-Age=0" not in line for line in lines) > 1:
            raise SessionTooLarge(
                "the session needs several cookies, and the framework that sends them takes one; keep less in it,"
                " use type hybrid or a server-side one, or beaker.middleware.SessionMiddleware"
            )
        self.__dict__["_headers"] = {"set_cookie": bool(lines), "cookie_out": lines[0] if lines else None}

    def revert(self) -> None:
        """Go back to the values of the session's first access in this request; nothing will be saved."""
        self._session().revert()
        own_dict(self)["_dirty"] = False

    def get_by_id(self, id: str) -> BaseSession | None:
        """The live session with this ``id``, or ``None``. Cookie sessions cannot be found by id."""
        raw = raw_id(id)
        if raw is None or self._context.client_side:
            return None
        session: BaseSession = self._open({}, raw, self._request[2])
        if session.is_new:
            return None
        own_dict(self)["_others"] = (*self._others, session)
        return session

    def accessed(self) -> bool:
        """Whether the session was touched in this request."""
        return self._sess is not None

    def dirty(self) -> bool:
        """Whether the session is marked to be saved."""
        return bool(self._dirty)

    # -- the end of the request ----------------------------------------------------------------------

    def _settling(self, session: BaseSession) -> Steps[None]:
        wanted, own_dict(self)["_dirty"] = self._dirty, False
        work = session._settling(wanted)
        if work is not None:
            yield work

    def commit(self, *, unsent: bool = False) -> list[tuple[str, str]]:
        """Do what the request asked for and return the headers the response needs; knows no WSGI.

        ``[]`` when the session was never touched. ``Vary: Cookie`` when it was; ``Set-Cookie`` when
        something about the cookie changed, and then ``Cache-Control: private, no-store``. With ``unsent``, for headers
        that reach no browser, as a websocket's, a lost cookie is warned of. Raises what :meth:`BaseSession.save`
        raises.
        """
        session = self._sess
        if session is None:
            return []
        if unsent:
            return _run(self._committing(unsent=True))
        own = own_dict(self)
        wanted, own["_dirty"] = self._dirty, False
        work = session._settling(wanted)
        if work is not None:
            work()
        own["_finished"] = True
        lines = session._respond()
        return _headers(lines) if lines else [_VARY]

    def _committing(self, *, unsent: bool) -> Steps[list[tuple[str, str]]]:
        session = self._sess
        if session is None:
            return []
        stored = unsent and session._is_stored
        before = session._reference(stored) if unsent else None
        yield from self._settling(session)
        own_dict(self)["_finished"] = True
        lines = session._respond()
        headers = _headers(lines) if lines else [_VARY]
        # More than Vary, so a cookie.
        if before is not None and len(headers) > 1 and before != session._reference(stored):
            self._context.warn_once(BeakerWarning(_UNSENT, code="session.cookie-not-sent"))
        return headers

    def finish(self) -> None:
        """After the body: save what changed since :meth:`commit`. Warns when that would need a header."""
        if not self._is_settled:
            _run(self._finishing())

    @property
    def _is_settled(self) -> bool:
        """Whether :meth:`commit` has left nothing to be saved or warned of, as most requests do."""
        session = self._sess
        if session is None:
            return True
        pending = self._dirty or session._must_save or self._context.options.auto
        return bool(self._finished and not pending and session._cookie is Cookie.KEEP)

    def _finishing(self) -> Steps[None]:
        session = self._sess
        if session is None:
            return
        if not self._finished:
            self._warn("was first touched after the headers were sent")
        settled = (session._snapshot.id, session.is_new)
        if self._dirty or session._must_save or self._context.options.auto:
            if self._context.type == "cookie" and session._is_changed():
                self._warn("changed after the headers were sent; the change is lost")
                return
            yield from self._settling(session)
        if settled != (session._snapshot.id, session.is_new) or session._cookie_lines():
            self._warn("changed after the headers were sent, so that its cookie could not be")

    def release(self) -> None:
        """The request is over, however it ended: release the locks that it holds on this and other sessions."""
        session = self._sess
        if session is not None and session._held is not None:
            session.unlock()
        for session in self._others:
            session.unlock()

    def _warn(self, what: str) -> None:
        path = self._environ.get("SCRIPT_NAME", "") + self._environ.get("PATH_INFO", "")
        warn(BeakerWarning(f"the session of a request to {path} {what}", code="session.changed-too-late"))

    # -- the session's own ---------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._session(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._session(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._session(), name)

    def __getitem__(self, key: Any) -> Any:
        return self._session()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._session()[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._session()[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._session()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._session())

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._session())

    def __len__(self) -> int:
        return len(self._session())

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other or self._session() == (other._session() if isinstance(other, SessionObject) else other)

    __hash__ = object.__hash__

    def __or__(self, other: object) -> Any:
        return dict(self._session()) | _plain(other)

    def __ror__(self, other: object) -> Any:
        return _plain(other) | dict(self._session())

    def __ior__(self, other: Any) -> SessionObject:  # type: ignore[misc]
        self._session().update(_plain(other))
        return self

    def get(self, key: Any, default: Any = None) -> Any:
        """The value at ``key``, else ``default``."""
        return self._session().get(key, default)

    def has_key(self, key: Any) -> bool:
        """``key in session``, under its older name."""
        return key in self._session()

    def __dir__(self) -> list[str]:
        """The names of the session too; asking for them loads nothing."""
        return sorted({*super().__dir__(), *dir(self._sess or self._open.session_class)})

    def __repr__(self) -> str:
        return "<SessionObject untouched>" if self._sess is None else f"<SessionObject of {self._sess!r}>"


def _plain(other: Any) -> Any:
    return dict(other._session()) if isinstance(other, SessionObject) else other


def _headers(lines: list[str]) -> list[tuple[str, str]]:
    cookies = [("Set-Cookie", line) for line in lines]
    return [_VARY, ("Cache-Control", "private, no-store"), *cookies]


def _run(steps: Steps[T]) -> T:
    try:
        while True:
            next(steps)()
    except StopIteration as end:
        result: T = end.value
        return result
