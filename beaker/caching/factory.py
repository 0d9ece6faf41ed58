"""From a cache's options to the parts between a manager and its store: codec and locks.

What options ask for is built once per process and shared, like the stores themselves: deriving keys for
every manager would cost more than reading a value.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, TypeVar

from beaker.caching.defaults import lock_kind
from beaker.caching.entry import EntryCodec
from beaker.caching.stored_marks import Lease
from beaker.config.options import CacheOptions
from beaker.crypto.envelope import Envelope
from beaker.crypto.keyring import KeyRing
from beaker.exceptions import ConfigError, MissingCacheParameter
from beaker.locking.factories import FileLocks, LockFactory, NullLocks, ThreadLocks
from beaker.runtime import Runtime, current
from beaker.storage.api import Store, Versioned, shared_store

__all__ = ["codec_for", "freeze", "given", "lease_for", "locks_for", "runtime_of", "store_for"]

S = TypeVar("S")


def runtime_of(options: Mapping[str, Any]) -> Runtime:
    """The runtime given as an option, else this process's."""
    return options.get("runtime") or current()


def freeze(value: object) -> Hashable:
    """A hashable stand-in for an option's value, equal when the value means the same."""
    if isinstance(value, Mapping):
        return ("dict", tuple(sorted((str(name), freeze(item)) for name, item in value.items())))
    if isinstance(value, (list, tuple)):
        return ("list", tuple(freeze(item) for item in value))
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if not _hashable(value):
        return ("object", id(value))
    frozen: Hashable = value
    return frozen


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def given(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those of the named options that are set."""
    return {name: options[name] for name in names if options.get(name) is not None}


def store_for(kind: str, build: Callable[..., S], arguments: Mapping[str, Any]) -> S:
    """``build(**arguments)``, one object per process for equal ``kind`` and ``arguments``.

    The arguments are kept with it, so that an ``id`` in its identity stays that object's.
    """
    identity = (kind, freeze(arguments))
    store, _ = shared_store(identity, lambda: (build(**arguments), arguments))
    return store


def codec_for(store: Store, options: Mapping[str, Any]) -> EntryCodec:
    """The codec for ``serializer``, ``secret``, ``encrypt_key`` and ``key_rollout``.

    ``secret`` signs. ``encrypt_key`` encrypts; with ``secret`` each key is a pair of both. Raises ConfigError for
    ``key_rollout`` without a key and for a key that is too short, InvalidCryptoBackendError without ``cryptography``.
    """
    serializer = options.get("serializer") or "auto"
    secret, encrypt_key = options.get("secret"), options.get("encrypt_key")
    strict, rollout = bool(options.get("strict")), options.get("key_rollout")

    def build() -> tuple[EntryCodec, Any]:
        ring = KeyRing.of({"secret": secret}, {"encrypt_key": encrypt_key}, strict=strict, rollout=rollout)
        # Without the newest of the keys: with two of them values were signed before, with one they were not.
        older: Literal["signed", "bare"] = "signed" if secret is not None and encrypt_key is not None else "bare"
        bare = rollout == "prepare" and older == "bare"
        envelope = Envelope(
            backend=store.backend,
            ring=ring,
            encrypt=encrypt_key is not None,
            older=None if rollout is None else older,
            write_bare=bare,
            place=getattr(store, "place_key", None),
        )
        return EntryCodec(envelope, serializer, store, signed=ring is not None and not bare), serializer

    if rollout is not None and secret is None and encrypt_key is None:
        raise ConfigError(
            "cache.key_rollout is about introducing a key, and there is none",
            option="cache.key_rollout",
            hint="set cache.secret or cache.encrypt_key, or leave cache.key_rollout out",
        )
    identity = ("codec", store, freeze(serializer), freeze(secret), freeze(encrypt_key), strict, rollout)
    codec, _ = shared_store(identity, build)
    return codec


def locks_for(store: Store, options: Mapping[str, Any]) -> LockFactory:
    """The creation locks for ``lock`` (``auto``, ``lease``, ``file``, ``thread``, ``none``).

    ``auto`` takes a lease, which is in the key's own record (:func:`lease_for`) behind locks among threads, where
    several hosts share the store, file locks for ``file`` and ``dbm`` where a
    local disk lasts and ``lock_dir`` is known, threads elsewhere. ConfigError when a lease is asked of a
    store that cannot hold one, MissingCacheParameter when ``file`` has no ``lock_dir``.
    """
    lock_dir = options.get("lock_dir")
    runtime = runtime_of(options)
    kind = lock_kind(store.backend, options, runtime, versioned=isinstance(store, Versioned))
    if kind == "none":
        return NullLocks()
    if kind == "thread":
        return shared_store(("threads", store), ThreadLocks)
    if kind == "file":
        if not lock_dir:
            raise MissingCacheParameter(
                "option 'lock_dir' is missing: lock = file needs a directory", option="lock_dir", expected="a path"
            )
        locks_at = str(lock_dir)
        return shared_store(("files", locks_at), lambda: FileLocks(locks_at, file_locks=runtime.file_locks))
    if kind == "lease" and isinstance(store, Versioned):
        return shared_store(("threads", store), ThreadLocks)
    raise ConfigError(
        f"lock = {kind} cannot be used with the {store.backend} store",
        option="lock",
        expected="auto, file, thread or none" if kind == "lease" else "auto, lease, file, thread or none",
    )


def lease_for(store: Store, options: Mapping[str, Any]) -> Lease | None:
    """How long a creation has its key alone among all hosts; ``None`` where ``lock`` is not ``lease``.

    ``lease_ttl`` seconds, or, where threads may run in the background, ``lock_timeout`` while the creator lives.
    ConfigError for a ``lease_ttl`` that is no time.
    """
    runtime = runtime_of(options)
    if lock_kind(store.backend, options, runtime, versioned=isinstance(store, Versioned)) != "lease":
        return None
    ttl = float(options.get("lease_ttl") or CacheOptions.lease_ttl)
    if not ttl > 0:
        raise ConfigError("lease_ttl: a lease must last", option="lease_ttl", expected="seconds over 0")
    limit = float(options.get("lock_timeout", CacheOptions.lock_timeout))
    return Lease(ttl, max(limit, ttl), runtime.background_threads and limit > ttl)
