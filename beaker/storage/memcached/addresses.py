"""memcached's addresses, times and places: which servers a url names, and which of them has a record."""

from __future__ import annotations

import bisect
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from beaker.exceptions import ConfigError, InvalidCacheBackendError

if TYPE_CHECKING:
    import ssl

__all__ = ["Address", "Connect", "Ring", "address_name", "expiration", "parse_servers", "pymemcache_connect"]

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""
Connect = Callable[[Address], Any]
"""Creates a ``pymemcache.Client`` that is not connected yet."""

T = TypeVar("T")

_PORT = 11211
_RELATIVE = 30 * 86_400
"""memcached's protocol.txt: a larger expiration is a moment since the epoch, not a number of seconds."""
_LAST_MOMENT = 2**31 - 1
_POINTS = 256
"""Places of each server on the ring; with 256 the shares differ by a few percent."""


def parse_servers(url: str) -> list[Address]:
    """The addresses in ``host:port;host:port`` (``[::1]:port``, ``host`` alone, ``unix:/path``).

    ``ConfigError`` says which server of the list is wrong and why, without repeating it.
    """
    expected = "'host:port', several separated by ';', or 'unix:/path'"
    if not isinstance(url, str):
        raise ConfigError("url is not text", option="url", expected=expected, got=type(url).__name__)
    specs = [spec.strip() for spec in url.split(";") if spec.strip()]
    if not specs:
        raise ConfigError("url names no server", option="url", expected=expected)
    servers: list[Address] = []
    for number, spec in enumerate(specs, 1):
        fault, address = _parse_server(spec)
        if address is None:
            raise ConfigError(f"url, server {number} of {len(specs)}: {fault}", option="url", expected=expected)
        if address in servers:
            raise ConfigError(f"url, server {number} of {len(specs)}: it is named twice", option="url")
        servers.append(address)
    return servers


def _parse_server(spec: str) -> tuple[str, Address | None]:
    if spec.startswith(("unix:", "/")):
        path = spec.removeprefix("unix:").removeprefix("//")
        return ("the socket's path is not absolute", None) if not path.startswith("/") else ("", path)
    if "@" in spec:
        return "it holds a user or a password, which memcached's text protocol has no place for", None
    if "://" in spec:
        return "it has a scheme, and memcached addresses have none", None
    if "," in spec or any(character.isspace() for character in spec):
        return "servers are separated by ';' alone", None
    if "/" in spec or "?" in spec:
        return "it has a path or a query, and memcached addresses have none", None
    host, colon, port = spec.rpartition(":") if not spec.endswith("]") else (spec, "", "")
    if not colon:
        host, port = spec, str(_PORT)
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        return "an IPv6 address is written in square brackets", None
    host = host.strip("[]")
    if not host:
        return "the host is missing", None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return "the port is not a number from 1 to 65535", None
    return "", (host, int(port))


def pymemcache_connect(timeout: float, connect_timeout: float, tls: ssl.SSLContext | None) -> Connect:
    """What opens connections. ``InvalidCacheBackendError`` when pymemcache is not installed."""
    try:
        from pymemcache.client.base import Client
    except ImportError as err:
        raise InvalidCacheBackendError(
            "memcached needs the package pymemcache",
            option="type",
            hint="pip install 'beaker-gae[memcached]'",
            code="config.missing-package",
        ) from err

    def connect(address: Address) -> Client:
        return Client(
            address,
            timeout=timeout,
            connect_timeout=connect_timeout,
            no_delay=True,
            default_noreply=False,
            tls_context=tls if isinstance(address, tuple) else None,
        )

    return connect


def expiration(ttl: float | None) -> int:
    """memcached's ``exptime`` for ``ttl`` seconds: never before the ttl ends, at most about a minute after it.

    The record's own stamp is what ends it; this only gives the memory back.
    """
    if ttl is None or ttl >= _LAST_MOMENT:
        return 0
    # The server's clock ticks once a second, so that its first second may last only a moment.
    seconds = math.ceil(ttl) + 1
    if seconds <= _RELATIVE:
        return seconds
    # The moment is on the server's clock, which no injected clock replaces; a minute is for the difference.
    moment = int(time.time()) + seconds + 60
    return moment if moment <= _LAST_MOMENT else 0


def address_name(address: Address) -> str:
    """How messages and the ring call a server; it holds no secret."""
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else address


class Ring(Generic[T]):
    """Consistent hashing: who has a record, and nearly always the same one when a server comes or goes.

    ``servers`` maps names to servers; the names alone decide the places, in whatever order they come.
    """

    def __init__(self, servers: Mapping[str, T]) -> None:
        ring = sorted(
            (int.from_bytes(hashlib.sha256(f"{name}#{point}".encode()).digest()[:4], "big"), name)
            for name in servers
            for point in range(_POINTS)
        )
        self._only = next(iter(servers.values())) if len(servers) == 1 else None
        self._places = [place for place, _ in ring]
        self._owners = [servers[name] for _, name in ring]

    def owner(self, record: str) -> T:
        """The server of a record whose name is hex digits."""
        if self._only is not None:
            return self._only
        return self._owners[bisect.bisect(self._places, int(record[:8], 16)) % len(self._owners)]
