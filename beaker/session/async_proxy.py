"""The session in an ASGI scope: the one of WSGI, with a form to be awaited of each method that may block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from beaker.exceptions import BeakerException
from beaker.forks import this_process
from beaker.loops.hops import in_thread, in_thread_surely, is_closing, leave, refuse_in_loop
from beaker.loops.signals import pause
from beaker.session.base import BaseSession
from beaker.session.cookies import read_cookie
from beaker.session.hops import may_block
from beaker.session.opening import Opener, legacy_reader
from beaker.session.proxy import SessionObject, Steps, own_dict, set_request
from beaker.session.snapshot import raw_id

if TYPE_CHECKING:
    from beaker.session.contention import SessionLock

__all__ = ["AsyncSessionObject", "async_session_of"]

T = TypeVar("T")


class AsyncSessionObject(SessionObject):
    """Stands in an ASGI scope for a session; what :class:`SessionObject` promises holds here too.

    A method that may block has an asynchronous form under the prefix ``a``: ``await session.apersist()``. Called
    without it in the event loop's thread it raises BeakerException, whatever the session's type; in a worker thread,
    as the plain functions of FastAPI and Starlette run in, it works as under WSGI. Reading, changing and :meth:`save`
    never block. With ``lazy``, :meth:`load` must be awaited first.
    """

    def __init__(self, environ: dict[str, Any], *, lazy: bool = False, **params: Any) -> None:
        super().__init__(environ, **params)
        self._begun(lazy)

    def _begun(self, lazy: bool) -> None:
        own, blocks = own_dict(self), self._context.shared(may_block)
        own["_thread"], own["_lazy"], own["_blocks"] = threading.get_ident(), lazy, blocks
        if blocks:
            own["_alone"], own["_process"] = threading.Lock(), this_process()

    _ready: BaseSession | None = None
    _error: Exception | None = None
    _answered = False

    # -- loading -------------------------------------------------------------------------------------

    async def load(self) -> AsyncSessionObject:
        """Load the session, unless it is loaded, and return it. Raises CorruptRecord and StoreUnavailable.

        Only with ``load="lazy"`` is it needed, before the session is touched. :meth:`aload` reads it anew.
        """
        if self._sess is None and self._ready is None:
            own_dict(self)["_error"] = None
            ready = await self._off(self._opened) if self._blocks and self._brought else self._opened()
            own_dict(self)["_ready"] = ready
        return self

    async def _load_early(self) -> None:
        """Load a session that may block, as a touch would; an error waits for the touch, for there may be none."""
        if self._brought:
            try:
                await self.load()
            except Exception as error:
                own_dict(self)["_error"] = error

    @property
    def _brought(self) -> bool:
        """Whether the request carries a cookie that may lead to a session."""
        header = self._environ.get("HTTP_COOKIE")
        if not header:
            return False
        names = {self._context.cookie.name}
        legacy = legacy_reader(self._context)
        if legacy is not None:
            names.add(legacy.name)
        return any(read_cookie(header, name) for name in names)

    @property
    def _is_unloaded(self) -> bool:
        return bool(self._lazy and self._ready is None and self._sess is None)

    def _opened(self) -> BaseSession:
        session: BaseSession = self._open(self._environ, None, self._request[2])
        return session

    def _session(self) -> BaseSession:
        session: BaseSession | None = self._sess
        if session is not None:
            return session
        if self._error is not None:
            raise self._error
        if self._is_unloaded:
            raise BeakerException(
                "the session is not loaded: await session.load() before its first use, or set load to 'eager'",
                code="session.not-loaded",
            )
        session = self._ready or self._opened()
        session._exchange.answered = self._answered
        own_dict(self)["_sess"] = session
        return session

    def __getattr__(self, name: str) -> Any:
        # Starlette's `request.session` looks for a method of its own, before anything can have been awaited.
        if self._is_unloaded and not hasattr(self._open.session_class, name):
            raise AttributeError(name)
        return super().__getattr__(name)

    # -- leaving the event loop ----------------------------------------------------------------------

    async def _off(self, work: Callable[[], T]) -> T:
        return await in_thread(partial(self._one_at_a_time, work))

    async def _surely(self, work: Callable[[], object]) -> None:
        if not self._blocks:
            work()
        elif self._process is not this_process():
            # What was begun before a fork is the parent's to end.
            return
        elif is_closing():
            leave(self._alone, work)
        else:
            await in_thread_surely(partial(self._one_at_a_time, work))

    def _one_at_a_time(self, work: Callable[[], T]) -> T:
        # Of two tasks of a request, or a cancelled one whose thread goes on, only one works on the session.
        with self._alone:
            return work()

    async def _run(self, steps: Steps[T], *, surely: bool = False) -> T:
        """What ``steps`` return, their work done where it blocks no event loop."""
        try:
            while True:
                work = next(steps)
                await (self._surely(work) if surely else self._call(work))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _call(self, work: Callable[[], T]) -> T:
        return await self._off(work) if self._blocks else work()

    async def acommit(self, *, unsent: bool = False) -> list[tuple[str, str]]:
        """:meth:`commit`, for the event loop; what is touched later sends no cookie."""
        if not self._blocks:
            return self._commit_here(unsent=unsent)
        headers = await self._run(self._committing(unsent=unsent))
        own_dict(self)["_answered"] = True
        return headers

    def _commit_here(self, *, unsent: bool) -> list[tuple[str, str]]:
        """:meth:`acommit` of a session that does not block."""
        headers = super().commit(unsent=unsent)
        own_dict(self)["_answered"] = True
        return headers

    async def afinish(self, *, unread: bool = True, surely: bool = False) -> None:
        """:meth:`finish`, for the event loop.

        ``unread`` warns of a first touch after the headers; ``surely`` saves also in a cancelled task.
        """
        if not unread:
            own_dict(self)["_finished"] = True
        if not self._is_settled:
            await self._run(self._finishing(), surely=surely)

    async def arelease(self) -> None:
        """:meth:`release`, also in a cancelled task; costs nothing where no lock is held."""
        if self._holds_locks:
            await self._surely(super().release)

    @property
    def _holds_locks(self) -> bool:
        session = self._sess
        held = session is not None and session._held is not None
        return held or (bool(self._others) and any(other._held is not None for other in self._others))

    # -- what may block, to be awaited ---------------------------------------------------------------

    async def apersist(self) -> None:
        """:meth:`persist`: save now, if ``save()`` was called or ``auto`` is set; else record the access if due."""
        await self._run(self._persisting())

    async def aload(self) -> None:
        """:meth:`BaseSession.load`: read the session anew and drop what was not saved. Raises StoreUnavailable."""
        await self.load()
        await self._call(self._session().load)

    async def alogin(self, user: Hashable) -> None:
        """:meth:`BaseSession.login`: note who the visitor is and change the id. Raises TypeError, StoreUnavailable."""
        await self._call(partial(self._session().login, user))

    async def alogout(self) -> None:
        """:meth:`BaseSession.logout`: end the session everywhere and start an empty one. Raises StoreUnavailable."""
        await self._call(self._session().logout)

    async def adelete(self) -> None:
        """:meth:`BaseSession.delete`: end the session; its record is dead on return. Raises StoreUnavailable."""
        await self._call(self._session().delete)

    async def ainvalidate(self) -> None:
        """:meth:`BaseSession.invalidate`: end the session and go on with an empty one. Raises StoreUnavailable."""
        await self._call(self._session().invalidate)

    async def amonotonic(self, key: str, n: int = 0) -> int:
        """:meth:`BaseSession.monotonic`: add to a number that only grows, at once. Raises what that raises."""
        return await self._call(partial(self._session().monotonic, key, n))

    async def alock(self, timeout: float | None = None) -> None:
        """:meth:`BaseSession.lock`, waited for without a thread: pair it with :meth:`aunlock` in a ``finally``.

        A wait that is cancelled leaves no lock. Raises LockTimeout, LockError for cookie sessions, StoreUnavailable,
        ConfigError for a timeout that is none.
        """
        session = self._session()
        wanted = session._lockable(timeout)
        if wanted is None:
            return
        naps = wanted.pauses()
        # Waiting threads could leave none to the request that holds the lock.
        while not await self._attempt(session, wanted):
            nap = next(naps, None)
            if nap is None:
                raise wanted.timed_out()
            await pause(nap)

    async def _attempt(self, session: BaseSession, wanted: SessionLock) -> bool:
        attempt = _Attempt(session, wanted)
        try:
            return await self._call(attempt.run)
        except BaseException:
            if attempt.abandon():
                await self._surely(session.unlock)
            raise

    async def aunlock(self) -> None:
        """:meth:`BaseSession.unlock`, also in a cancelled task; does nothing when the session is not locked."""
        if self._session()._held is not None:
            await self._surely(self._session().unlock)

    async def aget_by_id(self, id: str) -> AsyncSessionObject | None:
        """The live session with this ``id``, or ``None``; to be saved by its own :meth:`save` and :meth:`apersist`.

        Cookie sessions cannot be found by id. Raises CorruptRecord and StoreUnavailable.
        """
        raw = raw_id(id)
        if raw is None or self._context.client_side:
            return None
        found = await self._call(partial(self._open, {}, raw, self._request[2]))
        if found.is_new:
            return None
        own_dict(self)["_others"] = (*self._others, found)
        other = AsyncSessionObject({}, context=self._context, opener=self._open, began=self._request[2])
        own_dict(other)["_sess"] = found
        return other

    # -- what may block, called ----------------------------------------------------------------------

    def persist(self) -> None:
        """:meth:`SessionObject.persist`, in a worker thread; :meth:`apersist` in the event loop."""
        self._refuse("persist")
        super().persist()

    def login(self, user: Hashable) -> None:
        """:meth:`BaseSession.login`, in a worker thread; :meth:`alogin` in the event loop."""
        self._refuse("login")
        self._session().login(user)

    def logout(self) -> None:
        """:meth:`BaseSession.logout`, in a worker thread; :meth:`alogout` in the event loop."""
        self._refuse("logout")
        self._session().logout()

    def delete(self) -> None:
        """:meth:`BaseSession.delete`, in a worker thread; :meth:`adelete` in the event loop."""
        self._refuse("delete")
        self._session().delete()

    def invalidate(self) -> None:
        """:meth:`BaseSession.invalidate`, in a worker thread; :meth:`ainvalidate` in the event loop."""
        self._refuse("invalidate")
        self._session().invalidate()

    def monotonic(self, key: str, n: int = 0) -> int:
        """:meth:`BaseSession.monotonic`, in a worker thread; :meth:`amonotonic` in the event loop."""
        self._refuse("monotonic")
        return self._session().monotonic(key, n)

    def lock(self, timeout: float | None = None) -> None:
        """:meth:`BaseSession.lock`, in a worker thread; :meth:`alock` in the event loop."""
        self._refuse("lock")
        self._session().lock(timeout)

    def unlock(self) -> None:
        """:meth:`BaseSession.unlock`, in a worker thread; :meth:`aunlock` in the event loop."""
        self._refuse("unlock")
        self._session().unlock()

    def get_by_id(self, id: str) -> BaseSession | None:
        """:meth:`SessionObject.get_by_id`, in a worker thread; :meth:`aget_by_id` in the event loop."""
        self._refuse("get_by_id")
        return super().get_by_id(id)

    def commit(self, *, unsent: bool = False) -> list[tuple[str, str]]:
        """:meth:`SessionObject.commit`, in a worker thread; :meth:`acommit` in the event loop."""
        self._refuse("commit")
        return super().commit(unsent=unsent)

    def finish(self) -> None:
        """:meth:`SessionObject.finish`, in a worker thread; :meth:`afinish` in the event loop."""
        self._refuse("finish")
        super().finish()

    def release(self) -> None:
        """:meth:`SessionObject.release`, in a worker thread; :meth:`arelease` in the event loop."""
        self._refuse("release")
        super().release()

    @property
    def namespace(self) -> Any:
        """:attr:`OlderNames.namespace`, in a worker thread; of what it does :meth:`adelete` and others are awaited."""
        refuse_in_loop(self._thread, "session.namespace", "session.adelete")
        return self._session().namespace

    def _refuse(self, name: str) -> None:
        refuse_in_loop(self._thread, f"session.{name}", f"session.a{name}")


def async_session_of(environ: dict[str, Any], opened_by: Opener, *, lazy: bool) -> AsyncSessionObject:
    """The session of a request that begins now, for a middleware, which has all that the keywords would say."""
    session = AsyncSessionObject.__new__(AsyncSessionObject)
    set_request(session, (environ, opened_by, opened_by.context.clock()))
    session._begun(lazy)
    return session


class _Attempt:
    """One attempt to lock a session in a thread, which its task may abandon at any moment."""

    def __init__(self, session: BaseSession, wanted: SessionLock) -> None:
        self._session = session
        self._wanted = wanted
        self._guard = threading.Lock()
        self._abandoned = self._locked = False

    def run(self) -> bool:
        with self._guard:
            if self._abandoned:
                return False
        if self._session._held is not None:
            # Another task of the request has taken it meanwhile.
            return True
        if not self._wanted.attempt():
            return False
        self._session._hold(self._wanted)
        with self._guard:
            self._locked = not self._abandoned
        if not self._locked:
            self._session.unlock()
        return True

    def abandon(self) -> bool:
        """Whether the lock is held and the caller has to release it; if it is not yet, the thread will."""
        with self._guard:
            self._abandoned = True
            return self._locked
