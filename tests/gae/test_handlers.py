"""The addresses that a platform calls: who may call them, what they do, and that nothing sent to them breaks them."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from beaker.exceptions import InvalidCacheBackendError, StoreUnavailable
from beaker.operations.purging import stores_of
from beaker.runtime import Platform, Runtime
from beaker.storage.datastore import DatastoreStore
from beaker.storage.files import FileStore
from beaker.testing import Browser, FakeClock
from gae.app import compose
from gae.handlers import HEALTH, PURGE, WARMUP, Handlers
from gae.settings import Settings, Tasks

ROOT = Path(__file__).resolve().parents[2]
KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
APPENGINE = Runtime(platform=Platform.APPENGINE, project="demo")
CRON = {"HTTP_X_APPENGINE_CRON": "true"}


@pytest.fixture
def clock() -> FakeClock:
    """The clock of the stores: the time that a purge goes by."""
    return FakeClock(time.time())


def inner(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"inner"]


def site(
    stores: Sequence[Any] | Callable[[], Sequence[Any]] = (), runtime: Runtime = APPENGINE, **more: Any
) -> Browser:
    answer = stores if callable(stores) else lambda: stores
    return Browser(Handlers(inner, runtime=runtime, tasks=more.pop("tasks", Tasks()), stores=answer, **more))


def purge(browser: Browser, query: str = "", **environ: str) -> dict[str, Any]:
    answer = browser.get(PURGE + query, **(environ or CRON))
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    report: dict[str, Any] = {"status": int(answer.status[:3]), **json.loads(answer.text)}
    return report


def expired(store: Any, clock: FakeClock, count: int = 5) -> Any:
    """``store`` with ``count`` records that are over, and one that is not."""
    clock.advance(-11)
    for number in range(count):
        store.set("old", str(number), b"x", ttl=10)
    clock.advance(11)
    store.set("old", "stays", b"x", ttl=None)
    return store


@pytest.mark.parametrize(("path", "methods"), [(WARMUP, "GET, HEAD"), (HEALTH, "GET, HEAD"), (PURGE, "GET, POST")])
def test_methods_are_told(path: str, methods: str) -> None:
    """Every other method is a 405 that names the right ones; HEAD has the headers of GET and no body."""
    browser = site()
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        answer = browser.request(method, path, b"", **CRON)
        if method in methods.split(", "):
            assert answer.status == "200 OK"
        else:
            assert (answer.status, answer.header("Allow")) == ("405 Method Not Allowed", methods)
        assert answer.body == b"" if method == "HEAD" else int(answer.header("Content-Length") or 0) == len(answer.body)
        assert answer.header("Cache-Control") == "no-store"


def test_everything_else_is_the_application_s() -> None:
    """Addresses that only look like ours reach it."""
    browser = site()
    for path in ("/", "", "/healthz/", "/_ah/warmup/x", "/_ah/start", f"{PURGE}/", PURGE.upper(), "//healthz"):
        assert browser.get(path).text == "inner"


@pytest.mark.parametrize("platform", [platform for platform in Platform if platform is not Platform.APPENGINE])
def test_cron_s_header_is_worth_nothing_elsewhere(platform: Platform) -> None:
    """Only App Engine removes it from what visitors send."""
    assert site(runtime=Runtime(platform=platform)).get(PURGE, **CRON).status == "403 Forbidden"
    assert site().get(PURGE, HTTP_X_APPENGINE_CRON="True").status == "403 Forbidden"


def test_a_secret_of_any_letters_is_compared_as_bytes() -> None:
    """What the scheduler sends in UTF-8 arrives; an empty one never counts, nor does one sent where none is set."""
    secret = "schlüsselschlüssel"
    browser = site(runtime=Runtime(), tasks=Tasks(secret=secret))
    sent = secret.encode().decode("latin-1")
    assert browser.get(PURGE, HTTP_X_BEAKER_TASKS_SECRET=sent).status == "200 OK"
    for wrong in ("", secret, "\u20ac" * 20, sent[:-1]):
        assert browser.get(PURGE, HTTP_X_BEAKER_TASKS_SECRET=wrong).status == "403 Forbidden"
    assert site(runtime=Runtime()).get(PURGE, HTTP_X_BEAKER_TASKS_SECRET="").status == "403 Forbidden"


def test_no_token_breaks_the_door() -> None:
    """Whatever is sent as a token is refused without being verified: too long, too deep, not text, no claims."""

    def verify(token: str, audience: str) -> dict[str, Any]:
        raise AssertionError("a token that does not even claim to be ours was verified")

    tasks = Tasks(audience="https://x", service_accounts=("cron@p",))
    browser = site(runtime=Runtime(), tasks=tasks, verify=verify)

    def token(body: bytes) -> str:
        return "a." + base64.urlsafe_b64encode(body).decode() + ".c"

    claims = {"aud": "https://x", "email": "cron@p"}
    bodies = (b"", b"\xff", b"[]", b"1", b"null", b'"text"', b"[" * 4000, b"1" * 5000, b"{" * 100)
    others: tuple[dict[str, Any], ...] = (
        {**claims, "aud": ["https://x"]},
        {**claims, "email": ["cron@p"]},
        {**claims, "email": {}},
        {},
    )
    sent = [token(body) for body in (*bodies, *(json.dumps(other).encode() for other in others))]
    sent += ["", ".", "..", "a.b", "é.é.é", "a.====.c", token(json.dumps({**claims, "x": "y" * 9000}).encode())]
    for text in sent:
        assert browser.get(PURGE, HTTP_AUTHORIZATION=f"Bearer {text}").status == "403 Forbidden", text[:40]
    good = json.dumps(claims).encode()
    for header in (token(good), f"Basic {token(good)}", "Bearer", "bearer\t" + token(good), "\xff"):
        assert browser.get(PURGE, HTTP_AUTHORIZATION=header).status == "403 Forbidden"


def test_a_token_without_a_verified_address_is_refused() -> None:
    """Google's signature on the right audience and address, but the address was never verified."""
    claims: dict[str, Any] = {"aud": "https://x", "email": "cron@p"}
    tasks = Tasks(audience="https://x", service_accounts=("cron@p",))
    browser = site(runtime=Runtime(), tasks=tasks, verify=lambda token, audience: claims)
    bearer = {"HTTP_AUTHORIZATION": f"Bearer a.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()}.c"}
    for verified in (None, False, "true"):
        claims["email_verified"] = verified
        assert browser.get(PURGE, **bearer).status == "403 Forbidden"
    claims["email_verified"] = True
    assert browser.get(PURGE, **bearer).status == "200 OK"


def test_a_purge_is_bounded_and_the_next_goes_on(tmp_path: Path, clock: FakeClock) -> None:
    """Two a run, of five: three runs of the scheduler remove all, and the record that lives is still there."""
    store = expired(FileStore(tmp_path, clock=clock), clock)
    browser = site([store], limit=2)
    reports = [purge(browser) for _ in range(3)]
    assert [report["total"] for report in reports] == [2, 2, 1]
    assert [report["done"] for report in reports] == [False, False, True]
    assert [report["cursor"] is None for report in reports] == [False, False, True]
    assert set(reports[0]) == {"status", "removed", "total", "done", "cursor", "seconds"}
    assert store.get("old", "stays") == b"x"
    assert purge(browser)["total"] == 0


def test_a_purge_ends_at_its_deadline(tmp_path: Path, clock: FakeClock) -> None:
    """Without time it removes nothing, says so, and where to go on."""
    store = expired(FileStore(tmp_path, clock=clock), clock)
    report = purge(site([store], deadline=0.0))
    assert (report["status"], report["total"], report["done"]) == (200, 0, False)
    assert purge(site([store]))["total"] == 5


@pytest.mark.parametrize("store", ["file", "datastore", "firestore"])
def test_no_cursor_breaks_a_purge(store: str, request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> None:
    """A cursor that no purge returned is a 400; one that an old configuration left behind is forgotten."""
    made: Any
    if store == "file":
        made = FileStore(tmp_path, clock=clock)
    else:
        host = request.getfixturevalue(f"{store}_emulator").host
        made = DatastoreStore(project=f"purge-{uuid.uuid4().hex[:8]}", emulator_host=host, clock=clock)
    browser = site([expired(made, clock)])
    for cursor in ("x", "0", ":", "-1:", "2:", "9999999:", "%D9%A3:", "0:%FF%FE", "0:../x", f"0:{'A' * 5000}"):
        answer = browser.get(f"{PURGE}?cursor={cursor}", **CRON)
        assert answer.status[:3] in ("200", "400"), cursor
        assert answer.status[:3] == "400" or json.loads(answer.text)["total"] in (0, 5)
    made.set("beaker.purge", "cursor", b"7:of another configuration \xff", ttl=None)
    expired(made, clock)
    report = purge(browser)
    assert (report["total"], report["done"]) == (5, True)
    assert made.get("beaker.purge", "cursor") is None


@pytest.mark.parametrize("query", ["limit=5", "curser=0:", "cursor=0:&deadline=1"])
def test_a_parameter_that_a_purge_does_not_know_is_refused(query: str, tmp_path: Path, clock: FakeClock) -> None:
    """A misspelt cursor, or a bound that would not be kept: 400, and nothing is removed."""
    store = expired(FileStore(tmp_path, clock=clock), clock)
    answer = site(stores=lambda: [store]).get(f"{PURGE}?{query}", **CRON)
    assert (answer.status, answer.text) == ("400 Bad Request", "the only parameter is cursor\n")
    assert store.purge(clock(), 100)[0] == 5


def test_a_store_that_fails_is_asked_again(tmp_path: Path, clock: FakeClock, caplog: Any) -> None:
    """503 with what was done and where to go on; the scheduler's next call goes on there."""

    class Failing(FileStore):
        broken = True

        def purge(self, now: float, limit: int, **more: Any) -> tuple[int, str | None]:
            if self.broken:
                raise StoreUnavailable("no answer", backend="file", operation="purge")
            return super().purge(now, limit, **more)

    first = expired(FileStore(tmp_path / "a", clock=clock), clock)
    second = Failing(tmp_path / "b", clock=clock)
    browser = site([first, expired(second, clock)])
    report = purge(browser)
    assert (report["status"], report["error"], report["removed"]) == (503, "StoreUnavailable", {"file": 5, "file 2": 0})
    second.broken = False
    assert purge(browser)["removed"] == {"file 2": 5}


@pytest.mark.parametrize(
    ("error", "status"),
    [(StoreUnavailable("down"), 503), (InvalidCacheBackendError("not installed", hint="pip install x"), 500)],
)
def test_stores_that_cannot_even_be_had_are_an_answer(error: Exception, status: int, caplog: Any) -> None:
    """A missing package or a server that is down: JSON that names the error, its text in the log alone."""

    def stores() -> Sequence[Any]:
        raise error

    assert purge(site(stores)) == {"status": status, "error": type(error).__name__}
    assert str(error) in caplog.text
    assert site(stores).get(WARMUP).status == "200 OK"


def test_no_store_to_purge_is_done() -> None:
    """Cookies and caches that forget by themselves leave nothing to remove."""
    assert purge(site()) | {"seconds": 0} == {
        "status": 200, "removed": {}, "total": 0, "done": True, "cursor": None, "seconds": 0
    }  # fmt: skip


def test_a_warmup_is_done_once_and_by_one(caplog: Any) -> None:
    """8 calls at once: one works, the rest return at once; one that failed is tried again by the next."""
    calls: list[int] = []
    working, others = threading.Event(), threading.Event()

    def fetch() -> None:
        calls.append(1)
        working.set()
        assert others.wait(30)
        if len(calls) == 1:
            raise RuntimeError("not yet")

    browser = site(prefetch=[fetch])
    first = threading.Thread(target=browser.get, args=(WARMUP,))
    first.start()
    assert working.wait(30)
    assert [browser.copy().get(WARMUP).status for _ in range(7)] == ["200 OK"] * 7
    others.set()
    first.join(30)
    assert len(calls) == 1
    with caplog.at_level(logging.INFO, "gae"):
        browser.get(WARMUP)
        browser.get(WARMUP)
    assert len(calls) == 2
    assert "warmup: done" in caplog.text


def test_a_warmup_opens_the_stores_of_named_regions(
    datastore_emulator: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Session, cache and the regions BEAKER_WARMUP_REGIONS names are read once; an unknown name is reported."""
    project = f"warm-{uuid.uuid4().hex[:8]}"
    environ = {
        "BEAKER_SESSION_SECRET": KEY,
        "BEAKER_SESSION_TYPE": "ext:google",
        "BEAKER_SESSION_TABLE_NAME": "sessions",
        "BEAKER_WARMUP_REGIONS": "pages, nosuch",
    }
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", datastore_emulator.host)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    runtime = Runtime(platform=Platform.APPENGINE, project=project, emulator_host=datastore_emulator.host)
    regions = {
        "Pages": {"type": "ext:google", "table_name": "pages"},
        "other": {"type": "ext:google", "table_name": "o"},
    }
    composed = compose(inner, settings=Settings.from_environ(environ, runtime=runtime, regions=regions))
    assert "names nosuch" in caplog.text
    assert "names pages" not in caplog.text
    assert Browser(composed).get(WARMUP).status == "200 OK"
    spent = {
        store.table_name: dict(store.gateway.calls)
        for store in stores_of(composed.sessions.context, composed.settings.cache)
        if isinstance(store, DatastoreStore)
    }
    assert spent == {"sessions": {"Lookup": 1}, "pages": {"Lookup": 1}, "o": {}}


WARMING = """
    import sys
    from gae.app import compose
    from beaker.testing.browser import Browser

    browser = Browser(compose(lambda environ, start_response: []))
    heavy = ("google.cloud.datastore_v1", "grpc")
    before = [name in sys.modules for name in heavy]
    print(before, browser.get("/_ah/warmup").status, [name in sys.modules for name in heavy])
"""


def test_a_warmup_imports_the_client_before_a_visitor_needs_it(datastore_emulator: Any) -> None:
    """Composing loads no client; the warmup does, and opens its channel."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "GAE_ENV": "standard", "BEAKER_SESSION_SECRET": KEY}
    environ |= {"BEAKER_SESSION_TYPE": "ext:google", "GOOGLE_CLOUD_PROJECT": f"warm-{uuid.uuid4().hex[:8]}"}
    environ |= {"DATASTORE_EMULATOR_HOST": datastore_emulator.host}
    command = [sys.executable, "-c", textwrap.dedent(WARMING)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[False, False] 200 OK [True, True]"
