"""Numbers and times that would create dead sessions, or end those in use, are refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.config import options, parse
from beaker.exceptions import ConfigError
from beaker.middleware import SessionMiddleware
from tests.config.constructors import (
    KEY,
    Given,
    app,
    each_cache,
    each_session,
)

NUMBERS: list[tuple[str, Any]] = [
    *(
        (name, value)
        for name in ("timeout", "absolute_timeout", "lock_ttl")
        for value in (0, "0", "0s", dt.timedelta(0))
    ),
    *(
        (name, value)
        for name in ("timeout", "absolute_timeout", "touch_interval", "save_timeout", "revocation_check_interval")
        for value in (-1, "-1", "nan", float("nan"), "inf", float("inf"), 1e300, 10**400, True, "soon", "1e999")
    ),
    *(("cookie_expires", value) for value in (0, 1, -1, "-1", "nan", "inf", dt.timedelta(0), dt.timedelta(-1), "0s")),
    *(("cookie_max", value) for value in (0, -1, 4097, "8192", 1e300, "nan")),
    *(("chunks", value) for value in (0, 4, -1, "9")),
    *(("max_entries", value) for value in (0, -1, 2**64, "x")),
    *((name, value) for name in ("connect_timeout", "socket_timeout", "deadline") for value in (0, -1, "inf")),
    *(("retries", value) for value in (-1, "x", 2**64)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), NUMBERS)
@each_session
def test_numbers_that_make_dead_sessions_are_refused(build: Callable[..., Any], name: str, value: Any) -> None:
    """0, negative, huge, NaN and infinite numbers, as such or as text, are a ConfigError that names the option."""
    with pytest.raises(ConfigError, match=rf"session\.{name}"):
        build(**{name: value})


@pytest.mark.parametrize("value", [0, -1, "0", "nan", "inf", 1e300])
@pytest.mark.parametrize("name", ["lease_ttl", "connect_timeout", "socket_timeout", "deadline"])
@each_cache
def test_numbers_of_caches(build: Callable[..., Any], name: str, value: Any) -> None:
    """The same for caches: a lease or a deadline of no time is none."""
    with pytest.raises(ConfigError, match=name):
        build(**{name: value})


def test_every_number_at_its_edges() -> None:
    """No option that is a number takes a negative, huge, infinite or undefined one."""
    for owner in (options.SessionOptions, options.CacheOptions, options.BackendOptions):
        for name, info in options.describe(owner).items():
            if "number" in info.kind or "duration" in info.kind or "fraction" in info.kind:
                for value in (-1, "-1", float("nan"), "nan", float("-inf"), float("inf"), "inf"):
                    with pytest.raises(ConfigError):
                        info.coerce(name, value)


def test_a_cookie_too_small_for_any_session() -> None:
    """cookie_max below the smallest token would refuse every session at its first save."""
    for kind in ("cookie", "hybrid"):
        with pytest.raises(ConfigError, match=r"session\.cookie_max|no session fits.*at least \d+ bytes"):
            SessionMiddleware(app, type=kind, store="memory", secret=KEY, cookie_max=100)


def test_as_upstream_reads_cookie_expires() -> None:
    """The text 0 is false, the text 1 is true: neither a dead cookie nor one of a second."""
    assert parse.parse_session({"session.cookie_expires": "0"}).cookie_expires is False
    assert parse.parse_session({"session.cookie_expires": "1"}).cookie_expires is True
    with pytest.raises(ConfigError, match=r"got 1; .*unclear: write a timedelta"):
        parse.parse_session({"session.cookie_expires": 1})


def test_a_date_in_the_past_is_refused() -> None:
    """A cookie that has already expired creates dead sessions."""
    for gone in (dt.datetime(2001, 1, 1), dt.datetime(2001, 1, 1, tzinfo=dt.timezone.utc)):
        with pytest.raises(ConfigError, match=r"session\.cookie_expires.*past"):
            SessionMiddleware(app, type="memory", cookie_expires=gone)


@pytest.mark.parametrize("kind", ["memory", "file", "cookie", "hybrid"])
class TestTimesThatContradict:
    def given(self, kind: str, at: Path, **more: Any) -> Given:
        return {"type": kind, "data_dir": str(at), "secret": KEY, "store": "file", **more}

    def test_a_timeout_needs_the_time_of_the_last_access(self, tmp_path: Path, kind: str) -> None:
        """timeout with save_accessed_time off would end sessions in use, and is refused with the way out."""
        for timeout in (100, "100", dt.timedelta(1)):
            with pytest.raises(ConfigError, match=r"save_accessed_time.*touch_interval.*absolute_timeout"):
                SessionMiddleware(app, **self.given(kind, tmp_path, timeout=timeout, save_accessed_time="false"))
        SessionMiddleware(app, **self.given(kind, tmp_path, save_accessed_time=False))
        SessionMiddleware(app, **self.given(kind, tmp_path, save_accessed_time=False, absolute_timeout=100))

    def test_an_access_is_recorded_before_the_timeout(self, tmp_path: Path, kind: str) -> None:
        """touch_interval from timeout on would end sessions in use as well."""
        for interval in (100, 101):
            with pytest.raises(ConfigError, match="touch_interval"):
                SessionMiddleware(app, **self.given(kind, tmp_path, timeout=100, touch_interval=interval))
