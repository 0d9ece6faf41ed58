"""Text to booleans and lists, at the older path; see :mod:`beaker.compat.converters`."""

from beaker.compat.converters import asbool, aslist

__all__ = ["asbool", "aslist"]
