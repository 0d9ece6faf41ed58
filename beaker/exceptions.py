"""Every error and warning Beaker raises, in one tree.

::

    BeakerException
    ├── ConfigError (ValueError)            an option is wrong: option, expected, hint
    │   ├── MissingCacheParameter           a required option is absent
    │   ├── InvalidCacheBackendError (ImportError)   unknown type, or its extra is missing
    │   └── InvalidCryptoBackendError (ImportError)  `cryptography` is missing
    ├── StoreError                          a backend failed: backend, operation
    │   ├── StoreUnavailable                it did not answer; nothing is known about the record
    │   ├── ValueTooLarge                   more bytes than the backend holds; nothing was written
    │   └── WriteConflict                   a concurrent writer won and the policy is to say so
    ├── CorruptRecord                       bytes that are not a record of ours, or were changed
    ├── UnserializableValue (TypeError)     a value the serializer cannot hold: path, kind
    ├── UncacheableArgument (TypeError)     a function argument no cache key can be made from
    ├── SessionTooLarge                     the session does not fit in its cookie: size, limit
    ├── LockError
    │   └── LockTimeout                     the lock was not free within the given seconds
    └── CreationAbortedError                a creation function gave up on purpose

    BeakerWarning (UserWarning)
    └── ConfigWarning                       an option that is probably a mistake

Messages name options, keys' kinds and backends. They never hold a secret, a session id, a session
value or a cookie.
"""

from __future__ import annotations

__all__ = [
    "BeakerException",
    "BeakerWarning",
    "ConfigError",
    "ConfigWarning",
    "CorruptRecord",
    "CreationAbortedError",
    "InvalidCacheBackendError",
    "InvalidCryptoBackendError",
    "LockError",
    "LockTimeout",
    "MissingCacheParameter",
    "SessionTooLarge",
    "StoreError",
    "StoreUnavailable",
    "UncacheableArgument",
    "UnserializableValue",
    "ValueTooLarge",
    "WriteConflict",
]


class BeakerException(Exception):
    """Root of every exception Beaker raises."""


class ConfigError(BeakerException, ValueError):
    """An option cannot be used as given.

    ``option`` is its name, ``expected`` what it may hold, ``got`` the *type* of what was given (never
    the value: it may be a secret), ``hint`` what to do about it.
    """

    def __init__(self, message: str, *, option: str = "", expected: str = "", got: str = "", hint: str = "") -> None:
        self.option = option
        self.expected = expected
        self.got = got
        self.hint = hint
        parts = [message]
        if expected:
            parts.append(f"expected {expected}" + (f", got {got}" if got else ""))
        if hint:
            parts.append(hint)
        super().__init__("; ".join(parts))


class MissingCacheParameter(ConfigError):
    """A backend needs an option that was not given."""


class InvalidCacheBackendError(ConfigError, ImportError):
    """The named backend does not exist, or the package it needs is not installed."""


class InvalidCryptoBackendError(ConfigError, ImportError):
    """Encryption was asked for and the ``cryptography`` package is not installed."""


class StoreError(BeakerException):
    """A storage backend failed. ``backend`` and ``operation`` say which and at what."""

    def __init__(self, message: str, *, backend: str = "", operation: str = "") -> None:
        self.backend = backend
        self.operation = operation
        where = " ".join(part for part in (backend, operation) if part)
        super().__init__(f"{where}: {message}" if where else message)


class StoreUnavailable(StoreError):
    """The backend gave no answer: whether the record exists, or was written, is not known."""


class ValueTooLarge(StoreError):
    """The value has more bytes than the backend can hold; nothing was written.

    ``size`` and ``limit`` are bytes.
    """

    def __init__(self, size: int, limit: int, *, backend: str = "", operation: str = "set") -> None:
        self.size = size
        self.limit = limit
        message = f"value of {size} bytes is over the limit of {limit} bytes"
        super().__init__(message, backend=backend, operation=operation)


class WriteConflict(StoreError):
    """A concurrent writer won and the retry budget or the policy ``raise`` ended the attempt."""


class CorruptRecord(BeakerException):
    """Stored bytes are truncated, changed, foreign, or sealed with a key this process does not have."""


class UnserializableValue(BeakerException, TypeError):
    """The serializer cannot hold a value and would not give it back unchanged.

    ``path`` leads to it (``session['cart'][2]``), ``kind`` is its type's name.
    """

    def __init__(self, path: str, kind: str, hint: str = "") -> None:
        self.path = path
        self.kind = kind
        self.hint = hint
        super().__init__(f"{path or 'the value'} holds {kind}, which cannot be stored" + (f"; {hint}" if hint else ""))


class UncacheableArgument(BeakerException, TypeError):
    """A function argument has no canonical form to make a cache key from."""


class SessionTooLarge(BeakerException):
    """The session does not fit in its cookie. ``size`` and ``limit`` are bytes of name plus value."""

    def __init__(self, message: str, *, size: int = 0, limit: int = 0) -> None:
        self.size = size
        self.limit = limit
        super().__init__(message)


class LockError(BeakerException):
    """A lock was used in a way it does not allow."""


class LockTimeout(LockError):
    """A lock was not free within the given number of seconds."""


class CreationAbortedError(BeakerException):
    """A creation function may raise this to say that there is no value to cache."""


class BeakerWarning(UserWarning):
    """Root of Beaker's warnings."""


class ConfigWarning(BeakerWarning):
    """An option looks like a mistake (misspelt, weak, without effect here)."""
