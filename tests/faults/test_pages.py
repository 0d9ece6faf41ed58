"""Pages beside a store that hangs."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import pytest

from beaker.crypto.keyring import new_key
from beaker.middleware import CacheMiddleware, SessionMiddleware
from beaker.testing import Browser


def test_a_page_that_uses_no_store_waits_for_none() -> None:
    """Behind sessions and caches on a Redis that hangs, a page that touches neither opens no connection."""

    def page(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"static"]

    # The kernel accepts for it, and keeps each connection until it is asked for.
    with socket.create_server(("127.0.0.1", 0)) as server:
        config: dict[str, Any] = {"session.secret": new_key(), "session.auto": True}
        for scope in ("session", "cache"):
            config |= {f"{scope}.type": "ext:redis", f"{scope}.url": f"redis://127.0.0.1:{server.getsockname()[1]}"}
        browser = Browser(SessionMiddleware(CacheMiddleware(page, config), config))
        browser.cookies["beaker.session.id"] = "A" * 71
        assert browser.get("/").text == "static"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
