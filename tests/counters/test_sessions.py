"""Sessions: loaded, saved, merged and ended, by type."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.counters import SessionStats
from beaker.testing.session_harness import Tab
from tests.session.places import LOCAL, MERGING, opened

TYPES = {"sqlite": "ext:database", "encrypted file": "file", "revocable cookie": "cookie"}


@pytest.mark.parametrize("place", LOCAL)
def test_a_life_of_a_session_is_counted_by_its_type(place: str, tmp_path: Path) -> None:
    """A save, two requests that read, one of which changes, and a logout."""
    tab: Tab = opened(place, tmp_path)
    counters.reset()

    def put(**values: Any) -> Any:
        def handler(session: Any) -> None:
            session.update(values)
            session.save()

        return handler

    tab.do(lambda session: None)
    tab.do(put(a=1))
    tab.do(lambda session: session["a"])
    tab.do(put(a=2))
    tab.do(lambda session: session.delete())
    tab.do(lambda session: session.delete())
    (stats,) = counters.snapshot().sessions
    name = TYPES.get(place, place.partition(" ")[0])
    assert stats == SessionStats(name, loaded=3, saved=2, merged=0, ended=1)


@pytest.mark.parametrize("place", MERGING)
def test_a_merged_save_is_counted_once(place: str, tmp_path: Path) -> None:
    """A request that saves over another one's save has merged."""
    tab: Tab = opened(place, tmp_path)

    def first(session: Any) -> None:
        session.update(a=1, big=os.urandom(200).hex())
        session.save()

    tab.do(first)
    counters.reset()

    def inner(session: Any) -> None:
        session["b"] = 2
        session.save()

    def outer(session: Any) -> None:
        session["c"] = session["a"]
        tab.do(inner)
        session.save()

    tab.do(outer)
    tab.do(lambda session: session["b"] + session["c"])
    (stats,) = counters.snapshot().sessions
    assert (stats.loaded, stats.saved, stats.merged) == (3, 2, 1)
