"""A console in front of an application, whoever is let in to it, and a press of its buttons."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any

from beaker.runtime import Platform, Runtime
from beaker.testing import Browser
from gae.console import Console, ConsoleOptions, Mounted

KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
SECRET = "console-password-5d0f1c9b7e"
AUDIENCE = "/projects/123/apps/demo"
APPENGINE = Runtime(platform=Platform.APPENGINE, project="demo")
ASSERTION = "HTTP_X_GOOG_IAP_JWT_ASSERTION"
ADMIN = {"HTTP_X_APPENGINE_USER_IS_ADMIN": "1"}
HOSTILE = "<script>alert('x')</script>\"&"


def basic(password: str, user: str = "anyone") -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


LET_IN = basic(SECRET)


def inner(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"inner " + environ.get("PATH_INFO", "").encode()]


def site(**options: Any) -> Browser:
    """The console in front of an application, without settings."""
    more = {name: options.pop(name) for name in ("stores", "ring", "runtime", "verify") if name in options}
    return Browser(Mounted(inner, Console(ConsoleOptions(**(options or {"secret": SECRET})), **more)))


def token_of(page: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', page)
    assert found
    return found[1]


def press(browser: Browser, fields: dict[str, str], **environ: str) -> Any:
    """What the button that sends ``fields`` gets."""
    data = "&".join(f"{name}={value}" for name, value in fields.items()).encode()
    environ = {"CONTENT_TYPE": "application/x-www-form-urlencoded", **LET_IN, **environ}
    return browser.request("POST", "/_beaker/", data, **environ)
