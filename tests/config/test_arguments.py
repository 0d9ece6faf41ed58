"""Wrong arguments that are no options: applications, functions, and what options are given in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beaker.asgi import SessionMiddleware as AsgiMiddleware
from beaker.config import parse
from beaker.exceptions import ConfigError
from beaker.middleware import CacheMiddleware, SessionMiddleware
from beaker.session import Session
from gae.app import compose
from gae.functions import configure_cache, with_session
from tests.config.constructors import (
    KEY,
    Given,
    app,
)


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


async def streaming(request: Any) -> Any:
    yield ""


class Asgi:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


def three(scope: Any, receive: Any, send: Any) -> None: ...


class ByClass:
    def __init__(self, environ: Any, start_response: Any) -> None: ...


def with_more(environ: Any, start_response: Any, more: Any = None, *, less: Any = None) -> Any:
    return app(environ, start_response)


def needing(environ: Any, start_response: Any, *, more: Any) -> None: ...


ASGI = [asgi, Asgi(), three]
WRONG_APPS = [None, "x", 5, {"session.type": "file"}, *ASGI, needing, lambda: None]


@pytest.mark.parametrize("wrong", WRONG_APPS, ids=lambda value: type(value).__name__)
def test_what_is_no_wsgi_application(wrong: Any, tmp_path: Path) -> None:
    """Both middlewares, and compose but for ASGI, refuse it at construction, naming its type and what is expected."""
    for build in (SessionMiddleware, CacheMiddleware, *(() if wrong in ASGI else (compose,))):
        with pytest.raises(ConfigError, match=r"environ, start_response.*got " + type(wrong).__name__) as caught:
            build(wrong)
        assert caught.value.option == "app"


@pytest.mark.parametrize("wrong", [None, "", 5, b"beaker.session"])
def test_what_names_no_item_of_environ(wrong: Any) -> None:
    """An `environ_key` that is no text, or empty, is refused at construction."""
    for build in (SessionMiddleware, CacheMiddleware, lambda app, **more: AsgiMiddleware(asgi, **more)):
        with pytest.raises(ConfigError, match="environ_key"):
            build(app, environ_key=wrong)


def test_what_names_no_session() -> None:
    """The name that an application gives a session is a text."""
    with pytest.raises(ConfigError, match="'id' cannot be used; expected a text"):
        Session({}, id=5, use_cookies=False, type="memory")  # type: ignore[arg-type]


@pytest.mark.parametrize("right", [app, ByClass, lambda *args: app(*args), with_more, Path, print])
def test_every_kind_of_wsgi_application(right: Any) -> None:
    """Functions, classes, objects and what has no signature are taken."""
    SessionMiddleware(right, type="memory")
    CacheMiddleware(right)


@pytest.mark.parametrize(
    "given",
    [
        {"session": "ext:redis"},
        {"session": [("type", "file")]},
        {"session": {1: 2}},
        {"cache": "file"},
        {"regions": ["short"]},
        {"regions": {"short": "file"}},
        {"settings": {"session": {}}},
        {"ndb": "project"},
        {"handlers": "false"},
        {"prefetch": "warm"},
        {"prefetch": [None]},
        {"verify": "x"},
    ],
)
def test_wrong_arguments_of_compose(given: Given, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each is a ConfigError that names the argument."""
    monkeypatch.setenv("BEAKER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BEAKER_SESSION_SECRET", KEY)
    with pytest.raises(ConfigError) as caught:
        compose(app, **given)
    assert str(caught.value.option).startswith(next(iter(given)))
    if next(iter(given)) in ("cache", "regions", "settings"):
        with pytest.raises(ConfigError):
            configure_cache(**given)


@pytest.mark.parametrize("wrong", [streaming, "x", 5, asgi, Asgi()], ids=lambda value: type(value).__name__)
def test_what_with_session_cannot_wrap(wrong: Any) -> None:
    """A generator, an ASGI application, or what is no function is refused when it is decorated."""
    for decorate in (with_session, with_session(type="memory", secret=KEY)):
        with pytest.raises(ConfigError, match="with_session"):
            decorate(wrong)
    with pytest.raises(ConfigError, match="settings"):
        with_session(settings={"type": "file"})  # type: ignore[call-overload]


def test_ready_options_stand_alone() -> None:
    """Options beside ready-made ones would be ignored."""
    ready = parse.parse_session({"session.type": "memory"})
    SessionMiddleware(app, options=ready)
    for given in ({"config": {"session.secret": KEY}}, {"secret": KEY}):
        with pytest.raises(ConfigError, match="options are complete"):
            SessionMiddleware(app, options=ready, **given)
    with pytest.raises(ConfigError, match="options are complete"):
        SessionMiddleware(app, options={"type": "file"})
