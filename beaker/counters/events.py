"""Counts of what went unusual (bad tokens, merge conflicts, corrupt records), and of good tokens by their key.

Labels are words of our own (a reason, a policy, a key's id), never data of a user.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from beaker.forks import after_fork

__all__ = ["clear", "count", "count_key", "events", "on_count"]

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
    if kid:  # without one the token was not signed
        count("tokens_by_key", kid.hex())


def events() -> dict[str, int]:
    """All counts of this process as ``{"name{label}": n}``."""
    with _lock:
        return {f"{name}{{{label}}}" if label else name: n for (name, label), n in sorted(_counts.items())}


def on_count(listener: Callable[[str, str], None]) -> Callable[[], None]:
    """Call ``listener(name, label)`` at every count. Returns a function that ends it."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def clear() -> None:
    """Set every count to zero."""
    with _lock:
        _counts.clear()
