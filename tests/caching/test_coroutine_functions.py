"""Decorated coroutine functions: awaited like the function, with the methods of every cached one; what is refused."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import AsyncCachedFunction, Cache, CacheManager, aregion_invalidate, cache_region, cache_regions
from beaker.exceptions import ConfigError, UnserializableValue


def test_cached_coroutine_functions(tmp_path: Path) -> None:
    """Functions, methods, class and static methods: awaited, seen as async, with .get, .set, .refresh, .invalidate."""
    calls: list[Any] = []
    manager = CacheManager(type="file", data_dir=str(tmp_path))

    @manager.cache("f", expire=60)
    async def double(number: int, extra: int = 0) -> int:
        calls.append(number)
        return number * 2 + extra

    class Shop:
        def __cache_key__(self) -> str:
            return "shop"

        @manager.cache("price")
        async def price(self, item: str) -> int:
            calls.append(item)
            return len(item)

        @manager.cache("built")
        @classmethod
        async def build(cls, name: str) -> str:
            return cls.__name__ + name

        @classmethod
        @manager.cache("rebuilt")
        async def rebuild(cls, name: str) -> str:
            return cls.__name__ + name

        @manager.cache("tax")
        @staticmethod
        async def tax(amount: int) -> float:
            return amount / 5

    shop = Shop()

    async def use() -> None:
        assert [await double(2), await double(number=2), await double(2, 0)] == [4, 4, 4]
        assert await double.get(2) == 4
        assert await double.get(3, default="none") == "none"
        await double.set(7, 2)
        assert await double(2) == 7
        assert await double.refresh(2) == 4
        await double.invalidate(2)
        assert await double.get(2) is None
        await double.invalidate_all()
        await manager.ainvalidate(double, "f", 2)
        assert await shop.price("tea") == await Shop.price(shop, item="tea") == 3
        await shop.price.set(5, "tea")
        assert await shop.price.get("tea") == 5
        assert await shop.price.refresh("tea") == 3
        await shop.price.invalidate("tea")
        await shop.price.invalidate_all()
        await manager.ainvalidate(shop.price, "price", "tea")
        assert await shop.price.get("tea") is None
        assert await Shop.build("x") == await shop.build("x") == await Shop.rebuild("x") == "Shopx"
        assert await Shop.tax(5) == 1.0

    asyncio.run(use())
    assert calls == [2, 2, "tea", "tea"]
    for function in (double, shop.price, Shop.build, Shop.tax):
        assert asyncio.iscoroutinefunction(function) or inspect.iscoroutinefunction(function)
    assert pickle.loads(pickle.dumps(by_region)) is by_region


@cache_region("coroutines")
async def by_region(number: int) -> int:
    return number + 1


def test_regions_and_switching_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """@cache_region on async def; while it is switched off every call runs the function."""
    assert isinstance(by_region, AsyncCachedFunction)
    monkeypatch.setitem(cache_regions, "coroutines", {"type": "memory", "expire": 60})

    async def use() -> None:
        assert await by_region(1) == 2
        await by_region.set(9, 1)
        assert await by_region(1) == 9
        monkeypatch.setitem(cache_regions["coroutines"], "enabled", False)
        assert await by_region(1) == await by_region.refresh(1) == 2
        assert await by_region.get(1) is None
        monkeypatch.setitem(cache_regions["coroutines"], "enabled", True)
        assert await by_region(1) == 2
        await by_region.set(9, 1)
        await aregion_invalidate(by_region, None, 1)
        assert await by_region(1) == 2

    asyncio.run(use())


def test_what_is_refused() -> None:
    """An async generator, a coroutine from a plain function, and an async createfunc of the blocking form: each is told
    what to do instead."""
    manager = CacheManager()

    async def numbers() -> Any:
        yield 1

    async def inner() -> int:
        return 1

    @manager.cache("plain")
    def plain() -> Awaitable[int]:
        return inner()

    with pytest.raises(ConfigError, match=r"asynchronous generator.*coroutine function that returns a list"):
        manager.cache("numbers")(numbers)
    with pytest.raises(UnserializableValue, match="decorate an 'async def'"):
        plain()
    with pytest.raises(UnserializableValue, match=r"await cache\.aget"):
        Cache("refused").get("k", createfunc=inner)
