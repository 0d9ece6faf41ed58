"""``beaker.util``'s serializers: JSON, and pickles that are written in full but read only where they are plain."""

from __future__ import annotations

import json
import pickle
import zlib
from typing import Any

from beaker.exceptions import CorruptRecord, UnserializableValue
from beaker.session.legacy.plain import LegacyDataError
from beaker.session.legacy.unpickle import loads as load_plain

__all__ = ["JsonSerializer", "PickleSerializer", "deserialize", "serialize"]

_LARGEST = 1 << 20
"""Bytes a compressed JSON text may come to: what it expands to is not bounded by its length."""


class PickleSerializer:
    """Pickles. ``loads`` takes plain values only (numbers, text, bytes, lists, dicts, sets, dates, ...).

    Bytes that reach this class carry no proof of where they come from, and a pickle of a class runs what it names.
    CorruptRecord for such a one. The option ``serializer = pickle`` reads all pickles, under a key.
    """

    def dumps(self, data: Any) -> bytes:
        return pickle.dumps(data, 2)

    def loads(self, data_string: bytes) -> Any:
        try:
            return load_plain(data_string, limit=_LARGEST)
        except LegacyDataError as error:
            raise CorruptRecord("a pickle that holds more than plain values, or none") from error


class JsonSerializer:
    """JSON, compressed. UnserializableValue for what JSON cannot hold; CorruptRecord for other bytes."""

    def dumps(self, data: Any) -> bytes:
        try:
            return zlib.compress(json.dumps(data).encode("utf-8"))
        except (TypeError, ValueError, RecursionError) as error:
            raise UnserializableValue("", type(data).__name__, "JSON cannot hold it") from error

    def loads(self, data_string: bytes) -> Any:
        try:
            unpacker = zlib.decompressobj()
            text = unpacker.decompress(data_string, _LARGEST)
            if not unpacker.eof:
                raise CorruptRecord("JSON that is cut off, or larger than a megabyte")
            return json.loads(text)
        except (zlib.error, ValueError, RecursionError) as error:
            raise CorruptRecord("no compressed JSON") from error


def serialize(data: Any, method: str) -> bytes:
    """``data`` in bytes: by :class:`JsonSerializer` for ``method='json'``, else by :class:`PickleSerializer`."""
    return JsonSerializer().dumps(data) if method == "json" else PickleSerializer().dumps(data)


def deserialize(data_string: bytes, method: str) -> Any:
    """What :func:`serialize` wrote. CorruptRecord for anything else, and for a pickle of more than plain values."""
    return JsonSerializer().loads(data_string) if method == "json" else PickleSerializer().loads(data_string)
