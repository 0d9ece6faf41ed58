"""Which Redis a url names, and the redis-py client for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from beaker.exceptions import ConfigError, InvalidCacheBackendError, StoreRefused, StoreUnavailable
from beaker.storage import deadline

__all__ = ["BACKEND", "Faults", "RedisPlace", "connect", "faults", "kind_of", "parse_url", "reason", "refusal"]

BACKEND = "redis"

_EXPECTED = (
    "redis://host:port/db, rediss://…, unix:///path, redis+sentinel://host:port,host:port/service/db "
    "or redis+cluster://host:port,host:port"
)
_SCHEMES = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}


def _as_bool(text: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]


_QUERY: dict[str, Callable[[str], Any]] = {
    "client_name": str,
    "db": int,
    "health_check_interval": int,
    "sentinel_password": str,
    "sentinel_username": str,
    "ssl_ca_certs": str,
    "ssl_cert_reqs": str,
    "ssl_certfile": str,
    "ssl_check_hostname": _as_bool,
    "ssl_keyfile": str,
}


@dataclass(frozen=True)
class RedisPlace:
    """A parsed url; its ``repr`` shows no user and no password."""

    kind: str
    nodes: tuple[tuple[str, int], ...] = ()
    tls: bool = False
    path: str = ""
    service: str = ""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def address(self) -> str:
        """How messages name it."""
        hosts = self.path or ",".join(f"{host}:{port}" for host, port in self.nodes)
        return (
            f"{hosts} ({self.kind} {self.service})".replace(" )", ")")
            if self.kind in ("sentinel", "cluster")
            else hosts
        )


def parse_url(url: str) -> RedisPlace:
    """The place a url names. ``ConfigError`` says what is wrong with it, and repeats no part of it."""
    if not isinstance(url, str):
        raise _wrong("it is not text", got=type(url).__name__)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _wrong("its brackets do not match") from None
    if parts.scheme not in _SCHEMES:
        raise _wrong("it has no scheme that is known" if "://" in url else "it has no scheme")
    kind, tls = _SCHEMES[parts.scheme]
    options = _query(parts.query)
    login, at, hosts = parts.netloc.rpartition("@")
    user, colon, secret = login.partition(":")
    username = unquote(user) or None
    password = unquote(secret) if colon else None
    if at and not colon:
        raise _wrong("what stands before '@' is not 'user:password' or ':password'")
    if kind == "unix":
        if not parts.path.startswith("/") or hosts:
            raise _wrong("the socket's path is not absolute (three slashes: unix:///path)")
        return RedisPlace(kind, (), False, unquote(parts.path), "", options.pop("db", 0), username, password, options)
    nodes = _nodes(hosts, 26379 if kind == "sentinel" else 6379)
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    service = ""
    if kind == "server" and len(nodes) > 1:
        raise _wrong("it names several hosts", hint="write redis+sentinel:// or redis+cluster://")
    if kind == "sentinel":
        if not segments:
            raise _wrong("the name of the service that the sentinels watch is missing")
        service = segments.pop(0)
    if len(segments) > 1 or not all(segment.isascii() and segment.isdigit() for segment in segments):
        raise _wrong("the database is not a number")
    db = int(segments[0]) if segments else options.pop("db", 0)
    if kind == "cluster" and db:
        raise _wrong("a cluster has only database 0")
    return RedisPlace(kind, nodes, tls, "", service, db, username, password, options)


def _nodes(hosts: str, default_port: int) -> tuple[tuple[str, int], ...]:
    nodes: list[tuple[str, int]] = []
    for spec in hosts.split(","):
        host, colon, port = spec.rpartition(":") if not spec.endswith("]") else (spec, "", "")
        if not colon:
            host, port = spec, str(default_port)
        if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
            raise _wrong("an IPv6 address is written in square brackets")
        host = unquote(host.strip("[]"))
        if not host or any(character.isspace() for character in host):
            raise _wrong("a host is missing or holds a space")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise _wrong("a port is not a number from 1 to 65535")
        nodes.append((host, int(port)))
    return tuple(nodes)


def _query(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in _QUERY:
            raise _wrong("its query holds an option that is not known", hint=f"known: {', '.join(_QUERY)}")
        try:
            options[name] = _QUERY[name](text)
        except (KeyError, ValueError):
            raise _wrong(f"its option {name} cannot be read") from None
    return options


def _wrong(fault: str, *, got: str = "", hint: str = "") -> ConfigError:
    return ConfigError(f"url: {fault}", option="url", expected=_EXPECTED, got=got, hint=hint)


def connect(place: RedisPlace, timeout: float, connect_timeout: float) -> Any:
    """A redis-py client that never repeats a command by itself: only the store knows which may be."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    sockets = {"socket_timeout": timeout, "socket_connect_timeout": connect_timeout}
    options = dict(place.options)
    watchers = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    tls = {"ssl": True, **{n: options.pop(n) for n in list(options) if n.startswith("ssl_")}} if place.tls else {}
    never = Retry(NoBackoff(), 0)
    common = {**sockets, **tls, **options, "username": place.username, "password": place.password, "protocol": 2}
    if place.kind == "unix":
        return _bounded(redis.Redis(unix_socket_path=place.path, db=place.db, retry=never, **common))
    if place.kind == "server":
        host, port = place.nodes[0]
        return _bounded(redis.Redis(host=host, port=port, db=place.db, retry=never, **common))
    if place.kind == "sentinel":
        from redis.sentinel import Sentinel

        sentinel: Any = Sentinel  # redis-py types neither this class nor ClusterNode
        sentinels = sentinel(place.nodes, sentinel_kwargs={**sockets, **tls, **watchers, "retry": never}, **common)
        for watcher in sentinels.sentinels:
            _bounded(watcher)
        return _bounded(sentinels.master_for(place.service, db=place.db, retry=never))
    from redis.cluster import ClusterNode, RedisCluster

    # Named differently before redis-py 6, where `retry` meant each node's connections.
    once: dict[str, Any] = {"retry": never}
    node: Any = ClusterNode
    if int(redis.__version__.split(".")[0]) < 6:
        once = {"cluster_error_retry_attempts": 0}
    cluster = RedisCluster(startup_nodes=[node(host, port) for host, port in place.nodes], **once, **common)
    return _bounded_cluster(cluster)


def _bounded(client: Any) -> Any:
    """``client``, whose connections end each wait with the call in flight."""
    pool = client.connection_pool
    pool.connection_class = _bounded_class(pool.connection_class)
    return client


def _bounded_cluster(cluster: Any) -> Any:
    nodes = cluster.nodes_manager
    create = nodes.create_redis_node

    def create_bounded(*args: Any, **kwargs: Any) -> Any:
        return _bounded(create(*args, **kwargs))

    nodes.create_redis_node = create_bounded
    for node in cluster.get_nodes():
        if node.redis_connection is not None:
            # What it opened to learn the nodes is closed: new connections are bounded ones.
            _bounded(node.redis_connection).connection_pool.disconnect()
    return cluster


@functools.cache
def _bounded_class(kind: Any) -> Any:
    class Bounded(kind):  # type: ignore[misc]
        socket_connect_timeout: Any
        bounded: deadline.BoundedSocket

        def _connect(self) -> Any:
            own, left = self.socket_connect_timeout, deadline.left()
            if own is not None and left is not None:
                self.socket_connect_timeout = max(0.001, min(own, left))
            try:
                self.bounded = deadline.BoundedSocket(super()._connect())
            finally:
                self.socket_connect_timeout = own
            return self.bounded

    return Bounded


@dataclass(frozen=True)
class Faults:
    """redis-py's exception classes, looked up once."""

    own: type[BaseException]
    every: tuple[type[BaseException], ...]
    broken: tuple[type[BaseException], ...]
    refused: type[BaseException]
    no_script: type[BaseException]
    nonsense: type[BaseException]
    demoted: tuple[type[BaseException], ...]
    """The server is a replica now: the command was not carried out, and a master may be at its address elsewhere."""
    by_code: dict[str, type[BaseException]]
    """Those of replies that mean something to us; all other errors are ``refused``."""


def faults() -> Faults:
    """``InvalidCacheBackendError`` when redis-py is not installed."""
    try:
        from redis import exceptions
    except ImportError as err:
        raise InvalidCacheBackendError(
            "redis needs the package redis",
            option="type",
            hint="pip install 'beaker-gae[redis]'",
            code="config.missing-package",
        ) from err
    return Faults(
        exceptions.RedisError,
        (exceptions.RedisError, exceptions.RedisClusterException, OSError),
        (exceptions.ConnectionError, exceptions.ClusterError, ConnectionError),
        exceptions.ResponseError,
        exceptions.NoScriptError,
        exceptions.InvalidResponse,
        (exceptions.ReadOnlyError, exceptions.MasterDownError),
        {
            "NOSCRIPT": exceptions.NoScriptError,
            "LOADING": exceptions.BusyLoadingError,
            "MASTERDOWN": exceptions.MasterDownError,
            "NOAUTH": exceptions.AuthenticationError,
            "WRONGPASS": exceptions.AuthenticationError,
            "NOPERM": exceptions.NoPermissionError,
            "OOM": exceptions.OutOfMemoryError,
            "READONLY": exceptions.ReadOnlyError,
        },
    )


def refusal(known: Faults, text: str) -> BaseException:
    """The exception that redis-py would raise for an error that Redis replied with."""
    code, _, rest = text.partition(" ")
    kind = known.by_code.get(code)
    return known.refused(text) if kind is None else kind(rest)


def kind_of(err: BaseException) -> type[StoreUnavailable]:
    """Whether the server did respond, if only to refuse."""
    kinds = {kind.__name__ for kind in type(err).__mro__}
    refused = kinds & {"ResponseError", "AuthenticationError", "AuthorizationError"}
    return StoreRefused if refused else StoreUnavailable


def reason(err: BaseException) -> str:
    """What a failure means, without a word the server or the client chose except Redis's error code."""
    kinds = [kind.__name__ for kind in type(err).__mro__]
    if "TimeoutError" in kinds:
        return "did not answer in time"
    if any(name in kinds for name in ("AuthenticationError", "AuthorizationError", "NoPermissionError")):
        return "refused the user or the password"
    if "ResponseError" in kinds:
        code = str(err).split(" ", 1)[0]
        return f"refused: {code if code.isalpha() and code.isupper() else type(err).__name__}"
    return f"cannot be reached or hung up ({type(err).__name__})"
