"""Backends by name.

``register_backend('mine', 'my.package:MyManager')`` adds one. A distribution may instead declare the
entry point group ``beaker.backends``, which is looked up for a name that is not known.
"""

from __future__ import annotations

from beaker.caching.registry import ENTRY_POINTS, known, load, register_backend

__all__ = ["ENTRY_POINTS", "known", "load", "register_backend"]
