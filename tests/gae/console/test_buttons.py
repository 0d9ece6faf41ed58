"""What a button of the console does, and which forms do nothing."""

from __future__ import annotations

import io
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from beaker import cache as caching
from beaker.cache import CacheManager
from beaker.exceptions import StoreUnavailable
from beaker.testing import FakeClock
from gae.console import Console, ConsoleOptions
from gae.console.forms import Forms
from tests.gae.console.sites import (
    HOSTILE,
    LET_IN,
    SECRET,
    press,
    site,
    token_of,
)


def test_a_button_invalidates_a_region(weather: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The next call computes its value anew; the page says how many caches were cleared."""
    browser = site()
    assert weather("bern-of-visitor-77") == 1
    page = browser.get("/_beaker/", **LET_IN)
    with caplog.at_level(logging.INFO, "gae"):
        answer = press(browser, {"token": token_of(page.text), "action": "invalidate", "region": "short"})
    assert answer.status == "200 OK"
    assert "Region short is invalidated: 1 cache cleared." in answer.text
    assert "1 caches cleared" in caplog.text
    assert weather("bern-of-visitor-77") == 2


def test_a_button_invalidates_everywhere(tmp_path: Path) -> None:
    """A region with a stamp: values that another process wrote under a namespace unknown here are created anew."""
    options = {"type": "file", "data_dir": str(tmp_path), "expire": 60, "region_stamp": True}
    manager = CacheManager(cache_regions={"stamped": options})
    caching.cache_regions.update(manager.regions)
    cache = manager.get_cache_region("elsewhere", "stamped")
    assert cache.get("k", createfunc=lambda: "old") == "old"
    caching.cache_managers.clear()
    browser = site()
    token = token_of(browser.get("/_beaker/", **LET_IN).text)
    answer = press(browser, {"token": token, "action": "invalidate", "region": "stamped"})
    assert "Region stamped is invalidated, for every instance." in answer.text
    assert cache.get("k", createfunc=lambda: "new") == "new"


def test_a_store_that_fails_is_a_sentence(weather: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of the error, not its text; what could be cleared is."""

    def down() -> None:
        raise StoreUnavailable(f"redis://:{HOSTILE}@host does not reply")

    browser = site()
    token = token_of(browser.get("/_beaker/", **LET_IN).text)
    (cache,) = caching.cache_managers.values()
    monkeypatch.setattr(cache.namespace, "remove", down)
    answer = press(browser, {"token": token, "action": "invalidate", "region": "short"})
    assert "a store failed: store.unavailable" in answer.text
    assert "redis://" not in answer.text


@pytest.mark.parametrize(
    ("fields", "environ", "status"),
    [
        ({"action": "invalidate", "region": "short"}, {}, 403),
        ({"action": "invalidate", "region": "short", "token": "1.x"}, {}, 403),
        ({"action": "invalidate", "region": "short", "token": "\u0665.x"}, {}, 403),
        ({"action": "invalidate", "region": "short"}, {"HTTP_SEC_FETCH_SITE": "cross-site"}, 403),
        ({"action": "invalidate", "region": "short"}, {"HTTP_SEC_FETCH_SITE": "same-site"}, 403),
        ({"action": "invalidate", "region": "short"}, {"HTTP_SEC_FETCH_SITE": "none"}, 403),
        ({"action": "invalidate", "region": "short"}, {"HTTP_ORIGIN": "https://evil.example"}, 403),
        ({"action": "invalidate", "region": "nowhere"}, {}, 400),
        ({"action": "invalidate", "region": ""}, {}, 400),
        ({"action": "drop", "region": "short"}, {}, 400),
        ({}, {"CONTENT_TYPE": "application/json"}, 415),
        ({}, {"CONTENT_LENGTH": "4097"}, 413),
        ({}, {"CONTENT_LENGTH": "99999999999999999999"}, 411),
        ({}, {"CONTENT_LENGTH": ""}, 411),
        ({"%ff": "%ff", "x": "\xff"}, {}, 403),
    ],
)
def test_a_form_that_the_page_did_not_send_does_nothing(
    weather: Any, fields: dict[str, str], environ: dict[str, str], status: int
) -> None:
    """Without its token, from another site, of another kind, too large: refused, and the region stays."""
    browser = site()
    token = token_of(browser.get("/_beaker/", **LET_IN).text)
    if status != 403 or environ:
        fields = {"token": token, **fields}
    answer = press(browser, fields, **environ)
    assert int(answer.status[:3]) == status
    assert weather("bern-of-visitor-77") == 1


def test_a_large_body_is_not_read() -> None:
    """Its length is enough to refuse it."""

    class Unread(io.BytesIO):
        def read(self, *size: Any) -> bytes:
            raise AssertionError("read")

    console = Console(ConsoleOptions(secret=SECRET))
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": "1000000000",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "wsgi.input": Unread(),
        **LET_IN,
    }
    seen: list[str] = []

    def start(status: str, headers: Any, exc_info: Any = None) -> Any:
        seen.append(status)

    b"".join(console(environ, start))
    assert seen == ["413 Content Too Large"]


def test_tokens_are_for_one_reader_and_twelve_hours() -> None:
    """Of another reader, of later, of the future or of another secret: refused; instances with one secret agree."""
    clock = FakeClock(1_000_000.0)
    forms, other = Forms(lambda: b"k" * 32, clock), Forms(lambda: b"o" * 32, clock)

    def read(forms: Forms, token: str, way: str) -> Any:
        data = f"token={token}&a=b".encode()
        kind = "application/x-www-form-urlencoded; charset=utf-8"
        environ = {"CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(data)), "wsgi.input": io.BytesIO(data)}
        try:
            return forms.read(environ, way)
        except Exception as refused:
            return str(refused)

    token = forms.token("secret")
    assert read(Forms(lambda: b"k" * 32, clock), token, "secret") == {"a": "b"}
    assert read(forms, token, "administrator") == "403 Forbidden"
    assert read(other, token, "secret") == "403 Forbidden"
    clock.advance(-1)
    assert read(forms, token, "secret") == "403 Forbidden"
    clock.advance(12 * 3600)
    assert read(forms, token, "secret") == {"a": "b"}
    clock.advance(1)
    assert read(forms, token, "secret") == "403 Forbidden"


def test_a_button_purges(tmp_path: Path) -> None:
    """Expired records of the stores go, live ones stay; a store that keeps none has no button."""
    from beaker.storage.files import FileStore

    store = FileStore(str(tmp_path / "files"), clock=FakeClock(time.time() - 100))
    store.set("n", "old", b"x", ttl=10)
    store.set("n", "live", b"x", ttl=None)
    browser = site(secret=SECRET, stores=lambda: [store])
    page = browser.get("/_beaker/", **LET_IN).text
    assert "Purge expired records" in page
    assert "1 expired record removed" in press(browser, {"token": token_of(page), "action": "purge"}).text
    assert "Purge expired records" not in site().get("/_beaker/", **LET_IN).text
