"""Values that tests of serializers share, and how to tell two of them apart."""

from __future__ import annotations

import os
import zoneinfo
from datetime import datetime, time, timezone
from typing import Any, NamedTuple

from beaker.serialization.serializers import TaggedJson

# How many mutated inputs; a nightly run sets more.
FUZZ = int(os.environ.get("BEAKER_FUZZ", "20000"))
JSON = TaggedJson()
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def spelled(value: Any) -> Any:
    """A value with every type and every detail that ``==`` forgives written out."""
    kind = type(value)
    if kind in (list, tuple):
        return kind.__name__, [spelled(item) for item in value]
    if kind in (set, frozenset):
        return kind.__name__, sorted((spelled(item) for item in value), key=repr)
    if kind is dict:
        return "dict", [(spelled(key), spelled(item)) for key, item in value.items()]
    if kind in (datetime, time):
        zone = value.tzinfo
        name: Any = repr(zone) if isinstance(zone, timezone) else zone
        return kind.__name__, value.replace(tzinfo=None).isoformat(), value.fold, type(zone).__name__, name
    return kind.__name__, repr(value)


class Point(NamedTuple):
    x: int


class Name(str):
    __slots__ = ()
