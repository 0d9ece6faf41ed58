"""Caches whose creations wait for one lock although their data differs."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from beaker.cache import Cache
from beaker.container import NamespaceManager
from tests.loops import until


class Pickling(NamespaceManager):
    """A third party's manager that keeps pickles, of each ``place`` apart."""

    kept: dict[tuple[str, str], dict[str, bytes]] = {}  # noqa: RUF012

    def __init__(self, namespace: str, place: str = "", **options: Any) -> None:
        super().__init__(namespace)
        self.dictionary = self.kept.setdefault((place, namespace), {})

    def __getitem__(self, key: str) -> Any:
        return pickle.loads(self.dictionary[key])

    def __setitem__(self, key: str, value: Any) -> None:
        self.dictionary[key] = pickle.dumps(value)

    def __contains__(self, key: object) -> bool:
        return key in self.dictionary

    def __delitem__(self, key: str) -> None:
        del self.dictionary[key]


def two_caches(kind: str, path: Path) -> list[Cache]:
    at, locks = str(path / "data"), str(path / "locks")
    options: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "memory of other bounds": ({"max_entries": 11}, {"max_entries": 12}),
        "files and dbm, one lock_dir": (
            {"type": "file", "data_dir": at, "lock_dir": locks},
            {"type": "dbm", "data_dir": at, "lock_dir": locks},
        ),
        "files of another secret": (
            {"type": "file", "data_dir": at, "secret": token_hex(32)},
            {"type": "file", "data_dir": at, "secret": token_hex(32)},
        ),
        "a third party's": ({"type": Pickling, "place": "a"}, {"type": Pickling, "place": "b"}),
    }
    return [Cache(f"shared-{path}", **given) for given in options[kind]]


KINDS = ["memory of other bounds", "files and dbm, one lock_dir", "files of another secret", "a third party's"]


async def beside(first: Cache, second: Cache, outcome: Any) -> list[Any]:
    """What a call of ``first``, whose creation ends with ``outcome``, and one of ``second`` in between return."""
    running, may_end = asyncio.Event(), asyncio.Event()

    async def create() -> Any:
        running.set()
        await may_end.wait()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    one = asyncio.create_task(first.aget("k", createfunc=create))
    await running.wait()
    other = asyncio.create_task(second.aget("k", createfunc=lambda: "second's"))
    lock: Any = second.namespace.get_creation_lock("k")
    await until(lambda: getattr(lock, "first", lock).is_awaited)
    may_end.set()
    return list(await asyncio.gather(one, other, return_exceptions=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_is_passed_on_to_calls_for_the_same_data_only(kind: str, tmp_path: Path) -> None:
    """A call that waits for the lock of another cache's creation never returns that cache's value."""
    first, second = two_caches(kind, tmp_path)
    assert asyncio.run(beside(first, second, "first's")) == ["first's", "second's"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_is_passed_on_to_calls_for_the_same_data_only(kind: str, tmp_path: Path) -> None:
    """A call that waits for the lock of another cache's creation never raises what that one failed with."""
    error = ValueError("first's")
    first, second = two_caches(kind, tmp_path)
    assert asyncio.run(beside(first, second, error)) == [error, "second's"]


def test_two_caches_of_the_same_options_share_a_failure(tmp_path: Path) -> None:
    """Caches of one name and equal options are the same data, also where the manager is a third party's."""
    first, second = (Cache(f"same-{tmp_path}", type=Pickling, place="a") for _ in range(2))
    error = ValueError("first's")
    assert asyncio.run(beside(first, second, error)) == [error, error]


def test_each_call_has_a_copy_of_its_own_where_reading_creates_one(tmp_path: Path) -> None:
    """What one caller does to its result is not seen by a call that waited for it, as with calls in threads."""
    cache = Cache(f"copies-{tmp_path}", type=Pickling)
    mine, theirs = asyncio.run(beside(cache, cache, []))
    mine.append("changed")
    assert theirs == []
