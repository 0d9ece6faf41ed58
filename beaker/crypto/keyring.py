"""Secrets, and the keys derived from them: one subkey for each purpose, old keys kept for reading.

From each secret ``IKM``: ``PRK = HMAC-SHA256(0^32, IKM)`` and, for every purpose, 32 bytes of
``HKDF-Expand(PRK, lp("beaker2", purpose))`` (RFC 5869). Joined inputs are framed by :func:`lp`, so that no
two different lists of parts are the same bytes (CVE-2026-6873 is what happens otherwise).

Nothing here shows a secret: not ``repr``, not an exception, not a pickle (refused).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NoReturn

from beaker import clock as _clock
from beaker._typing import Clock
from beaker.crypto.form import HINT, is_made_here, is_words, make_key
from beaker.crypto.sources import FileSource, Secret, Source, sources_of
from beaker.exceptions import ConfigError, ConfigWarning, warn

__all__ = ["KEY_ID_BYTES", "PURPOSES", "Key", "KeyRing", "lp", "new_key"]

PURPOSES: Final = ("id-sign", "cookie-sign", "cookie-enc", "store-mac", "store-enc", "revocation", "console")
KEY_ID_BYTES: Final = 4
_MIN_BYTES: Final = 16
_GOOD_BYTES: Final = 32
_MIN_DISTINCT: Final = 8
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


def lp(*parts: bytes | str) -> bytes:
    """Each part behind its length in 4 big-endian bytes; ``str`` is UTF-8, lone surrogates included."""
    out = []
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        out.append(len(data).to_bytes(4, "big"))
        out.append(data)
    return b"".join(out)


def new_key() -> str:
    """A new secret: 32 random bytes as text that can be recognized; see :mod:`beaker.crypto.form`."""
    return make_key()


class Key:
    """One secret's subkeys. ``kid`` (4 bytes, public) names it inside tokens and records.

    ``paired``: it is derived from a pair of a key that signs and one that encrypts.
    """

    __slots__ = ("_macs", "_prk", "_subkeys", "kid", "paired")

    def __init__(self, secret: bytes, *, paired: bool = False) -> None:
        self.paired = paired
        self._prk = hmac.digest(bytes(32), secret, "sha256")
        self._subkeys: dict[str, bytes] = {}
        # Both hashes of an HMAC with the key already absorbed: 0.7 µs a MAC where ``hmac`` takes 1.7.
        self._macs: dict[str, tuple[Any, Any]] = {}
        self.kid: bytes = self._expand("kid")[:KEY_ID_BYTES]

    def _expand(self, purpose: str) -> bytes:
        return hmac.digest(self._prk, lp("beaker2", purpose) + b"\x01", "sha256")

    def subkey(self, purpose: str) -> bytes:
        """32 bytes for one of :data:`PURPOSES`; another name raises ValueError."""
        try:
            return self._subkeys[purpose]
        except KeyError:
            if purpose not in PURPOSES:
                raise ValueError(f"no key purpose {purpose!r}") from None
            made = self._subkeys[purpose] = self._expand(purpose)
            return made

    def mac(self, purpose: str, *chunks: bytes) -> bytes:
        """HMAC-SHA256 (32 bytes) of the joined ``chunks`` under ``purpose``'s subkey."""
        begun = self._macs.get(purpose)
        if begun is None:
            block = self.subkey(purpose).ljust(64, b"\0")
            begun = hashlib.sha256(block.translate(_INNER)), hashlib.sha256(block.translate(_OUTER))
            self._macs[purpose] = begun
        inner, outer = begun[0].copy(), begun[1].copy()
        for chunk in chunks:
            inner.update(chunk)
        outer.update(inner.digest())
        digest: bytes = outer.digest()
        return digest

    def __repr__(self) -> str:
        return f"<Key {self.kid.hex()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Key holds a secret and is never pickled")


class KeyRing:
    """One or more keys: the first seals, all of them open.

    Thread-safe. A ring over ``file:`` secrets looks at the files again at most every 5 seconds of its
    clock, and uses a changed one when nothing has written to it for as long; a file that vanished or no
    longer holds usable keys leaves the ring as it was and is logged once. A key that is gone from a changed
    file no longer opens anything.
    """

    __slots__ = (
        "_by_kid",
        "_clock",
        "_combine",
        "_current",
        "_kids",
        "_option",
        "_since",
        "_sources",
        "_strict",
        "_watched",
    )

    def __init__(
        self,
        sources: Sequence[Sequence[Source]],
        *,
        option: str,
        strict: bool,
        combine: Callable[..., list[Secret]],
        clock: Clock = _clock.now,
    ) -> None:
        self._option = option
        self._strict = strict
        self._sources = sources
        self._combine = combine
        self._clock = clock
        self._since: dict[bytes, float] = {}
        self._watched = [source for group in sources for source in group if isinstance(source, FileSource)]
        self._install(warning=True)

    @classmethod
    def from_option(
        cls, value: object, *, option: str = "secret", strict: bool = False, clock: Clock = _clock.now
    ) -> KeyRing:
        """The ring an option asks for.

        * ``bytes``: one key, as it is.
        * ``str``: stripped, UTF-8. With line breaks: one key a line. With commas, and every part at least
          16 bytes long: one key a part; otherwise the commas belong to the key. Spaces never separate.
        * ``file:PATH``, as any of these ``str``: a file of one key a line (mounted secrets), read again
          when it changes. Replace it by a rename, so that no process reads half a key.
        * a list or tuple of those, not split any further.

        Equal keys count once. Shorter than 16 bytes, or nothing at all: ConfigError. Shorter than 32
        bytes or plainly not random: ConfigWarning, with ``strict`` a ConfigError.
        """
        sources = sources_of(value, option=option, clock=clock, split_from=_MIN_BYTES)
        return cls([sources], option=option, strict=strict, combine=list, clock=clock)

    @classmethod
    def combine(cls, *, validate: object, encrypt: object, strict: bool = False, clock: Clock = _clock.now) -> KeyRing:
        """The ring of Beaker's ``validate_key`` with ``encrypt_key``: :meth:`of` both, or of the former alone."""
        if validate is None:
            raise ConfigError("encrypt_key needs validate_key", option="validate_key", code="config.missing-key")
        ring = cls.of({"validate_key": validate}, {"encrypt_key": encrypt}, strict=strict, clock=clock)
        assert ring is not None  # `validate` is there
        return ring

    @classmethod
    def of(
        cls,
        signing: Mapping[str, object],
        encrypting: Mapping[str, object] = MappingProxyType({}),
        *,
        strict: bool = False,
        clock: Clock = _clock.now,
        rollout: str | None = None,
    ) -> KeyRing | None:
        """The ring of several options, by name; ``None`` when all of them are.

        Each value may be what :meth:`from_option` takes; the keys of ``signing`` count in that order. With keys in
        both mappings each key of the ring is derived from a pair: they are paired by position, and a single one with
        every one of the other mapping. Other lengths that differ, and a pair of equal keys, are a ConfigError.

        While the keys of ``encrypting`` are introduced, ``rollout`` keeps the signing keys by themselves in the ring as
        well: ``prepare`` before the pairs, so that they still seal, ``accept`` behind them.
        """
        groups: list[list[Source]] = []
        for options in (signing, encrypting):
            given = {name: value for name, value in options.items() if value is not None}
            if given:
                groups.append(
                    [
                        source
                        for name, value in given.items()
                        for source in sources_of(value, option=name, clock=clock, split_from=_MIN_BYTES)
                    ]
                )
        if not groups:
            return None
        named = ", ".join(name for name, value in {**signing, **encrypting}.items() if value is not None)
        combine = _COMBINED[rollout] if len(groups) == 2 else list
        return cls(groups, option=named, strict=strict, combine=combine, clock=clock)

    @property
    def current(self) -> Key:
        """The key that seals."""
        if self._watched:
            self._refresh()
        return self._current

    def find(self, kid: bytes) -> Key | None:
        """The key named ``kid`` (4 bytes), or ``None``."""
        if self._watched:
            self._refresh()
        return self._by_kid.get(kid)

    @property
    def keys(self) -> object:
        """The same object for as long as the keys are the same: what was verified under it would be verified again."""
        if self._watched:
            self._refresh()
        return self._by_kid

    @property
    def kids(self) -> tuple[bytes, ...]:
        """The ids of all keys, the sealing one first."""
        if self._watched:
            self._refresh()
        return self._kids

    def ages(self) -> dict[bytes, float]:
        """By the id of each key, the sealing one first, the seconds since this ring first held it."""
        kids, since, now = self.kids, self._since, self._clock()
        return {kid: max(0.0, now - since[kid]) for kid in kids if kid in since}

    def _refresh(self) -> None:
        changed = [source for source in self._watched if source.changed()]
        if not changed:
            return
        try:
            self._install(warning=False)
        except ConfigError as err:
            for source in changed:
                source.complain(err)

    def _install(self, *, warning: bool) -> None:
        groups = [[secret for source in group for secret in source.read()] for group in self._sources]
        for group in groups:
            for secret in group:
                self._judge(secret, warning=warning)
        unique: dict[bytes, Key] = {}
        seen: set[bytes] = set()
        for secret in self._combine(*groups):
            if secret.value in seen:
                continue
            seen.add(secret.value)
            key = Key(secret.value, paired=secret.paired)
            if key.kid in unique:
                raise ConfigError(f"two keys of {self._option} share a key id; make another one", option=self._option)
            unique[key.kid] = key
        now = self._clock()
        self._since = {kid: self._since.get(kid, now) for kid in unique}
        # Readers without a lock see a complete map before the key they may ask it for seals anything.
        self._by_kid = {**unique}
        self._kids = tuple(unique)
        self._current = unique[self._kids[0]]
        # Another object: what a thread verified in between, beside the current key of before, is not remembered.
        self._by_kid = {**unique}

    def _judge(self, secret: Secret, *, warning: bool) -> None:
        value, option = secret.value, secret.option
        if len(value) < _MIN_BYTES:
            raise ConfigError(
                f"a key of {option} is too short",
                option=option,
                expected=f"at least {_MIN_BYTES} bytes, better {_GOOD_BYTES} random ones",
                got=f"{len(value)} bytes",
                hint=HINT,
                code="config.weak-key",
            )
        if is_made_here(value):
            return
        if len(value) < _GOOD_BYTES:
            weak = f"shorter than {_GOOD_BYTES} bytes"
        elif len(set(value)) < _MIN_DISTINCT or value in (value + value)[1:-1]:
            weak = "plainly not random"
        elif _is_sentence(value):
            weak = "text with blanks or letters beyond ASCII, which random keys have not"
        elif is_words(value):
            weak = "words, as paths, names and passphrases are, and no random characters"
        else:
            return
        message = f"a key of {option} is {weak}"
        if self._strict:
            raise ConfigError(message, option=option, hint=HINT, code="config.weak-key")
        if warning:
            warn(ConfigWarning(message, hint=HINT, code="config.weak-key"))

    def __repr__(self) -> str:
        return f"<KeyRing of {self._option}: {', '.join(kid.hex() for kid in self._kids)}>"

    def __copy__(self) -> KeyRing:
        return self

    def __deepcopy__(self, memo: Any) -> KeyRing:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyRing holds secrets and is never pickled")


def _is_sentence(value: bytes) -> bool:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable() and (" " in text or not text.isascii())


def _pairs(signing: list[Secret], encrypting: list[Secret]) -> list[Secret]:
    first, second = signing[0].option, encrypting[0].option
    if len(signing) != len(encrypting) and 1 not in (len(signing), len(encrypting)):
        raise ConfigError(
            f"{first} and {second} hold different numbers of keys",
            option=second,
            expected=f"1 or {len(signing)} keys",
            got=f"{len(encrypting)}",
        )
    longest = max(len(signing), len(encrypting))
    pairs = list(zip(_stretched(signing, longest), _stretched(encrypting, longest), strict=True))
    if any(a.value == b.value for a, b in pairs):
        raise ConfigError(f"{first} and {second} are the same key", option=second, hint="make two")
    return [Secret(lp(a.value, b.value), f"{first}, {second}", paired=True) for a, b in pairs]


def _pairs_first(signing: list[Secret], encrypting: list[Secret]) -> list[Secret]:
    return [*_pairs(signing, encrypting), *signing]


def _pairs_last(signing: list[Secret], encrypting: list[Secret]) -> list[Secret]:
    return [*signing, *_pairs(signing, encrypting)]


def _stretched(group: list[Secret], length: int) -> list[Secret]:
    return group * length if len(group) == 1 else group


_COMBINED: Final = {None: _pairs, "accept": _pairs_first, "prepare": _pairs_last}
