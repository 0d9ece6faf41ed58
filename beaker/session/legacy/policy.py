"""The option ``session.legacy``: what of Beaker 1.14 and older is read, with which keys, and until when."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from beaker.config.coerce import as_bool, as_count, as_str, one_of, wrong
from beaker.crypto.sources import sources_of
from beaker.exceptions import ConfigError
from beaker.session.legacy.payload import Codec

__all__ = ["LONGEST", "LegacyPolicy"]

LONGEST: Final = 90 * 86400.0
"""Seconds ``until`` may lie ahead when the policy is created: SHA-1 keys must not stay for ever."""

_OPTION: Final = "session.legacy"
_MODES: Final = {
    "default": ("gcm", "ctr"),
    "cryptography": ("gcm",),
    "gcm": ("gcm",),
    "pycrypto": ("ctr",),
    "pycryptodome": ("ctr",),
    "ctr": ("ctr",),
}
_PICKLE: Final = one_of("restricted", "no")
_STORES: Final = {
    "file": ("data_dir", "file_dir"),
    "dbm": ("data_dir", "dbm_dir"),
    "ext:memcached": ("url",),
    "ext:database": ("url",),
    "ext:sqla": ("url",),
    "ext:redis": ("url",),
}
_LOCATION: Final = ("data_dir", "file_dir", "dbm_dir", "url", "table_name", "schema_name")


@dataclass(frozen=True)
class LegacyPolicy:
    """What old sessions are taken over. Made by :meth:`from_option`; keys are bytes and stay out of ``repr``.

    ``until`` and ``since`` are seconds since the epoch. ``limit`` is the longest session in bytes.
    """

    until: float
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    validate_keys: tuple[bytes, ...] = field(default=(), repr=False)
    encrypt_keys: tuple[bytes, ...] = field(default=(), repr=False)
    modes: tuple[str, ...] = ("gcm", "ctr")
    since: float = math.inf
    key: str | None = None
    unsigned: bool = False
    pickles: bool = True
    keep: bool = False
    limit: int = 65_536
    type: str | None = None
    location: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def codec(self) -> Codec:
        """How session data is read under this policy."""
        return Codec(self.encrypt_keys, self.modes, self.pickles, self.limit)

    @classmethod
    def from_option(cls, value: object, *, clock: Callable[[], float]) -> LegacyPolicy:
        """The policy a dict, JSON text of one, or a LegacyPolicy asks for.

        Raises ConfigError for an unknown name, without ``until``, for one more than 90 days ahead, and when
        nothing could be read with what is given.
        """
        policy = value if isinstance(value, LegacyPolicy) else cls._of(_mapping(value), clock)
        if not policy.until <= clock() + LONGEST:
            raise _error("until", "old sessions cannot be read for that long", expected="at most 90 days ahead")
        return _checked(policy)

    @classmethod
    def _of(cls, given: dict[str, Any], clock: Callable[[], float]) -> LegacyPolicy:
        if given.get("until") is None:
            raise _error("until", "reading old sessions must end some day", expected="a date at most 90 days ahead")
        made: dict[str, Any] = {"until": _moment("until", given.pop("until"))}
        if "since" in given:
            made["since"] = _moment("since", given.pop("since"))
        for option, name in (
            ("secret", "secrets"),
            ("validate_key", "validate_keys"),
            ("encrypt_key", "encrypt_keys"),
        ):
            made[name] = _keys(option, given.pop(option, None), clock)
        crypto = one_of(*_MODES)(f"{_OPTION}.crypto_type", given.pop("crypto_type", "default"))
        made["modes"] = _MODES[str(crypto)]
        pickles = given.pop("pickle", "restricted")
        # YAML and INI readers turn `no` into a boolean.
        made["pickles"] = pickles is not False and _PICKLE(f"{_OPTION}.pickle", pickles) != "no"
        for option in ("unsigned", "keep"):
            made[option] = as_bool(f"{_OPTION}.{option}", given.pop(option, False))
        if "max_bytes" in given:
            made["limit"] = min(int(as_count(f"{_OPTION}.max_bytes", given.pop("max_bytes"))), 1 << 20)
        if "key" in given:
            made["key"] = as_str(f"{_OPTION}.key", given.pop("key"))
        made["location"] = {
            name: str(as_str(f"{_OPTION}.{name}", given.pop(name))) for name in _LOCATION if name in given
        }
        made["type"] = _store_type(given.pop("type", None), made["location"])
        if given:
            raise _error(min(given), "is no option", hint="docs/migrating.md lists them")
        return cls(**made)


def _error(option: str, text: str, *, expected: str = "", hint: str = "") -> ConfigError:
    name = f"{_OPTION}.{option}"
    return ConfigError(f"{name}: {text}", option=name, expected=expected, hint=hint)


def _checked(policy: LegacyPolicy) -> LegacyPolicy:
    by_id = policy.secrets or policy.unsigned
    if not by_id and not policy.validate_keys:
        raise _error(
            "secret",
            "no old cookie can be read without a key",
            hint="give the old `secret` (sessions in a store) or `validate_key` (sessions in cookies)",
        )
    if by_id and policy.type is None:
        raise _error(
            "type",
            "an old session id leads nowhere without its store",
            hint="give the old `type` with its `data_dir` or `url`",
        )
    if policy.encrypt_keys and not policy.validate_keys:
        raise _error("validate_key", "encrypted sessions need both keys", hint="give the old `validate_key`")
    return policy


def _store_type(value: object, location: Mapping[str, str]) -> str | None:
    if value is None:
        if "dbm_dir" in location:
            return "dbm"
        return "file" if "data_dir" in location or "file_dir" in location else None
    name = str(as_str(f"{_OPTION}.type", value)).lower()
    name = name if name in _STORES or f"ext:{name}" not in _STORES else f"ext:{name}"
    if name == "cookie":
        return None
    if name not in _STORES:
        raise _error("type", "records of that type are not read", expected=", ".join([*_STORES, "cookie"]))
    if not any(option in location for option in _STORES[name]):
        raise _error(_STORES[name][0], "the old store cannot be found without it")
    return name


def _mapping(value: object) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise wrong(_OPTION, value, "a dict, or JSON text of one", secret=True) from None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise wrong(_OPTION, value, "a dict, or JSON text of one", secret=True)
    return {name: item for name, item in value.items() if item is not None}


def _keys(option: str, value: object, clock: Callable[[], float]) -> tuple[bytes, ...]:
    if value is None:
        return ()
    # Old secrets had no least length, and commas in them separate nothing.
    values = value if isinstance(value, (list, tuple)) else [value]
    sources = sources_of(values, option=f"{_OPTION}.{option}", clock=clock, split_from=1)
    return tuple(secret.value for source in sources for secret in source.read())


def _moment(option: str, value: object) -> float:
    expected = "a date, a datetime or ISO text"
    if isinstance(value, str):
        try:
            # Python 3.10 does not know the Z.
            value = dt.datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError:
            raise wrong(f"{_OPTION}.{option}", value, expected) from None
    if isinstance(value, dt.datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=dt.timezone.utc)
        return aware.timestamp()
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.timezone.utc).timestamp()
    raise wrong(f"{_OPTION}.{option}", value, expected)
