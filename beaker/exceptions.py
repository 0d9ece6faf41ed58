"""Every error and warning Beaker raises, in one tree.

::

    BeakerException                         code: what kind of mistake it is, in stable words
    ├── ConfigError (ValueError)            an option is wrong: option, expected, hint
    │   ├── MissingCacheParameter           a required option is absent
    │   ├── InvalidCacheBackendError (ImportError)   unknown type, or its extra is missing
    │   └── InvalidCryptoBackendError (ImportError)  `cryptography` is missing
    ├── StoreError                          a backend failed: backend, operation
    │   ├── StoreUnavailable                it did not reply; nothing is known about the record
    │   │   └── StoreRefused                it replied, and refused: it is full, or read-only
    │   ├── ValueTooLarge                   more bytes than the backend holds; nothing was written
    │   └── WriteConflict                   a concurrent writer won, and the policy is to raise
    ├── CorruptRecord                       bytes that are not our record, or were changed
    ├── UnserializableValue (TypeError)     a value the serializer cannot hold: path, kind
    ├── UncacheableArgument (TypeError)     a function argument that no cache key can be computed from
    ├── SessionTooLarge                     the session does not fit in its cookie: size, limit
    ├── LockError
    │   └── LockTimeout                     the lock was not free within the given seconds
    ├── CreationTimeout (TimeoutError)      a creation took longer than its caller waits: seconds, hint
    └── CreationAbortedError                a creation function gave up on purpose

    BeakerWarning (UserWarning)             code, as above
    ├── ConfigWarning                       an option that is probably a mistake
    └── DeprecatedUse (DeprecationWarning)  something that works and has a better form

``code`` names the situation in words that stay the same when a message is reworded; docs/errors.md lists every code
with its meaning and the fix. Messages name options, kinds of keys and backends. They never hold a secret, a session
id, a session value or a cookie.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

__all__ = [
    "BeakerException",
    "BeakerWarning",
    "ConfigError",
    "ConfigWarning",
    "CorruptRecord",
    "CreationAbortedError",
    "CreationTimeout",
    "DeprecatedUse",
    "InvalidCacheBackendError",
    "InvalidCryptoBackendError",
    "LockError",
    "LockTimeout",
    "MissingCacheParameter",
    "SessionTooLarge",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "UncacheableArgument",
    "UnserializableValue",
    "ValueTooLarge",
    "WriteConflict",
    "warn",
]


class BeakerException(Exception):
    """Root of every exception Beaker raises. ``code`` is the class's own unless the raiser names a closer one."""

    code: str = "other.error"

    def __init__(self, *args: object, code: str = "") -> None:
        super().__init__(*args)
        if code:
            self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors take the parts of the message; what crosses to another process is the finished one.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[BeakerException], args: tuple[Any, ...], state: dict[str, Any]) -> BeakerException:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(BeakerException, ValueError):
    """An option cannot be used as given.

    - ``option``: its name.
    - ``expected``: what it may hold.
    - ``got``: what was given: its type, or a harmless value such as a number; never what may be a secret.
    - ``hint``: what to do about it.
    """

    code = "config.invalid-option"

    def __init__(
        self, message: str, *, option: str = "", expected: str = "", got: str = "", hint: str = "", code: str = ""
    ) -> None:
        self.option = option
        self.expected = expected
        self.got = got
        self.hint = hint
        parts = [message]
        if expected:
            parts.append(f"expected {expected}" + (f", got {got}" if got else ""))
        if hint:
            parts.append(hint)
        super().__init__("; ".join(parts), code=code)


class MissingCacheParameter(ConfigError):
    """A backend needs an option that was not given."""

    code = "config.missing-option"


class InvalidCacheBackendError(ConfigError, ImportError):
    """The named backend does not exist, or the package it needs is not installed."""

    code = "config.unknown-type"


class InvalidCryptoBackendError(ConfigError, ImportError):
    """Encryption was asked for and the ``cryptography`` package is not installed."""

    code = "config.missing-package"


class StoreError(BeakerException):
    """A storage backend failed. ``backend`` names it, ``operation`` what it was asked for."""

    code = "store.failed"

    def __init__(self, message: str, *, backend: str = "", operation: str = "", code: str = "") -> None:
        self.backend = backend
        self.operation = operation
        where = " ".join(part for part in (backend, operation) if part)
        super().__init__(f"{where}: {message}" if where else message, code=code)


class StoreUnavailable(StoreError):
    """The backend did not reply: whether the record exists, or was written, is not known."""

    code = "store.unavailable"


class StoreRefused(StoreUnavailable):
    """The backend replied, and refused: it is full, read-only, or does not know the user."""

    code = "store.refused"


class ValueTooLarge(StoreError):
    """The value has more bytes than the backend can hold; nothing was written.

    ``size`` and ``limit`` are bytes.
    """

    code = "store.value-too-large"

    def __init__(self, size: int, limit: int, *, backend: str = "", operation: str = "set") -> None:
        self.size = size
        self.limit = limit
        message = f"value of {size} bytes is over the limit of {limit} bytes"
        super().__init__(message, backend=backend, operation=operation)


class WriteConflict(StoreError):
    """A concurrent writer won and the retry budget or the policy ``raise`` ended the attempt."""

    code = "store.write-conflict"


class CorruptRecord(BeakerException):
    """Stored bytes are truncated, changed, foreign, or sealed with a key this process does not have."""

    code = "store.corrupt-record"


class UnserializableValue(BeakerException, TypeError):
    """The serializer cannot hold a value and would not give it back unchanged.

    ``path`` leads to it (``session['cart'][2]``), ``kind`` is its type's name. With the code ``value.same-hash`` no
    serializer takes it.
    """

    code = "value.unserializable"

    def __init__(self, path: str, kind: str, hint: str = "", *, code: str = "") -> None:
        self.path = path
        self.kind = kind
        self.hint = hint
        super().__init__(
            f"{path or 'the value'} holds {kind}, which cannot be stored" + (f"; {hint}" if hint else ""), code=code
        )


class UncacheableArgument(BeakerException, TypeError):
    """A function argument has no canonical form that a cache key could be computed from."""

    code = "value.uncacheable-argument"


class SessionTooLarge(BeakerException):
    """The session does not fit in its cookie. ``size`` and ``limit`` are bytes of name plus value."""

    code = "session.too-large"

    def __init__(self, message: str, *, size: int = 0, limit: int = 0) -> None:
        self.size = size
        self.limit = limit
        super().__init__(message)


class LockError(BeakerException):
    """A lock was used in a way it does not allow."""

    code = "lock.misused"


class LockTimeout(LockError):
    """A lock was not free within the given number of seconds."""

    code = "lock.timeout"


class CreationAbortedError(BeakerException):
    """A creation function may raise this to say that there is no value to cache."""

    code = "cache.creation-aborted"


class CreationTimeout(BeakerException, TimeoutError):
    """A value was not created within the ``hard_timeout`` of its cache, ``seconds``. Its creation goes on."""

    code = "cache.creation-timeout"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.hint = "call again later, raise hard_timeout, or set stale_if_error, by which an old value is returned"
        super().__init__(
            f"no value was created within hard_timeout = {seconds:g} s, and its creation goes on; {self.hint}"
        )


class BeakerWarning(UserWarning):
    """Root of Beaker's warnings. ``hint`` is what to do, and ends the text."""

    code: str = "other.warning"

    def __init__(self, message: str = "", *, code: str = "", hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message = message
        self.hint = hint
        if code:
            self.code = code


class ConfigWarning(BeakerWarning):
    """An option looks like a mistake (misspelt, weak, without effect here)."""

    code = "config.suspicious-option"


class DeprecatedUse(BeakerWarning, DeprecationWarning):
    """Something that works and has a better form."""

    code = "cache.deprecated-argument"


_OURS = frozenset({"beaker", "gae"})


def warn(warning: Warning) -> None:
    """Issue ``warning`` at the caller's line: that of the first frame outside Beaker and its deployment kit."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)
