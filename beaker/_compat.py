"""Helpers for code that ran on Python 2 and 3, at the older path; see :mod:`beaker.compat.python2`."""

from beaker.compat.python2 import PY2, b64decode, b64encode, bytes_, pickle, string_type, u_, unicode_text

__all__ = ["PY2", "b64decode", "b64encode", "bytes_", "pickle", "string_type", "u_", "unicode_text"]
