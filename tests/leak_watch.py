"""The ears of tests/leaks.py: what they are put on in the library, in logging and in pytest."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.leaks import Scan

__all__ = ["Reprs", "install"]

PACKAGES: Final = ("beaker", "gae")
# What a contract suite or a command shows on purpose.
EXEMPT: Final = ("beaker.testing", "beaker.__main__")


class _Listener(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        scan = Scan.current
        scan.note(f"a log of {record.name}", record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            scan.exception(f"a log of {record.name}", record.exc_info[1])


def _watch(owner: Any, name: str, tell: Callable[..., None]) -> None:
    """Call ``tell(result, *arguments)`` after each call of ``owner.name``."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def watched(*args: Any, **kwargs: Any) -> Any:
        answer = real(*args, **kwargs)
        tell(answer, *args)
        return answer

    setattr(owner, name, watched)


def _watch_secrets() -> None:
    from beaker.crypto.keyring import Key
    from beaker.crypto.tokens import DataTokens, IdTokens
    from beaker.session.legacy.policy import LegacyPolicy
    from beaker.session.proxy import SessionObject
    from beaker.session.snapshot import Snapshot
    from gae.settings import Tasks

    def issued(token: str, tokens: IdTokens, raw_id: bytes, *args: Any) -> None:
        Scan.current.secret("session id", raw_id)
        Scan.current.secret("cookie", token)

    def sealed(token: str, *args: Any) -> None:
        Scan.current.secret("cookie", token)

    def keyed(answer: None, key: Key, secret: bytes) -> None:
        # Keys of fixtures and constants of modules are used in many tests; there are few of them.
        for value in (secret, key._prk):
            Scan.current.lasting("key", value)
        for part in secret.split(b"\0\0\0"):  # what combine() has framed
            Scan.current.lasting("key", part[1:])
            if part[1:].isascii():
                Scan.current.lasting("key", part[1:].decode())

    def derived(subkey: bytes, *args: Any) -> None:
        Scan.current.lasting("key", subkey)

    def inherited(answer: None, policy: LegacyPolicy, *args: Any) -> None:
        for value in (*policy.secrets, *policy.validate_keys, *policy.encrypt_keys):
            Scan.current.lasting("key of old sessions", value)

    def guarded(answer: None, tasks: Tasks, *args: Any) -> None:
        Scan.current.lasting("secret of the tasks", tasks.secret or "")

    def encoded(payload: bytes, snapshot: Snapshot) -> None:
        Scan.current.secret("session id", snapshot.id)
        Scan.current.sample(snapshot)

    def committed(headers: Any, proxy: SessionObject) -> None:
        session = proxy.__dict__.get("_sess")
        if session is not None:
            for thing in (proxy, session, session._snapshot):
                Scan.current.sample(thing)

    _watch(IdTokens, "issue", issued)
    _watch(DataTokens, "seal", sealed)
    _watch(Key, "__init__", keyed)
    _watch(Key, "subkey", derived)
    _watch(LegacyPolicy, "__init__", inherited)
    _watch(Tasks, "__init__", guarded)
    _watch(Snapshot, "encode", encoded)
    _watch(SessionObject, "commit", committed)


def _watch_exceptions() -> None:
    from beaker.crypto.tokens import BadToken
    from beaker.exceptions import BeakerException, BeakerWarning

    # One that fuzz tests raise by the hundred thousand; what it says is one of nine words.
    quiet = (BadToken,)

    def listening(root: Any) -> None:
        own = vars(root)["__init__"]

        def told(self: Any, *args: Any, **named: Any) -> None:
            own(self, *args, **named)
            if type(self) not in quiet:
                Scan.current.created(self, (*args, *named.values()))

        root.__init__ = told

    listening(BeakerException)
    listening(BeakerWarning)


def _watch_raises() -> None:
    fill = pytest.ExceptionInfo.fill_unfilled

    @functools.wraps(fill)
    def filled(self: Any, exc_info: Any) -> None:
        fill(self, exc_info)
        Scan.current.exception("an exception", exc_info[1])

    pytest.ExceptionInfo.fill_unfilled = filled  # type: ignore[method-assign]


class Reprs:
    """Looks at new objects of the library's classes, module by module as they are imported."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.size = 0

    def update(self) -> None:
        if len(sys.modules) == self.size:
            return
        self.size = len(sys.modules)
        for name in [name for name in sys.modules if name.split(".")[0] in PACKAGES and name not in self.done]:
            self.done.add(name)
            if not name.startswith(EXEMPT):
                for thing in list(vars(sys.modules[name]).values()):
                    if inspect.isclass(thing) and thing.__module__ == name:
                        self._watch(thing)

    @staticmethod
    def _watch(cls: Any) -> None:
        # The name in question may be found on a base class; then an instance of the base is not looked at twice.
        maker = "__new__" if issubclass(cls, tuple) else "__init__"
        if issubclass(cls, (BaseException, type)) or cls.__repr__ is object.__repr__ or maker not in vars(cls):
            return
        if cls.__name__ in ("SessionObject", "SessionState", "BaseSession"):
            # A new one is empty; what it holds is looked at when its request ends.
            return
        real = vars(cls)[maker]
        make = real.__func__ if isinstance(real, staticmethod) else real

        @functools.wraps(make)
        def made(first: Any, *args: Any, **kwargs: Any) -> Any:
            answer = make(first, *args, **kwargs)
            thing = first if answer is None else answer
            if type(thing) is cls:
                Scan.current.sample(thing)
            return answer

        setattr(cls, maker, made)


def _watch_applications() -> None:
    """Note what leaves the middlewares as an exception."""
    from beaker.middleware import CacheMiddleware, SessionMiddleware

    classes: tuple[Any, ...] = (CacheMiddleware, SessionMiddleware)
    for cls in classes:
        real = cls.__call__

        def called(self: Any, *args: Any, real: Any = real) -> Any:
            try:
                return real(self, *args)
            except BaseException as error:
                Scan.current.exception(f"an exception out of {type(self).__name__}", error)
                raise

        cls.__call__ = functools.wraps(real)(called)


def install() -> Reprs:
    """Listen for the rest of the process; returns what is to be updated as modules are imported."""
    _watch_secrets()
    _watch_exceptions()
    _watch_raises()
    _watch_applications()
    for name in PACKAGES:
        logging.getLogger(name).addHandler(_Listener())
        logging.getLogger(name).setLevel(logging.DEBUG)
    reprs = Reprs()
    reprs.update()
    return reprs
