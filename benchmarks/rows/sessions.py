"""Whole requests through a session middleware, without a server before it."""

from __future__ import annotations

from typing import Any

from benchmarks.client import HEADERS, Client, Environ, untouched
from benchmarks.row import SECRET, Builder, Call, Goal, Place, Row, goals, needs
from benchmarks.rows import bare_sessions, peer_sessions
from benchmarks.rows.options import options


def reading(environ: Environ, start: Any) -> list[bytes]:
    found = environ["beaker.session"].get("visits")
    start("200 OK", list(HEADERS))
    return [b"." if found else b"?"]


def writing(environ: Environ, start: Any) -> list[bytes]:
    session = environ["beaker.session"]
    session["visits"] = session.get("visits", 0) + 1
    session.save()
    start("200 OK", list(HEADERS))
    return [b"."]


def session_options(kind: str, place: Place) -> dict[str, Any]:
    if kind in ("signed", "encrypted"):
        given = {"type": "cookie", "validate_key": SECRET, "data_serializer": "json"}
        # With a key of its own, as the manual of each wants it.
        extra = {"encrypt_key": SECRET[::-1]} if kind == "encrypted" else {}
        return {**given, **extra}
    return {**options(kind, place), "secret": SECRET}


def beaker_requests(kind: str, way: str) -> Builder:
    """Requests through SessionMiddleware with a session that is there; ``way``: untouched, read or write."""
    work = {"untouched": untouched, "read": reading, "write": writing}[way]

    def build(place: Place) -> Call:
        from beaker.middleware import SessionMiddleware

        def fill(environ: Environ, start: Any) -> list[bytes]:
            environ["beaker.session"].update(visits=1, **place.value)
            environ["beaker.session"].save()
            return untouched(environ, start)

        now: list[Any] = [fill]
        given = {f"session.{name}": value for name, value in session_options(kind, place).items()}
        client = Client(SessionMiddleware(lambda environ, start: now[0](environ, start), given))
        client()
        client.keep_cookie()
        now[0] = reading
        assert client() == b".", "the session was not read back"
        now[0] = work
        return client

    return build


def beaker_both(kind: str, way: str) -> dict[str, Builder]:
    return {name: beaker_requests(kind, way) for name in ("ours", "beaker")}


def row(title: str, kind: str, way: str, goal: tuple[Goal, ...] = (), note: str = "", *services: str) -> Row:
    work = beaker_both(kind, way) | peer_sessions.builders(kind, way)
    work |= bare_sessions.builders(kind, way)
    shown = {"untouched": "untouched", "read": "read", "write": "read + write"}[way]
    named = f"request, session {shown}" if not title else f"request, session {shown}, {title}"
    return Row(named, work, needs(*services), goal, note)


_PEERS = "Flask and Flask-Session: Flask's whole request."
_COOKIE = f"starlette: its whole request. {_PEERS} itsdangerous: alone."

ROWS = (
    row("", "memory", "untouched", goals(beaker=0.5), "Floor: no middleware."),
    row("memory", "memory", "read", goals(beaker=0.4), _PEERS),
    row("memory", "memory", "write", goals(beaker=0.5), _PEERS),
    row("file", "file", "read", goals(beaker=1 / 6), "Floor: open, read, json."),
    row("file", "file", "write", goals(beaker=0.4), "Floor: open, read, json, write, rename."),
    row("signed cookie", "signed", "read", (), f"{_COOKIE} Floor: hmac, json, base64."),
    row("signed cookie", "signed", "write", goals(starlette=1.5), f"{_COOKIE} Floor: hmac, json, base64."),
    row("encrypted cookie", "encrypted", "read", (), "Floor: AES-GCM, json, base64."),
    row("encrypted cookie", "encrypted", "write", goals(beaker=1 / 6), "Floor: AES-GCM, json, base64."),
    row("memcached", "ext:memcached", "read", (), "Floor: gets.", "memcached"),
    row("memcached", "ext:memcached", "write", goals(beaker=1.0), "Floor: gets, cas.", "memcached"),
    row("redis", "ext:redis", "read", (), "Floor: get.", "redis"),
    row("redis", "ext:redis", "write", (), "Floor: get, set.", "redis"),
    row("SQLite", "ext:database", "read", (), "Floor: SQLAlchemy Core."),
    row("SQLite", "ext:database", "write", goals(beaker=0.25), "Floor: SQLAlchemy Core: select, update."),
)
