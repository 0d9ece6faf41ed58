"""What a session says of its own cookie: its domain, its path, and when it ends."""

from __future__ import annotations

import datetime as dt
from typing import Any

from beaker.config.coerce import as_expires
from beaker.session.defaults import renewal_of
from beaker.session.exchange import Cookie

__all__ = ["DOMAIN", "PATH", "End", "OwnCookie"]

End = bool | dt.datetime | dt.timedelta | float
"""When a cookie ends, as the option ``cookie_expires`` has it."""

DOMAIN, PATH, _EXPIRES = "_domain", "_path", "_expires"
_MOST = dt.timedelta.max.total_seconds()


class OwnCookie:
    """The attributes of one session's cookie; they last as long as the session (manual 2.5)."""

    @property
    def domain(self: Any) -> str | None:
        """Domain of this session's cookie; setting it lasts as long as the session (manual 2.5)."""
        own: str | None = self._context.cookie.domain_or_default(self.get(DOMAIN))
        return own

    @domain.setter
    def domain(self: Any, value: str) -> None:
        self._context.cookie.check_domain(value)
        self._readdress(DOMAIN, value)

    @property
    def path(self: Any) -> str:
        """Path of this session's cookie; setting it lasts as long as the session (manual 2.5)."""
        own: str = self._context.cookie.path_or_default(self.get(PATH))
        return own

    @path.setter
    def path(self: Any, value: str) -> None:
        self._context.cookie.check_path(value)
        self._readdress(PATH, value)

    @property
    def cookie_expires(self: Any) -> End:
        """When this session's cookie ends; setting it lasts as long as the session, for who wants to stay logged in.

        As the option of that name: ``True`` with the browser, ``False`` after 400 days, a timedelta or seconds after
        the last visit (it is renewed), a datetime then. ``timeout`` and ``absolute_timeout`` end the session as before.
        ConfigError for anything else, and for a date that has passed. :meth:`expire` gives it up.
        """
        own: End | None = self._own_end()
        return self._context.cookie.expires if own is None else own

    @cookie_expires.setter
    def cookie_expires(self: Any, value: End) -> None:
        end = as_expires("session.cookie_expires", value)
        self._context.cookie.check_end(self._now, end)
        # As text and numbers, which every serializer holds.
        if isinstance(end, dt.datetime):
            aware = end if end.tzinfo is not None else end.replace(tzinfo=dt.timezone.utc)
            self._readdress(_EXPIRES, aware.isoformat())
        else:
            self._readdress(_EXPIRES, end if isinstance(end, bool) else _seconds(end))

    def expire(self: Any) -> None:
        """Give up the cookie's own end (:attr:`cookie_expires`): the configured one holds again."""
        if self.pop(_EXPIRES, None) is not None and not self.is_new:
            self._cookie = Cookie.RESEAL

    def _own_end(self: Any) -> End | None:
        # The application may write any key of its session by hand, with a visitor's text in it.
        own = self.get(_EXPIRES)
        if isinstance(own, bool):
            return own
        if isinstance(own, (int, float)):
            return dt.timedelta(seconds=own) if 1 <= own < _MOST else None
        if isinstance(own, str):
            try:
                end = dt.datetime.fromisoformat(own)
            except ValueError:
                return None
            return end if end.tzinfo is not None else None
        return None

    def _renewal_interval(self: Any) -> float | None:
        """Age in seconds from which the cookie is sent again; ``None``: it has no end that moves along."""
        interval: float | None = self._context.renewal_interval
        if _EXPIRES in self and (own := self._own_end()) is not None:
            return renewal_of(own)
        return interval

    def _readdress(self: Any, key: str, value: Any) -> None:
        self[key] = value
        # The cookie of a new session is sent anyway, and one to be cleared is cleared where it was.
        if not self.is_new:
            self._cookie = Cookie.RESEAL


def _seconds(end: dt.timedelta | float) -> float:
    return min(end.total_seconds() if isinstance(end, dt.timedelta) else end, _MOST - 1)
