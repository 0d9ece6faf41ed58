"""The cookie's attributes: every form, every combination a browser would refuse, and what must not get in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from beaker.exceptions import ConfigError
from beaker.runtime import Runtime
from beaker.session.cookies import MAX_AGE
from beaker.session.proxy import SessionObject
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import COOKIE, SECRET, SessionHarness, Tab

put = SessionHarness.put
Open = Callable[..., Tab]
LAPTOP = {"secure": False}


def attributes(tab: Tab) -> dict[str, str]:
    """The attributes of the one Set-Cookie line of the last response, names in lower case."""
    (line,) = tab.last.set_cookies
    parts = [part.partition("=") for part in line.split("; ")[1:]]
    return {name.lower(): value for name, _, value in parts}


@pytest.mark.parametrize(
    "options",
    [
        {"key": "__Host-s", "secure": False},
        {"key": "__Host-s", "secure": True, "cookie_domain": "example.org"},
        {"key": "__Host-s", "secure": True, "cookie_path": "/shop"},
        {"key": "__Secure-s", "secure": False},
        {"samesite": "none", "secure": False},
        {"partitioned": True, "secure": False},
        {"samesite": "banana"},
        {"key": "bad name"},
        {"key": "a;b"},
        {"key": ""},
        {"cookie_path": "shop"},
        {"cookie_path": "/a;b"},
        {"cookie_path": "/a\r\nSet-Cookie: x=y"},
        {"cookie_domain": "exa mple\n.org"},
        {"cookie_expires": "tomorrow"},
    ],
)
def test_combinations_a_browser_would_refuse_are_refused_at_start(open_tab: Open, options: dict[str, Any]) -> None:
    """ConfigError at construction, naming an option, for cookies that browsers would drop (ASVS 5.0 3.3.1, 3.3.3)."""
    with pytest.raises(ConfigError) as caught:
        open_tab("file", **options)
    assert any(f"session.{name}" in str(caught.value) for name in (*options, "secure"))


@pytest.mark.parametrize("name", ["__Host-s", "__Secure-s", "beaker.session.id"])
@pytest.mark.parametrize("samesite", ["lax", "strict", "none", ""])
def test_good_combinations(open_tab: Open, name: str, samesite: str) -> None:
    """Secure cookies under every prefix and SameSite value go out as configured."""
    tab = open_tab("file", key=name, secure=True, samesite=samesite, partitioned=True)
    tab.do(put(a=1))
    told = attributes(tab)
    assert {"secure", "httponly", "partitioned", "path"} <= set(told)
    assert told.get("samesite", "") == samesite.capitalize()
    assert "domain" not in told


def test_defaults(open_tab: Open) -> None:
    """HttpOnly and SameSite=Lax, path /, no domain, ends with the browser; Secure exactly over https."""
    tab = open_tab("file")
    tab.do(put(a=1))
    assert attributes(tab) == {"httponly": "", "samesite": "Lax", "path": "/"}
    safe = open_tab("file")
    safe.scheme = "https"
    safe.do(put(a=1))
    assert attributes(safe) == {"httponly": "", "samesite": "Lax", "path": "/", "secure": ""}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (True, None),
        ("true", None),
        (False, MAX_AGE),
        (3600, 3600),
        ("3600", 3600),
        (dt.timedelta(days=1), 86400),
        (dt.timedelta(days=4000), MAX_AGE),
        (10**12, MAX_AGE),
        (dt.datetime(2023, 11, 14, 23, 13, 20), 3600),
        (dt.datetime(2023, 11, 15, 0, 13, 20, tzinfo=dt.timezone(dt.timedelta(hours=1))), 3600),
        (dt.datetime(9999, 12, 31), MAX_AGE),
    ],
)
def test_every_form_of_cookie_expires(open_tab: Open, clock: FakeClock, given: Any, seconds: int | None) -> None:
    """Booleans, seconds, timedeltas and datetimes: both Expires (GMT) and Max-Age, at most 400 days (RFC 6265bis)."""
    tab = open_tab("file", cookie_expires=given)
    tab.do(put(a=1))
    told = attributes(tab)
    if seconds is None:
        assert not {"expires", "max-age"} & set(told)
        return
    assert told["max-age"] == str(seconds)
    assert told["expires"].endswith(" GMT")
    assert parsedate_to_datetime(told["expires"]).timestamp() == clock() + seconds


@pytest.mark.parametrize(
    ("runtime", "options", "name"),
    [
        (Runtime(), {}, "beaker.session.id"),
        (Runtime(), {"secure": True}, "__Host-session"),
        (Runtime(), {"secure": True, "cookie_domain": "example.org"}, "beaker.session.id"),
        (Runtime(), {"secure": True, "cookie_path": "/shop"}, "beaker.session.id"),
        (None, {}, "__Host-session"),
    ],
)
def test_the_automatic_name(open_tab: Open, runtime: Any, options: dict[str, Any], name: str) -> None:
    """key = auto: __Host-session wherever a browser takes it, else the plain name."""
    options = {"revocation": None, **options}
    given = runtime or Runtime.detect({"GAE_ENV": "standard", "GAE_INSTANCE": "i", "GOOGLE_CLOUD_PROJECT": "p"})
    tab = open_tab("revocable cookie", key="auto", runtime=given, **options)
    tab.do(put(a=1))
    assert list(tab.cookies) == [name]


class TestChangedByTheSession:
    @pytest.mark.parametrize("bad", ["exa;mple", "a\r\nb", "ö.org", ""])
    def test_text_that_would_break_out_is_refused(self, open_tab: Open, bad: str) -> None:
        """session.domain and session.path raise ConfigError for text that would end the attribute."""
        tab = open_tab("file")

        def aim(session: SessionObject, name: str) -> None:
            with pytest.raises(ConfigError):
                setattr(session, name, bad)

        tab.do(lambda s: aim(s, "domain"))
        tab.do(lambda s: aim(s, "path"))

    def test_a_path_begins_with_a_slash(self, open_tab: Open) -> None:
        """A path a browser would ignore is refused where it is set."""

        def aim(session: SessionObject) -> None:
            with pytest.raises(ConfigError):
                session.path = "shop"

        open_tab("file").do(aim)

    def test_a_host_cookie_takes_no_domain_and_no_path(self, open_tab: Open) -> None:
        """With a __Host- name session.domain and any other session.path are refused: no browser would keep it."""
        tab = open_tab("file", key="__Host-s", secure=True)

        def aim(session: SessionObject) -> None:
            with pytest.raises(ConfigError):
                session.domain = "example.org"
            with pytest.raises(ConfigError):
                session.path = "/shop"
            session.path = "/"
            session.save()

        tab.do(aim)
        assert attributes(tab)["path"] == "/"

    def test_keys_of_the_session_cannot_break_out_either(self, open_tab: Open) -> None:
        """Text put under the keys _domain and _path by hand never reaches the header unless it is sound."""
        tab = open_tab("file")
        tab.do(put(_domain="x\r\nSet-Cookie: a=b", _path="/;Domain=evil.example"))
        assert attributes(tab) == {"httponly": "", "samesite": "Lax", "path": "/"}

    def test_the_clearing_cookie_has_the_same_scope(self, open_tab: Open) -> None:
        """delete() names the domain and path the session's cookie was sent with, so that the browser drops that one."""
        tab = open_tab("file")

        def aim(session: SessionObject) -> None:
            session.domain, session.path = "example.org", "/shop"
            session.save()

        tab.do(aim)
        tab.do(lambda s: s.delete())
        told = attributes(tab)
        assert (told["domain"], told["path"], told["max-age"]) == ("example.org", "/shop", "0")

    def test_every_part_of_a_split_session_is_cleared(self, open_tab: Open) -> None:
        """delete() of a session split over several cookies makes the browser drop all of them."""
        tab = open_tab("revocable cookie", chunks=3)
        tab.do(put(big="x" * 5000))
        assert set(tab.cookies) == {COOKIE, f"{COOKIE}.1"}
        tab.do(lambda s: s.delete())
        assert tab.cookies == {}

    def test_parts_no_longer_needed_are_cleared(self, open_tab: Open) -> None:
        """A session that shrinks clears the further cookies it no longer needs."""
        tab = open_tab("revocable cookie", chunks=3)
        tab.do(put(big="x" * 5000))
        tab.do(put(big=""))
        assert set(tab.cookies) == {COOKIE}
        assert tab.do(lambda s: s["big"]) == ""


def test_set_cookie_of_a_deleted_session_without_a_cookie(open_tab: Open) -> None:
    """A visitor who brought no cookie gets no clearing cookie."""
    tab = open_tab("file")
    tab.do(lambda s: s.delete())
    assert not tab.last.set_cookies


def test_no_cookies_at_all(open_tab: Open) -> None:
    """use_cookies = false: none is read, none is sent; the application supplies the id."""
    tab = open_tab("file")
    tab.do(put(a=1))
    known = tab.do(lambda s: s.id)
    other = open_tab("file", use_cookies=False)
    other.cookies = dict(tab.cookies)
    assert other.do(lambda s: (s.get("a"), dict(s.get_by_id(known) or {})["a"])) == (None, 1)
    other.do(put(a=2))
    assert not other.last.set_cookies


def test_the_secret_of_this_file_is_a_test_secret() -> None:
    """The suites' key is long enough to be accepted without a warning."""
    assert len(SECRET) >= 32
