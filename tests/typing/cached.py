"""Cached functions as an application writes them. Each line marked ``wrong`` is a mistake a type checker must find,
and the only ones it finds; tests/typing/test_typing.py compares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from beaker.cache import (
    DO_NOT_KEEP,
    NOT_MODIFIED,
    Cache,
    CacheManager,
    DoNotKeep,
    cache_region,
    invalidate_tags,
    previous,
    region_invalidate,
)

manager = CacheManager()


@cache_region("short")
def load(term: str, limit: int = 20, *, exact: bool = False) -> list[str]:
    return [term] * limit if exact else []


@manager.cache("named", expire=60, ignore=("request",))
def by_manager(request: object, number: int) -> float:
    return number / 2


@manager.region("short", version=2)
def by_region(*numbers: int, **names: str) -> dict[str, int]:
    return dict.fromkeys(names, sum(numbers))


def life(value: list[str]) -> float | DoNotKeep:
    return 60 if value else DO_NOT_KEEP


adaptive = Cache("adaptive", expire=life)
adaptive.put_many({"k": ["x"]}, expire=life)
Cache("adaptive", expire=lambda value: "long")  # wrong


@cache_region("short")
def modified(url: str) -> dict[str, int]:
    if previous() is not None and url:
        return NOT_MODIFIED
    return {"x": "y"}  # wrong


@cache_region("short")
async def modified_since(url: str) -> dict[str, int]:
    return NOT_MODIFIED if previous() else {url: 1}


lengths: dict[str, int] = modified("u")
found: list[str] = load("x")
found = load(term="x", limit=5, exact=True)
found = load.refresh("x", 5)
found = load.original("x")
maybe: list[str] | None = load.get("x", exact=True)
either: list[str] | int = load.get("x", default=0)
load.set(["a"], "x", limit=5)
load.invalidate("x", 5)
load.invalidate_all()
name: str = load.namespace
half: float = by_manager(object(), 3)
by_manager.invalidate(None, number=3)
totals: dict[str, int] = by_region(1, 2, a="b")
as_function: Callable[[str], list[str]] = load
region_invalidate(load, None, "x")

load(5)  # wrong
load()  # wrong
load("x", 5, True)  # wrong
load("x", limt=5)  # wrong
number: int = load("x")  # wrong
load.refresh(5)  # wrong
load.original(5)  # wrong
load.invalidate()  # wrong
load.invalidate("x", "5")  # wrong
load.get(5)  # wrong
load.set("x", "x")  # wrong
load.set(["x"], 5)  # wrong
sure: list[str] = load.get("x")  # wrong
load.forget("x")  # wrong
by_manager("r", "3")  # wrong
by_region("1")  # wrong
by_region(1, a=1)  # wrong
cache_region(5)  # wrong
cache_region("short", ignore=5)  # wrong
cache_region("short", tags=5)  # wrong
cache_region("short", tags=("user:{id}",))
invalidate_tags(42)  # wrong
cache_region("short")(5)  # wrong


class Shop:
    def __init__(self, owner: str) -> None:
        self.owner = owner

    def __cache_key__(self) -> str:
        return self.owner

    @cache_region("short")
    def price(self, item: str, count: int = 1) -> int:
        return len(item) * count

    @cache_region("short")
    @classmethod
    def build(cls, owner: str) -> str:
        return cls.__name__ + owner

    @classmethod
    @cache_region("short")
    def rebuild(cls, owner: str) -> str:
        return cls.__name__ + owner

    @cache_region("short")
    @staticmethod
    def tax(amount: int) -> float:
        return amount / 5

    @staticmethod
    @cache_region("short")
    def duty(amount: int) -> float:
        return amount / 3


class Branch(Shop):
    pass


shop = Shop("ann")
cost: int = shop.price("tea", count=2)
cost = shop.price.refresh("tea")
cost = shop.price.original("tea")
kept: int | None = shop.price.get("tea")
shop.price.set(5, "tea", 2)
shop.price.invalidate(item="tea")
shop.price.invalidate_all()
cost = Shop.price(shop, "tea")
cost = Branch("bob").price("tea")
Shop.price.invalidate(shop, "tea")
text: str = Shop.build("ann")
text = shop.build("ann")
text = Branch.rebuild("ann")
Shop.build.invalidate("ann")
shop.rebuild.set("x", "ann")
tax: float = Shop.tax(5)
tax = shop.duty(5)
Shop.tax.invalidate(5)
shop.duty.set(1.0, 5)

shop.price(5)  # wrong
shop.price()  # wrong
shop.price(shop, "tea")  # wrong
Shop.price("tea")  # wrong
text = shop.price("tea")  # wrong
shop.price.refresh(5)  # wrong
shop.price.invalidate("tea", "2")  # wrong
shop.price.get(5)  # wrong
shop.price.set("5", "tea")  # wrong
shop.price.set(5, 5)  # wrong
shop.price.original(5)  # wrong
Shop.build(5)  # wrong
Shop.build.invalidate()  # wrong
shop.rebuild(owner=5)  # wrong
Shop.tax("5")  # wrong
shop.duty.set("x", 5)  # wrong
shop.tax.invalidate("5")  # wrong


@cache_region("short")
async def fetch(term: str, limit: int = 20) -> list[str]:
    return [term] * limit


class Wire:
    @cache_region("short")
    async def rate(self, currency: str) -> float:
        return len(currency) / 2

    @cache_region("short")
    @classmethod
    async def of(cls, name: str) -> str:
        return name

    @cache_region("short")
    @staticmethod
    async def fee(amount: int) -> float:
        return amount / 5


wire = Wire()
pending: Awaitable[list[str]] = fetch("x", limit=5)
as_async: Callable[[str], Awaitable[list[str]]] = fetch


async def awaiting() -> None:
    found: list[str] = await fetch("x")
    found = await fetch.refresh("x", 5)
    found = await fetch.original("x")
    maybe: list[str] | None = await fetch.get("x")
    either: list[str] | int = await fetch.get("x", default=0)
    await fetch.set(["a"], "x", limit=5)
    await fetch.invalidate("x", 5)
    await fetch.invalidate_all()
    name: str = fetch.namespace
    rate: float = await wire.rate("eur")
    rate = await Wire.rate(wire, "eur")
    kept: float | None = await wire.rate.get("eur")
    rate = await wire.rate.refresh("eur")
    await wire.rate.set(1.0, "eur")
    await wire.rate.invalidate("eur")
    text: str = await Wire.of("x")
    fee: float = await wire.fee(5)
    cache = Cache("n")
    await cache.aput("k", found)
    await cache.aremove("k")
    print(maybe, either, name, rate, kept, text, fee, await cache.aget("k"))

    await fetch(5)  # wrong
    await fetch("x", limt=5)  # wrong
    found = fetch("x")  # wrong
    found = fetch.refresh("x")  # wrong
    found = await fetch.get("x")  # wrong
    await fetch.set("x", "x")  # wrong
    await fetch.invalidate(5)  # wrong
    await wire.rate(5)  # wrong
    rate = wire.rate("eur")  # wrong
    await wire.rate.set("x", "eur")  # wrong
    await Wire.of(5)  # wrong
    await wire.fee("5")  # wrong
    either = await load("x")  # wrong
    either = cache.ahas_key("k")  # wrong
