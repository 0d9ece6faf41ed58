"""The same small site in each framework.

Every response that an application can begin marks the session of its request, if there is one, and a case is named
after what is odd about the response. ``/count`` says how often that was saved.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.frameworks.plain import FILE, STREAMS, Broken, chunks, count, visit, wsgi
from tests.frameworks.websockets import websockets


def packages(*names: str) -> list[Any]:
    """Modules of packages that the environment has and the checkout's own has not."""
    return [import_module(name) for name in names]


def streamed(response: Callable[[Any], Any], items: tuple[bytes | None, ...], request: Any = None) -> Any:
    return response(chunks(*items))


def flask() -> Any:
    """Flask, and Werkzeug's response classes under it."""
    import flask

    app = flask.Flask("site")

    def failing() -> Any:
        raise Broken("the view fails")

    views: dict[str, Callable[[], Any]] = {
        "page": lambda: "hello",
        "count": lambda: count(flask.request.environ),
        "empty": lambda: "",
        "empty-response": lambda: flask.make_response(""),
        "no-content": lambda: ("", 204),
        "not-modified": lambda: flask.Response(status=304),
        "redirect": lambda: flask.redirect("/elsewhere"),
        "abort": lambda: flask.abort(418),
        "file": lambda: flask.send_file(FILE),
        "raise": failing,
    }
    for name, items in STREAMS.items():
        views[name] = functools.partial(streamed, functools.partial(flask.Response, content_type="text/plain"), items)
    views["stream-with-context"] = lambda: flask.Response(flask.stream_with_context(chunks(b"", b"one")))

    def view(case: str) -> Any:
        visit(flask.request.environ)
        return views[case]()

    app.add_url_rule("/<case>", view_func=view)
    return app


def django() -> Any:
    """Django with the middlewares that change an empty or a conditional response."""
    http, conf, wsgi, urls = packages("django.http", "django.conf", "django.core.wsgi", "django.urls")

    def failing(request: Any) -> Any:
        raise Broken("the view fails")

    views: dict[str, Callable[[Any], Any]] = {
        "page": lambda request: http.HttpResponse("hello"),
        "count": lambda request: http.HttpResponse(count(request.environ)),
        "empty": lambda request: http.HttpResponse(),
        "no-content": lambda request: http.HttpResponse(status=204),
        "not-modified": lambda request: http.HttpResponseNotModified(),
        "redirect": lambda request: http.HttpResponseRedirect("/elsewhere"),
        "not-found": lambda request: http.HttpResponseNotFound(),
        "file": lambda request: http.FileResponse(FILE.open("rb")),
        "raise": failing,
    }
    for name, items in STREAMS.items():
        views[name] = functools.partial(streamed, http.StreamingHttpResponse, items)

    def view(request: Any, case: str) -> Any:
        visit(request.environ)
        return views[case](request)

    conf.settings.configure(
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.http.ConditionalGetMiddleware"],
        ROOT_URLCONF=(urls.re_path("^(?P<case>.*)$", view),),
        SECRET_KEY="not one",
    )
    return wsgi.get_wsgi_application()


def pyramid() -> Any:
    """Pyramid, and WebOb's responses as its views return them."""
    from pyramid.config import Configurator
    from pyramid.httpexceptions import HTTPFound, HTTPNoContent, HTTPNotModified
    from pyramid.response import FileResponse, Response

    def failing() -> Any:
        raise Broken("the view fails")

    views: dict[str, Callable[[Any], Any]] = {
        "page": lambda request: Response("hello"),
        "count": lambda request: Response(count(request.environ)),
        "empty": lambda request: Response(""),
        "no-content": lambda request: HTTPNoContent(),
        "not-modified": lambda request: HTTPNotModified(),
        "redirect": lambda request: HTTPFound(location="/elsewhere"),
        "file": lambda request: FileResponse(FILE, request=request),
        "raise": lambda request: failing(),
    }
    for name, items in STREAMS.items():
        views[name] = functools.partial(
            streamed, lambda body: Response(app_iter=body, content_type="text/plain"), items
        )

    def view(request: Any) -> Any:
        visit(request.environ)
        return views[request.matchdict["case"]](request)

    with Configurator() as config:
        config.add_route("case", "/{case}")
        config.add_view(view, route_name="case")
        return config.make_wsgi_app()


def bottle() -> Any:
    """Bottle, which looks for the first chunk that is not empty by itself."""
    (bottle,) = packages("bottle")

    def failing() -> Any:
        raise Broken("the view fails")

    views: dict[str, Callable[[], Any]] = {
        "page": lambda: "hello",
        "count": lambda: count(bottle.request.environ),
        "empty": lambda: "",
        "none": lambda: None,
        "no-content": lambda: bottle.HTTPResponse(status=204),
        "not-modified": lambda: bottle.HTTPResponse(status=304),
        "redirect": lambda: bottle.redirect("/elsewhere"),
        "file": lambda: bottle.static_file(FILE.name, root=str(FILE.parent)),
        "raise": failing,
    }
    for name, items in STREAMS.items():
        views[name] = functools.partial(chunks, *items)

    app = bottle.Bottle()

    @app.route("/<case>", method=["GET", "HEAD"])
    def view(case: str) -> Any:
        visit(bottle.request.environ)
        return views[case]()

    return app


def webob() -> Any:
    """WebOb alone, as the middlewares and applications around Paste use it."""
    webob, dec, exc, static = packages("webob", "webob.dec", "webob.exc", "webob.static")
    Response = webob.Response

    responses: dict[str, Callable[[Any], Any]] = {
        "page": lambda request: Response("hello"),
        "count": lambda request: Response(count(request.environ)),
        "empty": lambda request: Response(),
        "empty-iter": lambda request: Response(app_iter=[]),
        "empty-chunk": lambda request: Response(app_iter=[b""]),
        "no-content": lambda request: Response(status=204),
        "not-modified": lambda request: Response(status=304),
        "redirect": lambda request: exc.HTTPFound(location="/elsewhere"),
        "conditional": lambda request: Response("hello", etag="x", conditional_response=True),
        "file": lambda request: static.FileApp(str(FILE)),
    }
    for name, items in STREAMS.items():
        responses[name] = functools.partial(streamed, lambda body: Response(app_iter=body), items)

    @dec.wsgify
    def app(request: Any) -> Any:
        visit(request.environ)
        return responses[request.path.strip("/")](request)

    return app


def functions() -> dict[str, Any]:
    """functions-framework's own application for each function of functions.py, by variant."""
    import functions_framework

    from tests.frameworks.site import TYPES

    source = str(Path(__file__).with_name("functions.py"))
    return {name: functions_framework.create_app(name, source, "http") for name in ("bare", *TYPES)}


BUILDERS: dict[str, Callable[[], Any]] = {
    "wsgi": wsgi,
    "flask": flask,
    "django": django,
    "pyramid": pyramid,
    "bottle": bottle,
    "webob": webob,
    "websockets": websockets,
}
