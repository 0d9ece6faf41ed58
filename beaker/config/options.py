"""Every option, declared once: name, coercion, default, unit, what it does.

The configuration reference and the README's table are generated from these classes, and the parser
(:mod:`beaker.config.parse`) knows no option that is not here. ``serverless`` is the default on App
Engine, Functions and Run where it differs from a laptop's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from beaker.config.coerce import (
    Coerce,
    as_bool,
    as_class,
    as_count,
    as_expires,
    as_fraction,
    as_is,
    as_key,
    as_list,
    as_mapping,
    as_path,
    as_seconds,
    as_span,
    as_str,
    between,
    kind_of,
    note_kind,
    one_of,
    optional,
    wrong,
)

__all__ = ["BackendOptions", "CacheOptions", "OptionInfo", "SessionOptions", "describe"]

_SAME: Any = object()


class OptionInfo:
    """What is known about one option: how it is read and what the reference says. Its name is that of its attribute."""

    __slots__ = ("backends", "coerce", "default", "help", "name", "secret", "serverless", "unit")

    def __init__(
        self,
        coerce: Coerce,
        default: object,
        serverless: object,
        unit: str,
        help: str,
        secret: bool,
        backends: tuple[str, ...],
    ) -> None:
        self.name = ""
        self.coerce = coerce
        self.default = default
        self.serverless = serverless
        self.unit = unit
        self.help = help
        self.secret = secret
        self.backends = backends

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<OptionInfo {self.name}>"

    @property
    def kind(self) -> str:
        """What its values are, in a word or two."""
        return kind_of(self.coerce)

    @property
    def guards(self) -> bool:
        """Whether a program that meant to give it and did not is less safe, or keeps less, than it was told to."""
        return self.name in GUARDS


def _option(
    default: object,
    coerce: Coerce,
    help: str,
    *,
    unit: str = "",
    serverless: object = _SAME,
    secret: bool = False,
    backends: str = "",
) -> Any:
    usual = default if serverless is _SAME else serverless
    return OptionInfo(coerce, default, usual, unit, help, secret, tuple(backends.split()))


def describe(owner: type) -> dict[str, OptionInfo]:
    """The options of one option class by name, in the order of declaration."""
    known: dict[str, OptionInfo] = owner._known  # type: ignore[attr-defined]
    return dict(known)


class _Options:
    # To a type checker they are frozen dataclasses. Those compile code for each class when they are imported, and
    # import inspect for it: a fifth of what starting a process took.

    _known: ClassVar[Mapping[str, OptionInfo]]

    def __init_subclass__(cls) -> None:
        cls._known = {name: info for name, info in vars(cls).items() if type(info) is OptionInfo}
        for name, info in cls._known.items():
            setattr(cls, name, info.default)

    def __init__(self, **given: Any) -> None:
        for name in given:
            if name not in self._known:
                raise TypeError(f"{type(self).__name__} has no option {name!r}")
        defaults = {name: info.default for name, info in self._known.items()}
        self.__dict__.update(defaults, **given)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.items()))

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self.__dict__.items() if not self._known[name].secret]
        return f"{type(self).__name__}({', '.join(shown)})"


if TYPE_CHECKING:
    from dataclasses import dataclass as _declares
else:

    def _declares(*, frozen: bool) -> Any:
        return lambda cls: cls


def callable_or(*choices: str) -> Coerce:
    """One of ``choices``, or a callable."""
    named = one_of(*choices)

    def coerce(option: str, value: object) -> object:
        return value if callable(value) else named(option, value)

    note_kind(coerce, f"{kind_of(named)}, or a callable")
    return coerce


def _callable_or_seconds(option: str, value: object) -> object:
    return value if callable(value) else as_seconds(option, value)


note_kind(_callable_or_seconds, "duration, or a callable")
_as_life = optional(_callable_or_seconds)


def _as_errors(option: str, value: object) -> object:
    kinds = value if isinstance(value, (tuple, list)) else (value,)
    if all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return tuple(kinds)
    raise wrong(option, value, "exception classes", "classes can be given in Python only")


note_kind(_as_errors, "exception classes")

_SAMESITE = one_of("lax", "strict", "none", "")


def _as_samesite(option: str, value: object) -> str | None:
    if value is None or value is False or (isinstance(value, str) and value.strip().lower() in ("", "false")):
        return None
    return str(_SAMESITE(option, value)).capitalize()


note_kind(_as_samesite, "Lax | Strict | None")


@_declares(frozen=True)
class SessionOptions(_Options):
    """Options of sessions, written ``session.NAME`` or ``beaker.session.NAME`` (manual 1.1, 1.2)."""

    type: str | None = _option(None, as_str, "Where sessions live: `file`, `memory`, `dbm`, `ext:google`, `ext:memcached`, `ext:database`, `ext:redis`, `cookie`, `hybrid`, or a third-party name. Default: `file` with a `data_dir`, else `memory`; on serverless `hybrid` when a key and a project are known, `cookie` with a key alone, `ext:google` with a project alone.", serverless="hybrid")  # fmt: skip
    key: str = _option("beaker.session.id", as_str, "Name of the cookie. `auto` picks `__Host-session` on https and `__session` behind Firebase Hosting.")  # fmt: skip
    secret: Any = _option(None, as_key, "Key, or list of keys (first signs, all verify), for the cookie. At least 16 bytes; 32 random ones are right. `file:PATH` is re-read when it changes.", secret=True)  # fmt: skip
    secret_fallbacks: Any = _option(None, as_key, "Older keys that still verify; the same as further entries of `secret`.", secret=True)  # fmt: skip
    validate_key: Any = _option(None, as_key, "Key that signs cookie sessions; used instead of `secret`.", secret=True)
    encrypt_key: Any = _option(None, as_key, "Key that encrypts: cookie sessions, and the stored record of server sessions. Needs the `crypto` extra.", secret=True)  # fmt: skip
    key_rollout: str | None = _option(None, optional(one_of("prepare", "accept")), "While `encrypt_key` is introduced: `prepare` still writes what is only signed, `accept` still reads it. See docs/operations.md.")  # fmt: skip
    timeout: float | None = _option(None, optional(as_span), "Idle time after which a session is over; none: never.", unit="s")  # fmt: skip
    absolute_timeout: float | None = _option(None, optional(as_span), "Age after which a session is over however busy it is. Cookie sessions: 14 days unless set.", unit="s")  # fmt: skip
    auto: bool = _option(False, as_bool, "Save at the end of every request that touched the session, without `save()`.")
    save_accessed_time: bool = _option(True, as_bool, "Keep the time of the last access. Off: requests that only read write nothing, and `timeout` is refused.")  # fmt: skip
    touch_interval: float | None = _option(None, optional(as_seconds), "How old the stored access time may get before a read-only request writes it. None: a tenth of `timeout`, at most 300 s.", unit="s")  # fmt: skip
    cookie_expires: bool | dt.datetime | dt.timedelta | float = _option(True, as_expires, "True: the cookie ends with the browser. False: it never does (400 days, RFC 6265bis). A timedelta or seconds: that long after a visit, as it is renewed while the session is used. A datetime: then.")  # fmt: skip
    cookie_domain: str | None = _option(None, optional(as_str), "Domain attribute of the cookie; none: this host only.")
    cookie_path: str = _option("/", as_str, "Path attribute of the cookie.")
    secure: bool | None = _option(None, optional(as_bool), "Secure attribute. None: on when the request came by https or the platform serves https.", serverless=True)  # fmt: skip
    httponly: bool = _option(True, as_bool, "HttpOnly attribute: scripts in the page cannot read the cookie.")
    samesite: str | None = _option("Lax", _as_samesite, "SameSite attribute: `Lax`, `Strict`, `None` (needs `secure`), or empty for none at all.")  # fmt: skip
    partitioned: bool = _option(False, as_bool, "Partitioned attribute (CHIPS); needs `secure`.")
    use_cookies: bool = _option(True, as_bool, "Off: no cookie is read or sent; the application gives the id.")
    serializer: Any = _option(None, as_is, "`auto`, `json`, `pickle`, or an object with `loads` and `dumps`. `auto`: tagged JSON, and pickle for what JSON cannot hold where a key protects the record.")  # fmt: skip
    data_serializer: Any = _option(None, as_is, "Older name of `serializer`.")
    invalidate_corrupt: bool = _option(True, as_bool, "A stored session that cannot be read becomes a new one; off: it raises CorruptRecord.")  # fmt: skip
    on_conflict: Any = _option("mine", callable_or("mine", "theirs", "raise"), "Two requests changed the same key differently: keep `mine`, `theirs`, `raise` WriteConflict, or a callable(key, base, mine, theirs).")  # fmt: skip
    on_unavailable: str = _option("raise", one_of("raise", "read_only"), "The store cannot be asked: `raise` StoreUnavailable, or `read_only`: the request has an empty session with `session.unavailable` set, nothing is written and no cookie changes.")  # fmt: skip
    save_timeout: float = _option(5.0, as_seconds, "How long a save retries against concurrent ones before WriteConflict.", unit="s")  # fmt: skip
    readonly: bool = _option(False, as_bool, "Requests never write the session; changing it raises.")
    lock_ttl: float = _option(30.0, as_span, "Lease time of `session.lock()` on a shared store.", unit="s")
    cookie_max: int = _option(
        4096, between(1, 4096), "Largest name plus value of a cookie (RFC 6265bis: 4096).", unit="bytes"
    )
    chunks: int = _option(1, between(1, 3), "Cookies a cookie session may be split over, at most 3.")
    compress: bool = _option(
        False, as_bool, "Compress cookie sessions when it helps. Lengths may then reveal contents."
    )
    revocation: Any = _option(None, as_is, "Store of revocation points for cookie sessions: a type name or a dict of backend options.", secret=True)  # fmt: skip
    revocation_check_interval: float = _option(60.0, as_seconds, "How long a revocation point is remembered in the process.", unit="s")  # fmt: skip
    legacy: Any = _option(None, as_is, "Dict, or JSON text of one, that lets sessions of Beaker 1.14 and older be taken over: `secret`, `until` and more; see docs/migrating.md.", secret=True)  # fmt: skip
    store: str | None = _option(None, optional(as_str), "Backend a `hybrid` session moves to when it outgrows the cookie. Default: `ext:google` with a project, else `file` or `memory`.")  # fmt: skip
    session_class: Any = _option(None, as_class, "Class used in place of Session or CookieSession.")
    namespace_class: Any = _option(None, as_class, "NamespaceManager class used in place of the type's own.")
    namespace_args: Any = _option(None, as_is, "Dict of further arguments for the namespace manager.", secret=True)
    webtest_varname: str | None = _option(None, optional(as_str), "Name under which the middleware puts the session into `paste.testing_variables`, where WebTest shows it.")  # fmt: skip
    server_timing: bool = _option(False, as_bool, "Send a `Server-Timing` header: what each request cost, for the browser's developer tools, and so for every visitor.")  # fmt: skip
    strict: bool = _option(False, as_bool, "Warnings about options become errors.")
    backend: Mapping[str, Any] = _option(MappingProxyType({}), as_is, "", serverless=None, secret=True)


@_declares(frozen=True)
class CacheOptions(_Options):
    """Options of caches and regions, written ``cache.NAME`` and ``cache.REGION.NAME`` (manual 1.1, 1.3)."""

    type: str = _option("memory", as_str, "Where values live: `memory`, `file`, `dbm`, `ext:google`, `ext:memcached`, `ext:database`, `ext:redis`, or a third-party name.")  # fmt: skip
    enabled: bool = _option(True, as_bool, "Off: decorated functions run every time. Looked at on each call.")
    expire: Any = _option(None, _as_life, "Seconds until a value is old; none: never. In Python also a function of the value that returns them, or `DO_NOT_KEEP`.", unit="s")  # fmt: skip
    expiretime: Any = _option(None, _as_life, "Older name of `expire`.", unit="s")
    starttime: float | None = _option(None, optional(as_seconds), "Values stored before this time (since the epoch) count as absent.", unit="s")  # fmt: skip
    regions: list[str] = _option(None, as_list, "Names of the regions configured as `cache.REGION.OPTION`.")
    key_length: int = _option(250, as_count, "Keys longer than this are replaced by their digest.", unit="bytes")
    legacy_keys: bool = _option(False, as_bool, "Join `str()` of the arguments as older Beakers do (different calls may then share a value).")  # fmt: skip
    near: float | None = _option(None, optional(as_seconds), "Keep copies of a shared store's values in the process: hits cost no operation, and none is served longer than this after its value was invalidated elsewhere. Every process that writes the values must have it too. None or 0: off. On `memory` without effect: values are there already.", unit="s")  # fmt: skip
    near_copy: str = _option("bytes", one_of("bytes", "objects"), "What `near` and `memo` keep: `bytes`, decoded at each hit, so that each caller has a value of its own; or `objects`, which is faster and safe only where no caller changes a value.")  # fmt: skip
    memo: bool = _option(False, as_bool, "A request remembers what it has read or created: calls of the same key in it cost no operation, and what other requests change is seen by the next one. On `memory` without effect.")  # fmt: skip
    region_stamp: bool = _option(False, as_bool, "Each value depends on a stamp of its region in the store, which `invalidate_region` moves: one more key in the batch of each read. On `memory` it works without.")  # fmt: skip
    lock: str = _option("auto", one_of("auto", "lease", "file", "thread", "none"), "Who may create a value: one in the fleet (`lease`), on the host (`file`), in the process (`thread`), or every caller (`none`).")  # fmt: skip
    lock_timeout: float = _option(30.0, as_seconds, "How long a call waits for another's creation, or is given the old value, before it creates itself.", unit="s")  # fmt: skip
    lease_ttl: float = _option(20.0, as_span, "After this long a dead creator's lease is taken over.", unit="s")
    on_expired: str = _option("serve_stale", one_of("serve_stale", "wait", "recompute"), "While one call computes the new value, other calls get the old one, wait, or compute it too.")  # fmt: skip
    max_stale: float | None = _option(None, optional(as_seconds), "`serve_stale` serves a value up to this much past its end; older ones are waited for. None: while the store keeps it.", unit="s")  # fmt: skip
    stale_if_error: float | None = _option(None, optional(as_seconds), "Serve a value up to this much past its end when making a new one fails.", unit="s")  # fmt: skip
    on_unavailable: str = _option("create", one_of("create", "raise"), "The store cannot be asked, or takes no value: cached functions and `get` with `createfunc` create the value and return it, or raise StoreUnavailable. `put`, `remove` and `invalidate` always raise.")  # fmt: skip
    auto_recovery: bool = _option(True, as_bool, "An invalidation that could not be written is tried again before this process reads the key; while that fails, the store counts as unavailable for it.")  # fmt: skip
    jitter: float = _option(0.0, as_fraction, "Spread each value's life by up to this fraction, so that they do not end together.")  # fmt: skip
    early_refresh: float = _option(0.0, as_seconds, "XFetch beta: above 0, a call may renew a value shortly before its end (1.0 is usual).")  # fmt: skip
    sliding: float | None = _option(None, optional(as_span), "Seconds for which a value is valid after it was last read, and until `expire` at most.", unit="s")  # fmt: skip
    soft_timeout: float | None = _option(None, optional(as_seconds), "Where there is an old value, a call waits this long for the new one, then returns the old one while the creation goes on.", unit="s")  # fmt: skip
    hard_timeout: float | None = _option(None, optional(as_span), "A call waits this long for a value, then raises CreationTimeout while the creation goes on.", unit="s")  # fmt: skip
    negative: float | None = _option(None, optional(as_seconds), "Seconds for which a result of `None` is kept, in place of `expire`; 0: it is not kept.", unit="s")  # fmt: skip
    negative_errors: Any = _option(None, optional(_as_errors), "In Python: exceptions of the creation that are kept for `negative` seconds and raised again.")  # fmt: skip
    secret: Any = _option(None, as_key, "Key that signs stored values, so that pickles can be trusted on a shared store.", secret=True)  # fmt: skip
    encrypt_key: Any = _option(None, as_key, "Key that encrypts stored values. Needs the `crypto` extra.", secret=True)
    key_rollout: str | None = _option(None, optional(one_of("prepare", "accept")), "While a key is introduced (`encrypt_key` where there is one, else `secret`): `prepare` still writes values without it, `accept` still reads them. See docs/operations.md.")  # fmt: skip
    serializer: Any = _option("auto", as_is, "`auto`, `json`, `pickle`, or an object with `loads` and `dumps`. `auto`: pickle where the record can be trusted, tagged JSON elsewhere.")  # fmt: skip
    strict: bool = _option(False, as_bool, "Warnings about options become errors.")


@_declares(frozen=True)
class BackendOptions(_Options):
    """Options of the stores, given beside a session's or a cache's own (manual 1.1)."""

    data_dir: str | None = _option(None, optional(as_path), "Directory of the file and dbm stores.", backends="file dbm")  # fmt: skip
    file_dir: str | None = _option(None, optional(as_path), "Directory of the file store; default `data_dir`/container_file.", backends="file")  # fmt: skip
    dbm_dir: str | None = _option(None, optional(as_path), "Directory of the dbm store; default `data_dir`/container_dbm.", backends="dbm")  # fmt: skip
    lock_dir: str | None = _option(
        None, optional(as_path), "Directory of lock files; none: locks by thread or by lease."
    )
    digest_filenames: bool = _option(True, as_bool, "File names are digests of the keys.", backends="file dbm")
    dbmmodule: Any = _option(
        None, as_is, "dbm module, or its name, in place of the journalled default.", backends="dbm"
    )
    durable: bool = _option(False, as_bool, "fsync each write, so that a power cut loses nothing acknowledged.", backends="file dbm")  # fmt: skip
    max_entries: int = _option(10_000, as_count, "Entries kept in memory before some leave, those first that were never asked for again.", backends="memory")  # fmt: skip
    max_bytes: int | None = _option(None, optional(as_count), "Approximate bytes kept in memory. None: 64 MiB, or a quarter of the instance.", unit="bytes", backends="memory")  # fmt: skip
    url: Any = _option(None, as_is, "Address of the server: `host:port;host:port`, a SQLAlchemy url, or a redis url.", backends="ext:memcached ext:database ext:redis", secret=True)  # fmt: skip
    connect_timeout: float = _option(1.0, as_span, "How long connecting may take, of `store_timeout`.", unit="s", backends="ext:memcached ext:redis")  # fmt: skip
    store_timeout: float | None = _option(None, optional(as_span), "How long a call to the server may take in all: a place in the pool, connecting, waiting for locks and for the reply, one more try; on `file` and `dbm` how long a write waits for another. None: 2 s; `ext:database` and `ext:google` 5 s; `file` and `dbm` 10 s. At most 150 s on `ext:google`.", unit="s", backends="file dbm ext:memcached ext:redis ext:database ext:google")  # fmt: skip
    socket_timeout: float | None = _option(None, optional(as_span), "Older name of `store_timeout`.", unit="s", backends="ext:memcached ext:redis")  # fmt: skip
    tls: Any = _option(False, as_is, "Speak TLS: true, or an `ssl.SSLContext`.", backends="ext:memcached ext:redis")
    prefix: str = _option(
        "beaker", as_str, "First part of every key on the server.", backends="ext:memcached ext:redis"
    )
    memcache_module: Any = _option(None, as_is, "Accepted; pymemcache is always used.", backends="ext:memcached")
    max_value: int | None = _option(None, optional(as_count), "Largest stored value.", unit="bytes")
    table_name: str = _option("beaker_cache", as_str, "Table, or Datastore kind.", backends="ext:database ext:google")
    schema_name: str | None = _option(None, optional(as_str), "Database schema of the table.", backends="ext:database")
    sa_opts: Any = _option(None, as_mapping, "Dict of engine options (`sa.pool_size` and the like work too).", backends="ext:database", secret=True)  # fmt: skip
    optimistic: bool = _option(False, as_bool, "Accepted; writes are always versioned.", backends="ext:database")
    bind: Any = _option(None, as_is, "SQLAlchemy Engine or Connection.", backends="ext:sqla")
    table: Any = _option(None, as_is, "SQLAlchemy Table created by make_cache_table.", backends="ext:sqla")
    project: str | None = _option(None, optional(as_str), "Google Cloud project; default from the environment.", backends="ext:google")  # fmt: skip
    database: str | None = _option(None, optional(as_str), "Named Datastore database; none: the default one.", backends="ext:google")  # fmt: skip
    datastore_namespace: str | None = _option(None, optional(as_str), "Datastore namespace (tenant) of the records.", backends="ext:google")  # fmt: skip
    deadline: float | None = _option(None, optional(as_span), "Older name of `store_timeout`.", unit="s", backends="ext:google")  # fmt: skip
    retries: int = _option(3, between(0), "Further attempts after a passing Datastore error.", backends="ext:google")
    index_expires: bool = _option(False, as_bool, "Index `expires`, for purging by query (limits writes to about 500/s).", backends="ext:google")  # fmt: skip
    client: Any = _option(None, as_is, "Client object of the backend's own library.", backends="ext:google ext:memcached ext:redis")  # fmt: skip


ACCEPTED: dict[str, str] = {
    "crypto_type": "encryption is always AES-256-GCM by the cryptography package",
    "encrypt_nonce_bits": "the nonce size is fixed",
    "log_file": "use the standard logging module",
    "protocol": "memcached is always spoken to by pymemcache",
    "mincached": "connections are pooled as needed",
    "maxcached": "connections are pooled as needed",
    "cache_dir": "TurboGears' directory; that of the stores is data_dir",
    "id": "ids are created by Beaker",
}
"""Options that Beaker up to 1.14 knows and that need nothing here, with the reason."""

GUARDS = frozenset(
    {
        "type", "key", "secret", "secret_fallbacks", "validate_key", "encrypt_key", "key_rollout", "timeout", "absolute_timeout",
        "cookie_expires", "cookie_domain", "cookie_path", "secure", "httponly", "samesite", "partitioned",
        "use_cookies", "invalidate_corrupt", "readonly", "revocation", "revocation_check_interval", "store",
        "session_class", "namespace_class", "namespace_args", "strict", "on_conflict", "expire", "expiretime",
        "starttime", "regions", "data_dir", "file_dir", "dbm_dir", "lock_dir", "durable", "url", "tls", "prefix",
        "table_name", "schema_name", "sa_opts", "bind", "table", "project", "database", "datastore_namespace",
        "client",
    }
)  # fmt: skip
"""Options for protection, life time and place: misspelt, they are an error and not a warning."""

PLACES = ("url", "bind", "table", "client", "sa_opts", "memcache_module")
"""Options that name a place the default types have no use for: they need a ``type``."""

BUILTIN_TYPES = frozenset(
    [
        "memory",
        "file",
        "dbm",
        "ext:memcached",
        "memcached",
        "ext:database",
        "database",
        "ext:sqla",
        "sqla",
        "ext:google",
        "google",
        "ext:redis",
        "redis",
        "cookie",
        "hybrid",
        "null",
    ]
)
