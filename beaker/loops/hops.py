"""How what may block leaves the event loop: one call in a worker thread."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from beaker.exceptions import BeakerException

__all__ = ["Hops", "in_thread", "in_thread_surely", "refuse_in_loop"]

T = TypeVar("T")

log = logging.getLogger("beaker")


async def in_thread(work: Callable[[], T]) -> T:
    """``work()`` in a worker thread: AnyIO's where that is loaded, so on Trio too, else asyncio's own.

    Nothing is kept that belongs to an event loop. A cancellation does not stop what has begun.
    """
    if "anyio" in sys.modules:
        run: Callable[..., Any] = import_module("anyio.to_thread").run_sync
        return cast(T, await run(work))
    # Of all programs with a cache few have an event loop, and loading asyncio takes longer than loading Beaker.
    to_thread: Callable[..., Any] = import_module("asyncio").to_thread
    return cast(T, await to_thread(work))


async def in_thread_surely(work: Callable[[], T]) -> T:
    """:func:`in_thread` also where the caller has been cancelled, for what must not be left undone."""
    if "anyio" not in sys.modules:
        return await in_thread(work)
    with import_module("anyio").CancelScope(shield=True):
        return await in_thread(work)


class Hops:
    """The worker threads of one call, which work one after another; with ``blocks`` false there are none.

    A cancelled call whose thread goes on, and what it does then, would else work on the same thing at the same time.
    """

    def __init__(self, blocks: bool) -> None:
        self.blocks = blocks
        self._alone = threading.Lock()

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

        A coroutine that is closed, as of a loop that was closed, cannot await; what blocks is then left to a thread.
        """
        if not self.blocks:
            return work()
        if not isinstance(error, GeneratorExit):
            return await in_thread_surely(partial(self._one_at_a_time, work))
        try:
            threading.Thread(target=self._one_at_a_time, args=(work,), name="beaker-left", daemon=True).start()
        except RuntimeError as err:
            log.warning("what a closed event loop left was not tidied up: %s", err)
        return None

    def _one_at_a_time(self, work: Callable[[], T]) -> T:
        with self._alone:
            return work()


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
