"""A store wrapper whose operations can be interrupted: by other requests, and by failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from beaker.exceptions import StoreUnavailable
from beaker.session.context import SessionContext
from beaker.testing.session_harness import Handler, Tab

__all__ = ["OPERATIONS", "WRITES", "Interruptible", "each_failure", "interrupt"]

READS = ("get", "get_many", "read")
WRITES = ("insert", "replace", "remove", "set", "delete")
OPERATIONS = READS + WRITES


class Interruptible:
    """Passes everything to ``inner`` and calls ``before(name, number)`` and ``after(name, number)`` around each.

    Either may raise: before, the operation is not done; after, it is done and its result is lost.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.number = 0
        self.before: Callable[[str, int], None] | None = None
        self.after: Callable[[str, int], None] | None = None

        # Attributes of its own and no __getattr__: from Python 3.12 on isinstance() with a protocol ignores that one.
        for name in dir(inner):
            if not name.startswith("_"):
                self.__dict__[name] = self._watched(name) if name in OPERATIONS else getattr(inner, name)

    def _watched(self, name: str) -> Callable[..., Any]:
        found = getattr(self.inner, name)

        def operation(*args: Any, **kwargs: Any) -> Any:
            number, self.number = self.number, self.number + 1
            if self.before is not None:
                self.before(name, number)
            answer = found(*args, **kwargs)
            if self.after is not None:
                self.after(name, number)
            return answer

        return operation

    def quiet(self) -> None:
        """No interruptions; counting starts at 0 again."""
        self.before = self.after = None
        self.number = 0

    def lose(self, number: int, *, done: bool, repeat: bool = False) -> None:
        """Operation ``number`` (and with ``repeat`` all after it) raises; ``done`` says whether it was done."""

        def fail(name: str, at: int) -> None:
            if at == number or (repeat and at > number):
                raise StoreUnavailable("no answer", backend="test", operation=name)

        self.before, self.after = (None, fail) if done else (fail, None)


def interrupt(context: SessionContext) -> Interruptible:
    """Put one wrapper in front of the stores of a context's sessions and revocations."""
    revocations = context.revocations
    if context.type == "cookie":
        assert revocations is not None
        wrapper = Interruptible(revocations._points.store)
    else:
        wrapper = Interruptible(context.records.store)
        context.records.store = wrapper
    if revocations is not None:
        revocations._points.store = wrapper
    return wrapper


def each_failure(tab: Tab, begin: Handler, act: Handler, *, done: bool, most: int) -> Iterator[Any]:
    """``act`` on a new session that ``begin`` saved, its first, second, ... operation failing, until it has no more.

    Yields what ``act`` returned, or the StoreUnavailable that it raised; the store works again by then. Fails when
    ``act`` has over ``most`` operations, or none.
    """
    store = interrupt(tab.middleware.context)
    for at in range(most):
        tab.cookies.clear()
        store.quiet()
        tab.do(begin)
        store.quiet()
        store.lose(at, done=done)
        try:
            found = tab.do(act)
        except StoreUnavailable as error:
            found = error
        reached = store.number > at
        store.quiet()
        yield found
        if not reached:
            assert at > 0
            return
    raise AssertionError(f"over {most} operations")
