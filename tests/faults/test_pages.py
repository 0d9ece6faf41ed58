"""Pages beside a store that hangs."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable
from typing import Any

from beaker.crypto.keyring import new_key
from beaker.middleware import CacheMiddleware, SessionMiddleware
from beaker.testing import Browser
from tests.faults.proxy import replying


def test_a_page_that_uses_no_store_waits_for_none() -> None:
    """Behind sessions and caches on a Redis that hangs, a page that touches neither opens no connection."""

    def page(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"static"]

    with replying(b"") as address:
        config: dict[str, Any] = {"session.secret": new_key(), "session.auto": True}
        for scope in ("session", "cache"):
            config |= {f"{scope}.type": "ext:redis", f"{scope}.url": f"redis://{address}"}
        app = SessionMiddleware(CacheMiddleware(page, config), config)
        browser = Browser(app)
        browser.cookies["beaker.session.id"] = "A" * 71
        # What other tests left in cycles must not be closed in between.
        gc.collect()
        before = set(os.listdir("/proc/self/fd"))
        assert browser.get("/").text == "static"
        assert set(os.listdir("/proc/self/fd")) == before
