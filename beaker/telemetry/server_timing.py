"""The ``Server-Timing`` header: what a request has cost, for the developer tools of the browser.

https://www.w3.org/TR/server-timing/. It has numbers and the names of backends, nothing else; yet it shows every visitor
how long a page took to compute, so it is off unless ``session.server_timing`` asks for it.
"""

from __future__ import annotations

from beaker._typing import Environ, Headers, Message, Scope, Send, StartResponse
from beaker.counters import Spent, StoreStats
from beaker.counters.spent import begin, end

__all__ = ["NAME", "header", "timed_send", "timed_start"]

NAME = "Server-Timing"
_NAME = b"server-timing"


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
    token = "".join(character if character.isalnum() or character in "-_." else "-" for character in name)
    return _entry(token, stats.seconds if stats.calls else None, [_number(*kind) for kind in kinds])


def _number(number: float, noun: str) -> str:
    return f"{number:.0f} {noun}{'s' * (number != 1)}" if number else ""


def _entry(name: str, seconds: float | None, described: list[str]) -> str:
    duration = "" if seconds is None else f";dur={seconds * 1000:.3f}"
    return f'{name}{duration};desc="{", ".join(filter(None, described))}"'


def timed_start(environ: Environ, start_response: StartResponse) -> StartResponse:
    """Count for the request from now on; returns a ``start_response`` that adds the header."""
    spent = begin(environ)

    def start(status: str, headers: Headers, *exc_info: object) -> object:
        value = header(spent)
        end(spent)
        return start_response(status, [*headers, (NAME, value)] if value else headers, *exc_info)

    return start  # type: ignore[return-value]


def timed_send(scope: Scope, send: Send) -> Send:
    """Count for the request from now on; returns a ``send`` that adds the header to the response's beginning."""
    spent = begin(scope)

    async def timed(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            value = header(spent)
            end(spent)
            if value:
                message = {**message, "headers": [*message.get("headers", ()), (_NAME, value.encode("ascii"))]}
        await send(message)

    return timed
