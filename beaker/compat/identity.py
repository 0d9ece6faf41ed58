"""Random names as programs for Beaker up to 1.14 take them: for this machine, and for ids of their own."""

from __future__ import annotations

import functools
import secrets

__all__ = ["machine_identifier", "session_id"]


@functools.cache
def machine_identifier() -> str:
    """32 hexadecimal digits, the same all through this process and its forks; drawn, so that they tell nothing."""
    return secrets.token_hex(16)


def session_id() -> str:
    """32 hexadecimal digits, new at each call, for programs that take ids of their own from ``beaker.session``."""
    return secrets.token_hex(16)
