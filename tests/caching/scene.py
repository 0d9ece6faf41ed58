"""One call of the dogpile algorithm whose place and way do as they are told, and note what they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from beaker.caching.dogpile import Terms, aget_or_create
from beaker.caching.entry import Entry
from beaker.caching.marks import Begun, Unmarked
from beaker.caching.ways import run
from beaker.counters.tallies import CacheTally
from beaker.testing import FakeClock

__all__ = ["TAKEN", "Place", "Scene"]

TAKEN = "another process has the key"


class Place:
    """Begins as ``beginnings`` say, an entry or ``TAKEN``, then a creation each time."""

    origin = ("n", "k")

    def __init__(self, noted: list[Any]) -> None:
        self.noted = noted
        self.beginnings: list[Any] = []
        self.old: Entry | None = None
        self.stored: Entry | None = None
        self.costs: list[float] = []
        self.is_full = False
        self.overdue = False

    def read(self) -> Entry | None:
        self.noted.append("read")
        return self.stored

    def begin(self, good: Callable[[Any], bool], *, absent: bool, mode: str) -> Begun:
        self.noted.append(f"{mode}, absent" if absent else mode)
        given = self.beginnings.pop(0) if self.beginnings else None
        if given is TAKEN:
            return Begun(self.old, None, True)
        return Begun(given or self.old, None if given else Unmarked())

    def store(self, creation: Any, value: Any, cost: float) -> None:
        if self.is_full:
            raise OSError("disk")
        self.costs.append(cost)

    def copies(self, entry: Any) -> None:
        return None

    def is_taken(self, entry: Any) -> bool:
        return False

    def is_overdue(self, entry: Any) -> bool:
        return self.overdue


class Way:
    """Waits for nothing: ``free`` and ``waiting(call)`` say how that ends."""

    def __init__(self, noted: list[Any]) -> None:
        self.noted = noted
        self.lock: Any = SimpleNamespace(failures=0, error=None, failed=None, fail=self._fail)
        self.front: Any = None
        self.free = True
        self.waiting: Callable[[Any], bool] = lambda call: True
        self.shared: list[Any] = []

    def _fail(self, error: BaseException, origin: Any) -> None:
        self.shared.append((error, origin))

    async def call(self, work: Callable[[], Any]) -> Any:
        return work()

    async def begin(self, work: Callable[[], Begun], timeout: float) -> Begun:
        self.noted.append(timeout)
        return work()

    async def abandon(self, creation: Any, error: BaseException) -> bool:
        return True

    async def create(self, create: Callable[[], Any]) -> Any:
        return create()

    async def store(self, work: Callable[[], Any], source: Any) -> None:
        work()

    async def attempt(self) -> bool:
        self.noted.append("attempt")
        return self.free

    async def wait(self, call: Any) -> bool:
        self.noted.append(f"wait {call.timeout:g}")
        return self.waiting(call)

    def release(self) -> None:
        self.noted.append("release")


class Scene:
    """A call with everything around it."""

    def __init__(self) -> None:
        self.noted: list[Any] = []
        self.place = Place(self.noted)
        self.way = Way(self.noted)
        self.clock = FakeClock()
        self.times = [100.0]
        self.tally = CacheTally("r", "n")

    def get(self, create: Callable[[], Any] = lambda: "new", found: Entry | None = None, **named: Any) -> Any:
        """The result; ``times`` are those of its timer, the last for good."""
        times = list(self.times)
        terms = Terms(self.clock, lambda: times.pop(0) if times[1:] else times[0], tally=self.tally, **named)
        way: Any = self.way
        return run(way, aget_or_create(self.place, create, lambda: way, terms, found))

    def entry(self, value: Any = "old", age: float = 11.0, cost: float = 0.0, kind: type[Entry] = Entry) -> Entry:
        """One that is valid for 10 seconds."""
        return kind(value, self.clock() - age, 10.0, cost)

    def failing(self, **named: Any) -> list[Any]:
        """What a creation that raises shares with those that wait."""
        error = ValueError("no")

        def create() -> Any:
            raise error

        with pytest.raises(ValueError, match="no"):
            self.get(create, **named)
        assert all(shared == (error, Place.origin) for shared in self.way.shared)
        return self.way.shared
