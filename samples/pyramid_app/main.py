"""Greetings with Pyramid: the chosen language is in the session, the rendered greeting is cached."""

from __future__ import annotations

import sys
import time
from typing import Any

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther

from beaker.cache import cache_region
from gae.app import compose

GREETINGS = {"en": "Good day", "de": "Guten Tag", "pt": "Bom dia"}
RENDER_SECONDS = 1.0


@cache_region("pages")
def greeting(language: str) -> str:
    """Stands for a page that is slow to render."""
    time.sleep(RENDER_SECONDS)
    return GREETINGS[language]


def show(request: Any) -> dict[str, Any]:
    visits = request.beaker_session.increment("visits")
    request.beaker_session.save()
    language = request.beaker_session.get("language", "en")
    return {"greeting": greeting(language), "language": language, "visits": visits}


def choose(request: Any) -> Any:
    language = request.matchdict["language"]
    if language not in GREETINGS:
        return HTTPNotFound(f"languages: {', '.join(sorted(GREETINGS))}")
    request.beaker_session["language"] = language
    request.beaker_session.save()
    return HTTPSeeOther("/")


def pyramid_app() -> Any:
    """The Pyramid application; each request has ``beaker_session``."""
    config = Configurator()
    config.add_request_method(lambda request: request.environ["beaker.session"], "beaker_session", reify=True)
    config.add_route("show", "/", request_method="GET")
    config.add_route("choose", "/language/{language}", request_method="POST")
    config.add_view(show, route_name="show", renderer="json")
    config.add_view(choose, route_name="choose")
    return config.make_wsgi_app()


app = compose(pyramid_app(), regions={"pages": {"expire": 3600}})

if __name__ == "__main__":
    from wsgiref.simple_server import make_server

    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    with make_server("127.0.0.1", port, app) as server:
        print(f"Serving on http://127.0.0.1:{port} (Ctrl-C stops)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("Stopped.")
