"""Sessions as an application types them. Each line marked ``wrong`` is a mistake a type checker must find, and the only
ones it finds; tests/typing/test_typing.py compares."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, cast

from beaker.session import AsyncWebSession, WebSession, get, get_async


def page(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    session = get(environ)
    visits: int = session.increment("visits")
    session["name"] = "x"
    name: str = session.get("name", "")
    session.update({"a": 1}, b=2)
    session.save()
    session.login("alice")
    session.lock(timeout=2.5)
    session.unlock()
    other: WebSession | None = session.get_by_id(session.id)
    session.domain = "example.org"
    age: float = session.created
    if "name" in session and session.is_new:
        session.delete()
    for key in session:
        del session[key]
    same = cast("WebSession", environ["beaker.session"])
    same.add("items", "x")
    elsewhere: WebSession = get(environ, key="my.session")

    session.incremnt("visits")  # wrong
    session.save(True)  # wrong
    session.lock("2")  # wrong
    session.login()  # wrong
    session.login(["alice"])  # wrong
    session.is_new = True  # wrong
    session.domain = 5  # wrong
    number: int = session.id  # wrong
    session.get_by_id(5)  # wrong
    session.alogout()  # wrong
    session.get_by_id("x").save()  # wrong
    get("environ")  # wrong
    get(environ, key=5)  # wrong
    return [f"{visits} {name} {other} {age} {elsewhere} {number}".encode()]


async def asynchronous(scope: MutableMapping[str, Any], receive: object, send: object) -> None:
    session = get_async(scope)
    await session.alogin("alice")
    await session.alock(2.5)
    await session.aunlock()
    session["a"] = 1
    session.save()
    await session.apersist()
    found: AsyncWebSession | None = await session.aget_by_id("x")
    in_a_thread: WebSession = get(scope)
    in_a_thread.logout()

    session.logout()  # wrong
    await session.alock("2")  # wrong
    await session.save()  # wrong
    if found:
        found.delete()  # wrong
