"""What the console shows, what it never shows, and where it is."""

from __future__ import annotations

import base64
import re
from html import unescape
from typing import Any

from beaker import cache as caching
from beaker import counters
from beaker.crypto.keyring import KeyRing
from beaker.telemetry.prices import Prices
from beaker.testing import FakeClock
from gae.console.history import MINUTES, History, Minute
from tests.gae.console.sites import (
    HOSTILE,
    KEY,
    LET_IN,
    SECRET,
    press,
    site,
    token_of,
)


def test_the_page_has_numbers_and_no_data(weather: Any) -> None:
    """Ratio, calls and the namespace of a region; types and operations; no key and no value of a visitor."""
    counters.session_tally("memory").loaded += 3
    counters.store_tally("ext:google").read_many(1_234, 10)
    ring = KeyRing.from_option(KEY)
    browser = site(secret=SECRET, ring=lambda: ring, prices={"ext:google": Prices(reads=1.0, per=1000)})
    page = browser.get("/_beaker/", **LET_IN).text
    for told in ("50.0 %", "1,234", "memory, kept 1 min", "weather", ring.current.kid.hex(), "seals and opens"):
        assert told in page, told
    assert "Cost a day" in page
    for hidden in ("bern-of-visitor-77", KEY, SECRET):
        assert hidden not in page


def test_names_are_text() -> None:
    """A region, a namespace, a backend or an event whose name is HTML is shown as it is spelt."""
    caching.cache_regions[HOSTILE] = {"type": "memory"}
    counters.cache_tally(HOSTILE, HOSTILE).hits += 1
    counters.session_tally(HOSTILE).loaded += 1
    counters.store_tally(HOSTILE).read_many(1, 1)
    counters.count(HOSTILE, HOSTILE)
    try:
        browser = site()
        page = browser.get("/_beaker/", **LET_IN).text
        assert "<script" not in page
        assert HOSTILE in unescape(page)
        fields = {
            "token": token_of(page),
            "action": "invalidate",
            "region": "%3Cscript%3Ealert('x')%3C/script%3E%22%26",
        }
        answer = press(browser, fields)
        assert answer.status == "200 OK"
        assert "<script" not in answer.text
    finally:
        caching.cache_regions.clear()


def test_a_browser_may_use_the_style_and_nothing_else() -> None:
    """The policy holds the style's digest; no frame, no script, no store, no type guessed, no referrer."""
    import hashlib

    answer = site().get("/_beaker/", **LET_IN)
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = answer.header("Content-Security-Policy")
    rules = ("default-src 'none'", f"style-src 'sha256-{digest}'", "form-action 'self'", "base-uri 'none'")
    assert policy == "; ".join([*rules, "frame-ancestors 'none'"])
    assert " style=" not in answer.text
    assert set(re.findall(r"(?:src|href|action|data|url)[=(]([^ >)]+)", answer.text)) == {'"?"'}
    headers = ("X-Frame-Options", "X-Content-Type-Options", "Referrer-Policy", "Cache-Control")
    assert [answer.header(name) for name in headers] == ["DENY", "nosniff", "no-referrer", "no-store"]


def test_addresses_and_methods() -> None:
    """The root with and without a slash, HEAD without a body; below it is nothing; the rest is the application's."""
    browser = site()
    for path in ("/_beaker", "/_beaker/"):
        assert "Beaker console" in browser.get(path, **LET_IN).text
    head = browser.request("HEAD", "/_beaker/", b"", **LET_IN)
    assert (head.status, head.text) == ("200 OK", "")
    assert browser.request("OPTIONS", "/_beaker/", b"", **LET_IN).status == "405 Method Not Allowed"
    for path in ("/_beaker/x", "/_beaker//", "/_beaker/../", "/_beaker/\x00"):
        assert browser.get(path, **LET_IN).status == "404 Not Found"
    for path in ("/", "/_beakers", "/_Beaker/", "//_beaker/", "/x/_beaker/"):
        assert browser.get(path, **LET_IN).text == f"inner {path}"


def test_history_is_of_requests_and_of_one_hour() -> None:
    """What is counted belongs to the minute in which the last request had come; older minutes are forgotten."""
    clock = FakeClock(6_000.0)
    history = History(clock)
    tally = counters.cache_tally("short", "n")
    history.note()
    tally.hits += 3
    clock.advance(300)
    history.note()
    tally.missed()
    found = history.regions()["short"]
    assert len(found) == MINUTES
    assert (found[-6], found[-1]) == (Minute(3, 0), Minute(0, 1))
    assert sum(minute.hits + minute.misses for minute in found) == 4
    clock.advance(56 * 60)
    assert sum(minute.hits for minute in history.regions()["short"]) == 0
    for _ in range(3 * MINUTES):
        clock.advance(60)
        tally.hits += 1
        history.note()
    assert sum(minute.hits for minute in history.regions()["short"]) == MINUTES - 1
    counters.reset()
    assert all(minute.hits >= 0 for minute in history.regions().get("short", []))
