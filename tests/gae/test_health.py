"""``/healthz?stores=1``: what the process knows of its servers, for authorized callers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from beaker.config.environment import read
from beaker.exceptions import StoreUnavailable
from beaker.operations.explain import examine
from beaker.runtime import Platform, Runtime
from beaker.storage.redis import RedisStore
from beaker.testing import Browser
from gae.handlers import Handlers
from gae.settings import Tasks
from tests.servers import free_port

CRON = {"HTTP_X_APPENGINE_CRON": "true"}


def inner(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"inner"]


@pytest.fixture
def browser() -> Browser:
    runtime = Runtime(platform=Platform.APPENGINE, project="demo")
    return Browser(Handlers(inner, runtime=runtime, tasks=Tasks(), stores=list))


def test_the_circuits_are_shown_to_whoever_may_purge(browser: Browser) -> None:
    """Backend, address, state and count of failures; 503 while a circuit is open, and never a password."""
    address = f"127.0.0.1:{free_port()}"
    store = RedisStore(f"redis://:hunter2@{address}")
    # The pause, a tenth of a second at most, is not over before it is looked at.
    store._breaker.timer = lambda: 0.0
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            store.get("n", "k")
    answer = browser.get("/healthz?stores=1", **CRON)
    report = json.loads(answer.text)
    mine = [circuit for circuit in report["stores"] if circuit["place"] == address]
    assert (mine[0]["backend"], mine[0]["state"], mine[0]["failures"]) == ("redis", "open", 5)
    assert 0 < mine[0]["retry_in"] <= 0.1
    assert report["ok"] is False
    assert answer.status.startswith("503")
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("headers", [{}, {"HTTP_X_BEAKER_TASKS_SECRET": ""}, {"HTTP_AUTHORIZATION": "Bearer x.y.z"}])
def test_strangers_learn_only_that_the_process_responds(browser: Browser, headers: dict[str, str]) -> None:
    """Without the credentials of a purge it is 403; /healthz alone stays open to all, and 200 whatever stores do."""
    answer = browser.get("/healthz?stores=1", **headers)
    assert (answer.status, answer.text) == ("403 Forbidden", "forbidden\n")
    assert (browser.get("/healthz").status, browser.get("/healthz?stores=0").text) == ("200 OK", "ok\n")


def test_explain_shows_them_too() -> None:
    """A report that an application builds of itself names each circuit and its state."""
    address = f"127.0.0.1:{free_port()}"
    store = RedisStore(f"redis://{address}")
    with pytest.raises(StoreUnavailable):
        store.get("n", "k")
    report = examine(read({}), Runtime(), {})
    shown = {item.name: (item.value, item.reason) for item in report.detected}
    assert shown[f"circuit to redis {address}"] == ("closed", "1 calls without a response")
