"""What a creation is to replace: known to the function that creates, and kept where that says so."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from beaker.caching.freshness import CachedValue
from beaker.caching.negative import Failed
from beaker.caching.said import Said
from beaker.exceptions import BeakerException

if TYPE_CHECKING:
    from beaker.caching.ways import Way

__all__ = ["Previous", "create_with", "previous"]


class Previous(NamedTuple):
    """The old value, which is not to be changed. Times are seconds since the epoch."""

    value: Any
    stored: float
    expires: float | None
    """``None``: never."""

    def __repr__(self) -> str:
        return f"<previous {type(self.value).__name__} stored={self.stored} expires={self.expires}>"


class _Creating:
    """A creation in this context; ``old`` is gone when it has ended, in whatever contexts were copied meanwhile."""

    __slots__ = ("old",)

    def __init__(self, old: CachedValue | None) -> None:
        self.old = old


_current: ContextVar[_Creating | None] = ContextVar("beaker_creating", default=None)


def previous() -> Previous | None:
    """Inside a creation the old value, mostly an expired one, that its result will replace.

    ``None`` when there is none that the store still has, when the store cannot be asked, and outside a creation. Of
    creations inside one another it is the innermost one's. The function that creates may return
    :data:`~beaker.cache.NOT_MODIFIED` to keep it.
    """
    creating = _current.get()
    old = None if creating is None else creating.old
    return None if old is None else Previous(old.value, old.stored, old.expires)


async def create_with(old: CachedValue | None, way: Way, create: Callable[[], Any]) -> Any:
    """What ``create()`` returns, to which ``old`` is the previous one, or its value where that is not modified.

    BeakerException (``cache.not-modified``) where there is no old value to keep.
    """
    if old is not None and type(old.value) is Failed:
        old = None
    creating, outer = _Creating(old), _current.get()
    _current.set(creating)
    try:
        value = await way.create(create)
    finally:
        creating.old = None
        # A coroutine that is closed may be so in another context.
        if _current.get() is creating:
            _current.set(outer)
    if value is not Said.NOT_MODIFIED:
        return value
    if old is None:
        raise BeakerException(
            "a creation returned NOT_MODIFIED, and there is no old value; where beaker.cache.previous() is None it must"
            " create one",
            code="cache.not-modified",
        )
    return old.value
