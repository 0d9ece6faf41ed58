"""Requests through the peers' sessions: Django, Flask, Flask-Session, starlette; and itsdangerous alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks.client import Client
from benchmarks.row import SECRET, Builder, Call, Place, folder
from benchmarks.rows import asgi, peers

Work = Callable[[Any], None]


def read(session: Any) -> None:
    session.get("visits")


def write(session: Any) -> None:
    session["visits"] = session.get("visits", 0) + 1


def builders(kind: str, way: str) -> dict[str, Builder]:
    """Builders for the peers that can keep sessions this way."""
    if way == "untouched":
        return {}
    made: dict[str, Builder] = {}
    if kind in DJANGO:
        made["Django"] = lambda place: django_request(place, kind, way)
    if kind in FLASK_SESSION:
        made["Flask-Session"] = lambda place: flask_request(place, lambda app: flask_session(app, kind, place), way)
    if kind == "signed":
        made["Flask"] = lambda place: flask_request(place, lambda app: None, way)
        made["starlette"] = lambda place: starlette_request(place, way)
        made["itsdangerous"] = lambda place: itsdangerous_alone(place, way)
    return made


DJANGO = {
    "memory": ("cache", "locmem"),
    "file": ("file", ""),
    "signed": ("signed_cookies", ""),
    "ext:memcached": ("cache", "memcached"),
    "ext:redis": ("cache", "redis"),
    "ext:database": ("db", ""),
}
FLASK_SESSION = ("memory", "file", "ext:memcached", "ext:redis")


def django_request(place: Place, kind: str, way: str) -> Call:
    """SessionMiddleware around a view that returns at once; no handler, no other middleware."""
    settings = peers.django_configured(place)
    engine, alias = DJANGO[kind]
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_CACHE_ALIAS = alias
    settings.SESSION_FILE_PATH = str(folder(place, "django-sessions"))
    from django.contrib.sessions.middleware import SessionMiddleware
    from django.core.management import call_command
    from django.http import HttpRequest, HttpResponse

    if engine == "db":
        call_command("migrate", verbosity=0)
    work: list[Work] = [lambda session: session.update({"visits": 1, **place.value})]

    def view(request: Any) -> Any:
        work[0](request.session)
        return HttpResponse(b".", content_type="text/plain")

    handler = SessionMiddleware(view)
    cookies: dict[str, str] = {}

    def call() -> Any:
        request = HttpRequest()
        request.COOKIES = cookies
        return handler(request)

    first = call()
    cookies.update({name: morsel.value for name, morsel in first.cookies.items()})
    work[0] = read if way == "read" else write
    return call


def flask_request(place: Place, configure: Callable[[Any], None], way: str) -> Call:
    """A request through a Flask application, from environ to body."""
    import flask

    app = flask.Flask("benchmark")
    app.secret_key = SECRET
    configure(app)
    work: list[Work] = [lambda session: session.update(visits=1, **place.value)]

    @app.route("/")
    def page() -> str:
        work[0](flask.session)
        return "."

    client = Client(app.wsgi_app)
    client()
    client.keep_cookie()
    work[0] = {"read": read, "write": write}.get(way, lambda session: None)
    return client


def flask_session(app: Any, kind: str, place: Place) -> None:
    from flask_session import Session

    if kind == "ext:redis":
        import redis

        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(place.services["redis"]))
    elif kind == "ext:memcached":
        from pymemcache import Client

        host, port = place.services["memcached"].split(":")
        client = Client((host, int(port)), no_delay=True)
        app.config.update(SESSION_TYPE="memcached", SESSION_MEMCACHED=client)
    else:
        import cachelib

        where = str(folder(place, "flask-session"))
        kept = cachelib.SimpleCache() if kind == "memory" else cachelib.FileSystemCache(where, threshold=0)
        app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=kept)
    Session(app)


def starlette_request(place: Place, way: str) -> Call:
    """Its SessionMiddleware around a Starlette page."""
    return asgi.request(place, way, asgi.starlette)


def itsdangerous_alone(place: Place, way: str) -> Call:
    """Its URLSafeTimedSerializer, as Flask uses it."""
    import hashlib

    from itsdangerous import URLSafeTimedSerializer

    signer: Any = URLSafeTimedSerializer(
        SECRET, salt="session", serializer=json, signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha1}
    )
    cookie = signer.dumps({"visits": 1, **place.value})

    def call() -> object:
        data = signer.loads(cookie, max_age=3600)
        if way == "read":
            return data
        data["visits"] += 1
        return signer.dumps(data)

    return call
