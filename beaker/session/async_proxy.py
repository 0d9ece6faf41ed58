"""The session in an ASGI scope: the one of WSGI, with a form to be awaited of each method that may block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar

from beaker.exceptions import BeakerException
from beaker.loops.hops import in_thread, in_thread_surely, refuse_in_loop
from beaker.session.base import BaseSession
from beaker.session.cookies import read_cookie
from beaker.session.hops import may_block
from beaker.session.opening import legacy_reader
from beaker.session.proxy import SessionObject, Steps
from beaker.session.snapshot import raw_id

__all__ = ["AsyncSessionObject"]

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
        put = object.__setattr__
        put(self, "_thread", threading.get_ident())
        put(self, "_lazy", lazy)
        put(self, "_blocks", self._context.shared(may_block))
        put(self, "_alone", threading.Lock())
        put(self, "_ready", None)
        put(self, "_error", None)
        put(self, "_answered", False)

    # -- loading -------------------------------------------------------------------------------------

    async def load(self) -> AsyncSessionObject:
        """Load the session, unless it is loaded, and return it. Raises CorruptRecord and StoreUnavailable.

        Only with ``load="lazy"`` is it needed, before the session is touched. :meth:`aload` reads it anew.
        """
        if self._sess is None and self._ready is None:
            object.__setattr__(self, "_error", None)
            ready = await self._off(self._opened) if self._blocks and self._brought else self._opened()
            object.__setattr__(self, "_ready", ready)
        return self

    async def _load_early(self) -> None:
        """Load what a touch would have to block for; an error waits for the touch, for there may be none."""
        if not self._lazy and self._blocks and self._brought:
            try:
                await self.load()
            except Exception as error:
                object.__setattr__(self, "_error", error)

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
        session: BaseSession = self._open(self._environ, None, self._began)
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
        object.__setattr__(self, "_sess", session)
        return session

    def __getattr__(self, name: str) -> Any:
        # Starlette's `request.session` looks for a method of its own, before anything can have been awaited.
        if self._is_unloaded and not hasattr(self._open.session_class, name):
            raise AttributeError(name)
        return super().__getattr__(name)

    # -- leaving the event loop ----------------------------------------------------------------------

    async def _off(self, work: Callable[[], T]) -> T:
        return await in_thread(partial(self._one_at_a_time, work))

    async def _surely(self, work: Callable[[], T]) -> T:
        return await in_thread_surely(partial(self._one_at_a_time, work))

    def _one_at_a_time(self, work: Callable[[], T]) -> T:
        # Of two tasks of a request, or a cancelled one whose thread goes on, only one works on the session.
        with self._alone:
            return work()

    async def _run(self, steps: Steps[T], *, surely: bool = False) -> T:
        """What ``steps`` return, their work done where it blocks no event loop."""
        try:
            while True:
                work = next(steps)
                if not self._blocks:
                    work()
                elif surely:
                    await self._surely(work)
                else:
                    await self._off(work)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _call(self, work: Callable[[], T]) -> T:
        return await self._off(work) if self._blocks else work()

    async def acommit(self, *, unsent: bool = False) -> list[tuple[str, str]]:
        """:meth:`commit`, for the event loop; what is touched later sends no cookie."""
        headers = await self._run(self._committing(unsent=unsent))
        object.__setattr__(self, "_answered", True)
        return headers

    async def afinish(self, *, unread: bool = True, surely: bool = False) -> None:
        """:meth:`finish`, for the event loop.

        ``unread`` warns of a first touch after the headers; ``surely`` saves also in a cancelled task.
        """
        if not unread:
            object.__setattr__(self, "_finished", True)
        await self._run(self._finishing(), surely=surely)

    async def arelease(self) -> None:
        """:meth:`release`, also in a cancelled task; costs nothing where no lock is held."""
        if any(session is not None and session._held is not None for session in (self._sess, *self._others)):
            await self._surely(super().release)

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
        """:meth:`BaseSession.lock`, waited for in a thread: pair it with :meth:`aunlock` in a ``finally``.

        A wait that is cancelled leaves no lock. Raises LockTimeout, LockError for cookie sessions, StoreUnavailable,
        ConfigError for a timeout that is none.
        """
        session = self._session()
        if session._held is not None:
            return
        attempt = _Attempt(session, timeout)
        try:
            await self._off(attempt.run)
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
        found = await self._call(partial(self._open, {}, raw, self._began))
        if found.is_new:
            return None
        object.__setattr__(self, "_others", (*self._others, found))
        other = AsyncSessionObject({}, context=self._context, opener=self._open, began=self._began)
        object.__setattr__(other, "_sess", found)
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


class _Attempt:
    """One attempt to lock a session in a thread, which its task may abandon at any moment."""

    def __init__(self, session: BaseSession, timeout: float | None) -> None:
        self._session = session
        self._timeout = timeout
        self._guard = threading.Lock()
        self._abandoned = self._locked = False

    def run(self) -> None:
        with self._guard:
            if self._abandoned:
                return
        self._session.lock(self._timeout)
        with self._guard:
            self._locked = not self._abandoned
        if not self._locked:
            self._session.unlock()

    def abandon(self) -> bool:
        """Whether the lock is held and the caller has to release it; if it is not yet, the thread will."""
        with self._guard:
            self._abandoned = True
            return self._locked
