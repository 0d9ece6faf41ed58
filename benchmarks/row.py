"""A row of the table: one piece of work, who does it, and the goal for ours.

Imported in the environment of every implementation, so: the standard library only.
"""

from __future__ import annotations

import itertools
import json
import pickle
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Call = Callable[[], object]
"""The work once. What it returns is ignored."""
Store = tuple[Callable[[str], Any], Callable[[str, Any], Any]]
"""``get(key)`` and ``put(key, value)``."""

SECRET = "Vq3nT8xWb0LrYc5KzMh7PdJf2sGuE9aQ4iXoRt6NvBk"  # keys nothing: every checkout has it
FLOOR = "floor"
"""The implementation that is none: the client or the system calls without a library above them."""


@dataclass(frozen=True)
class Place:
    """Where an implementation works for one row: nothing of it is shared, except by the processes of one row."""

    implementation: str
    directory: str
    """An empty directory."""
    services: Mapping[str, str]
    """Addresses of the servers that run, by name; see :mod:`benchmarks.services`."""
    keys: int = 1
    size: int = 100
    """Bytes of a value, roughly."""

    @property
    def unique(self) -> str:
        """A name for tables, prefixes and projects, the same at each call."""
        return "b" + uuid.uuid5(uuid.NAMESPACE_URL, self.directory).hex[:12]

    @property
    def value(self) -> dict[str, Any]:
        """What is kept: plain data that JSON holds, of :attr:`size` bytes as JSON."""
        value: dict[str, Any] = {"id": 1001, "name": "Ann Example", "tags": ["tea", "jam"], "total": 12.5, "text": ""}
        value["text"] = "x" * max(0, self.size - len(json.dumps(value)))
        return value


Builder = Callable[[Place], Call]


@dataclass(frozen=True)
class Goal:
    """Ours may cost at most so many times what ``of`` costs (1 / requests where throughput is counted)."""

    at_most: float
    of: str


@dataclass(frozen=True)
class Row:
    """One line of the table. ``work`` has a builder for each implementation that can do it."""

    name: str
    work: Mapping[str, Builder]
    needs: frozenset[str] = frozenset()
    """Services without which it cannot run."""
    goals: tuple[Goal, ...] = ()
    note: str = ""
    keys: int = 1
    size: int = 100
    threads: int = 1
    processes: int = 1
    axis: str = ""
    """``keys``, ``size``, ``threads`` or ``processes`` for a point of a curve; see :mod:`benchmarks.growth`."""
    unit: str = "µs"
    kind: str = "call"
    """How it is measured: ``call``, ``figure``, ``process`` or ``load``; see :mod:`benchmarks.samplers`."""
    quick: bool = True
    """Whether ``--quick`` runs it too."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What that kind of measuring wants to know besides."""

    @property
    def higher_is_better(self) -> bool:
        return self.unit == "requests/s"


def needs(*services: str) -> frozenset[str]:
    return frozenset(services)


def goals(**most: float) -> tuple[Goal, ...]:
    """``beaker=0.5``: half of what Beaker 1.14.1 costs, or less. An underscore stands for the dot of a name."""
    return tuple(Goal(at_most, name.replace("_", ".")) for name, at_most in most.items())


def gets(stores: Mapping[str, Callable[[Place], Store]]) -> dict[str, Builder]:
    """Builders that read keys which are there, in turn."""

    def reading(opened: Callable[[Place], Store]) -> Builder:
        def build(place: Place) -> Call:
            get, _ = filled(opened, place)
            if place.keys == 1:
                return lambda: get("key-0")
            names = _in_turn(place.keys)
            return lambda: get(next(names))

        return build

    return {name: reading(opened) for name, opened in stores.items()}


def puts(stores: Mapping[str, Callable[[Place], Store]]) -> dict[str, Builder]:
    """Builders that overwrite keys which are there, in turn."""

    def writing(opened: Callable[[Place], Store]) -> Builder:
        def build(place: Place) -> Call:
            value, (_, put) = place.value, filled(opened, place)
            if place.keys == 1:
                return lambda: put("key-0", value)
            names = _in_turn(place.keys)
            return lambda: put(next(names), value)

        return build

    return {name: writing(opened) for name, opened in stores.items()}


_last_filled: dict[tuple[Callable[[Place], Store], str, int], Store] = {}
"""The store that this process has filled last: a row that reads and the one that writes may have it in common."""


def filled(opened: Callable[[Place], Store], place: Place) -> Store:
    """The store with the place's keys in it. ``AssertionError`` when it does not give back what was put."""
    wanted = opened, place.directory, place.keys
    if wanted in _last_filled:
        return _last_filled[wanted]
    _last_filled.clear()
    get, put = opened(place)
    for number in range(place.keys):
        put(f"key-{number}", place.value)
    found = get(f"key-{place.keys - 1}")
    if isinstance(found, bytes):  # the floors keep bytes
        found = pickle.loads(found)
    assert found == place.value, f"{place.implementation} does not give back what was put"
    _last_filled[wanted] = get, put
    return get, put


def _in_turn(count: int) -> Any:
    # A stride that does not divide the count: neighbours in time are not neighbours on a disk's page.
    names = [f"key-{number}" for number in range(count)]
    return itertools.cycle(names[::7] + [name for first in range(1, 7) for name in names[first::7]])


def only(stores: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of ``stores`` that have one of the ``names``."""
    return {name: stores[name] for name in names if name in stores}


def folder(place: Place, name: str) -> Path:
    made = Path(place.directory) / name
    made.mkdir(exist_ok=True)
    return made
