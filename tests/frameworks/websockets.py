"""Websocket handlers, each ending its request in one of the ways that libraries have for it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from tests.frameworks.plain import Environ, Start, visit


def talk(environ: Environ, socket: Any) -> None:
    """Count the visit, tell the client, and wait for it to leave."""
    closed = import_module("simple_websocket").ConnectionClosed
    visit(environ)
    socket.send(str(environ["beaker.session"]["visits"]))
    try:
        while True:
            socket.receive()
    except closed:
        return


def websockets() -> Any:
    """An application that serves ``/PATH`` over a websocket: how the handler ends is after its name."""
    import flask

    sock: Any = import_module("flask_sock").Sock
    server: Any = import_module("simple_websocket").Server
    app = flask.Flask("websockets")

    @sock(app).route("/flask-sock")
    def flask_sock(socket: Any) -> None:
        talk(flask.request.environ, socket)

    @app.route("/flask-response", websocket=True)
    def flask_response() -> str:
        # As simple-websocket's documentation has it: a response that no client receives.
        talk(flask.request.environ, server.accept(flask.request.environ))
        return ""

    def stops(environ: Environ, start: Start) -> Iterable[bytes]:
        # As python-engineio does under gunicorn.
        talk(environ, server.accept(environ))
        raise StopIteration

    def returns(environ: Environ, start: Start) -> Iterable[bytes]:
        talk(environ, server.accept(environ))
        return []

    plain = {"/stops": stops, "/returns": returns}

    def wsgi(environ: Environ, start: Start) -> Iterable[bytes]:
        response: Iterable[bytes] = plain.get(environ["PATH_INFO"], app)(environ, start)
        return response

    return wsgi
