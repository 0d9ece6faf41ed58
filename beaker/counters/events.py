"""Counts of what went unusual (bad tokens, merge conflicts, corrupt records), and of good tokens by their key.

Labels are words of our own (a reason, a policy, a key's id), never data of a user.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from beaker.forks import after_fork

__all__ = ["added", "clear", "count", "count_key", "events", "on_count"]

L = TypeVar("L")

_lock = threading.Lock()
_counts: Counter[tuple[str, str]] = Counter()
_listeners: list[Callable[[str, str], None]] = []


def _renew() -> None:
    # A fork while another thread counts would leave it locked in the child.
    global _lock
    _lock = threading.Lock()
    _counts.clear()


after_fork(_renew)


def count(name: str, label: str = "") -> None:
    """Add one to ``name`` (and ``label``), and report it to every listener."""
    with _lock:
        _counts[name, label] += 1
    for listener in _listeners:
        listener(name, label)


def count_key(kid: bytes) -> None:
    """Add one to ``tokens_by_key`` of a key's 4-byte id: a key that no cookie needs any more may go."""
    if not kid:  # the token was not signed
        return
    label = kid.hex()
    with _lock:
        _counts["tokens_by_key", label] += 1
    for listener in _listeners:
        listener("tokens_by_key", label)


def events() -> dict[str, int]:
    """All counts of this process as ``{"name{label}": n}``."""
    with _lock:
        return {f"{name}{{{label}}}" if label else name: n for (name, label), n in sorted(_counts.items())}


def on_count(listener: Callable[[str, str], None]) -> Callable[[], None]:
    """Call ``listener(name, label)`` at every count. Returns a function that ends it."""
    return added(_listeners, listener)


def added(listeners: list[L], listener: L) -> Callable[[], None]:
    """Add ``listener``. Returns a function that takes it out; called again, it does nothing."""
    listeners.append(listener)
    taken_out = False

    def end() -> None:
        nonlocal taken_out
        # The list may have an equal one, which another caller added.
        if not taken_out:
            taken_out = True
            listeners.remove(listener)

    return end


def clear() -> None:
    """Set every count to zero."""
    with _lock:
        _counts.clear()
