"""How long a call may take in all: one deadline over everything it does on the network.

A socket's own timeout starts anew with each piece that arrives, so a reply that comes a byte at a time is waited for
without end. What happens inside :class:`within` has one end instead, whoever reads the socket: :class:`BoundedSocket`
gives each wait what is left.
"""

from __future__ import annotations

import select
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from typing import Any

__all__ = ["BoundedSocket", "is_readable", "left", "within"]

_SLACK = 0.9
"""A wait may use the socket's own timeout, which costs no system call, while this much of it is left."""

_LEFT_BEHIND = 1.0
"""Seconds after its end from which a deadline belongs to no call."""


class within:
    """Bounds what is done inside its block to ``seconds`` in all; inside another block the outer one counts."""

    __slots__ = ("__weakref__", "_ends", "_timer")

    def __init__(self, seconds: float, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._ends = timer() + seconds

    def __enter__(self) -> within:
        current = _current.get()
        outer = None if current is None else current()
        # As in _in_flight(), which would be two calls more at every step of a call.
        if outer is not None and outer._ends - outer._timer() >= -_LEFT_BEHIND:
            return outer
        # Weakly: aborted between any two lines, a call leaves no deadline behind, for with its frame goes this object.
        _current.set(weakref.ref(self))
        return self

    def __exit__(self, *error: object) -> None:
        current = _current.get()
        if current is not None and current() is self:
            _current.set(None)

    def left(self) -> float:
        """Seconds until the end; zero or less: it is over."""
        return self._ends - self._timer()


_current: ContextVar[weakref.ref[within] | None] = ContextVar("beaker_deadline", default=None)


def left() -> float | None:
    """Seconds the call in flight may still take, ``None`` outside any :class:`within`."""
    deadline = _in_flight()
    return None if deadline is None else deadline.left()


def _in_flight() -> within | None:
    current = _current.get()
    deadline = None if current is None else current()
    # A traceback that is kept would keep the frame too.
    return None if deadline is not None and deadline.left() < -_LEFT_BEHIND else deadline


def is_readable(sock: Any) -> bool:
    """Whether something can be read at once. On an idle connection that is the end of the stream, or a response to an
    earlier call."""
    if not hasattr(select, "poll"):
        # Windows has none, and eventlet's patch takes it away.
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class BoundedSocket:
    """A connected socket whose every wait ends with the call in flight, or by its own timeout if that is sooner.

    Raises TimeoutError then. Everything else is the socket's.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._own(sock.gettimeout())

    def _own(self, seconds: float | None) -> None:
        self._timeout = self._set = seconds
        self._enough = inf if seconds is None else seconds * _SLACK

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)
        self._own(seconds)

    def recv(self, *args: Any) -> bytes:
        self._tighten()
        received: bytes = self._sock.recv(*args)
        return received

    def recv_into(self, *args: Any) -> int:
        self._tighten()
        count: int = self._sock.recv_into(*args)
        return count

    def sendall(self, *args: Any) -> None:
        self._tighten()
        self._sock.sendall(*args)

    def _tighten(self) -> None:
        own, current, remaining = self._timeout, _current.get(), None
        # As left(), which would be four calls more at every wait.
        deadline = None if current is None else current()
        if deadline is not None:
            remaining = deadline._ends - deadline._timer()
            if remaining >= self._enough and self._set == own:
                return
            remaining = None if remaining < -_LEFT_BEHIND else remaining
        if own == 0:
            return
        if remaining is None or remaining >= self._enough:
            wanted = own
        elif remaining <= 0:
            raise TimeoutError("timed out")
        else:
            wanted = remaining
        if wanted != self._set:
            self._sock.settimeout(wanted)
            self._set = wanted
