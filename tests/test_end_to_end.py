"""The main job: the sample deployed with its two workers on the Datastore emulator, used as a visitor uses it."""

from __future__ import annotations

import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.deployment import deployed, shown


class Visitor:
    """A browser's worth of urllib: cookies, forms, the ids the page shows."""

    def __init__(self, url: str) -> None:
        self.url = url
        # Browsers send Secure cookies to a loopback address over http, too.
        policy = http.cookiejar.DefaultCookiePolicy(secure_protocols=("http", "https"))
        self.jar = http.cookiejar.CookieJar(policy)
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))
        self.page = ""

    def open(self, path: str = "/", form: dict[str, str] | None = None) -> str:
        data = None if form is None else urllib.parse.urlencode(form).encode()
        # A new connection a request, so that the kernel spreads them over the workers.
        request = urllib.request.Request(self.url + path, data, {"Connection": "close"})
        with self._opener.open(request, timeout=30) as answer:
            self.page = answer.read().decode()
        return self.page

    def post(self, path: str, **form: str) -> str:
        return self.open(path, {"csrf": self.csrf, **form})

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.page)
        assert found
        return found[1]

    def shown(self, id: str) -> str | None:
        return shown(self.page, id)


@pytest.fixture
def site(datastore_emulator: Any, tmp_path: Path) -> Iterator[str]:
    with deployed(datastore_emulator, tmp_path / "upload") as served:
        yield served.url


def test_a_visit_from_sign_in_to_sign_out(site: str) -> None:
    """Signed in over two workers: nothing of the cart is lost, the value is created once, the old cookie dies."""
    visitor = Visitor(site)
    visitor.open()
    first_made = visitor.shown("made")
    assert visitor.shown("session-type") == "ext:google"
    visitor.post("/sign-in", name="Ann <b>")
    assert visitor.shown("user") == "Ann &lt;b&gt;"

    instances, made = set(), set()
    for _ in range(50):
        visitor.post("/cart/add", good="coffee")
        instances.add(visitor.shown("instance"))
        made.add(visitor.shown("made"))
    assert visitor.shown("cart-coffee") == "50"
    assert len(instances) == 2, "both workers must have answered"
    assert made == {first_made}, "the cached value was created more than once"

    old = Visitor(site)
    for cookie in visitor.jar:
        old.jar.set_cookie(cookie)
    old.open()
    assert old.shown("user") == "Ann &lt;b&gt;"
    visitor.post("/sign-out")
    assert visitor.shown("user") is None
    assert visitor.shown("cart-coffee") == "0"
    old.open()
    assert old.shown("user") is None, "the signed-out cookie is still good"
    assert old.shown("cart-coffee") == "0"


def test_two_tabs_at_once_lose_nothing(site: str) -> None:
    """40 additions from 8 threads of one visitor over two workers are all in the cart."""
    visitor = Visitor(site)
    visitor.open()
    csrf = visitor.csrf

    def add(_: int) -> None:
        tab = Visitor(site)
        for cookie in visitor.jar:
            tab.jar.set_cookie(cookie)
        tab.open("/cart/add", {"csrf": csrf, "good": "tea"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    visitor.open()
    assert visitor.shown("cart-tea") == "40"


def test_invalidate_makes_a_new_value_for_everybody(site: str) -> None:
    """After the button the next page shows a value created anew, on both workers."""
    visitor = Visitor(site)
    visitor.open()
    before = visitor.shown("made")
    visitor.post("/invalidate")
    after = visitor.shown("made")
    assert after != before
    assert {visitor.open() and visitor.shown("made") for _ in range(10)} == {after}


def test_rubbish_is_answered(site: str) -> None:
    """Forms without a token, unreadable bodies, wrong methods and odd cookies get a response, never a 500."""
    visitor = Visitor(site)
    visitor.open()

    def status(path: str, data: bytes | None = None, **headers: str) -> int:
        request = urllib.request.Request(site + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert status("/cart/add", b"good=tea") == 403
    assert status("/cart/add", b"csrf=x&good=tea") == 403
    assert status("/cart/add", b"\xff\xfe=%zz") in (400, 403)
    assert status("/cart/add") == 405
    assert status("/nowhere") == 404
    assert status("/", Cookie="beaker.session.id=" + "A" * 6000) == 200
    assert status("/", Cookie="a=b c; ;;=; beaker.session.id=\xff; x") == 200
