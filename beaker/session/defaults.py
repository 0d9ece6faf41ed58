"""What session options amount to where they leave it open: asked by the engine, by ``explain`` and by the kit alike.

Functions of the options and the runtime; nothing is opened or connected.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final, Literal

from beaker._typing import Clock
from beaker.config.coerce import wrong
from beaker.config.options import SessionOptions
from beaker.crypto.keyring import KeyRing
from beaker.exceptions import ConfigError, MissingCacheParameter
from beaker.runtime import Runtime

__all__ = [
    "COOKIE_LIFETIME", "MAKE_A_KEY", "absolute_timeout", "advice_on_types", "client_side", "cookie_is_secure",
    "cookie_name", "has_key", "key_ring", "may_pickle", "missing_key", "renewal_interval", "resolve_type", "revocation",
    "session_store", "store_is_private", "touch_interval",
]  # fmt: skip

COOKIE_LIFETIME: Final = 14 * 86400.0
"""Seconds a cookie or hybrid session lives at most unless ``absolute_timeout`` says otherwise.

Such a token cannot be taken back without a store, so it has to end by itself.
"""
TOUCH_INTERVAL: Final = 300.0
"""Seconds: the longest default of ``touch_interval``."""
RENEWAL_INTERVAL: Final = 86400.0
"""Seconds: the longest time between two renewals of a cookie."""
MAKE_A_KEY: Final = "make a key: python -m beaker keys new"


def has_key(options: SessionOptions) -> bool:
    """Whether an option names a key that signs."""
    return options.validate_key is not None or options.secret is not None


def has_project(options: SessionOptions, runtime: Runtime) -> bool:
    """Whether the Google Cloud project is known: by option, or by the environment."""
    return bool(options.backend.get("project") or runtime.project)


def has_directory(options: SessionOptions) -> bool:
    """Whether an option names a directory for the file store."""
    return bool(options.backend.get("data_dir") or options.backend.get("file_dir"))


def resolve_type(options: SessionOptions, runtime: Runtime) -> str:
    """The session type: the option, or what the platform can keep a session in.

    Raises ConfigError on serverless when neither a key nor a project is known, and elsewhere for a ``store`` without
    a type.
    """
    if options.type is not None:
        return options.type.lower() if client_side(options.type.lower()) else options.type
    if options.namespace_class is not None:
        return "custom"
    if not runtime.serverless:
        if options.store is not None:
            raise ConfigError(
                "session.store would be passed over, because there is no session.type",
                option="session.type",
                expected="hybrid, or the store's name itself",
            )
        return "file" if has_directory(options) else "memory"
    if has_key(options):
        return "hybrid" if has_project(options, runtime) else "cookie"
    if has_project(options, runtime):
        return "ext:google"
    raise ConfigError(
        "no place is known to keep sessions in",
        option="session.type",
        hint="instances share no memory and no disk: set session.secret (sessions in cookies)"
        " or GOOGLE_CLOUD_PROJECT (Datastore); " + MAKE_A_KEY,
        code="config.no-place",
    )


def client_side(kind: str) -> bool:
    """Whether sessions of the type ``kind`` travel in cookies, always or while they are small."""
    return kind in ("cookie", "hybrid")


def session_store(options: SessionOptions, runtime: Runtime, kind: str) -> str | None:
    """The type of the store behind sessions of the type ``kind``; ``None`` where there is none: cookie sessions."""
    if kind == "cookie":
        return None
    if kind != "hybrid":
        return kind
    if options.store:
        return options.store
    if has_project(options, runtime) or runtime.emulator_host:
        return "ext:google"
    return "file" if has_directory(options) else "memory"


def revocation(options: SessionOptions, kind: str) -> str | Literal[True] | None:
    """Where revocation points are kept: a store's type, ``True`` for the sessions' own store, ``None`` for nowhere.

    Raises ConfigError when ``revocation`` names no store, or cookie sessions are to keep points in their own.
    """
    option = options.revocation
    if isinstance(option, str) and option.strip().lower() in ("true", "false"):
        option = option.strip().lower() == "true"
    if option is False or (option is None and kind == "cookie"):
        return None
    if option is None or (option is True and kind != "cookie"):
        return True
    name = option.get("type") if isinstance(option, Mapping) else option
    if not isinstance(name, str):
        raise wrong("session.revocation", option, "a type's name, or a dict with `type` and backend options")
    return name


def store_is_private(options: SessionOptions, kind: str) -> bool:
    """Whether only this user's processes can write the store; of a class of the application's nothing is known."""
    return kind in ("memory", "file", "dbm") and options.namespace_class is None


def may_pickle(options: SessionOptions, kind: str) -> bool:
    """Whether a pickle may hold what JSON cannot: never in a cookie, and elsewhere not where anybody could put one."""
    return not client_side(kind) and (has_key(options) or store_is_private(options, kind))


def advice_on_types(options: SessionOptions, kind: str) -> str:
    """What to do about a value whose type JSON does not hold, in sessions of the type ``kind``."""
    if client_side(kind):
        return "a cookie never holds a pickle: store plain data, of an Enum its value, or keep the session in a store"
    if not may_pickle(options, kind):
        return "store plain data, or set session.secret so that it may be pickled"
    return "store plain data, or leave session.serializer at auto, which pickles it"


def absolute_timeout(options: SessionOptions, kind: str) -> float | None:
    """Seconds a session of the type ``kind`` lives at most; ``None``: no limit."""
    if options.absolute_timeout is None and client_side(kind):
        return COOKIE_LIFETIME
    return options.absolute_timeout


def touch_interval(options: SessionOptions) -> float:
    """Seconds between two writes of the access time by requests that only read."""
    if options.touch_interval is not None:
        return options.touch_interval
    return TOUCH_INTERVAL if options.timeout is None else min(options.timeout / 10, TOUCH_INTERVAL)


def renewal_interval(options: SessionOptions) -> float | None:
    """Age in seconds from which a cookie is sent again to a visitor; ``None``: it has no end that moves along.

    A tenth of its lifetime and a day at most, so that of a visit nearly the whole lifetime is left.
    """
    return renewal_of(options.cookie_expires)


def renewal_of(ends: bool | dt.datetime | dt.timedelta | float) -> float | None:
    """:func:`renewal_interval` of a cookie that ends so."""
    if ends is True or isinstance(ends, dt.datetime):
        return None
    if ends is False:
        return RENEWAL_INTERVAL
    seconds = ends.total_seconds() if isinstance(ends, dt.timedelta) else float(ends)
    return min(seconds / 10, RENEWAL_INTERVAL)


def cookie_is_secure(options: SessionOptions, runtime: Runtime) -> bool | None:
    """The Secure attribute; ``None``: decided by each request's scheme."""
    return True if options.secure is None and runtime.https else options.secure


def cookie_name(options: SessionOptions, runtime: Runtime) -> str:
    """The name of the session cookie."""
    if options.key != "auto":
        return options.key
    if runtime.firebase_hosting:
        return "__session"
    if cookie_is_secure(options, runtime) and options.cookie_domain is None and options.cookie_path == "/":
        return "__Host-session"
    return "beaker.session.id"


def key_ring(options: SessionOptions, clock: Clock) -> KeyRing | None:
    """The keys of ``validate_key`` or ``secret``, ``secret_fallbacks`` and ``encrypt_key``; ``None`` without a key.

    Raises MissingCacheParameter for ``encrypt_key`` alone, and what :meth:`KeyRing.of` raises.
    """
    name = "validate_key" if options.validate_key is not None else "secret"
    signing = getattr(options, name)
    if signing is None and options.encrypt_key is not None:
        raise MissingCacheParameter(
            "encrypted sessions need a second key, session.validate_key or session.secret, that signs",
            option="session.validate_key",
            hint=MAKE_A_KEY,
            code="config.missing-key",
        )
    if options.key_rollout is not None and options.encrypt_key is None:
        raise ConfigError(
            "session.key_rollout is about introducing session.encrypt_key, and there is none",
            option="session.key_rollout",
            hint="set session.encrypt_key, or leave session.key_rollout out",
        )
    return KeyRing.of(
        {f"session.{name}": signing, "session.secret_fallbacks": None if signing is None else options.secret_fallbacks},
        {"session.encrypt_key": options.encrypt_key},
        strict=options.strict,
        clock=clock,
        rollout=options.key_rollout,
    )


def missing_key(kind: str) -> MissingCacheParameter:
    """The error for sessions of the type ``kind`` without a key."""
    return MissingCacheParameter(
        f"{kind} sessions need a key",
        option="session.validate_key",
        hint="set session.validate_key or session.secret; " + MAKE_A_KEY,
        code="config.missing-key",
    )
