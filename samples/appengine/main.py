"""A small shop that keeps its visitors in sessions and its slow lookup in a cache.

The same file runs on a laptop (`scripts/serve`), on the Datastore emulator (`scripts/serve --datastore`) and
on App Engine (`gcloud app deploy`). Where sessions and cached values live is decided by the environment;
see README.md in this folder.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from beaker.cache import cache_region, region_invalidate
from gae import logs
from gae.app import compose

from . import page

# JSON lines that Cloud Logging reads on App Engine, plain ones on a laptop.
logs.configure()

CITIES = ("Lisbon", "Oslo", "Kyoto")
GOODS = ("coffee", "tea", "honey")
INSTANCE = secrets.token_hex(3)
LARGEST_FORM = 10_000
LOOKUP_SECONDS = 1.5

Environ = dict[str, Any]
StartResponse = Callable[..., object]


@cache_region("lookup", "weather")
def weather(city: str) -> dict[str, Any]:
    """A slow lookup, so that a hit in the cache can be seen."""
    time.sleep(LOOKUP_SECONDS)
    return {
        "text": f"{secrets.choice(('sunny', 'cloudy', 'windy', 'clear'))}, {secrets.randbelow(25)} °C",
        "made": secrets.token_hex(4),
        "at": time.time(),
        "by": INSTANCE,
    }


def shop(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI application; ``environ["beaker.session"]`` is the visitor's session."""
    method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/")
    if path == "/":
        if method in ("GET", "HEAD"):
            return show(environ, start_response)
        return respond(start_response, HTTPStatus.METHOD_NOT_ALLOWED, "This page takes GET.", [("Allow", "GET, HEAD")])
    action = ACTIONS.get(path)
    if action is None:
        return respond(start_response, HTTPStatus.NOT_FOUND, "There is no such page.")
    if method != "POST":
        return respond(start_response, HTTPStatus.METHOD_NOT_ALLOWED, "This page takes POST.", [("Allow", "POST")])
    form = read_form(environ)
    if form is None:
        return respond(start_response, HTTPStatus.BAD_REQUEST, "That form cannot be read.")
    session = environ["beaker.session"]
    # A form of another site cannot know the token that this visitor's session holds.
    if not hmac.compare_digest(str(session.get("csrf", "")).encode(), form.get("csrf", "").encode() or b"-"):
        return respond(start_response, HTTPStatus.FORBIDDEN, "This form is out of date. Go back, reload and try again.")
    action(session, form)
    # After a POST the browser is sent to the page, so that reloading it repeats nothing.
    start_response("303 See Other", [("Location", "/"), ("Content-Length", "0"), ("Cache-Control", "no-store")])
    return [b""]


def show(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The page, with the visit counted."""
    session = environ["beaker.session"]
    last_seen = session.last_accessed
    visits = session.increment("visits")
    token = session.setdefault("csrf", secrets.token_urlsafe(18))
    session.save()
    city = session.get("city", CITIES[0])
    started, clock = time.time(), time.perf_counter()
    report = weather(city)
    took = time.perf_counter() - clock
    settings = application.settings
    body = page.render(
        csrf=token,
        user=session.user,
        visits=visits,
        last_seen=last_seen,
        cart={good: session.get(f"cart:{good}", 0) for good in GOODS},
        city=city,
        cities=CITIES,
        report=report,
        hit=report["at"] < started,
        took=took,
        platform=settings.platform,
        session_type=settings.session_type,
        cache_type=settings.cache_type,
        instance=INSTANCE,
    ).encode()
    start_response("200 OK", [*page.HEADERS, ("Content-Length", str(len(body)))])
    return [body] if environ["REQUEST_METHOD"] == "GET" else []


def sign_in(session: Any, form: dict[str, str]) -> None:
    name = " ".join(form.get("name", "").split())[:40]
    if name:
        session.pop("csrf", None)
        session.login(name)


def sign_out(session: Any, form: dict[str, str]) -> None:
    session.logout()


def regenerate(session: Any, form: dict[str, str]) -> None:
    session.regenerate_id()


def add(session: Any, form: dict[str, str]) -> None:
    if form.get("good") in GOODS:
        session.increment(f"cart:{form['good']}")
        session.save()


def empty(session: Any, form: dict[str, str]) -> None:
    for good in GOODS:
        session.pop(f"cart:{good}", None)
    session.save()


def choose(session: Any, form: dict[str, str]) -> None:
    if form.get("city") in CITIES:
        session["city"] = form["city"]
        session.save()


def invalidate(session: Any, form: dict[str, str]) -> None:
    region_invalidate(weather, "lookup", "weather", session.get("city", CITIES[0]))


ACTIONS: dict[str, Callable[[Any, dict[str, str]], None]] = {
    "/sign-in": sign_in,
    "/sign-out": sign_out,
    "/regenerate": regenerate,
    "/cart/add": add,
    "/cart/empty": empty,
    "/city": choose,
    "/invalidate": invalidate,
}


def read_form(environ: Environ) -> dict[str, str] | None:
    """The form's fields, or ``None`` when there is no readable form of a decent size."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if not 0 <= length <= LARGEST_FORM:
            return None
        fields = parse_qs(environ["wsgi.input"].read(length).decode(), max_num_fields=20)
    except ValueError:
        return None
    return {name: values[0] for name, values in fields.items()}


def respond(
    start_response: StartResponse, status: HTTPStatus, text: str, headers: Iterable[tuple[str, str]] = ()
) -> Iterable[bytes]:
    """A short page of text."""
    body = page.message(status.phrase, text).encode()
    start_response(f"{status.value} {status.phrase}", [*page.HEADERS, ("Content-Length", str(len(body))), *headers])
    return [body]


application = compose(shop, regions={"lookup": {"expire": 60}})
app = application
"""What app.yaml's entrypoint serves: ``samples.appengine.main:app``."""
