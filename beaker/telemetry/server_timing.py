"""The ``Server-Timing`` header: what a request has cost, for the developer tools of the browser.

https://www.w3.org/TR/server-timing/. It has numbers and the names of backends, nothing else; yet it shows every visitor
how long a page took to compute, so it is off unless ``session.server_timing`` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from beaker._typing import Environ, Headers, Message, Send, StartResponse
from beaker.counters.spent import KEY, Spent, begin, end

if TYPE_CHECKING:
    from beaker.counters import StoreStats

__all__ = ["NAME", "header", "timed_send", "timed_start", "timing"]

NAME = "Server-Timing"


def header(spent: Spent) -> str:
    """The header's value: durations are milliseconds. Empty when nothing was created and no store was used."""
    entries = []
    if spent.creations or spent.errors:
        described = [_number(spent.creations, "creation"), _number(spent.errors, "failure")]
        entries.append(_entry("beaker-create", spent.creation_seconds, described))
    if spent.waits:
        entries.append(_entry("beaker-wait", None, [_number(spent.waits, "wait")]))
    entries += [_of_store(stats) for stats in spent.stores]
    return ", ".join(entries)


def _of_store(stats: StoreStats) -> str:
    kinds = ((stats.reads, "read"), (stats.writes, "write"), (stats.deletes, "delete"), (stats.errors, "error"))
    # A metric's name is a token, and "ext:redis" is none.
    name = "beaker-" + stats.backend.rpartition(":")[2]
    token = "".join(each if each.isascii() and (each.isalnum() or each in "-_.") else "-" for each in name)
    return _entry(token, stats.seconds if stats.calls else None, [_number(*kind) for kind in kinds])


def _number(number: float, noun: str) -> str:
    return f"{number:.0f} {noun}{'s' * (number != 1)}" if number else ""


def _entry(name: str, seconds: float | None, described: list[str]) -> str:
    duration = "" if seconds is None else f";dur={seconds * 1000:.3f}"
    return f'{name}{duration};desc="{", ".join(filter(None, described))}"'


def timing(environ: MutableMapping[str, Any]) -> Callable[[], Headers]:
    """Count for the request of ``environ`` (or an ASGI scope) from now on; returns what ends that and returns the
    header, in a list that is empty when there is nothing to say."""
    # What counts around this goes on to do so.
    shared = KEY in environ
    spent = begin(environ)

    def finish() -> Headers:
        value = header(spent)
        if not shared:
            end(spent)
        return [(NAME, value)] if value else []

    return finish


def timed_start(environ: Environ, start_response: StartResponse) -> StartResponse:
    """Count for the request from now on; returns a ``start_response`` that adds the header."""
    finish = timing(environ)

    def start(status: str, headers: Headers, *exc_info: object) -> object:
        return start_response(status, [*headers, *finish()], *exc_info)

    return start  # type: ignore[return-value]


def timed_send(finish: Callable[[], Headers], send: Send) -> Send:
    """A ``send`` that adds what ``finish()``, of :func:`timing`, returns to the response's beginning."""

    async def timed(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            added = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in finish()]
            if added:
                message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return timed
