"""The session in ``environ``: nothing is read before the application touches it, and the headers come at the end."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, TypeVar

from beaker.exceptions import BeakerWarning, SessionTooLarge, warn
from beaker.session.base import BaseSession, Work
from beaker.session.opening import configured, opener
from beaker.session.snapshot import raw_id

__all__ = ["SessionObject", "Steps"]

T = TypeVar("T")
Steps = Generator[Work, None, T]
"""Yields what may block, to be run where blocking is allowed, one after the other; returns the result."""

_UNSENT = (
    "a session was saved in a response whose headers are not sent, as a websocket's, so that its cookie could not be: "
    "a new session, a new id, or data kept in the cookie is lost; save it in an ordinary request first"
)


class SessionObject:
    """Stands in ``environ`` for a session that is loaded at its first use (manual 2.1.1, 5.1.4).

    ``SessionObject(environ, **params)`` takes the session options as keywords; middleware passes a shared
    ``context``. Attributes and items are the session's own. :meth:`save` marks the session to be saved when
    the response's headers are due; :meth:`persist` saves now.
    """

    _others: tuple[BaseSession, ...] = ()
    """What :meth:`get_by_id` has returned in this request."""

    def __init__(self, environ: dict[str, Any], **params: Any) -> None:
        given = params.pop("opener", None)
        context, began = params.get("context"), params.get("began")
        if context is None:
            context, began = configured(dict(params))
        # Frameworks read _params, _environ, _sess, _dirty and _headers in __dict__, and set _sess to None to forget an
        # access, or to a session of their own.
        self.__dict__.update(
            _params=params,
            _environ=environ,
            _context=context,
            _open=given or opener(context),
            _began=context.clock() if began is None else began,
            _sess=None,
            _headers={"set_cookie": False, "cookie_out": None},
        )

    _dirty = _finished = False

    def _session(self) -> BaseSession:
        """The session itself, loaded at the first call."""
        session: BaseSession | None = self._sess
        if session is None:
            self._context.check_processes(self._environ)
            session = self._open(self._environ, None, self._began)
            object.__setattr__(self, "_sess", session)
        return session

    # -- what the manual names -----------------------------------------------------------------------

    def save(self) -> None:
        """Mark the session to be saved at the end of the request."""
        self._session()
        object.__setattr__(self, "_dirty", True)

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
        object.__setattr__(self, "_dirty", False)

    def get_by_id(self, id: str) -> BaseSession | None:
        """The live session with this ``id``, or ``None``. Cookie sessions cannot be found by id."""
        raw = raw_id(id)
        if raw is None or self._context.client_side:
            return None
        session: BaseSession = self._open({}, raw, self._began)
        if session.is_new:
            return None
        object.__setattr__(self, "_others", (*self._others, session))
        return session

    def accessed(self) -> bool:
        """Whether the session was touched in this request."""
        return self._sess is not None

    def dirty(self) -> bool:
        """Whether the session is marked to be saved."""
        return bool(self._dirty)

    # -- the end of the request ----------------------------------------------------------------------

    def _settling(self, session: BaseSession) -> Steps[None]:
        work = self._work(session)
        if work is not None:
            yield work

    def _work(self, session: BaseSession) -> Work | None:
        wanted, self.__dict__["_dirty"] = self._dirty, False
        return session._settling(wanted)

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
        work = self._work(session)
        if work is not None:
            work()
        return self._headers_of(session)

    def _committing(self, *, unsent: bool) -> Steps[list[tuple[str, str]]]:
        session = self._sess
        if session is None:
            return []
        stored = unsent and session._is_stored
        before = session._reference(stored) if unsent else None
        yield from self._settling(session)
        headers = self._headers_of(session)
        # More than Vary, so a cookie.
        if before is not None and len(headers) > 1 and before != session._reference(stored):
            self._context.warn_once(BeakerWarning(_UNSENT, code="session.cookie-not-sent"))
        return headers

    def _headers_of(self, session: BaseSession) -> list[tuple[str, str]]:
        self.__dict__["_finished"] = True
        lines = session._respond()
        if not lines:
            return [("Vary", "Cookie")]
        cookies = [("Set-Cookie", line) for line in lines]
        return [("Vary", "Cookie"), ("Cache-Control", "private, no-store"), *cookies]

    def finish(self) -> None:
        """After the body: save what changed since :meth:`commit`. Warns when that would need a header."""
        if self._sess is not None:
            _run(self._finishing())

    def _finishing(self) -> Steps[None]:
        session = self._sess
        if session is None:
            return
        if not self._finished:
            self._warn("was first touched after the headers were sent")
        settled = (session.id, session.is_new)
        if self._dirty or session._must_save or self._context.options.auto:
            if self._context.type == "cookie" and session._is_changed():
                self._warn("changed after the headers were sent; the change is lost")
                return
            yield from self._settling(session)
        if settled != (session.id, session.is_new) or session._cookie_lines():
            self._warn("changed after the headers were sent, so that its cookie could not be")

    def release(self) -> None:
        """The request is over, however it ended: release the locks that it holds on this and other sessions."""
        if self._sess is not None:
            self._sess.unlock()
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

    def __len__(self) -> int:
        return len(self._session())

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other or self._session() == (other._session() if isinstance(other, SessionObject) else other)

    __hash__ = object.__hash__

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


def _run(steps: Steps[T]) -> T:
    try:
        while True:
            next(steps)()
    except StopIteration as end:
        result: T = end.value
        return result
