"""The cache object: values by key in one namespace."""

from __future__ import annotations

import builtins
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from beaker.caching import registry
from beaker.caching.async_cache import AsyncForms
from beaker.caching.entry import REUSABLE, Entry, check_reusable, new_entry
from beaker.caching.factory import freeze
from beaker.caching.lifetime import Lifetime, LifetimeFunction, lifetime
from beaker.caching.namespace import EntryNamespaceManager, NamespaceManager
from beaker.caching.said import DO_NOT_KEEP
from beaker.caching.sliding import renew, slid
from beaker.caching.stamps import check_tags
from beaker.caching.value import Value, current_entry
from beaker.config.parse import coerce_cache
from beaker.counters import cache_tally
from beaker.exceptions import ConfigError, ConfigWarning, DeprecatedUse, StoreUnavailable, warn
from beaker.keys import cache_key

if TYPE_CHECKING:
    from beaker.counters import CacheStats

__all__ = ["Cache"]

Seconds = float | str | dt.timedelta | None
"""A number of seconds, its text (``'90'``, ``'1h30m'``), or a timedelta."""

Life = Seconds | LifetimeFunction
"""The same, or a function of the value that says it."""

_OWN = frozenset(
    {
        "type", "expire", "expiretime", "starttime", "enabled", "regions", "cache_regions", "key_length", "legacy_keys",
        "namespace_class", "region_stamp",
    }
)  # fmt: skip
"""Options that end here; the manager gets the rest."""
_ENGINE = frozenset(
    {
        "lock", "lock_timeout", "lease_ttl", "on_expired", "max_stale", "stale_if_error", "jitter", "early_refresh",
        "clock", "locks", "on_unavailable", "negative", "negative_errors", "auto_recovery", "strict",
        "sliding", "soft_timeout", "hard_timeout", "runtime", "secret", "encrypt_key", "key_rollout", "serializer",
        "near", "near_copy", "memo",
    }
)  # fmt: skip
"""Options a third party's manager is not built with: the engine sees to them, or they mean nothing there."""


class Cache(AsyncForms):
    """Values by key in one namespace.

    * ``namespace``: its name, any ``str``.
    * ``type``: the backend's name, or a NamespaceManager class.
    * ``expire``, older name ``expiretime``: seconds for which a value stored here is valid, ``None`` for ever,
      or a function of the value that returns them, or ``DO_NOT_KEEP``.
    * ``starttime``: values stored before it (seconds since the epoch) count as absent.
    * ``region``: the region in which its calls are counted.
    * Further keyword arguments are options of caches and of the backend; strings are coerced.

    A key is any ``str``; anything :func:`beaker.keys.cache_key` can name works too and is never mistaken for a
    ``str``. Raises ConfigError and its subclasses for options that cannot be used.

    In an event loop the operations are awaited under names that begin with ``a``; see :class:`AsyncForms`.
    """

    def __init__(
        self,
        namespace: str,
        type: str | type[NamespaceManager] = "memory",
        expiretime: Life = None,
        starttime: Seconds = None,
        expire: Life = None,
        **nsargs: Any,
    ) -> None:
        if not isinstance(namespace, str):
            raise ConfigError(
                "a cache needs the name of its namespace",
                option="namespace",
                expected="text",
                got=builtins.type(namespace).__name__,
            )
        region = str(nsargs.pop("region", ""))
        times = {"expire": expiretime if expire is None else expire, "starttime": starttime}
        named = {"type": type} if isinstance(type, str) else {"namespace_class": type}
        options = coerce_cache({**nsargs, **named, **times}, weak={"type": "memory"})
        self.namespace_name = namespace
        self.expiretime: Lifetime = options.get("expire")
        self.starttime: float | None = options.get("starttime")
        self.key_length: int = options.get("key_length") or 250
        self.legacy_keys: bool = bool(options.get("legacy_keys"))
        self.strict: bool = bool(options.get("strict"))
        self.nsargs = {name: value for name, value in options.items() if name not in _OWN}
        self.type = type if not isinstance(type, str) else options["type"]
        self.namespace = _manager(namespace, options.get("namespace_class") or self.type, self.nsargs)
        self.namespace.join_region(region, bool(options.get("region_stamp")))
        self.tally = self.namespace.tally = cache_tally(region, namespace)

    def put(self, key: Any, value: Any, **kw: Any) -> None:
        """Store ``value``. ``expire``/``expiretime`` say otherwise than the cache for this value; it has the ``tags``
        that are given, at most 100 texts, and is old once one of them is invalidated.

        What ``expire`` says not to keep is removed. UnserializableValue, with the path to it, when the value cannot be
        stored; nothing is then.
        """
        expire = self.expiretime
        if kw or self.starttime is not None or callable(expire) or self.namespace.attentive:
            self._value(key, kw).set_value(value)
            return
        if type(value) not in REUSABLE:
            check_reusable(value)
        namespace = self.namespace
        name = key if type(key) is str else _name(key)
        namespace.write(name, new_entry((value, namespace.clock(), expire, 0.0)))

    set_value = put

    def get(self, key: Any, *, createfunc: Any = None, **kw: Any) -> Any:
        """The value of ``key``. With ``createfunc`` (no arguments) it is created when there is no current one.

        KeyError when there is none. ``expire``, ``expiretime`` and ``starttime`` as for the cache, ``tags`` as for
        :meth:`put`; with ``tags``, a value that has not all of them counts as absent.
        """
        namespace = self.namespace
        if kw or namespace.depends or namespace.attentive or not (createfunc is None or callable(createfunc)):
            return self._value(key, kw, createfunc).get_value()
        name = key if type(key) is str else _name(key)
        try:
            entry = namespace.read(name)
        except StoreUnavailable as err:
            if createfunc is None:
                raise
            return self.value(name, starttime=self.starttime).create_unread(err, createfunc)
        if entry is not None and entry.is_fresh(namespace.clock(), self.starttime):
            self.tally.hits += 1
            return entry.value
        if createfunc is None:
            self.tally.missed()
            raise KeyError(key)
        return self.value(name, starttime=self.starttime).get_or_create(createfunc, entry)

    get_value = get

    def remove_value(self, key: Any, **kw: Any) -> None:
        """Remove ``key`` if it is there."""
        self._value(key, kw).clear_value()

    remove = remove_value

    def has_key(self, key: Any) -> bool:
        """Whether ``key`` has a value that has not expired."""
        return current_entry(self.namespace, _name(key), self.starttime) is not None

    def clear(self) -> None:
        """Remove every value of this namespace, and of no other."""
        self.namespace.remove()

    def keys(self) -> list[Any]:
        """The keys that are there. NotImplementedError where the backend cannot list them."""
        return list(self.namespace.keys())

    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """The current values of those ``keys`` that have one, in one round trip where the store can."""
        names = {_name(key): key for key in keys}
        found = self.namespace.read_many(names)
        now, tally = self.namespace.clock(), self.tally
        fresh = {name: entry for name, entry in found.items() if entry.is_fresh(now, self.starttime)}
        if self.namespace.sliding is not None:
            for name, entry in fresh.items():
                renew(self.namespace, name, entry)
        values = {names[name]: entry.value for name, entry in fresh.items()}
        tally.hits += len(values)
        for _ in range(len(names) - len(values)):
            tally.missed()
        return values

    def put_many(self, values: Mapping[Any, Any], *, expire: Life = None, tags: Any = ()) -> None:
        """Store all ``values``, each with all the ``tags``. A value that cannot be stored raises before any is written,
        where the store takes many at once; elsewhere those before it are stored."""
        if not isinstance(values, Mapping):
            raise TypeError(f"put_many takes a mapping of keys to values, got {type(values).__name__}")
        for value in values.values():
            check_reusable(value)
        good = self.expiretime if expire is None else coerce_cache({"expire": expire})["expire"]
        now = self.namespace.clock()
        lives = {key: lifetime(good, value) for key, value in values.items()}
        unkept = [key for key, life in lives.items() if life is DO_NOT_KEEP]
        entries = {_name(key): Entry(values[key], now, life) for key, life in lives.items() if life is not DO_NOT_KEEP}
        namespace = self.namespace.view(check_tags(tags)) if tags else self.namespace
        if namespace.sliding is not None:
            entries = {name: slid(namespace, entry) for name, entry in entries.items()}
        namespace.write_many(entries)
        if unkept:
            self.remove_many(unkept)

    def stats(self) -> CacheStats:
        """What this process has counted of calls in this namespace, in this cache's region if it belongs to one.

        ``get`` and ``get_many`` are counted, a key a call; ``in``, ``keys`` and what only writes are not.
        """
        return self.tally.stats()

    def remove_many(self, keys: Iterable[Any]) -> None:
        """Remove those ``keys`` that are there."""
        self.namespace.discard_many([_name(key) for key in keys])

    def call_key(self, flat: tuple[Any, ...]) -> str:
        """The key under which a decorated function keeps the call with this flat argument list."""
        return cache_key(flat, key_length=self.key_length, legacy=self.legacy_keys)

    def value(self, name: str, *, starttime: float | None, tags: tuple[str, ...] = ()) -> Value:
        """The :class:`Value` under the manager's own key ``name``, such as :meth:`call_key` returns."""
        namespace = self.namespace
        if tags or namespace.depends:
            namespace = namespace.view(tags)
        return Value(name, namespace, None, self.expiretime, starttime)

    def _value(self, key: Any, kw: dict[str, Any], createfunc: Any = None) -> Value:
        createfunc = kw.pop("createfunc", createfunc)
        if createfunc is not None and not callable(createfunc):
            raise ConfigError(
                "createfunc cannot be called",
                option="createfunc",
                expected="a function without arguments",
                got=type(createfunc).__name__,
            )
        tags = check_tags(kw.pop("tags") or ()) if "tags" in kw else ()
        times: dict[str, Any] = {name: kw.pop(name) for name in ("expire", "expiretime", "starttime") if name in kw}
        times = coerce_cache(times) if times else times
        cache = self._other(kw) if kw else self
        return Value(
            _name(key),
            cache.namespace.view(tags) if tags or cache.namespace.depends else cache.namespace,
            createfunc,
            times.get("expire", self.expiretime),
            times.get("starttime", self.starttime),
        )

    def _other(self, kw: dict[str, Any]) -> Cache:
        warn(
            DeprecatedUse(
                f"{', '.join(sorted(kw))} given with a single key is deprecated (manual 4.16): "
                "the cache's dict interface cannot know it",
                hint="give it to get_cache() or Cache()",
            )
        )
        return Cache(self.namespace_name, **{**self.nsargs, "type": self.type, "region": self.tally.region, **kw})

    __getitem__ = get
    __contains__ = has_key
    __delitem__ = remove_value

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys())

    def __repr__(self) -> str:
        return f"<Cache {self.namespace_name!r} in {type(self.namespace).__name__}>"


def _name(key: Any) -> str:
    # The NUL keeps names of other keys apart from every `str` that merely looks like one.
    return key if isinstance(key, str) else "\0" + cache_key((key,))


def _manager(namespace: str, kind: str | type[NamespaceManager], options: dict[str, Any]) -> NamespaceManager:
    chosen = registry.load(kind)
    if issubclass(chosen, EntryNamespaceManager):
        return chosen(namespace, **options)
    own = {name: value for name, value in options.items() if name not in _ENGINE}
    for name in ("near", "memo"):
        if options.get(name):
            _warn_of_no_effect(name, chosen, strict=bool(options.get("strict")))
    manager = chosen(namespace, **own)
    manager.configure(options)
    if manager.same_data is None:
        manager.same_data = (chosen, freeze(own))
    return manager


def _warn_of_no_effect(name: str, chosen: type[NamespaceManager], *, strict: bool) -> None:
    hint = "leave it out, or keep the values in a store: subclass StoreNamespaceManager"
    stamps = " to keep stamps in" if name == "near" else ""
    message = f"{name} has no effect on {chosen.__name__}, which has no store{stamps}"
    if strict:
        raise ConfigError(message, option=name, hint=hint, code="config.no-effect")
    warn(ConfigWarning(message, hint=hint, code="config.no-effect"))
