"""Forks, and patches of the threading module: what must be made new, and the one place that knows of all of it.

``os.register_at_fork`` never takes a hook back: one per object would stay when the object is gone, and be called at
each fork. Beaker therefore registers once, and holds weakly what wants to know:

* before a fork, in the parent: :meth:`ForkAware._before_fork`;
* after it, in the parent: :meth:`ForkAware._after_fork_in_parent`, in the opposite order;
* in the child: what :func:`after_fork` was given, then :meth:`ForkAware._after_fork`, in order of registration.

Where the platform cannot fork (no ``os.register_at_fork``) registering costs nothing and nothing is called.

gevent's ``monkey.patch_all()`` replaces the classes of :mod:`threading`; gunicorn's gevent workers call it after the
fork. A lock created before that is native: a greenlet that waits for it stops its thread, and with it the greenlet that
would release it. So whatever keeps a lock for longer than a few lines calls :func:`notice_patch` before it takes one,
and the first call after a patch has everything make its locks anew (:meth:`ForkAware._renew_locks`).
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from types import MethodType
from typing import ClassVar

__all__ = ["ForkAware", "ForkGate", "after_fork", "after_patch", "is_patched", "notice_patch", "this_process"]

_PATIENCE = 5.0
"""Seconds a fork waits for operations in flight; then it goes on, and the child abandons their handles."""

Hook = Callable[[], None]


class ForkAware:
    """Base of what a forked child must not inherit as it is; registered objects are held weakly.

    ``__init__`` registers. A class that reaches it by no ``super().__init__()``, because protocols are among its
    bases, calls :meth:`_watch_forks` instead.
    """

    _freezes: ClassVar[bool] = False
    """:meth:`_before_fork` keeps locks that other threads need, so it comes after every hook that may wait for them."""

    def __init__(self) -> None:
        self._watch_forks()

    def _watch_forks(self) -> None:
        """Register this object, once."""
        _watched[next(_numbers)] = self

    def _before_fork(self) -> None:
        """In the parent, before: close what the child must not inherit, and keep other threads from opening it."""

    def _after_fork_in_parent(self) -> None:
        """In the parent, after: undo :meth:`_before_fork`, which was called on this object."""

    def _after_fork(self) -> None:
        """In the child, before any other thread exists there: forget, without closing, whatever was inherited.

        Called also where :meth:`_before_fork` was not, because the object was created in between.
        """

    def _renew_locks(self) -> None:
        """After a patch of :mod:`threading`: create new locks in place of those that no thread holds."""


def after_fork(hook: Hook) -> None:
    """Call ``hook`` in every child this process forks: a bound method while its object lives, a function for good."""
    number = next(_numbers)
    if isinstance(hook, MethodType):
        # No WeakMethod: where one ends together with its object, at the end of a process, Python prints an error.
        owner, function = weakref.ref(hook.__self__, lambda _: _hooks.pop(number, None)), hook.__func__
        _hooks[number] = lambda: None if (alive := owner()) is None else MethodType(function, alive)
    else:
        _hooks[number] = lambda: hook


def after_patch(hook: Hook) -> None:
    """Call ``hook``, a function, when :func:`notice_patch` finds that :mod:`threading` was patched."""
    _patch_hooks.append(hook)


def notice_patch() -> None:
    """Renew every registered object's locks if :mod:`threading` was patched since the last call; else one comparison.

    To be called before waiting for a lock that may be older than the patch. A patch belongs at the start of a process
    or of a worker, before other threads run; what another thread holds at that moment is not waited for.
    """
    global _lock_class
    if threading.Lock is not _lock_class:
        # First of all, because what follows creates objects and takes locks.
        _lock_class = threading.Lock
        _call_each([*_patch_hooks, *(item._renew_locks for item in _alive())])


def is_patched() -> bool:
    """Whether the locks of :mod:`threading` are another library's: threads are greenlets then, and must not block."""
    return threading.Lock.__module__ != "_thread"


def this_process() -> object:
    """What is another one in a forked child: whoever notes it knows later whether it was begun in this process.

    A child that unwinds its parent's stack, as by ``sys.exit()``, ends nothing that its parent has begun.
    """
    return _process


class ForkGate:
    """Entered around every operation; :meth:`close` waits until no thread is inside and keeps new ones out.

    SQLite keeps its file locks in process memory and believes that copy in the child, where the kernel holds none
    of them (sqlite.org/howtocorrupt.html, 2.6). A child must therefore not inherit a SQLite handle at all: closing
    it there is as wrong as using it. So the parent closes its idle ones behind this gate before the fork, and opens
    them again when it needs them.
    """

    def __init__(self) -> None:
        # Threads, not their number: one whose leaving an exception from outside prevented leaves the next time.
        self._inside: set[int] = set()
        self._closing = 0
        self.renew_locks()

    def __enter__(self) -> None:
        notice_patch()
        # The lock itself: the condition's own __enter__ is Python, after which a signal's handler may raise.
        with self._mutex:
            if self._closing:
                self._moved.wait_for(self._is_open)
            self._inside.add(threading.get_ident())

    def _is_open(self) -> bool:
        return not self._closing

    def __exit__(self, *error: object) -> None:
        with self._mutex:
            self._inside.discard(threading.get_ident())
            if self._closing:
                self._moved.notify_all()

    def close(self) -> None:
        """Wait, 5 seconds at most, until the operations in flight have ended; no new one begins until :meth:`open`."""
        # Without the mark, busy threads would pass in and out and the gate never be empty.
        self._moved.acquire()
        self._closing += 1
        self._moved.wait_for(lambda: not self._inside, _PATIENCE)

    def open(self) -> None:
        """Undo :meth:`close`, in the thread that called it."""
        self._closing -= 1
        self._moved.notify_all()
        self._moved.release()

    def reset(self) -> None:
        """Forget, in the child, which threads were inside in the parent."""
        self.__init__()  # type: ignore[misc]

    def renew_locks(self) -> None:
        """After a patch of :mod:`threading`."""
        self._mutex = threading.Lock()
        self._moved = threading.Condition(self._mutex)


_numbers = itertools.count()
_watched: weakref.WeakValueDictionary[int, ForkAware] = weakref.WeakValueDictionary()
_hooks: dict[int, Callable[[], Hook | None]] = {}
_patch_hooks: list[Hook] = []
_lock_class: object = threading.Lock
_process = object()
_paused: ContextVar[tuple[ForkAware, ...]] = ContextVar("beaker_paused_for_a_fork", default=())
"""What the forking thread called ``_before_fork`` on; two threads may fork at the same time."""


def _before() -> None:
    paused = tuple(sorted(_alive(), key=lambda item: item._freezes))
    _paused.set(paused)
    _call_each(item._before_fork for item in paused)


def _in_parent() -> None:
    paused = _paused.get()
    _paused.set(())
    _call_each(item._after_fork_in_parent for item in reversed(paused))


def _in_child() -> None:
    global _process
    _process = object()
    _paused.set(())
    _call_each(hook for reference in list(_hooks.values()) if (hook := reference()) is not None)
    _call_each(item._after_fork for item in _alive())


def _alive() -> list[ForkAware]:
    # valuerefs() copies in one step: another thread may register something meanwhile.
    return [item for reference in _watched.valuerefs() if (item := reference()) is not None]


def _call_each(hooks: Iterable[Hook]) -> None:
    """Call all of them, whatever one raises; the first error is raised at the end, for the interpreter to report."""
    failure: Exception | None = None
    for hook in hooks:
        try:
            hook()
        except Exception as err:
            failure = failure or err
    if failure is not None:
        try:
            raise failure
        finally:
            # Its traceback refers to this frame: without a circle, what was called on is collected at once.
            del failure, hook


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
