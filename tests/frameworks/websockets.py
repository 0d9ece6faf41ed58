"""Websocket handlers, each ending its request in one of the ways that libraries have for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.frameworks.plain import Environ, Start, visit


def talk(environ: Environ, socket: Any) -> None:
    """Count the visit, tell the client, and wait for it to leave."""
    from simple_websocket import ConnectionClosed

    visit(environ)
    socket.send(str(environ["beaker.session"]["visits"]))
    try:
        while True:
            socket.receive()
    except ConnectionClosed:
        return


def websockets() -> Any:
    """An application that serves ``/PATH`` over a websocket: how the handler ends is after its name."""
    import flask
    from flask_sock import Sock
    from simple_websocket import Server

    app = flask.Flask("websockets")

    @Sock(app).route("/flask-sock")
    def flask_sock(socket: Any) -> None:
        talk(flask.request.environ, socket)

    @app.route("/flask-response", websocket=True)
    def flask_response() -> str:
        # As simple-websocket's documentation has it: a response that nobody receives.
        talk(flask.request.environ, Server.accept(flask.request.environ))
        return ""

    def stops(environ: Environ, start: Start) -> Iterable[bytes]:
        # As python-engineio does under gunicorn.
        talk(environ, Server.accept(environ))
        raise StopIteration

    def returns(environ: Environ, start: Start) -> Iterable[bytes]:
        talk(environ, Server.accept(environ))
        return []

    plain = {"/stops": stops, "/returns": returns}

    def wsgi(environ: Environ, start: Start) -> Iterable[bytes]:
        response: Iterable[bytes] = plain.get(environ["PATH_INFO"], app)(environ, start)
        return response

    return wsgi
