"""Session cookies on the wire: a tolerant reader, validated attributes, one Set-Cookie line.

The reader has rules of its own because a neighbour's odd cookie must not hide ours
(:class:`http.cookies.SimpleCookie` stops at the first malformed name), and because parsing must stay
linear in the header (CVE-2024-7592). Attribute combinations are checked once, at construction, after
RFC 6265bis.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from importlib import import_module
from typing import Any

from beaker.config.options import SessionOptions
from beaker.exceptions import ConfigError
from beaker.runtime import Runtime
from beaker.session.defaults import cookie_is_secure, cookie_name

__all__ = ["MAX_AGE", "SessionCookie", "part_name", "read_cookie"]

HEADER_MAX = 65_536
"""Bytes of a Cookie header that are looked at; longer headers are cut."""
CANDIDATES = 4
"""Cookies of our name that are tried in one request (a tossed cookie of a sibling domain comes first)."""
MAX_AGE = 34_560_000
"""400 days in seconds: the longest life browsers grant a cookie (RFC 6265bis 5.5)."""

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def read_cookie(header: str | None, name: str) -> list[str]:
    """The values sent under ``name``, first come first, at most :data:`CANDIDATES`; other cookies are skipped.

    Any bytes are taken: what is not ``name=value`` is ignored. Linear time.
    """
    found: list[str] = []
    if not header or name not in header:
        return found
    for part in header[:HEADER_MAX].split(";"):
        left, equals, value = part.partition("=")
        if equals and (left == name or left.strip() == name):
            value = value.strip()
            if value[:1] == '"' and len(value) >= 2 and value[-1] == '"':
                value = value[1:-1]
            found.append(value)
            if len(found) == CANDIDATES:
                break
    return found


class SessionCookie:
    """The cookie's name and attributes, checked together once.

    Raises ConfigError for combinations a browser would refuse: ``__Host-`` needs Secure, path ``/`` and no
    domain; ``__Secure-``, ``SameSite=None`` and ``Partitioned`` need Secure.
    """

    def __init__(self, options: SessionOptions, runtime: Runtime) -> None:
        self.name = cookie_name(options, runtime)
        self.path = options.cookie_path
        self.domain = options.cookie_domain
        self.httponly = options.httponly
        self.samesite = options.samesite
        self.partitioned = options.partitioned
        self.expires = options.cookie_expires
        # None: decided by the request's scheme, unless the platform's front end speaks https anyway.
        self.secure = cookie_is_secure(options, runtime)
        self._check()
        flags = (
            ("HttpOnly", self.httponly),
            (f"SameSite={self.samesite}", self.samesite),
            ("Partitioned", self.partitioned),
        )
        self._flags = [flag for flag, wanted in flags if wanted]

    def _check(self) -> None:
        if not is_token(self.name):
            raise ConfigError(
                "session.key cannot be sent as a cookie's name",
                option="session.key",
                expected="letters, digits and !#$%&'*+-.^_`|~",
            )
        check_attribute("session.cookie_path", self.path)
        if not self.path.startswith("/"):
            raise ConfigError(
                "session.cookie_path is no path of a cookie", option="session.cookie_path", expected="a path from '/'"
            )
        if self.domain is not None:
            check_attribute("session.cookie_domain", self.domain)
        needs = [
            (self.name.startswith("__Host-"), "a cookie named __Host-..."),
            (self.name.startswith("__Secure-"), "a cookie named __Secure-..."),
            (self.samesite == "None", "samesite = none"),
            (self.partitioned, "partitioned"),
        ]
        for wanted, what in needs:
            if wanted and not self.secure:
                raise ConfigError(
                    f"{what} needs a secure cookie",
                    option="session.secure",
                    hint="set session.secure = true",
                    code="config.insecure-cookie",
                )
        if self.name.startswith("__Host-") and (self.domain is not None or self.path != "/"):
            raise ConfigError(
                "a cookie named __Host-... has no session.cookie_domain, and '/' as session.cookie_path",
                option="session.cookie_domain",
            )

    def check_end(self, now: float, expires: Any = None) -> None:
        """Raise ConfigError for a fixed end that has passed: no browser would keep such a cookie."""
        if self._life(now, expires) == 0:
            raise ConfigError(
                "session.cookie_expires lies in the past",
                option="session.cookie_expires",
                expected="a date to come",
                hint="give a timedelta for an end that moves along with the visits",
            )

    def check_domain(self, value: str) -> None:
        """Raise ConfigError for a domain this cookie cannot have."""
        check_attribute("session.domain", value)
        if self.name.startswith("__Host-"):
            raise ConfigError("a cookie named __Host-... has no domain", option="session.domain")

    def check_path(self, value: str) -> None:
        """Raise ConfigError for a path this cookie cannot have."""
        check_attribute("session.path", value)
        if not value.startswith("/") or (value != "/" and self.name.startswith("__Host-")):
            raise ConfigError(
                "the cookie's path cannot be used",
                option="session.path",
                expected="a path from '/', and '/' itself for a cookie named __Host-...",
            )

    def domain_or_default(self, value: Any) -> str | None:
        """``value`` where it can be sent, else the configured domain."""
        return value if value is not None and _passes(self.check_domain, value) else self.domain

    def path_or_default(self, value: Any) -> str:
        """``value`` where it can be sent, else the configured path."""
        return value if value is not None and _passes(self.check_path, value) else self.path

    def line(
        self,
        value: str,
        *,
        secure: bool,
        now: float,
        domain: str | None = None,
        path: str | None = None,
        name: str = "",
        expires: Any = None,
    ) -> str:
        """The Set-Cookie value that keeps ``value``. ``secure`` is used where the option leaves it open.

        ``expires`` stands for ``cookie_expires``, if it is given.
        """
        life = self._life(now, expires)
        return self._compose(name or self.name, value, life, now, secure, domain, path)

    def clearing(
        self, *, secure: bool, now: float, domain: str | None = None, path: str | None = None, name: str = ""
    ) -> str:
        """The Set-Cookie value that makes the browser forget the cookie."""
        return self._compose(name or self.name, "", 0, now, secure, domain, path)

    def _life(self, now: float, own: Any) -> int | None:
        expires = self.expires if own is None else own
        if expires is True:
            return None
        if expires is False:
            return MAX_AGE
        if isinstance(expires, dt.datetime):
            aware = expires if expires.tzinfo is not None else expires.replace(tzinfo=dt.timezone.utc)
            seconds = aware.timestamp() - now
        elif isinstance(expires, dt.timedelta):
            seconds = expires.total_seconds()
        else:
            seconds = float(expires)
        return max(0, min(int(seconds), MAX_AGE))

    def _compose(
        self, name: str, value: str, life: int | None, now: float, secure: bool, domain: str | None, path: str | None
    ) -> str:
        domain, path = domain or self.domain, path or self.path
        parts = [f"{name}={value}; Path={path}; Domain={domain}" if domain else f"{name}={value}; Path={path}"]
        if life is not None:
            # Both, because old agents know only Expires and Max-Age wins where both are known.
            # Cookies that end with the browser need no date, and its module loads the network's.
            from email.utils import formatdate

            until = formatdate(now + life if life else 0, usegmt=True)
            parts += [f"Expires={until}", f"Max-Age={life}"]
        if self.secure if self.secure is not None else secure:
            parts.append("Secure")
        parts += self._flags
        return "; ".join(parts)


def is_token(name: str) -> bool:
    """Whether a cookie may have that name."""
    return bool(name) and _TOKEN.issuperset(name)


def check_attribute(option: str, value: str) -> None:
    """Refuse text that would break out of a Set-Cookie attribute (CR, LF, ``;``, not ASCII)."""
    if not value or not value.isascii() or not value.isprintable() or ";" in value:
        raise ConfigError(f"{option} cannot be sent in a cookie", option=option, expected="printable ASCII without ';'")


def _passes(check: Callable[[str], None], value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        check(value)
    except ConfigError:
        # The application may write any key of its session by hand, with a visitor's text in it.
        return False
    return True


def part_name(name: str, index: int) -> str:
    """The name of a further cookie of a session that does not fit in one."""
    return f"{name}.{index}" if index else name


def __getattr__(name: str) -> Any:
    if name == "SignedCookie":
        # http.cookies is for those who use it.
        return getattr(import_module("beaker.session.signed_cookie"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
