"""Conditional refresh: a creation knows the old value, and may keep it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import NOT_MODIFIED, Cache, CacheManager, Previous, cache_region, cache_regions, previous
from beaker.caching.value import Value
from beaker.exceptions import BeakerException
from beaker.testing import FakeClock
from tests.caching.places import PLACES, STYLES, Style, options_at


@pytest.fixture(params=[(place, style) for place in PLACES for style in STYLES], ids="-".join)
def style(request: pytest.FixtureRequest, tmp_path: Path, fake_clock: FakeClock) -> Style:
    place, name = request.param
    return Style(name, Cache("previous", expire=60, **options_at(place, request, tmp_path, fake_clock)))


def refresh(style: Style, create: Any) -> Any:
    value = Value("k", style.cache.namespace, None, 60.0)
    return asyncio.run(value.arefresh(create)) if style.loops else value.refresh(create)


def test_the_old_value_is_known_and_kept(style: Style, fake_clock: FakeClock) -> None:
    """Nothing before the first creation; then the old one with its stamps, which is valid anew if it is kept."""
    seen: list[Previous | None] = []

    def create() -> Any:
        seen.append(previous())
        return ["new"] if seen[-1] is None else NOT_MODIFIED

    begun = fake_clock()
    assert style.get("k", create) == ["new"]
    fake_clock.advance(61)
    assert style.get("k", create) == ["new"]
    assert seen == [None, Previous(["new"], begun, begun + 60)]
    entry = style.cache.namespace.read("k")
    assert entry is not None
    assert (entry.stored, entry.expiretime) == (begun + 61, 60.0)
    assert previous() is None

    fake_clock.advance(10)
    assert refresh(style, create) == ["new"]
    assert seen[-1] == Previous(["new"], begun + 61, begun + 121)
    entry = style.cache.namespace.read("k")
    assert entry is not None
    assert entry.stored == begun + 71


def test_an_invalidation_meanwhile_is_not_undone(style: Style, fake_clock: FakeClock) -> None:
    """What is kept after an invalidation reaches its caller and is not stored; a put meanwhile stays."""
    style.cache.put("k", "old")
    fake_clock.advance(61)

    def create() -> Any:
        style.cache.remove("k")
        return NOT_MODIFIED

    assert style.get("k", create) == "old"
    assert style.cache.namespace.read("k") is None

    def overtaken() -> Any:
        style.cache.put("k", "put")
        return NOT_MODIFIED

    style.cache.put("k", "old")
    fake_clock.advance(61)
    assert style.get("k", overtaken) == "old"
    assert style.cache.get("k") == "put"


def test_without_an_old_value_it_is_an_error(style: Style, fake_clock: FakeClock) -> None:
    """Nothing there, or hidden by starttime: the error has a code, nothing is stored, and the next call creates."""
    with pytest.raises(BeakerException, match="no old value") as caught:
        style.get("k", lambda: NOT_MODIFIED)
    assert caught.value.code == "cache.not-modified"
    style.cache.put("k", "old")
    fake_clock.advance(61)
    with pytest.raises(BeakerException, match="no old value"):
        style.get("k", lambda: NOT_MODIFIED, starttime=fake_clock())
    assert style.get("k", lambda: "new") == "new"


def test_stale_if_error_covers_a_creation_that_fails_after_asking(fake_clock: FakeClock) -> None:
    """The old value is served in place of the exception, as without previous()."""
    cache = Cache("lenient", expire=60, stale_if_error=100, clock=fake_clock, max_entries=510)
    cache.put("k", "old")
    fake_clock.advance(61)

    def create() -> Any:
        assert previous() is not None
        raise OSError("down")

    assert cache.get("k", createfunc=create) == "old"


def test_an_early_refresh_may_keep_the_value(fake_clock: FakeClock) -> None:
    """The fresh value that it came to renew is the previous one."""
    cache = Cache("early", expire=60, early_refresh=1e9, clock=fake_clock, max_entries=511)

    def slow() -> str:
        fake_clock.advance(5)
        return "value"

    cache.get("k", createfunc=slow)
    fake_clock.advance(10)
    assert cache.get("k", createfunc=lambda: NOT_MODIFIED) == "value"
    entry = cache.namespace.read("k")
    assert entry is not None
    assert entry.stored == fake_clock()


def test_creations_inside_one_another_know_their_own(fake_clock: FakeClock) -> None:
    """The innermost one's is returned, and the outer one's again when that has ended, by an exception too."""
    cache_regions["nested"] = {"expire": 60, "clock": fake_clock, "max_entries": 512}
    seen: list[Any] = []

    @cache_region("nested")
    def inner() -> str:
        seen.append(previous())
        if seen[-1] is not None:
            raise OSError("down")
        return "inner"

    @cache_region("nested")
    def outer() -> str:
        before = previous()
        try:
            inner()
        except OSError:
            seen.append("failed")
        assert previous() == before
        return "outer"

    outer()
    fake_clock.advance(61)
    outer()
    assert [getattr(each, "value", each) for each in seen] == [None, "inner", "failed"]
    del cache_regions["nested"]


def test_coroutines_and_threads_have_their_own(fake_clock: FakeClock) -> None:
    """Creations at the same time do not see each other's; a thread knows it in a copied context, while it lasts."""
    manager = CacheManager(expire=60, clock=fake_clock, max_entries=513)
    cache = manager.get_cache("apart")
    cache.put_many({name: name for name in "abc"})
    fake_clock.advance(61)
    kept: list[contextvars.Context] = []

    async def create(name: str) -> Any:
        await asyncio.sleep(0)
        old = previous()
        assert old is not None
        assert await asyncio.to_thread(previous) == old
        plain: list[Any] = []
        thread = threading.Thread(target=lambda: plain.append(previous()))
        thread.start()
        thread.join()
        assert plain == [None]
        kept.append(contextvars.copy_context())
        return NOT_MODIFIED if old.value == name else None

    async def work() -> list[Any]:
        return await asyncio.gather(*(cache.aget(name, createfunc=partial(create, name)) for name in "abc"))

    assert asyncio.run(work()) == ["a", "b", "c"]
    assert [context.run(previous) for context in kept] == [None, None, None]


def test_what_it_prints_holds_no_value() -> None:
    """The old value is a user's."""
    assert repr(Previous("s3cret", 1.0, None)) == "<previous str stored=1.0 expires=None>"
