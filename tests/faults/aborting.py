"""Exceptions from outside, at any point of a call."""

from __future__ import annotations

import dis
import functools
import linecache
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any


class Abort(BaseException):
    """Like ``gevent.Timeout`` and what gunicorn raises in a worker that it aborts."""


class Alarm(Exception):
    """Like what a handler of SIGALRM raises."""


@contextmanager
def aborted_at(number: int, error: type[BaseException]) -> Iterator[list[int]]:
    """Raises ``error`` at that point of those where this thread may handle a signal; the list's item counts them."""
    seen = [0]
    me = threading.get_ident()

    def point(frame: FrameType, stop: Callable[[], object]) -> None:
        if threading.get_ident() != me or _is_spared(frame):
            return
        seen[0] += 1
        if seen[0] == number:
            stop()
            raise error

    with _unheard(error), _stepping(point) if sys.version_info >= (3, 12) else _tracing(point):
        yield seen


@contextmanager
def _unheard(error: type[BaseException]) -> Iterator[None]:
    """What a callback of a weak reference raises reaches no caller; pytest would keep it, and with it every frame's
    variables, alive."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not came_from(unraisable.exc_value, error):
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


_Point = Callable[[FrameType, Callable[[], object]], None]


@contextmanager
def _tracing(point: _Point) -> Iterator[None]:
    """A point is where a line begins."""

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        # A "with" line comes again when its block has ended; no signal is handled between that and the __exit__, nor at
        # "try:", which does nothing.
        if event == "line" and not _line(frame).startswith(("with ", "try:")):
            point(frame, lambda: sys.settrace(None))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _stepping(point: _Point) -> Iterator[None]:
    """A point is the beginning of a function, the end of a built-in one, and the end of a turn of a loop.

    Signals are handled nowhere else since Python 3.12. A line may begin where none is, such as between the end of a
    loop and the ``__exit__`` of the block around it.
    """
    monitoring = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    tool, events = monitoring.DEBUGGER_ID, monitoring.events

    def stop() -> None:
        monitoring.set_events(tool, events.NO_EVENTS)

    def step(*_: Any) -> None:
        point(sys._getframe(1), stop)

    def jump(code: CodeType, begin: int, end: int) -> None:
        # What is raised here passes by the handlers of its own frame, which a signal's exception does not.
        if end < begin and not _is_handled(code, begin):
            point(sys._getframe(1), stop)

    monitoring.use_tool_id(tool, "aborting")
    try:
        for event, callback in ((events.PY_START, step), (events.C_RETURN, step), (events.JUMP, jump)):
            monitoring.register_callback(tool, event, callback)
        # What a built-in function returns is told only where calls are.
        monitoring.set_events(tool, events.PY_START | events.CALL | events.JUMP)
        yield
    finally:
        stop()
        monitoring.free_tool_id(tool)


@functools.cache
def _is_handled(code: CodeType, offset: int) -> bool:
    """Whether an exception at that step of ``code`` has a handler there."""
    table: Any = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    return any(entry.start <= offset < entry.end for entry in table)


_TESTS = str(Path(__file__).resolve().parents[1])


def _is_spared(frame: FrameType | None) -> bool:
    # Steps of the test itself say nothing. What is raised in __del__ and in the callbacks of weak references reaches no
    # caller.
    if frame is not None and frame.f_code.co_filename.startswith(_TESTS):
        return True
    while frame is not None and frame.f_code.co_name not in ("__del__", "_remove"):
        frame = frame.f_back
    return frame is not None


def _line(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip()


def each_line(call: Callable[[], object], error: type[BaseException], step: int) -> Iterator[None]:
    """Aborts ``call`` at one line after another, until it ends before it is aborted."""
    line = 1
    while True:
        ended = False
        try:
            with aborted_at(line, error) as seen:
                call()
                # It may have been raised where no caller is.
                ended = seen[0] < line
        except BaseException as err:
            if not came_from(err, error):
                raise
        yield
        if ended:
            return
        line += step


def came_from(err: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether ``kind`` is in the chain: a library's own tidying up may raise another exception in its place."""
    while err is not None and not isinstance(err, kind):
        err = err.__context__
    return err is not None
