"""What a coroutine waits for and any thread may give; asyncio's loops and Trio's."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["Signal", "here", "pause", "signal"]


class Signal(Protocol):
    """Given once or more; one coroutine waits for it."""

    def set(self) -> bool:
        """Give it, from any thread. ``False``: the loop that waited for it is closed."""
        ...

    async def wait(self, seconds: float) -> None:
        """Return when it is given, or was since the last wait, and after so many seconds at most."""
        ...


def signal() -> Signal:
    """A signal for the running loop. RuntimeError where none runs."""
    try:
        return _AsyncioSignal(import_module("asyncio").get_running_loop())
    except RuntimeError:
        if "trio" not in sys.modules:
            raise
    return _TrioSignal()


def here() -> tuple[Any, Any]:
    """The running loop of asyncio, and the task that runs in it or in Trio's; ``None`` for what cannot be told."""
    for name in ("asyncio", "trio"):
        library: Any = sys.modules.get(name)
        try:
            if name == "asyncio" and library is not None:
                return library.get_running_loop(), library.current_task()
            if library is not None:
                return None, library.lowlevel.current_task()
        except RuntimeError:
            continue
    return None, None


async def pause(seconds: float) -> None:
    """Let other tasks run for so long."""
    await signal().wait(seconds)


class _AsyncioSignal:
    __slots__ = ("_future", "_given", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._given = False
        self._future: asyncio.Future[None] | None = None

    def set(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._give)
        except RuntimeError:
            return False
        return True

    def _give(self) -> None:
        self._given = True
        self._end()

    def _end(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float) -> None:
        if not self._given:
            self._future = self._loop.create_future()
            timer = self._loop.call_later(seconds, self._end)
            try:
                await self._future
            finally:
                timer.cancel()
                self._future = None
        self._given = False


class _TrioSignal:
    __slots__ = ("_event", "_token", "_trio")

    def __init__(self) -> None:
        self._trio: Any = import_module("trio")
        self._token = self._trio.lowlevel.current_trio_token()
        self._event = self._trio.Event()

    def set(self) -> bool:
        try:
            self._token.run_sync_soon(self._give)
        except self._trio.RunFinishedError:
            return False
        return True

    def _give(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        with self._trio.move_on_after(seconds):
            await self._event.wait()
        self._event = self._trio.Event()
