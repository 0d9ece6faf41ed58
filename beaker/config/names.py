"""What an option's name in a configuration means: ours, a neighbour's, or ours misspelt.

A program may keep the settings of many components in one mapping, so names under other prefixes are left alone.
Names under our prefixes, and all keyword arguments, are ours: one that is no option was meant to be one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from beaker.config.coerce import as_list
from beaker.config.options import (
    ACCEPTED,
    BUILTIN_TYPES,
    BackendOptions,
    CacheOptions,
    OptionInfo,
    SessionOptions,
    describe,
)
from beaker.exceptions import ConfigError, ConfigWarning, warn

__all__ = [
    "CACHE", "CLOSE", "OBJECTS", "SESSION", "STORE", "Guess", "Scope", "guess", "is_builtin", "misspelt_own",
    "resembles",
]  # fmt: skip

BACKEND = describe(BackendOptions)
INTERNAL = frozenset({"backend"})
OBJECTS = frozenset({"runtime", "clock", "locks", "cache_regions"})
"""Objects the engine passes along with the options; they are not options of a user's file."""


_NONE: Mapping[str, Any] = {}


class Scope(NamedTuple):
    """One of our two groups of options: ``where`` names it, ``own`` are its options without those of the stores."""

    where: str
    prefixes: tuple[str, ...]
    own: Mapping[str, OptionInfo]

    @property
    def known(self) -> dict[str, OptionInfo]:
        """Every option by plain name, those of the stores too."""
        return {name: info for name, info in {**BACKEND, **self.own}.items() if name not in INTERNAL}

    def plain(self, name: str) -> str | None:
        """``name`` without one of our prefixes, ``None`` when it has none."""
        for prefix in self.prefixes:
            if name.startswith(prefix):
                return name[len(prefix) :]
        # What Beaker 1.14 takes as well; session_class is an option's own name.
        rest = name.removeprefix(f"{self.where}_")
        return rest if rest != name and name not in OBJECTS and name not in self.own and rest in self.known else None

    def from_mapping(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The options in a mapping that other components share, by plain name.

        When no name has a prefix, the whole mapping is meant for us (manual 5.1.3), except what is no option at
        all. Raises ConfigError for a name that looks like an option of ours and would be passed over.
        """
        found = self._prefixed(config)
        if not found:
            found = {name: value for name, value in config.items() if self._takes(name, config)}
            others = [name for name in config if name not in found]
            if not any(_foreign(name) for name in others):
                self._check_spelling(others, found)
        self._check_prefixes(config, found)
        return found

    def from_keywords(self, options: Mapping[str, Any], weak: Mapping[str, Any] = _NONE) -> dict[str, Any]:
        """Keyword arguments by plain name: ``session.type`` and ``beaker.session.type`` are ``type``.

        A plain name wins over a prefixed one, unless it holds ``None`` or what ``weak`` has for it: a constructor's
        own defaults. Beside prefixed names, names under other prefixes are other
        components'; else every name is ours, known or not. Raises ConfigError as :meth:`from_mapping`.
        """
        if not options:
            return {}
        found = self._prefixed(options)
        shared = bool(found)
        regions = options.get("regions", found.get("regions"))
        heads = as_list(f"{self.where}.regions", regions) if regions and self is CACHE else []
        for name, value in options.items():
            head, dot, _ = name.partition(".")
            ours = self.plain(name) is None and (not shared or not dot or head in (*heads, "sa"))
            told = value is not None and (name not in weak or weak[name] != value)
            if ours and (told or name not in found):
                found[name] = value
        self._check_prefixes(options, found)
        return found

    def _prefixed(self, options: Mapping[str, Any]) -> dict[str, Any]:
        # The longer prefix is the more specific one: it wins when both forms of a name are there.
        ours = [(name, rest) for name in options if (rest := self.plain(name)) is not None]
        return {rest: options[name] for name, rest in sorted(ours, key=lambda pair: len(pair[0]) - len(pair[1]))}

    def _takes(self, name: str, config: Mapping[str, Any]) -> bool:
        if name in self.known or name in ACCEPTED or name in OBJECTS or name.startswith("sa."):
            return True
        if "." in name:
            regions = config.get("regions")
            return bool(regions) and name.partition(".")[0] in as_list("regions", regions)
        # For a store that is not ours everything: only that store knows its names.
        return not is_builtin(self.store_type(config))

    def store_type(self, options: Mapping[str, Any], kind: object = None) -> object:
        """The type of the store that ``options`` are about, of hybrid sessions that of ``store``; default ``kind``."""
        kind = options.get("type", kind)
        hybrid = self is SESSION and (kind is None or (isinstance(kind, str) and kind.strip().lower() == "hybrid"))
        return (options.get("store") or kind) if hybrid else kind

    def _check_spelling(self, names: Iterable[str], found: Mapping[str, Any]) -> None:
        for name in names:
            meant = guess(name, self)
            if meant.guards and meant.nearest not in found and "." not in name:
                raise ConfigError(
                    f"{name} is not an option of Beaker and would be passed over",
                    option=name,
                    code="config.unknown-option",
                    hint=f"did you mean {meant.nearest or 'one of docs/configuration.md'}?",
                )

    def _check_prefixes(self, options: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Refuse an option under a misspelt prefix, or that of our other options; warn where it guards nothing."""
        other = CACHE if self is SESSION else SESSION
        theirs = [rest for name in options if (rest := other.plain(name)) is not None]
        keyed = "secret" in found or "validate_key" in found
        for name in options:
            rest = self._misplaced(name, other, lonely=not keyed and {*theirs} <= {"secret", "encrypt_key"})
            if not rest or rest in found:
                continue
            message = f"{name} is no option of {self.where}s and would be passed over"
            code, hint = "config.unknown-option", f"write {self.where}.{rest}"
            if self.known[rest].guards:
                raise ConfigError(message, option=name, code=code, hint=hint)
            if name.strip().lower() != f"beaker.{rest}":  # may as well be the program's own, as "beaker.enabled"
                warn(ConfigWarning(f"{message}; {hint}", code=code))

    def _misplaced(self, name: str, other: Scope, *, lonely: bool) -> str | None:
        if self.plain(name) is not None or "." not in name:
            return None
        rest = other.plain(name)
        if rest is not None:
            # A cache that has nothing but a key is no cache: the key was meant for the sessions.
            return rest if rest in self.own and (rest not in other.own or (lonely and self is SESSION)) else None
        first, _, rest = name.strip().lower().partition(".")
        second, _, last = rest.partition(".")
        if first == "beaker" and rest in self.own and (self is SESSION or rest not in other.own):
            return rest
        for head, tail in ((first, rest), (f"{first}.{second}", last)):
            if tail in self.known and any(resembles(head, prefix[:-1]) for prefix in self.prefixes):
                return tail
        return None


SESSION = Scope("session", ("beaker.session.", "session."), describe(SessionOptions))
CACHE = Scope("cache", ("beaker.cache.", "cache."), describe(CacheOptions))
STORE = SESSION._replace(own={"type": CACHE.own["type"]})
"""What an option of sessions holds that is a dict of a store's options."""


class Guess(NamedTuple):
    """What an unknown name was probably meant to be: ``nearest`` or empty. ``guards``: passing it over weakens."""

    nearest: str
    guards: bool


_MEANT = {
    "backend": ("type",), "signing_key": ("secret",), "hash_key": ("secret",), "name": ("key",),
    "max_age": ("cookie_expires", "expire"), "expires": ("cookie_expires", "expire"),
    "expire": ("cookie_expires",), "domain": ("cookie_domain",),
    "path": ("cookie_path", "data_dir"), "dir": ("data_dir",), "directory": ("data_dir",), "same_site": ("samesite",),
    "http_only": ("httponly",), "ttl": ("timeout", "expire"), "timeout": ("expire",), "host": ("url",),
}  # fmt: skip
"""Names that other libraries have for these options; the first one that the scope knows counts."""
_IGNORED_BEFORE = frozenset({"cookie_max_age", "expires", "longtimeout"})
"""Names that programs in public code give their sessions and Beaker up to 1.14 ignores: a warning is enough there."""
_TELLING = frozenset(
    {
        "secret", "secrets", "key", "keys", "encrypt", "encrypted", "encryption", "sign", "signed", "signing",
        "password", "token", "hmac", "secure", "httponly", "samesite",
    }
)  # fmt: skip
"""Words by which a name is about protection, whatever else it says."""
CLOSE = 0.75
"""From this likeness on (:func:`difflib.SequenceMatcher.ratio`) one name is taken for the other misspelt."""


def guess(name: str, scope: Scope) -> Guess:
    """What ``name``, which is no option of ``scope``, was meant to be."""
    known = scope.known
    said = name.strip().lower().replace("-", "_")
    bare = said
    for prefix in (f"{scope.where}_", "beaker_", "cookie_"):
        bare = bare.removeprefix(prefix)
    ignored = scope is SESSION and said in _IGNORED_BEFORE
    for each in (said, bare, *_MEANT.get(said, ()), *_MEANT.get(bare, ())):
        if each in known:
            return Guess(each, known[each].guards and not ignored)
    import difflib

    close = difflib.get_close_matches(said, list(known), n=1) + difflib.get_close_matches(bare, list(known), n=1)
    near = max(close, key=lambda option: max(_likeness(said, option), _likeness(bare, option)), default="")
    words = set(re.split(r"[^a-z]+", bare))
    other = CACHE if scope is SESSION else SESSION
    if words & _TELLING and name not in other.own and "." not in name:
        named = sorted(words & set(known), key=lambda word: -_likeness(bare, word))
        return Guess((named or [near])[0], guards=True)
    likeness = max(_likeness(said, near), _likeness(bare, near))
    return Guess(near, bool(near) and known[near].guards and likeness >= CLOSE and not ignored)


def misspelt_own(name: str, scope: Scope) -> str:
    """Our option that a name given to another party's store almost matches, or empty."""
    meant = guess(name, scope).nearest
    almost = meant in scope.own and scope.own[meant].guards and name.rstrip("s") != meant
    return meant if almost and _likeness(name, meant) >= 0.8 else ""


def _likeness(one: str, other: str) -> float:
    # Letters that have changed places are the commonest slip, and in a short name weigh most.
    if sorted(one) == sorted(other):
        return 1.0
    import difflib

    return difflib.SequenceMatcher(None, one, other).ratio()


def resembles(head: str, prefix: str) -> bool:
    """Whether ``head`` is ``prefix`` misspelt, and not a name that a program gave to something else."""
    if head == prefix:
        return True
    # A program's "cache2." is its own, and "mycache." is too.
    return head[:1] == prefix[:1] and head.rstrip("0123456789") != prefix and _likeness(head, prefix) >= 0.85


def _foreign(name: str) -> bool:
    return "." in name or not name.islower()


def is_builtin(kind: object) -> bool:
    """Whether a type name is one of the backends that come with Beaker."""
    return kind is None or (isinstance(kind, str) and kind.strip().lower() in BUILTIN_TYPES)
