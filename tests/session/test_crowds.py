"""Visitors without cookies, in any number, end nobody's session."""

from __future__ import annotations

import pytest

from beaker.testing.session_harness import Handler, SessionHarness
from tests.session.places import middleware_of, tab_class

put = SessionHarness.put
CROWD = 300


@pytest.mark.parametrize("driver", ["wsgi", "asgi"])
def test_a_crowd_without_cookies(driver: str) -> None:
    """As many new sessions as memory holds, twice over: whoever came back before is still logged in."""
    handlers: list[Handler] = []
    options = {"type": "memory", "secret": "6bf2a7a1f4d94ee1a8e8b0c35d7a49f0c2f1", "max_entries": CROWD // 2}
    middleware = middleware_of(driver, handlers, options)
    kind = tab_class(driver)
    users = [kind(middleware, handlers) for _ in range(20)]
    for number, user in enumerate(users):
        user.do(put(user=number))
        user.do(lambda session: session.get("user"))
    for _ in range(CROWD):
        kind(middleware, handlers).do(put(visited=True))
    assert [user.do(lambda session: session.get("user")) for user in users] == list(range(20))
