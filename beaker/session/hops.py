"""How what may block leaves the event loop: one call in a worker thread."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar, cast

from beaker.exceptions import BeakerException
from beaker.session import defaults
from beaker.session.context import SessionContext

__all__ = ["in_thread", "in_thread_surely", "may_block", "refuse_in_loop"]

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """``work()`` in a worker thread: AnyIO's where that is loaded, so on Trio too, else asyncio's own.

    Nothing is kept that belongs to an event loop. A cancellation does not stop what has begun.
    """
    if "anyio" in sys.modules:
        run: Callable[..., Any] = import_module("anyio.to_thread").run_sync
        return cast(T, await run(work))
    return await asyncio.to_thread(work)


async def in_thread_surely(work: Callable[[], T]) -> T:
    """:func:`in_thread` also where the caller has been cancelled, for what must not be left undone."""
    if "anyio" not in sys.modules:
        return await in_thread(work)
    with import_module("anyio").CancelScope(shield=True):
        return await in_thread(work)


def may_block(context: SessionContext) -> bool:
    """Whether sessions of this configuration may wait for anything outside of the process's memory."""
    options = context.options
    # Of an application's own class nothing is known.
    if options.legacy is not None or options.namespace_class is not None:
        return True
    stores = defaults.session_store(options, context.runtime, context.type), defaults.revocation(options, context.type)
    return any(isinstance(store, str) and store != "memory" for store in stores)


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
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
