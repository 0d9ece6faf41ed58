"""Where a cached function finds its cache: a region, or a manager's own options, looked at when it is called."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from beaker import clock as _clock
from beaker._typing import Clock
from beaker.caching.cache import Cache
from beaker.caching.entry import Entry
from beaker.config.coerce import as_bool
from beaker.counters.tallies import CacheTally
from beaker.exceptions import BeakerException, ConfigError

__all__ = ["Binding", "Settings", "Switch", "named", "switch_of"]


class Switch:
    """When caching was last seen switched off; values stored up to then are not served again."""

    __slots__ = ("clock", "off", "since")

    def __init__(self) -> None:
        self.clock: Clock | None = None
        self.off = False
        self.since = -math.inf

    def seen_off(self, clock: Clock) -> None:
        self.measured_by(clock)
        # The next time there is, so that what is stored at the same tick after switching on counts as stored since.
        last = clock() if self.off else max(clock(), self.since)
        self.off, self.since = True, max(self.since, math.nextafter(last, math.inf))

    def measured_by(self, clock: Clock) -> None:
        """Forget a time taken from another clock: a test's clock may begin again."""
        if self.clock is not clock:
            self.clock, self.off, self.since = clock, False, -math.inf


_UNREGISTERED: Mapping[str, Any] = {}
"""No registry holds it, so every call of a function bound to it asks whether caching is switched on."""

_switches: dict[str, Switch] = {}


def switch_of(region: str) -> Switch:
    """The one switch of all regions of that name in this process, however often the region is replaced."""
    return _switches.setdefault(region, Switch())


class Binding(NamedTuple):
    """A function's cache as of one state of its options."""

    options: Mapping[str, Any]
    snapshot: dict[str, Any]
    cache: Cache
    read: Callable[[str], Entry | None]
    clock: Clock
    limit: int
    """The longest readable key in bytes; 0: ``legacy_keys`` are built."""
    tally: CacheTally
    direct: bool
    """A fresh entry may be returned without more ado: no ``starttime``, no early refresh, no sliding."""
    depends: bool
    """Values depend on stamps, which are read with them."""

    def __repr__(self) -> str:
        return f"<bound to {self.cache!r}>"


class Settings:
    """The options of one decorator.

    * ``registry``, ``name``: ``registry[name]`` are the options: a region's, or a manager's own.
    * ``overrides``: what the decorator was given besides.
    * ``open(namespace, options, region)``: opens the cache, whose calls are counted in ``region``.
    * ``switch``: remembers when those options had caching switched off; of no use where ``overrides`` say so.

    Nothing is looked up before the first call, so a function may be decorated before anything is configured.
    """

    def __init__(
        self,
        registry: Mapping[Any, Mapping[str, Any]],
        name: str | None,
        overrides: Mapping[str, Any],
        open: Callable[[str, Mapping[str, Any], str], Cache],
        switch: Switch,
    ) -> None:
        self.registry = registry
        self.name = name
        self.overrides = dict(overrides)
        self.switch = switch if overrides.get("enabled") is None else Switch()
        self._open = open

    def options(self) -> Mapping[str, Any]:
        """The live mapping, without the overrides. ConfigError for a region that is not configured."""
        try:
            options = self.registry[self.name]
        except KeyError:
            known = ", ".join(sorted(str(name) for name in self.registry if name is not None)) or "none"
            raise ConfigError(
                f"cache region {self.name!r} is not configured",
                option="regions",
                expected=f"one of the configured regions ({known})",
                hint="configure it by CacheManager(regions=...) or beaker.cache.cache_regions.update(...)",
                code="config.unknown-region",
            ) from None
        if not isinstance(options, Mapping):
            raise ConfigError(
                f"cache region {self.name!r} is no mapping", option="regions", expected="a dict", got=_kind(options)
            )
        return options

    def strict(self) -> bool:
        """Whether the options say so already; a region that is not configured yet does not."""
        options = {**(self.registry.get(self.name) or {}), **self.overrides}
        return as_bool("strict", options.get("strict") or False)

    def enabled(self) -> bool:
        """Whether caching is switched on now. Off is remembered, unless the decorator itself says so."""
        own = self.overrides.get("enabled")
        if own is not None:
            return as_bool("enabled", own)
        options = self.options()
        on = as_bool("enabled", options.get("enabled", True))
        if not on:
            self.switch.seen_off(self.overrides.get("clock") or options.get("clock") or _clock.now)
        return on

    def open(self, namespace: str) -> Cache:
        """The cache of ``namespace`` under the present options; its errors name the region."""
        try:
            return self._open(namespace, {**self.options(), **self.overrides}, self.name or "")
        except ConfigError as err:
            raise (err if self.name is None else named(err, f"cache region {self.name!r}")) from None

    def bind(self, namespace: str, old: Binding | None) -> Binding:
        """A binding to the present options: ``old`` itself where they are equal."""
        options = self.options()
        if old is not None and old.snapshot == options:
            keep = old.options is options or old.options is _UNREGISTERED
            return old if keep else old._replace(options=options)
        cache = self.open(namespace)
        manager = cache.namespace
        own = self.overrides.get("enabled")
        self.switch.measured_by(manager.clock)
        return Binding(
            options if own is None or as_bool("enabled", own) else _UNREGISTERED,
            dict(options),
            cache,
            manager.read,
            manager.clock,
            0 if cache.legacy_keys else cache.key_length,
            manager.tally,
            cache.starttime is None and not manager.attentive,
            manager.depends,
        )


def named(error: Any, where: str) -> Any:
    """``error`` with ``where`` it happened before its message."""
    if isinstance(error, BeakerException) and error.args and not str(error.args[0]).startswith(where):
        error.args = (f"{where}: {error.args[0]}", *error.args[1:])
    return error


def _kind(value: object) -> str:
    return type(value).__name__
