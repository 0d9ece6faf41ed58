"""What all sessions of one configuration share, built once: cookie, keys, codecs, store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from beaker._typing import Clock
from beaker.clock import now as default_clock
from beaker.clock import sleep as default_sleep
from beaker.config.options import SessionOptions
from beaker.counters import session_tally
from beaker.crypto.tokens import DataTokens, IdTokens, RollingTokens
from beaker.exceptions import BeakerWarning, ConfigError, ConfigWarning, warn
from beaker.forks import ForkAware, notice_patch
from beaker.runtime import Runtime
from beaker.runtime import current as current_runtime
from beaker.session import defaults
from beaker.session.cookies import SessionCookie
from beaker.session.records import NAMESPACE, SessionRecords
from beaker.session.values import ValueCodec

if TYPE_CHECKING:
    from random import Random

    from beaker.crypto.place import PlaceKey
    from beaker.session.revocation import Revocations

__all__ = ["SessionContext"]

T = TypeVar("T")


_LEAST = 45
"""Bytes of the smallest payload of a cookie: a kind, an id, an epoch and a mark of the revocations."""


class SessionContext(ForkAware):
    """One configuration of sessions. Thread-safe; nothing is opened before the first session needs it.

    ``runtime``, ``clock`` (seconds since the epoch) and ``sleep`` (seconds) may be injected. Raises
    ConfigError when options do not go together, and InvalidCryptoBackendError when ``encrypt_key`` is set
    and ``cryptography`` is missing.
    """

    def __init__(
        self,
        options: SessionOptions,
        *,
        runtime: Runtime | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = default_sleep,
    ) -> None:
        self.options = options
        self.runtime = runtime or current_runtime()
        self.clock: Clock = clock or default_clock
        self.sleep = sleep
        self.type = defaults.resolve_type(options, self.runtime)
        self.tally = session_tally(self.type)
        self.cookie = SessionCookie(options, self.runtime)
        self.cookie.check_end(self.clock())
        self.ring = defaults.key_ring(options, self.clock)
        self.encrypt = options.encrypt_key is not None
        self._older: Literal["signed"] | None = None if options.key_rollout is None else "signed"
        self.timeout = options.timeout
        self.client_side = defaults.client_side(self.type)
        self.absolute = defaults.absolute_timeout(options, self.type)
        self.ids = IdTokens(self.ring, self.cookie.name)
        self.touch_interval = defaults.touch_interval(options)
        self.renewal_interval = defaults.renewal_interval(options)
        self._renew_locks()
        self._watch_forks()
        self._records: SessionRecords | None = None
        self.data: DataTokens | RollingTokens | None = None
        if self.client_side:
            self._open_tokens()
            self._check_room()
        else:
            _check_chunks(options)
        store_type = defaults.session_store(options, self.runtime, self.type)
        place: PlaceKey | None = None
        if store_type is not None:
            self.store_type = store_type
            place = self._open_store()
        self._revocation = defaults.revocation(options, self.type)
        if isinstance(self._revocation, str):
            from beaker import backends

            backends.load(self._revocation)
        self._revocations: Revocations | None = None
        self._warned: set[str] = set()
        self._processes_checked = False
        self.values = ValueCodec(
            options.serializer,
            may_pickle=defaults.may_pickle(options, self.type),
            advice=defaults.advice_on_types(options, self.type),
            place=place,
        )
        self._shared: dict[Callable[..., Any], Any] = {}

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()

    _after_fork = _renew_locks

    @cached_property
    def random(self) -> Random:
        """Draws the waits of requests that collide."""
        from random import SystemRandom

        # Not the seeded kind: forked workers would draw the same waits and collide again and again.
        return SystemRandom()

    def shared(self, build: Callable[[SessionContext], T]) -> T:
        """The one ``build(self)`` of this configuration, built at the first call."""
        built = self._shared.get(build)
        if built is None:
            # Two threads may both build one at the start; both use the first.
            built = self._shared.setdefault(build, build(self))
        shared: T = built
        return shared

    def _open_tokens(self) -> None:
        if self.ring is None:
            raise defaults.missing_key(self.type)
        name, compress = self.cookie.name, self.options.compress
        if self._older is None:
            self.data = DataTokens(self.ring, name, encrypt=self.encrypt, clock=self.clock, compress=compress)
        else:
            self.data = RollingTokens(self.ring, name, clock=self.clock, compress=compress)

    def _check_room(self) -> None:
        assert self.data is not None  # _open_tokens() has just built it
        token = self.data.seal(bytes(_LEAST), created=0.0, issued=0.0, expires=None)
        least = len(self.cookie.name) + len(token)
        if least > self.options.cookie_max * self.options.chunks:
            raise ConfigError(
                "session.cookie_max leaves no room for a session",
                option="session.cookie_max",
                expected=f"at least {least} bytes with these keys and this name",
                got=str(self.options.cookie_max),
            )

    def _open_store(self) -> PlaceKey | None:
        # Sessions in cookies need none of this.
        from beaker.crypto.envelope import Envelope

        self._manager = self._build_manager()
        place = None if self.ring is not None else getattr(getattr(self._manager, "store", None), "place_key", None)
        self._envelope = Envelope(
            backend=self._backend_name, ring=self.ring, encrypt=self.encrypt, older=self._older, place=place
        )
        return place

    def _build_manager(self) -> Any:
        from beaker import backends
        from beaker.caching.store_manager import StoreNamespaceManager
        from beaker.session.manager_store import ManagerStore
        from beaker.storage.api import Versioned

        options = self.options
        factory: Any = options.namespace_class or backends.load(self.store_type, sessions=self.type == self.store_type)
        args = {name: value for name, value in options.backend.items() if value is not None}
        if issubclass(factory, StoreNamespaceManager) or hasattr(factory, "store"):
            manager = factory(NAMESPACE, runtime=self.runtime, clock=self.clock, **args)
            self._backend_name = manager.store.backend
            if not isinstance(manager.store, Versioned):
                option = "session.type" if options.namespace_class is None else "session.namespace_class"
                raise ConfigError(
                    f"{option}: a store for caches only, which cannot tell whether a record has changed",
                    option=option,
                    expected="a store with read, insert, replace and remove (beaker.storage.api.Versioned)",
                    code="config.broken-backend",
                )
            return manager
        self._backend_name = self.store_type
        return ManagerStore(factory, args, backend=self.store_type)

    def check_processes(self, environ: Mapping[str, Any]) -> None:
        """Warn, once, of what one process keeps to itself where ``wsgi.multiprocess`` says there are several."""
        if self._processes_checked or not environ.get("wsgi.multiprocess"):
            return
        self._processes_checked = True
        option = self.options.revocation
        if self.type != "cookie" and self._backend_name == "memory":
            name = {"hybrid": "session.store", "custom": "session.namespace_class"}.get(self.type, "session.type")
            kept = "a session" if self.type != "hybrid" else "a session too large for its cookie"
        elif (option.get("type") if isinstance(option, Mapping) else option) == "memory":
            name, kept = "session.revocation", "a revocation"
        else:
            return
        message = (
            f"{name}: the server runs several processes (wsgi.multiprocess) and each keeps its own memory, so that "
            f"{kept} is unknown to the process that serves the next request; set {name} to a store they share "
            "(file on one host, else ext:redis, ext:google, ...), or run one process"
        )
        self.warn_once(ConfigWarning(message, code="session.memory-of-one-process"))

    def warn_once(self, warning: BeakerWarning) -> None:
        """Issue ``warning`` unless this configuration has issued one with its code in this process."""
        if warning.code not in self._warned:
            self._warned.add(warning.code)
            warn(warning)

    @property
    def records(self) -> SessionRecords:
        """The stored sessions; the store is opened at the first call."""
        records = self._records
        if records is None:
            notice_patch()
            with self._lock:
                records = self._records
                if records is None:
                    store = getattr(self._manager, "store", self._manager)
                    records = self._records = SessionRecords(
                        store, self._envelope, timeout=self.timeout, absolute=self.absolute, clock=self.clock
                    )
        return records

    @property
    def numbers(self) -> SessionRecords:
        """Where the numbers of ``monotonic()`` are: the sessions' records, or such in the store of ``revocation``."""
        return self.shared(_records_beside_cookies) if self.type == "cookie" else self.records

    def check_numbers(self) -> None:
        """Raise ConfigError for cookie sessions without ``revocation``."""
        if self.type == "cookie" and self._revocation is None:
            raise ConfigError(
                "cookie sessions keep no numbers, because an older cookie would set them back",
                option="session.revocation",
                hint="name a store: session.revocation = ext:google",
                code="session.no-revocation",
            )

    @property
    def revocations(self) -> Revocations | None:
        """Where revocation points are kept: the ``revocation`` option's store, else the sessions' own.

        ``None`` for cookie sessions without that option, and where ``revocation`` is false.
        """
        if self._revocation is None:
            return None
        if self._revocations is None:
            from beaker.session.revocation import Revocations

            store = self.records.store if self._revocation is True else self._revocation_store(self._revocation)
            self._revocations = Revocations(
                store,
                interval=self.options.revocation_check_interval,
                lifetime=self.absolute,
                clock=self.clock,
                cookie=self.cookie.name,
                ring=self.ring,
                encrypt=self.encrypt,
                older=self._older,
                readonly=self.options.readonly,
            )
        return self._revocations

    def _revocation_store(self, kind: str) -> Any:
        option = self.options.revocation
        own = {name: value for name, value in option.items() if name != "type"} if isinstance(option, Mapping) else {}
        from beaker import backends

        factory: Any = backends.load(kind)
        manager = factory(NAMESPACE, runtime=self.runtime, clock=self.clock, **{**self.options.backend, **own})
        return manager.store

    def revoke(self, *, user: Hashable = None, everybody: bool = False) -> None:
        """End every session of ``user`` (as given to ``login()``), or of everybody, that began until now.

        The point is stored before this returns; a process that has just asked notices within
        ``revocation_check_interval`` seconds. Raises ConfigError for cookie sessions without ``revocation``.
        """
        revocations = self.revocations
        if revocations is None:
            raise ConfigError(
                "cookie sessions are revoked through a store",
                option="session.revocation",
                hint="name one: session.revocation = ext:google",
                code="session.no-revocation",
            )
        revocations.revoke(user=user, everybody=everybody)

    def __repr__(self) -> str:
        return f"<SessionContext type={self.type!r} cookie={self.cookie.name!r}>"


def _records_beside_cookies(context: SessionContext) -> SessionRecords:
    context.check_numbers()
    from beaker.crypto.envelope import Envelope

    assert context.revocations is not None  # it has just been checked
    store = context.revocations.store
    envelope = Envelope(backend=store.backend, ring=context.ring, encrypt=context.encrypt, older=context._older)
    return SessionRecords(store, envelope, timeout=None, absolute=context.absolute, clock=context.clock)


def _check_chunks(options: SessionOptions) -> None:
    if options.chunks != 1:
        warn(ConfigWarning("session.chunks has an effect on cookie sessions only", code="config.no-effect"))
