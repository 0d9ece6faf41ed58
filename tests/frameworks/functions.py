"""HTTP functions, bare and with a session, as functions-framework loads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flask

from gae.functions import with_session
from tests.frameworks.plain import FILE, count, visit
from tests.frameworks.site import TYPES, options


def bare(request: Any) -> Any:
    visit(request.environ)
    case = request.path.strip("/")
    if case == "count":
        return count(request.environ)
    return RESPONSES[case]()


def failing() -> Any:
    raise ValueError("the view fails")


def stream(*chunks: Any) -> flask.Response:
    def body() -> Iterator[Any]:
        for chunk in chunks:
            if chunk is None:
                raise ValueError("the stream fails")
            yield chunk

    return flask.Response(body(), content_type="text/plain")


RESPONSES: dict[str, Any] = {
    "page": lambda: "hello",
    "empty": lambda: "",
    "empty-response": lambda: flask.make_response(""),
    "no-content": lambda: ("", 204),
    "not-modified": lambda: flask.Response(status=304),
    "redirect": lambda: flask.redirect("/elsewhere"),
    "abort": lambda: flask.abort(418),
    "stream": lambda: stream("one", "two", "three"),
    "stream-empty-first": lambda: stream("", "one", "", "two"),
    "stream-nothing": lambda: stream(),
    "file": lambda: flask.send_file(FILE),
    "raise": failing,
    "raise-first": lambda: stream(None),
    "raise-second": lambda: stream("one", None),
    "raise-after-empty": lambda: stream("", None),
}

for kind in TYPES:
    globals()[kind] = with_session(**options(kind))(bare)
