"""What a session does when its store cannot be asked, as the option ``on_unavailable`` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from beaker.config.options import SessionOptions
from beaker.counters import count
from beaker.exceptions import StoreUnavailable

__all__ = ["asked", "refusal", "tolerate"]

T = TypeVar("T")


def asked(act: Callable[[], T], options: SessionOptions, *, tolerant: bool = True) -> tuple[T | None, bool]:
    """What ``act()`` returns, and whether its store could not be asked: raised, unless ``tolerant`` and ``read_only``.

    For what a page can do without: loading a session, recording an access, sending the cookie again.
    """
    try:
        return act(), False
    except StoreUnavailable as err:
        tolerate(err, options, tolerant=tolerant)
        return None, True


def tolerate(error: StoreUnavailable, options: SessionOptions, *, tolerant: bool = True) -> None:
    """Count that a store could not be asked; raises ``error`` unless ``tolerant`` and ``read_only``."""
    if not tolerant or options.on_unavailable == "raise":
        raise error
    count("session_unavailable", error.backend)


def refusal() -> StoreUnavailable:
    """For what only the store can make true: to be told that one is logged in or out would be wrong data."""
    return StoreUnavailable("the session could not be loaded in this request", operation="session")
