"""Names: for functions, for calls of functions, and for records in stores with narrow alphabets.

Every construction here is injective: parts are framed with their lengths before they are joined or
hashed, so ``('a', 'b_c')`` and ``('a_b', 'c')`` never collide.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import types
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from beaker.exceptions import UncacheableArgument

__all__ = [
    "KEY_LENGTH",
    "cache_key",
    "digest",
    "encode_text",
    "func_namespace",
    "layers",
    "mangle",
    "namespace_digest",
    "positional_key",
]

KEY_LENGTH = 250
"""Longest readable cache key in bytes of UTF-8, unless asked otherwise: memcached's limit."""

_RECORD = b"beaker:record:1\0"
_NAMESPACE = b"beaker:namespace:1\0"
_CALL = b"beaker:call:1\0"
_NAME = re.compile(r"[A-Za-z0-9_.:\-]*\Z")
_DIGEST_LENGTH = 2 + 64
_SMALL = 1 << 63


def encode_text(text: str) -> bytes:
    """UTF-8 bytes of any ``str``, lone surrogates included; different texts give different bytes."""
    return text.encode("utf-8", "surrogatepass")


def digest(namespace: str, key: str) -> str:
    """64 lower-case hex digits naming the pair; a SHA-256 over the namespace's length, it, and the key."""
    name = namespace.encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"%b%d:%b%b" % (_RECORD, len(name), name, key.encode("utf-8", "surrogatepass"))).hexdigest()


def namespace_digest(namespace: str) -> str:
    """64 lower-case hex digits naming a namespace; never equal to a :func:`digest` of a pair."""
    return hashlib.sha256(_NAMESPACE + encode_text(namespace)).hexdigest()


def mangle(namespace: str, key: str, limit: int = 200) -> str:
    """A physical name of at most ``limit`` characters from ``[A-Za-z0-9_.:-]`` for the pair.

    Readable (``k:3:foo:bar``) when both parts already keep to that alphabet and fit, else ``h:`` and
    64 hex digits. Different pairs give different names, where the store distinguishes ``a`` from ``A``; one
    that does not wants :func:`digest`. Never empty, never begins with ``_``. ``ValueError`` when
    ``limit`` is below 66.
    """
    if limit < _DIGEST_LENGTH:
        raise ValueError(f"limit must be at least {_DIGEST_LENGTH} characters")
    if len(namespace) + len(key) < limit and _NAME.match(namespace) and _NAME.match(key):
        readable = f"k:{len(namespace)}:{namespace}:{key}"
        if len(readable) <= limit:
            return readable
    return "h:" + digest(namespace, key)


# Names of functions


def layers(func: Any) -> Iterator[Any]:
    """``func``, then what it wraps, and so on to the function beneath: through decorators that used
    ``functools.wraps``, ``partial``, methods, ``classmethod`` and ``staticmethod``; at most 100."""
    for _ in range(100):
        yield func
        inner = getattr(func, "__wrapped__", None) or getattr(func, "__func__", None)
        if inner is None and hasattr(func, "keywords"):
            inner = getattr(func, "func", None)
        if inner is None:
            return
        func = inner


def func_namespace(func: Callable[..., Any]) -> str:
    """``module:qualname`` of the function beneath (manual 5.1.6): of what a decorator, ``partial``,
    method, ``classmethod`` or ``staticmethod`` wraps; of its class for another callable object."""
    *_, target = layers(func)
    if not hasattr(target, "__qualname__"):
        target = type(target)
    return f"{target.__module__}:{target.__qualname__}"


# Names of calls


def cache_key(
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    key_length: int = KEY_LENGTH,
    legacy: bool = False,
    prefix: str = "",
) -> str:
    """The key of a call with these arguments; calls that differ in value or type have different keys.

    Arguments may be None, bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, range,
    date, time, datetime, timedelta, Decimal, UUID, Enum members, paths, frozen dataclasses, named tuples,
    classes and functions of a module, methods of such objects, and objects whose ``__cache_key__()``
    returns one of these. Anything else raises :class:`~beaker.exceptions.UncacheableArgument`.

    ``prefix`` is the key of the arguments before ``args``, unabridged, in their place; not with ``legacy``.

    A key over ``key_length`` bytes of UTF-8 becomes ``#`` and the 64 hex digits of its SHA-256. With
    ``legacy`` it is the ``str()`` of the arguments joined by spaces, as Beaker up to 1.14 builds it:
    ``f(1)`` and ``f('1')`` then share a key.
    """
    if legacy:
        words = [str(value) for value in args]
        words += [f"{name}={kwargs[name]}" for name in sorted(kwargs or ())] if kwargs else []
        return _shortened(" ".join(words), key_length)
    if not kwargs:
        return positional_key(prefix, args, key_length)
    before = positional_key(prefix, args, sys.maxsize) if args or prefix else ""
    named = "".join([f"s{len(name)}:{name}{_argument(kwargs[name], name)}" for name in sorted(kwargs)])
    return _shortened(f"{before}|{named}", key_length)


def positional_key(prefix: str, args: Sequence[Any], key_length: int) -> str:
    """:func:`cache_key` of positional arguments alone, by which most hits of a decorated function are found."""
    text = prefix
    for value in args:
        kind = type(value)
        if kind is str:
            text = f"{text}s{len(value)}:{value}"
        elif kind is int and -_SMALL < value < _SMALL:
            text = f"{text}i{value};"
        else:
            text += _argument(value, args)
    # A character has four bytes at most, and most keys are short.
    return text if 0 < len(text) * 4 <= key_length else _shortened(text or "()", key_length)


def _shortened(key: str, key_length: int) -> str:
    # No readable key begins with "#", except a legacy one: those promise nothing.
    if len(key) * 4 <= key_length:
        return key
    raw = encode_text(key)
    return key if len(raw) <= key_length else "#" + hashlib.sha256(_CALL + raw).hexdigest()


class _Unknown(Exception):
    """Raised with the reason why a value has no canonical form."""


_REMEDY = "pass something simpler, or give its class a __cache_key__() method that returns a string or a tuple"


def _argument(value: Any, where: str | Sequence[Any]) -> str:
    """The text of ``value``, which is the keyword argument ``where`` or one of those positional arguments."""
    try:
        return _encode(value, 0)
    except _Unknown as err:
        if isinstance(where, str):
            where = f"argument {where!r}"
        else:
            where = f"positional argument {next(n for n, other in enumerate(where, 1) if other is value)}"
        raise UncacheableArgument(f"{where}: {err}; {_REMEDY}") from None


def _encode(value: Any, depth: int) -> str:
    """A text that says where it ends, so that texts can be joined without colliding."""
    if depth > _DEEPEST:
        raise _Unknown(f"nested deeper than {_DEEPEST} levels, or within itself")
    encoder = _EXACT.get(type(value))
    if encoder is None:
        encoder = _encoders.get(type(value))
        if encoder is None:
            encoder = _encoders[type(value)] = _encoder_for(type(value))
    return encoder(value, depth + 1)


def _int(value: int, depth: int) -> str:
    try:
        return f"i{int(value)};"
    except ValueError:
        # More digits than Python converts to decimal; "0x" keeps the two forms apart.
        return f"i{int(value):#x};"


def _text(text: str) -> str:
    return f"{len(text)}:{text}"


def _ordered(mark: str) -> _Encoder:
    def encode(values: Any, depth: int) -> str:
        return f"{mark}{len(values)}(" + "".join([_encode(value, depth) for value in values]) + ")"

    return encode


def _unordered(mark: str) -> _Encoder:
    def encode(values: Any, depth: int) -> str:
        return f"{mark}{len(values)}(" + "".join(sorted([_encode(value, depth) for value in values])) + ")"

    return encode


def _dict(value: Any, depth: int) -> str:
    pairs = [_encode(key, depth) + _encode(item, depth) for key, item in value.items()]
    return f"M{len(pairs)}(" + "".join(sorted(pairs)) + ")"


def _named(thing: Any) -> str:
    name = f"{thing.__module__}:{thing.__qualname__}"
    if "<" in name:
        # Two functions or classes defined by one function share this name and may behave differently.
        raise _Unknown(f"{name} has no name of its own (it is local)")
    return _text(name)


def _definition(thing: Any, depth: int) -> str:
    return "X" + _named(thing)


def _builtin(thing: Any, depth: int) -> str:
    if not isinstance(thing.__self__, types.ModuleType):
        return "m" + _encode(thing.__self__, depth) + _text(thing.__name__)
    return "X" + _text(f"{thing.__module__}:{thing.__qualname__}")


def _method(thing: Any, depth: int) -> str:
    return "m" + _encode(thing.__self__, depth) + _named(thing.__func__)


def _datetime(value: Any, depth: int) -> str:
    zone = value.tzinfo
    names = "" if zone is None else f"{value.tzname()}|{getattr(zone, 'key', '')}"
    return "D" + _text(f"{value.isoformat()}|{value.fold}|{names}")


def _dataclass(value: Any, depth: int) -> str:
    from dataclasses import fields

    return "A" + "".join(
        [_text(field.name) + _encode(getattr(value, field.name), depth) for field in fields(value)] + [";"]
    )


_Encoder = Callable[[Any, int], str]
_DEEPEST = 50

_EXACT: dict[type, _Encoder] = {
    type(None): lambda value, depth: "n",
    bool: lambda value, depth: "t" if value else "f",
    int: _int,
    str: lambda value, depth: f"s{len(value)}:{value}",
    float: lambda value, depth: f"d{float(value)!r};",
    complex: lambda value, depth: f"c{complex(value)!r};",
    bytes: lambda value, depth: f"b{bytes(value).hex()};",
    tuple: _ordered("T"),
    list: _ordered("L"),
    set: _unordered("S"),
    frozenset: _unordered("F"),
    dict: _dict,
    range: lambda value, depth: f"r{value.start:#x},{value.stop:#x},{value.step:#x};",
    type: _definition,
    types.FunctionType: _definition,
    types.BuiltinFunctionType: _builtin,
    types.MethodType: _method,
}

_BY_NAME: dict[str, _Encoder] = {
    "enum.Enum": lambda value, depth: "E" + (_text(value.name) if value.name else _encode(value.value, depth)),
    "datetime.datetime": _datetime,
    "datetime.time": _datetime,
    "datetime.date": lambda value, depth: "D" + _text(value.isoformat()),
    "datetime.timedelta": lambda value, depth: f"D{value.days},{value.seconds},{value.microseconds};",
    "decimal.Decimal": lambda value, depth: f"e{value};",
    "uuid.UUID": lambda value, depth: f"u{value.hex};",
    "pathlib.PurePath": lambda value, depth: "P" + _text(str(value)),
    "pathlib._local.PurePath": lambda value, depth: "P" + _text(str(value)),
    "collections.OrderedDict": lambda value, depth: _ordered("L")(list(value.items()), depth),
}
"""By name, so that these modules are not imported for it: a caller with such a value has imported them."""

_PLAIN: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
}
"""How to get the simple type's own value out of an instance of a subclass."""

_encoders: weakref.WeakKeyDictionary[type, _Encoder] = weakref.WeakKeyDictionary()


def _encoder_for(kind: type) -> _Encoder:
    """How to encode instances of a class that is not one of the built-in ones."""
    if hasattr(kind, "__cache_key__"):
        name = _text(f"{kind.__module__}:{kind.__qualname__}")
        return lambda value, depth: f"Z{name}" + _encode(value.__cache_key__(), depth)
    if issubclass(kind, type):
        return _definition
    bases = {f"{base.__module__}.{base.__qualname__}": base for base in kind.__mro__}
    inner = _BY_NAME["enum.Enum"] if "enum.Enum" in bases else _extension(kind, bases)
    named = "K" + _named(kind)
    return lambda value, depth: named + inner(value, depth)


def _extension(kind: type, bases: Mapping[str, type]) -> _Encoder:
    """How to encode what a class extends; ``bases`` are its bases by name."""
    name = next((name for name in bases if name in _BY_NAME), None)
    if name is not None:
        return _alone(kind, bases[name], _BY_NAME[name])
    if getattr(getattr(kind, "__dataclass_params__", None), "frozen", False):
        base = next(part for part in kind.__mro__ if "__dataclass_params__" in part.__dict__)
        return _dataclass if base is kind else _alone(kind, base, _dataclass)
    simple = next((base for base in _PLAIN if issubclass(kind, base)), None)
    if simple is None:
        raise _Unknown(f"{kind.__module__}.{kind.__qualname__} has no canonical form")
    plain, exact = _PLAIN[simple], _EXACT[simple]
    # What it overrides is not asked: it may say the same of two values.
    return _alone(kind, simple, lambda value, depth: exact(plain(value), depth))


def _alone(kind: type, base: type, inner: _Encoder) -> _Encoder:
    """``inner``, which encodes what ``base`` holds, for instances of ``kind`` that hold nothing besides."""
    has_slots = any(part.__dict__.get("__slots__") for part in kind.__mro__[: kind.__mro__.index(base)])
    fields = getattr(base, "__dataclass_fields__", ())

    def encode(value: Any, depth: int) -> str:
        if has_slots or any(name not in fields and not _is_derived(kind, name) for name in _state(value)):
            label = f"{kind.__module__}.{kind.__qualname__}"
            raise _Unknown(f"{label} holds more than the {base.__name__} it extends")
        return inner(value, depth)

    return encode


def _state(value: Any) -> Mapping[str, Any]:
    state: Mapping[str, Any] = getattr(value, "__dict__", {})
    return state


def _is_derived(kind: type, name: str) -> bool:
    return isinstance(getattr(kind, name, None), functools.cached_property)
