"""An NDB context for each request, for applications that use NDB themselves.

Beaker needs none: its own calls go over stubs without a context. So nothing here runs, and NDB (0.18 s and
56 MB to import) is not loaded, unless the application asks. It is not a default for a second reason: NDB
refuses a context inside a context, so an outer one would break each application that opens its own.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from beaker._typing import Environ, StartResponse, WSGIApp
from beaker.exceptions import InvalidCacheBackendError
from beaker.forks import ForkAware, notice_patch
from beaker.runtime import Runtime
from beaker.runtime import current as current_runtime

__all__ = ["NDBContextMiddleware", "NDBSource"]

_EMULATOR_PROJECT = "beaker-local"


class NDBSource(ForkAware):
    """One ``ndb.Client`` for the process, created at first use; a forked child creates its own.

    ``client`` is the application's own, used as it is. Otherwise ``project`` and the emulator come from
    ``runtime``, ``database`` names a database that is not the default one.
    """

    def __init__(self, client: Any = None, *, runtime: Runtime | None = None, database: str | None = None) -> None:
        self._given = client
        self._runtime = runtime or current_runtime()
        self._database = database
        self._after_fork()
        super().__init__()

    def _after_fork(self) -> None:
        self._renew_locks()
        self._made: Any = None

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()

    @property
    def client(self) -> Any:
        """The client. InvalidCacheBackendError without google-cloud-ndb; google-auth's errors without credentials."""
        if self._given is not None:
            return self._given
        notice_patch()
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> Any:
        ndb = _ndb("ndb")
        if self._runtime.emulator_host is None:
            return ndb.Client(project=self._runtime.project, database=self._database)
        credentials: Any = import_module("google.auth.credentials")
        # Otherwise the client looks for credentials, which takes seconds where there are none.
        return ndb.Client(
            project=self._runtime.project or _EMULATOR_PROJECT,
            database=self._database,
            credentials=credentials.AnonymousCredentials(),
        )

    def context(self) -> Any:
        """A context manager: the context that is open here, left as it is, or a new one."""
        current = _ndb("ndb.context").get_context(False)
        return self.client.context() if current is None else _Borrowed(current)


class _Borrowed:
    """An open context of the application's: nothing is entered and nothing closed."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __enter__(self) -> Any:
        return self._context

    def __exit__(self, *exc_info: object) -> None:
        """Its owner closes it."""


def _ndb(name: str) -> Any:
    try:
        return import_module(f"google.cloud.{name}")
    except ImportError as error:
        raise InvalidCacheBackendError(
            "an NDB context needs google-cloud-ndb",
            option="ndb",
            hint="pip install 'beaker-gae[google]'",
            code="config.missing-package",
        ) from error


class NDBContextMiddleware:
    """Runs ``app`` and the iteration of its body in an NDB context, which ends when the body is closed.

    The context is the request's alone: the thread's own state is as it was between the steps, so that a
    body that is never closed cannot leak its context into the next request. An open context is left alone.
    """

    def __init__(self, app: WSGIApp, source: NDBSource | None = None) -> None:
        self._app = app
        self._source = source or NDBSource()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if _ndb("ndb.context").get_context(False) is not None:
            return self._app(environ, start_response)
        inside = contextvars.copy_context()
        context = self._source.client.context()
        inside.run(context.__enter__)
        body: Iterable[bytes] = ()
        try:
            body = inside.run(self._app, environ, start_response)
            return _SizedBody(body, inside, context) if hasattr(body, "__len__") else _Body(body, inside, context)
        except BaseException as error:
            try:
                # A body that cannot even be iterated over is ours to close.
                _close(body, inside)
            finally:
                inside.run(context.__exit__, type(error), error, error.__traceback__)
            raise


class _Body:
    """The application's body, each step of it run inside."""

    def __init__(self, body: Iterable[bytes], inside: contextvars.Context, context: Any) -> None:
        self._body = body
        self._inside = inside
        self._context = context
        self._iterator: Iterator[bytes] = inside.run(iter, body)
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._inside.run(next, self._iterator)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            _close(self._body, self._inside)
        finally:
            # Work left on NDB's event loop is finished here.
            self._inside.run(self._context.__exit__, None, None, None)


class _SizedBody(_Body):
    """A body that knows how many chunks it has: of a single one servers compute Content-Length."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]


def _close(body: Iterable[bytes], inside: contextvars.Context) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        inside.run(close)
