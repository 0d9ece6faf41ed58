"""What ``beaker._compat`` had for code that ran on Python 2 and 3; there is one Python now."""

from __future__ import annotations

import base64
import pickle
from typing import Any

__all__ = ["PY2", "b64decode", "b64encode", "bytes_", "pickle", "string_type", "u_", "unicode_text"]

PY2 = False
string_type = str
unicode_text = str


def bytes_(s: Any) -> bytes:
    """``s`` as bytes: text in UTF-8, bytes as they are, anything else by ``bytes()``."""
    return s.encode("utf-8") if isinstance(s, str) else bytes(s)


def u_(s: Any) -> str:
    """``s`` as text: bytes are UTF-8, anything else is what ``str()`` says."""
    return s.decode("utf-8") if isinstance(s, bytes) else str(s)


def b64encode(s: bytes) -> str:
    """Base64 as text."""
    return base64.b64encode(s).decode("ascii")


def b64decode(b: str | bytes) -> bytes:
    """The bytes in Base64. ``binascii.Error``, a ValueError, where it is none."""
    return base64.b64decode(b.encode("ascii") if isinstance(b, str) else b)
