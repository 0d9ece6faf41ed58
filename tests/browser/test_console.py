"""The console in Chromium: signing in, numbers, the button that invalidates, another site's form, phone and dark."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from beaker import cache as caching
from beaker import counters
from beaker.cache import cache_region
from beaker.operations import checks
from beaker.telemetry.prices import Prices
from gae.app import compose
from gae.console import ConsoleOptions
from tests.browser.test_looks import CONTRASTS, OVERFLOW, TOUCHABLE
from tests.browser.visitor import PHONE, Visitor

SECRET = "console-password-5d0f1c9b7e"
KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
WIDE = "a_region_with_a_rather_long_name_" * 3


class Threaded(ThreadingMixIn, WSGIServer):
    """A browser opens connections that it does not use yet."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Serves WSGI applications on loopback; returns the address of each."""
    running: list[tuple[WSGIServer, threading.Thread]] = []

    def serve(app: Any) -> str:
        server = make_server("127.0.0.1", 0, app, Threaded, Quiet)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the function of the region ``lookup`` was called for; counts and regions are this test's own."""
    monkeypatch.setattr(caching, "cache_regions", {})
    monkeypatch.setattr(checks, "distributions", list)
    caching.cache_managers.clear()
    counters.reset()
    calls: list[str] = []
    yield calls
    counters.reset()


@pytest.fixture
def site(serve: Callable[[Any], str], looked_up: list[str], tmp_path: Path) -> str:
    """An application with a console, that was asked six times for two cities."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        weather(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    @cache_region("lookup", str(tmp_path))
    def weather(city: str) -> str:
        looked_up.append(city)
        return city

    composed = compose(
        app,
        session={"type": "file", "data_dir": str(tmp_path), "secret": [KEY, KEY[::-1]]},
        cache={"type": "memory"},
        regions={"lookup": {"expire": 60}, WIDE: {"expire": 60}},
        console=ConsoleOptions(secret=SECRET, prices={"file": Prices(reads=0.03)}),
    )
    caching.cache_regions.update({name: dict(own) for name, own in composed.settings.cache["cache_regions"].items()})
    for city in ("/bern", "/basel") * 3:
        weather(city)
    counters.session_tally("file").loaded += 1_234
    counters.store_tally("file").read_many(5_678, 1_000_000)
    return serve(composed)


@pytest.fixture
def visitor(chromium: webdriver.Chrome, site: str, tmp_path: Path) -> Iterator[Visitor]:
    """A visitor who has signed in by the browser's own dialog, on the console."""
    visitor = Visitor(chromium, site, tmp_path)
    visitor.site = site.replace("//", f"//operator:{SECRET}@")
    visitor.open("/_beaker/")
    try:
        yield visitor
    finally:
        visitor.leave()


def text(visitor: Visitor) -> str:
    return visitor.driver.find_element(By.TAG_NAME, "main").text


def test_the_console_is_for_whoever_signs_in(visitor: Visitor, site: str, looked_up: list[str]) -> None:
    """Numbers are there; the button invalidates; the keyboard reaches it; without the password there is nothing."""
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{site}/_beaker/")
    seen = text(visitor)
    for told in ("Hit ratio", "lookup", "memory, kept 1 min", "1,234", "5,678", "seals and opens", "Findings"):
        assert told in seen, told
    before = looked_up.count("/bern")
    visitor.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert visitor.driver.switch_to.active_element.text == "Refresh"
    assert visitor.driver.switch_to.active_element.value_of_css_property("outline-style") == "solid"
    visitor.press("Invalidate lookup")
    assert "Region lookup is invalidated: 1 cache cleared." in text(visitor)
    visitor.open("/bern")
    assert looked_up.count("/bern") == before + 1


def test_a_form_of_another_site_does_nothing(
    visitor: Visitor, serve: Callable[[Any], str], looked_up: list[str]
) -> None:
    """The browser sends the password along, and the console refuses; nor is it shown in a frame."""
    address = visitor.site.replace(f"operator:{SECRET}@", "")

    def evil(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [
            f'<form method="post" action="{address}/_beaker/"><input name="action" value="invalidate">'
            '<input name="region" value="lookup"><input name="token" value="1.x"><button>Win</button></form>'
            f'<iframe src="{address}/_beaker/"></iframe>'.encode()
        ]

    visitor.driver.get(serve(evil))
    visitor.driver.switch_to.frame(0)
    assert "Beaker" not in visitor.driver.page_source
    visitor.driver.switch_to.default_content()
    visitor.press("Win")
    assert "A form of another site is not carried out." in text(visitor)
    before = looked_up.count("/bern")
    visitor.open("/bern")
    assert looked_up.count("/bern") == before


def test_it_is_good_on_a_phone_and_in_the_dark(visitor: Visitor) -> None:
    """375 and 320 px wide nothing sticks out; buttons fit a finger; all can be read in both schemes."""
    driver = visitor.driver
    driver.get_log("browser")
    visitor.open("/_beaker/")
    for details in driver.find_elements(By.TAG_NAME, "details"):
        driver.execute_script("arguments[0].open = true", details)
    for scheme in ("light", "dark"):
        for width, height in ((1280, 900), PHONE, (320, 600)):
            visitor.window(width, height, scheme=scheme)
            if width < 600:
                assert driver.execute_script(OVERFLOW, width) == [width, width, []]
                for button in driver.find_elements(By.TAG_NAME, "button"):
                    assert button.size["height"] >= TOUCHABLE
            seen = driver.execute_script(CONTRASTS)
            assert len(seen) > 100
            assert [(what, needed, ratio) for what, needed, ratio in seen if ratio < needed] == []
            visitor.picture(f"console-{width}-{scheme}")
    assert [line["message"] for line in driver.get_log("browser") if "Content Security" in line["message"]] == []
    for heading in driver.find_elements(By.CSS_SELECTOR, "thead th"):
        assert heading.get_attribute("scope") == "col"
    names = [button.accessible_name for button in driver.find_elements(By.TAG_NAME, "button")]
    assert sorted(names) == sorted(["Invalidate lookup", f"Invalidate {WIDE}", "Purge expired records"])
