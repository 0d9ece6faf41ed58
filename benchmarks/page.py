"""The Flask application of rows/pages.py; gunicorn loads it in the environment of the implementation."""

from __future__ import annotations

import json
import os
from typing import Any

import flask

SECRET = "Vq3nT8xWb0LrYc5KzMh7PdJf2sGuE9aQ4iXoRt6NvBk"  # keys nothing: every checkout has it


def beaker_options(keeps: str, ours: bool) -> dict[str, Any]:
    directory = os.environ["BENCHMARK_DIRECTORY"]
    if keeps == "signed":
        return {"type": "cookie", "validate_key": SECRET, "data_serializer": "json"}
    if keeps == "file":
        return {"type": "file", "data_dir": directory, "secret": SECRET}
    address = {"type": "ext:redis", "url": os.environ["BENCHMARK_REDIS"], "secret": SECRET}
    return address if ours else {**address, "lock_dir": directory, "data_dir": directory}


def flask_session(app: flask.Flask, keeps: str) -> None:
    from flask_session import Session

    if keeps == "redis":
        import redis

        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(os.environ["BENCHMARK_REDIS"]))
    else:
        import cachelib

        kept = cachelib.FileSystemCache(os.environ["BENCHMARK_DIRECTORY"], threshold=0)
        app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=kept)
    Session(app)


def create(implementation: str, keeps: str) -> flask.Flask:
    """The application of one implementation that ``keeps`` its sessions in ``redis``, ``signed`` or ``file``."""
    app = flask.Flask("page")
    app.secret_key = SECRET
    if implementation in ("ours", "beaker"):
        from beaker.middleware import SessionMiddleware

        options = {f"session.{name}": value for name, value in beaker_options(keeps, implementation == "ours").items()}
        app.wsgi_app = SessionMiddleware(app.wsgi_app, options)  # type: ignore[method-assign]
    elif implementation == "Flask-Session":
        flask_session(app, keeps)

    def session() -> Any:
        return flask.request.environ["beaker.session"] if implementation in ("ours", "beaker") else flask.session

    @app.route("/write")
    def write() -> str:
        if implementation == "floor":
            return "1"
        found = session()
        found["visits"] = found.get("visits", 0) + 1
        if implementation in ("ours", "beaker"):
            found.save()
        return str(found["visits"])

    @app.route("/read")
    def read() -> str:
        return "1" if implementation == "floor" else json.dumps(session().get("visits"))

    return app
