"""How what may block leaves the event loop: one call in a worker thread."""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext, suppress
from contextvars import copy_context
from functools import cache, partial
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from beaker.exceptions import BeakerException
from beaker.forks import after_fork, this_process
from beaker.locking import background
from beaker.loops.signals import here

__all__ = ["Hops", "in_thread", "in_thread_surely", "is_closing", "leave", "library", "refuse_in_loop"]

T = TypeVar("T")

log = logging.getLogger("beaker")


_THREADS = 40
"""As many as AnyIO's limit is by default."""

_executors: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


async def in_thread(work: Callable[[], T]) -> T:
    """``work()`` in a worker thread: AnyIO's where that is loaded, else that of the loop, asyncio's or Trio's.

    As many of them as AnyIO's or Trio's limit says, else 40, and none of those that the application may use: its own
    functions may wait in all of them for what only Beaker can release. A cancellation does not stop what has begun.
    Where the system or an interpreter that ends gives no thread the event loop waits, with a warning in the log.
    """
    once, before = _Once(work), sys.exc_info()[1]
    try:
        if (name := library()) is not None:
            run: Callable[..., Any] = import_module(f"{name}.to_thread").run_sync
            return cast(T, await run(once.run, limiter=_limiter(name)))
        # Of all programs with a cache few have an event loop, and loading asyncio takes longer than loading Beaker.
        loop: Any = import_module("asyncio").get_running_loop()
        return cast(T, await loop.run_in_executor(_executor(loop), copy_context().run, once.run))
    except RuntimeError as err:
        if not once.is_left(err, before):
            raise
    return once.run()


def library() -> str | None:
    """What has the running loop's threads and cancellations: AnyIO if loaded, else Trio, or asyncio (``None``)."""
    if "anyio" in sys.modules:
        return "anyio"
    return "trio" if "trio" in sys.modules and not _has_loop() else None


def _limiter(name: str) -> Any:
    limit = _limit(name)
    try:
        return limit.get()
    except LookupError:
        default = import_module(f"{name}.to_thread").current_default_thread_limiter()
        limiter = import_module(name).CapacityLimiter(default.total_tokens)
        limit.set(limiter)
        return limiter


@cache
def _limit(name: str) -> Any:
    return import_module(f"{name}.lowlevel").RunVar("beaker")


def _executor(loop: Any) -> Any:
    found = _executors.get(loop)
    if found is None:
        # Its threads end when the loop is forgotten, and with it the executor.
        found = import_module("concurrent.futures").ThreadPoolExecutor(_THREADS, thread_name_prefix="beaker-loop")
        _executors[loop] = found
    return found


async def in_thread_surely(work: Callable[[], T]) -> T:
    """:func:`in_thread` also where the caller is or will be cancelled, however often, for what must not be left undone.

    A cancellation meanwhile is raised when it is done and has not failed.
    """
    asyncio: Any = import_module("asyncio")
    if not _has_loop():
        with import_module(library() or "anyio").CancelScope(shield=True):
            return await in_thread(work)
    loop = asyncio.get_running_loop()
    once, before = _Once(work), sys.exc_info()[1]
    try:
        # It begins here, whatever is raised at the first suspension. AnyIO shields from its own cancellations only.
        done = loop.run_in_executor(_executor(loop), copy_context().run, once.run)
    except RuntimeError as err:
        if not once.is_left(err, before):
            raise
        return once.run()
    cancelled: BaseException | None = None
    with import_module("anyio").CancelScope(shield=True) if "anyio" in sys.modules else nullcontext():
        while not done.done():
            try:
                await asyncio.wait((done,))
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None and done.exception() is None:
        raise cancelled
    return cast(T, done.result())


class _Once(Generic[T]):
    """Work that is done once, by a thread or, where none can be had, by the one that wanted it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._left = [work]

    def run(self) -> T:
        # An executor whose thread could not be started has kept the work, and another of its threads may come to it.
        return self._left.pop()()

    def is_left(self, error: RuntimeError, before: BaseException | None) -> bool:
        """Whether ``error``, raised where ``before`` was being handled, came because no thread could begin it."""
        is_left = bool(self._left) and background.is_refusal(error, before)
        if is_left:
            log.warning("the event loop waits for what no thread can be had for: %s", error)
        return is_left


class Hops:
    """The worker threads of one call, which work one after another; with ``blocks`` false there are none.

    A cancelled call whose thread goes on, and what it does then, would else work on the same thing at the same time.
    """

    def __init__(self, blocks: bool) -> None:
        self.blocks = blocks
        self._alone = threading.Lock()
        self._process = this_process()

    async def call(self, work: Callable[[], T]) -> T:
        """``work()``."""
        return await in_thread(partial(self._one_at_a_time, work)) if self.blocks else work()

    async def obtain(self, work: Callable[[], T], undo: Callable[[T], object]) -> T:
        """``work()``; where the caller is cancelled meanwhile and cannot take the result, ``undo(result)`` is done."""
        if not self.blocks:
            return work()
        delivery = _Delivery(partial(self._one_at_a_time, work), undo)
        try:
            return await in_thread(delivery.run)
        except BaseException as err:
            if delivery.refuse():
                await self.surely(delivery.undo, err)
            raise

    async def surely(self, work: Callable[[], T], error: BaseException | None) -> T | None:
        """``work()``, which raises nothing, because of ``error``: also where the caller is cancelled.

        A coroutine that is closed, as of a loop that was closed, cannot await; what blocks is then left to a thread, or
        done here while the interpreter ends. In a forked child it is its parent's to do.
        """
        if not self.blocks:
            return work()
        if self._process is not this_process():
            return None
        if not isinstance(error, GeneratorExit):
            return await in_thread_surely(partial(self._one_at_a_time, work))
        leave(self._alone, work)
        return None

    def _one_at_a_time(self, work: Callable[[], T]) -> T:
        with self._alone:
            return work()


def is_closing() -> bool:
    """Whether the calling coroutine is being closed, as when it is collected after its loop was: it must not await.

    The end of an asynchronous generator, by ``aclose()``, is no such thing: a running loop waits for it.
    """
    error = sys.exc_info()[1]
    return isinstance(error, GeneratorExit) and (here() == (None, None) or not _began_in_generator(error))


def _began_in_generator(error: BaseException) -> bool:
    from inspect import CO_ASYNC_GENERATOR

    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is not None and bool(at.tb_frame.f_code.co_flags & CO_ASYNC_GENERATOR)


def leave(alone: threading.Lock, work: Callable[[], object]) -> None:
    """Have ``work``, which holds ``alone`` meanwhile, done without waiting; while the interpreter ends, do it here."""
    if not sys.is_finalizing():
        background.begin("beaker-left", partial(_hold, alone, work))
    elif alone.acquire(False):
        # Else a thread has it that will never go on. What needs a module that is gone is left to its lease, as by a
        # process that was killed.
        with suppress(Exception):
            work()


def _hold(alone: threading.Lock, work: Callable[[], object]) -> None:
    with alone:
        work()


# A child that goes on in the loop it was forked in has none of its threads.
after_fork(_executors.clear)


class _Delivery(Generic[T]):
    """A result on its way out of a thread, which its task may stop to wait for at any moment."""

    def __init__(self, work: Callable[[], T], undo: Callable[[T], object]) -> None:
        self._work = work
        self._undo = undo
        self._guard = threading.Lock()
        self._refused = False
        self._results: list[T] = []

    def run(self) -> T:
        result = self._work()
        with self._guard:
            self._results.append(result)
            refused = self._refused
        if refused:
            self.undo()
        return result

    def refuse(self) -> bool:
        """Whether there is a result, and the caller has to :meth:`undo` it; the thread will, if it is still to come."""
        with self._guard:
            self._refused = True
            return bool(self._results)

    def undo(self) -> None:
        self._undo(self._results.pop())


def refuse_in_loop(thread: int | None, name: str, instead: str) -> None:
    """Raise BeakerException where a blocking method would stop an event loop, which runs in ``thread`` or in this one.

    ``thread`` is an identifier of :func:`threading.get_ident`; Trio's loop cannot be seen without it.
    """
    if thread != threading.get_ident() and not _has_loop():
        return
    raise BeakerException(
        f"{name}() would block the event loop: await {instead}() there, or call {name}() in a worker thread",
        code="session.blocking-call",
    )


def _has_loop() -> bool:
    asyncio: Any = sys.modules.get("asyncio")
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except RuntimeError:
        return False
