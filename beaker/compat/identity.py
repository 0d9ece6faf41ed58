"""A name for this machine in lock owners, as older third-party managers write it."""

from __future__ import annotations

import functools
import secrets

__all__ = ["machine_identifier"]


@functools.cache
def machine_identifier() -> str:
    """32 hexadecimal digits, the same all through this process and its forks; drawn, so that they tell nothing."""
    return secrets.token_hex(16)
