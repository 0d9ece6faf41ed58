"""Turning values into bytes and back: tagged JSON, pickle, and the rule that picks between them.

What every serializer here promises

* ``loads(dumps(x)) == x`` with the same types throughout, or ``dumps`` raises
  :class:`~beaker.exceptions.UnserializableValue` naming the path to the value it cannot hold.
* ``loads`` returns a value or raises :class:`~beaker.exceptions.CorruptRecord`, nothing else.

JSON never runs code, whoever wrote the bytes. Pickle runs code: a caller loads one only from a record it
can trust: one whose MAC verified, or one in a store that only this user can write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from beaker.exceptions import ConfigError, CorruptRecord, UnserializableValue
from beaker.serialization.hashes import MOST_ALIKE, crowded
from beaker.serialization.tagged_json import TaggedJson

__all__ = ["Auto", "Custom", "Pickle", "Serializer", "TaggedJson", "by_name", "is_pickle"]

_PROTOCOL = 5
_HASHED = frozenset({set, frozenset, dict})
_PICKLE_MARK = b"\x80"


@runtime_checkable
class Serializer(Protocol):
    """Values to bytes and back. ``path`` is what error messages call the value (``session['cart']``)."""

    def dumps(self, obj: Any, path: str = "value") -> bytes: ...

    def loads(self, data: bytes) -> Any: ...


def is_pickle(data: bytes) -> bool:
    """True when ``data`` was written by :class:`Pickle`; no JSON text begins with that byte."""
    return data[:1] == _PICKLE_MARK


class Pickle:
    """The pickle module at protocol 5, which every supported Python reads.

    ``loads`` executes what the bytes say: only for records whose seal was verified, or that no other user
    can write.
    """

    name = "pickle"

    def dumps(self, obj: Any, path: str = "value") -> bytes:
        import pickle

        # What lies deeper is not looked at: in a pickle it can be anywhere, in objects of any class.
        if type(obj) in _HASHED and crowded(obj):
            hint = f"more than {MOST_ALIKE} of its elements or keys have the same hash; keep them in a list"
            raise UnserializableValue(path, type(obj).__name__, hint, code="value.same-hash")
        try:
            return pickle.dumps(obj, _PROTOCOL)
        except Exception as err:  # whatever a value's own __reduce__ raises
            raise UnserializableValue(path, type(obj).__name__, "pickle refuses it") from err

    def loads(self, data: bytes) -> Any:
        import pickle

        try:
            return pickle.loads(data)
        except Exception as err:  # a pickle of a class that changed may raise anything
            raise CorruptRecord("a pickle that cannot be loaded") from err


class Auto:
    """Tagged JSON and pickle in one: the bytes themselves say which.

    ``allow_pickle`` (default off) lets ``dumps`` pickle what JSON cannot hold, and ``loads`` open a
    pickle; without it a pickle is a :class:`CorruptRecord` and is never executed. ``prefer_pickle`` tries
    pickle first (trusted caches). Both read what the other wrote.
    """

    name = "auto"

    def __init__(self, *, allow_pickle: bool = False, prefer_pickle: bool = False) -> None:
        if prefer_pickle and not allow_pickle:
            raise ConfigError("prefer_pickle needs allow_pickle", option="serializer")
        self.allow_pickle = allow_pickle
        self.prefer_pickle = prefer_pickle
        self._json = TaggedJson()
        self._pickle = Pickle()

    def dumps(self, obj: Any, path: str = "value") -> bytes:
        if self.prefer_pickle:
            return self._pickle.dumps(obj, path)
        try:
            return self._json.dumps(obj, path)
        except UnserializableValue as err:
            if not self.allow_pickle or err.code == "value.same-hash":
                raise
            return self._pickle.dumps(obj, path)

    def loads(self, data: bytes) -> Any:
        if not is_pickle(data):
            return self._json.loads(data)
        if not self.allow_pickle:
            raise CorruptRecord("a pickle where pickles are not allowed")
        return self._pickle.loads(data)


class Custom:
    """A user's object with ``dumps`` and ``loads``, wrapped to keep the promises on errors.

    ``dumps`` may return ``bytes`` or ``str`` (stored as UTF-8). Whether values come back unchanged is up
    to the object.
    """

    name = "custom"

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def dumps(self, obj: Any, path: str = "value") -> bytes:
        try:
            made = self.inner.dumps(obj)
            data = made.encode("utf-8") if isinstance(made, str) else made
        except Exception as err:  # the object is the user's, so are its exceptions
            raise UnserializableValue(path, type(obj).__name__, "the configured serializer refuses it") from err
        if not isinstance(data, bytes):
            raise UnserializableValue(path, type(obj).__name__, "the configured serializer returned no bytes")
        return data

    def loads(self, data: bytes) -> Any:
        try:
            return self.inner.loads(data)
        except Exception as err:  # the object is the user's, so are its exceptions
            raise CorruptRecord("the configured serializer cannot load a record") from err


_BY_NAME: dict[str, Callable[[bool], Serializer]] = {
    "json": lambda allow_pickle: TaggedJson(),
    "pickle": lambda allow_pickle: Pickle(),
    "auto": lambda allow_pickle: Auto(allow_pickle=allow_pickle),
}


def by_name(value: object, *, option: str = "serializer", allow_pickle: bool = False) -> Serializer:
    """The serializer an option asks for: ``'json'``, ``'pickle'``, ``'auto'`` or an object.

    An object needs callable ``loads`` and ``dumps``; it is wrapped in :class:`Custom`. ``allow_pickle``
    concerns ``'auto'`` only. Raises :class:`~beaker.exceptions.ConfigError` for anything else.
    """
    if isinstance(value, (TaggedJson, Pickle, Auto, Custom)):
        return value
    if isinstance(value, str):
        build = _BY_NAME.get(value.strip().lower())
        if build is not None:
            return build(allow_pickle)
    elif callable(getattr(value, "dumps", None)) and callable(getattr(value, "loads", None)):
        return Custom(value)
    raise ConfigError(
        f"{option} names no serializer",
        option=option,
        expected="'json', 'pickle', 'auto' or an object with loads and dumps",
        got="an unknown name" if isinstance(value, str) else type(value).__name__,
    )
