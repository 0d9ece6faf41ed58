"""Which function is it? The namespace of a function's results, and a warning when two functions would share one.

A function that can be imported is named ``module:qualname``. A local one shares its name
with every other function that the same lines define, so what it closes over is part of its namespace; a lambda has no
name, so its code is. The namespace is the same in every process: it is computed from values, never from identities.
"""

from __future__ import annotations

import hashlib
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from beaker.exceptions import UncacheableArgument
from beaker.keys import cache_key, encode_text, func_namespace, layers

__all__ = ["namespace_of", "shares_with"]

_MUTABLE = (list, dict, set, bytearray)
_LONG = 2**31
_DEEPEST = 4
"""Functions closing over functions are followed so far; they may close over each other."""

_names: weakref.WeakKeyDictionary[types.FunctionType, str] = weakref.WeakKeyDictionary()
_living: weakref.WeakValueDictionary[tuple[str, str], Any] = weakref.WeakValueDictionary()


def namespace_of(function: Callable[..., Any]) -> str:
    """``module:qualname``; for a local function ``;closure=`` and a digest of what distinguishes it from its siblings.

    That is every free variable whose value has a canonical form and cannot change, and a lambda's code.
    """
    *_, base = layers(function)
    if not isinstance(base, types.FunctionType):
        return func_namespace(function)
    # Kept: a free variable may be assigned later, and the function is still the one that was decorated.
    if base not in _names:
        _names[base] = _name(base, 0)
    return _names[base]


def _name(base: types.FunctionType, depth: int) -> str:
    name = func_namespace(base)
    if "<" not in name or depth > _DEEPEST:
        return name
    parts = [f"{free}={text}" for free, value in _free_variables(base) if (text := _constant(value, depth + 1))]
    if name.endswith("<lambda>"):
        parts.append(_code(base.__code__))
    if not parts:
        return name
    return f"{name};closure={hashlib.sha256(encode_text(repr(parts))).hexdigest()[:16]}"


def shares_with(cached: Any, deco_args: tuple[Any, ...]) -> str:
    """Why ``cached`` (which has a ``namespace``) would share values with another living function, or ``""``.

    A function that was reloaded, or typed again at a prompt, is the same function. ``deco_args`` that are given
    say so of closures, too: the manual decorates anew in every call of the function around.
    """
    identity = (cached.namespace, cache_key(deco_args))
    other = _living.get(identity)
    _living[identity] = cached
    return "" if other is None else _conflict(list(layers(other))[1:], list(layers(cached))[1:], bool(deco_args))


def _conflict(old: list[Any], new: list[Any], named: bool) -> str:
    if old[0] in new or new[0] in old:
        return ""
    first, second = old[-1], new[-1]
    if first is second:
        same = [_shape(layer) for layer in old] == [_shape(layer) for layer in new]
        return "" if same else "one function is wrapped differently"
    code, other = (getattr(base, "__code__", None) for base in (first, second))
    if code is None or other is None:
        return ""
    # Lambdas of one namespace have the same code, wherever they are written.
    if code is other or second.__name__ == "<lambda>":
        differing = "" if named else _differing(first, second)
        return differing and f"they close over different objects as {differing!r}"
    return "they are defined in different lines" if code != other and _in_one_run(first, second) else ""


def _in_one_run(first: types.FunctionType, second: types.FunctionType) -> bool:
    # At a prompt, and after a reload, which gives the module a new spec, the later definition replaces the earlier.
    where, spec = first.__code__.co_filename, first.__globals__.get("__spec__")
    same = where == second.__code__.co_filename and spec is second.__globals__.get("__spec__")
    return same and spec is not None and not where.startswith("<")


def _shape(layer: Any) -> Any:
    return getattr(layer, "__code__", layer), [id(value) for _, value in _free_variables(layer)]


def _differing(first: Any, second: Any) -> str:
    values = dict(_free_variables(second))
    for name, value in _free_variables(first):
        other = values.get(name, value)
        if other is not value and not _constant(value) and not _constant(other):
            return name
    return ""


def _free_variables(function: Any) -> Iterator[tuple[str, Any]]:
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet, such as the function's own name
            continue


def _constant(value: Any, depth: int = 1) -> str:
    """The canonical text of a value that cannot change, else ``""``."""
    if isinstance(value, _MUTABLE):
        return ""
    if isinstance(value, (tuple, frozenset)) and not all(_constant(item, depth) for item in value):
        return ""
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, types.FunctionType) or hasattr(value, "__wrapped__"):
        *_, base = layers(value)
        return f"function {_name(base, depth) if isinstance(base, types.FunctionType) else func_namespace(base)}"
    try:
        return cache_key((value,), key_length=_LONG)
    except UncacheableArgument:
        return ""


def _code(code: types.CodeType) -> str:
    constants = [_code(item) if isinstance(item, types.CodeType) else _constant(item) for item in code.co_consts]
    return repr((code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants))
