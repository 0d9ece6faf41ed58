"""Negative caching: None and listed exceptions are kept for a time of their own, and nothing else becomes possible."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.cache import Cache, CacheManager, cache_region, cache_regions
from beaker.caching.entry import FailedEntry, Failure
from beaker.caching.negative import Negative, negative_of
from beaker.caching.value import Value
from beaker.exceptions import ConfigError
from beaker.testing import FakeClock
from beaker.testing.lock import PATIENCE, wait_until
from tests.caching.places import PLACES, STYLES, Style, options_at
from tests.managers import DictManager


class NotFound(LookupError):
    """An exception that is a result."""


class Gone(NotFound):
    """A subclass that is not listed."""


class Picky(Exception):
    """Its constructor does not take its arguments."""

    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}", 2)


class Stateful(Exception):
    """It has more than its arguments."""


def raising(error: Exception, calls: list[Any]) -> Any:
    def create() -> Any:
        calls.append(1)
        raise error

    return create


KEY = secrets.token_urlsafe(32)
OPTIONS: dict[str, Any] = {"expire": 600, "negative": 30, "negative_errors": (NotFound, Picky, Stateful)}


@pytest.fixture
def options(request: pytest.FixtureRequest, tmp_path: Path, fake_clock: FakeClock) -> dict[str, Any]:
    return {**OPTIONS, **options_at(request.param[0], request, tmp_path, fake_clock)}


@pytest.fixture
def style(request: pytest.FixtureRequest, options: dict[str, Any]) -> Style:
    return Style(request.node.callspec.params["options"][1], Cache("negative", **options))


everywhere = pytest.mark.parametrize(
    "options", [(place, style) for place in PLACES for style in STYLES], ids="-".join, indirect=True
)


@everywhere
def test_none_is_kept_for_a_shorter_time(style: Style, fake_clock: FakeClock) -> None:
    """Other values are valid for expire; a put says for itself."""
    calls: list[Any] = []
    for _ in range(2):
        assert style.get("none", lambda: calls.append(1)) is None
    assert style.get("value", lambda: "v") == "v"
    style("put", "put", None)
    fake_clock.advance(31)
    assert not style("has_key", "none")
    assert style("has_key", "value")
    assert style("has_key", "put")
    assert len(calls) == 1


@everywhere
def test_an_exception_is_raised_again(style: Style, options: dict[str, Any], fake_clock: FakeClock) -> None:
    """Equal ones for as long as negative says, by another cache too; to other operations nothing is there."""
    calls: list[Any] = []
    error = NotFound("user", 7, None)
    before = style.cache.stats()
    with pytest.raises(NotFound) as first:
        style.get("k", raising(error, calls))
    assert first.value is error
    again = Style("threads", Cache("negative", **options))
    for each in (style, style, again):
        with pytest.raises(NotFound) as caught:
            each.get("k", raising(error, calls))
        assert caught.value.args == ("user", 7, None)
        assert caught.value is not error
    assert len(calls) == 1
    after = style.cache.stats()
    assert (after.hits - before.hits, after.errors - before.errors) == (3, 1)

    assert not style("has_key", "k")
    assert "k" not in style.cache.namespace
    assert style("get_many", ["k"]) == {}
    assert not Value("k", style.cache.namespace).has_value()
    for act in (lambda: style("get", "k"), lambda: style.cache.namespace["k"]):
        with pytest.raises(KeyError):
            act()
    fake_clock.advance(31)
    assert style.get("k", lambda: "found") == "found"


@everywhere
def test_a_cache_that_does_not_list_it_creates(style: Style, options: dict[str, Any], fake_clock: FakeClock) -> None:
    """Without the option, or with another class, the record is a miss, and never served as an old value."""
    calls: list[Any] = []
    with pytest.raises(NotFound):
        style.get("k", raising(NotFound(), calls))
    other = Cache("negative", **{**options, "negative_errors": (KeyError,)})
    assert other.get("k", createfunc=lambda: "other") == "other"
    with pytest.raises(NotFound):
        style.get("j", raising(NotFound(), calls))
    plain = Cache("negative", **{name: value for name, value in options.items() if not name.startswith("negative")})
    running, may_end, found = threading.Event(), threading.Event(), []

    def slow() -> str:
        running.set()
        assert may_end.wait(PATIENCE)
        return "plain"

    threads = [threading.Thread(target=lambda: found.append(plain.get("j", createfunc=slow))) for _ in range(2)]
    threads[0].start()
    assert running.wait(PATIENCE)
    threads[1].start()
    lock: Any = plain.namespace.get_creation_lock("j")
    wait_until(lambda: len(getattr(lock, "first", lock)._waiting) == 1)
    may_end.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == ["plain", "plain"]


@everywhere
def test_invalidation_and_refresh(style: Style, fake_clock: FakeClock) -> None:
    """A removed exception is gone; one that was voided is not kept; refresh keeps it in place of the old value."""
    calls: list[Any] = []
    with pytest.raises(NotFound):
        style.get("k", raising(NotFound(), calls))
    style("remove_value", "k")
    assert style.get("k", lambda: "found") == "found"
    value = Value("k", style.cache.namespace, None, 600.0)
    with pytest.raises(NotFound):
        asyncio.run(value.arefresh(raising(NotFound(), calls))) if style.loops else value.refresh(
            raising(NotFound(), calls)
        )
    assert isinstance(style.cache.namespace.read("k"), FailedEntry)

    def overtaken() -> Any:
        style.cache.remove("v")
        raise NotFound

    with pytest.raises(NotFound):
        style.get("v", overtaken)
    assert style.cache.namespace.read("v") is None


UNKEPT = {
    "a subclass": Gone("x"),
    "not listed": KeyError("x"),
    "arguments that JSON does not hold": NotFound(object()),
    "a constructor of its own": Picky(1),
}


@pytest.mark.parametrize("why", [*UNKEPT, "state"])
def test_what_would_not_come_back_is_not_kept(fake_clock: FakeClock, why: str) -> None:
    """The exception is raised to its caller, and the next call creates anew; the old value stays where errors allow."""
    calls: list[Any] = []
    error = UNKEPT.get(why) or Stateful("x")
    if why == "state":
        error.__dict__["request"] = object()
    cache = Cache("unkept", clock=fake_clock, max_entries=520, **OPTIONS)
    for _ in range(2):
        with pytest.raises(type(error)):
            cache.get("k", createfunc=raising(error, calls))
    assert len(calls) == 2
    assert cache.namespace.read("k") is None


def test_zero_keeps_nothing(fake_clock: FakeClock) -> None:
    """negative = 0: neither None nor an exception stays, and an older value goes with it."""
    calls: list[Any] = []
    cache = Cache("zero", clock=fake_clock, max_entries=521, **{**OPTIONS, "negative": 0})
    cache.put("k", "old")
    fake_clock.advance(601)
    assert cache.get("k", createfunc=lambda: None) is None
    assert cache.namespace.read("k") is None
    for _ in range(2):
        with pytest.raises(NotFound):
            cache.get("k", createfunc=raising(NotFound(), calls))
    assert len(calls) == 2


def test_an_old_value_does_not_hide_it(fake_clock: FakeClock) -> None:
    """stale_if_error covers failures; what is listed is a result. An expired exception is no old value."""
    calls: list[Any] = []
    cache = Cache("hidden", clock=fake_clock, max_entries=522, stale_if_error=9999, **OPTIONS)
    cache.put("k", "old")
    fake_clock.advance(601)
    with pytest.raises(NotFound):
        cache.get("k", createfunc=raising(NotFound(), calls))
    fake_clock.advance(31)
    with pytest.raises(OSError, match="down"):
        cache.get("k", createfunc=raising(OSError("down"), calls))


def test_coroutines_that_wait_get_exceptions_of_their_own(fake_clock: FakeClock) -> None:
    """One creation; each call raises an object of its own, so that no traceback grows."""
    cache_regions["negative"] = {**OPTIONS, "clock": fake_clock, "max_entries": 523}
    calls: list[Any] = []

    @cache_region("negative")
    async def find(number: int) -> str:
        calls.append(number)
        await asyncio.sleep(0)
        raise NotFound(number)

    async def work() -> list[Any]:
        return await asyncio.gather(*(find(7) for _ in range(5)), return_exceptions=True)

    found = asyncio.run(work())
    assert [error.args for error in found] == [(7,)] * 5
    assert len(set(map(id, found))) == 5
    assert calls == [7]

    @cache_region("negative", "plain")
    def plain(number: int) -> str:
        calls.append(number)
        raise NotFound(number)

    for _ in range(3):
        with pytest.raises(NotFound):
            plain(8)
    assert calls == [7, 8]
    assert plain.get(8) is None
    assert asyncio.run(find.get(7)) is None
    plain.set("found", 8)
    assert plain(8) == "found"
    del cache_regions["negative"]


def test_a_record_raises_nothing_but_what_is_listed(tmp_path: Path, fake_clock: FakeClock) -> None:
    """A record that names another class, or arguments the class does not take, is a miss."""
    manager = CacheManager(type="file", data_dir=str(tmp_path), clock=fake_clock, secret=KEY, **OPTIONS)
    namespace: Any = manager.get_cache("forged").namespace
    negative: Negative = namespace.negative
    for name, args in [
        ("os:system", b'["true"]'),
        ("builtins:SystemExit", b"[]"),
        (f"{__name__}:Picky", b'["a", "b"]'),
    ]:
        assert negative.rebuild(Failure(name, args)) is None
        entry = FailedEntry(Failure(name, args), fake_clock(), float("-inf"), 0.0)
        entry.life = 30.0
        namespace.write("k", entry)
        assert manager.get_cache("forged").get("k", createfunc=lambda: "created") == "created"
    for args in (b"", b"\x80\x04.", b"{", b'"text"'):
        assert negative.rebuild(Failure(f"{__name__}:NotFound", args)) is None or args == b'"text"'


def test_secrets_in_arguments_are_in_no_text(tmp_path: Path, fake_clock: FakeClock, caplog: Any) -> None:
    """Arguments of exceptions are data: no log, count or repr has them, and encryption covers them."""
    caplog.set_level(logging.DEBUG)
    secret = "tok-5f1e9c77a1"
    options = {**OPTIONS, "type": "file", "data_dir": str(tmp_path), "encrypt_key": KEY}
    cache = Cache("secrets", clock=fake_clock, **options)
    for _ in range(2):
        with pytest.raises(NotFound):
            cache.get("k", createfunc=raising(NotFound(secret), []))
    entry = cache.namespace.read("k")
    said = [caplog.text, repr(entry), repr(cache.namespace.negative), str(counters.snapshot().as_dict())]
    assert not any(secret in text for text in said)
    assert not any(secret.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_managers_of_dict_operations_keep_none(fake_clock: FakeClock) -> None:
    """They hold values for third parties, who would take what is kept of an exception for one."""
    calls: list[Any] = []
    cache = Cache("dict", DictManager, clock=fake_clock, **OPTIONS)
    for _ in range(2):
        with pytest.raises(NotFound):
            cache.get("k", createfunc=raising(NotFound(), calls))
    assert len(calls) == 2
    assert cache.get("n", createfunc=lambda: None) is None
    fake_clock.advance(31)
    assert not cache.has_key("n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negative": -1}, "negative"),
        ({"negative": 1, "negative_errors": "NotFound"}, "exception classes"),
        ({"negative": 1, "negative_errors": (BaseException,)}, "exception classes"),
        ({"negative_errors": (NotFound,)}, "negative says"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    """Said when the cache is opened."""
    with pytest.raises(ConfigError, match=message):
        Cache("wrong", max_entries=524, **options)
    assert negative_of({}) is None
