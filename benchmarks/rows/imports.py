"""Cold starts: what a fresh process pays before its first response."""

from __future__ import annotations

from benchmarks.row import SECRET, Row, goals

# Standard library that a signed session cannot do without.
_STANDARD = "import base64, contextvars, hashlib, hmac, json, os, re, secrets, threading, time, urllib.parse, weakref"

_BEAKER = "import beaker.middleware"
_IMPORTS = {
    "ours": _BEAKER,
    "beaker": _BEAKER,
    "Django": "import django.contrib.sessions.middleware",
    "Flask-Session": "import flask_session.redis",
    "starlette": "import starlette.middleware.sessions",
    "floor": _STANDARD,
}

_FIRST_REQUEST = f"""
from beaker.middleware import SessionMiddleware
def app(environ, start):
    session = environ["beaker.session"]
    session["visits"] = session.get("visits", 0) + 1
    session.save()
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"."]
options = {{"session.type": "cookie", "session.validate_key": {SECRET!r}, "session.data_serializer": "json"}}
environ = {{"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": "", "SERVER_NAME": "localhost",
           "SERVER_PORT": "80", "HTTP_HOST": "localhost", "wsgi.url_scheme": "http"}}
sent = []
b"".join(SessionMiddleware(app, options)(environ, lambda status, headers, error=None: sent.extend(headers)))
assert any(name.lower() == "set-cookie" for name, _ in sent), sent
"""
_FIRST = {
    "ours": _FIRST_REQUEST,
    "beaker": _FIRST_REQUEST,
    "Flask": f"""
import flask
app = flask.Flask("benchmark"); app.secret_key = {SECRET!r}
@app.route("/")
def page():
    flask.session["visits"] = 1
    return "."
assert "Set-Cookie" in app.test_client().get("/").headers
""",
}

_NOTE = "In a new process, after the interpreter has started. Clients (redis, SQLAlchemy, ...) are installed."

ROWS = (
    Row(
        "import beaker.middleware, time", {}, goals=goals(beaker=0.25), unit="ms", kind="process",
        note=f"{_NOTE} Floor: the standard library's modules that a signed session needs.",
        extra={"scripts": _IMPORTS, "figure": "ms"},
    ),
    Row(
        "import beaker.middleware, memory", {}, unit="MiB", kind="process", quick=False,
        note="Growth of the resident set.",
        extra={"scripts": _IMPORTS, "figure": "MiB"},
    ),
    Row(
        "first cookie request of a process", {}, goals=goals(beaker=0.25), unit="ms", kind="process", note=_NOTE,
        extra={"scripts": _FIRST, "figure": "ms"},
    ),
)  # fmt: skip
