"""The addresses a platform calls: warmup, purge, health. A WSGI middleware outside of sessions and caches.

========================  ====================================================================================
``/_ah/warmup``           imports the clients and opens their channels before a visitor waits for it
``/tasks/beaker/purge``   removes expired records; for schedulers only
``/healthz``              replies as long as the process does; asks no store. ``?stores=1``: the circuits to servers,
                          for whoever may purge
========================  ====================================================================================

Cloud Run keeps addresses ending in ``z`` and those under ``/_ah/`` from reaching a service from outside;
its own probes do reach ``/healthz``.
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

from beaker._typing import Environ, StartResponse, WSGIApp
from beaker.exceptions import BeakerException, ConfigError, InvalidCacheBackendError, StoreError
from beaker.forks import ForkAware, notice_patch
from beaker.locking.turn import Turn
from beaker.operations.purging import purge, purge_on, purgeable
from beaker.runtime import Platform, Runtime
from beaker.storage import breaker
from gae.settings import Tasks

__all__ = ["HEALTH", "LONGEST_TOKEN", "PURGE", "WARMUP", "Handlers", "Verify", "unverified", "verify_google_token"]

WARMUP, PURGE, HEALTH = "/_ah/warmup", "/tasks/beaker/purge", "/healthz"
PURGE_SECONDS = 20.0
"""How long a purge may take: well under the 30 s after which gunicorn takes a silent worker for dead."""
PURGE_RECORDS = 100_000
LONGEST_TOKEN = 8_192
"""Characters of a token that are looked at."""
_HEADERS = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]

log = logging.getLogger("gae")

Verify = Callable[[str, str], Mapping[str, Any]]
"""``verify(token, audience)`` returns the token's claims, or raises."""


class Handlers(ForkAware):
    """Serves the three addresses and passes everything else to ``app``.

    - ``tasks``: who may start a purge.
    - ``stores``: called when a purge starts; returns every store of the deployment.
    - ``warm``: the same for the stores that a warmup reads from; default ``stores``.
    - ``prefetch``: functions that a warmup calls (fill a cache, import a client).
    - ``deadline``, ``limit``: seconds and records of one purge.
    - ``verify``: replaces the check of Google's OIDC tokens.

    A purge is started, and the circuits are shown, by App Engine's cron, whose header counts on App Engine only, since
    everywhere else a visitor can send it; by an OIDC token (``tasks.audience`` and ``tasks.service_accounts``); or by
    the header ``X-Beaker-Tasks-Secret`` with ``tasks.secret``. A purge goes on where the last one ended.
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        runtime: Runtime,
        tasks: Tasks,
        stores: Callable[[], Sequence[Any]],
        warm: Callable[[], Sequence[Any]] | None = None,
        prefetch: Iterable[Callable[[], object]] = (),
        deadline: float = PURGE_SECONDS,
        limit: int = PURGE_RECORDS,
        verify: Verify | None = None,
    ) -> None:
        self._app = app
        self._runtime = runtime
        self._tasks = tasks
        self._stores = stores
        self._warm = warm or stores
        self._prefetch = tuple(prefetch)
        self._deadline = deadline
        self._limit = limit
        self._verify = verify or verify_google_token
        self._renew_locks()
        super().__init__()
        self._is_warm = False
        self._paths = {
            WARMUP: (self._answer_warmup, ("GET", "HEAD")),
            PURGE: (self._answer_purge, ("GET", "POST")),
            HEALTH: (self._answer_health, ("GET", "HEAD")),
        }

    def serves(self, path: str | None) -> bool:
        """Whether ``path`` is one of the three addresses."""
        return path in self._paths

    def _renew_locks(self) -> None:
        self._warming = Turn()

    _after_fork = _renew_locks

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        found = self._paths.get(environ.get("PATH_INFO", ""))
        if found is None:
            return self._app(environ, start_response)
        answer, methods = found
        if environ["REQUEST_METHOD"] not in methods:
            status, kind, body = "405 Method Not Allowed", "text/plain", "method not allowed\n"
            extra = [("Allow", ", ".join(methods))]
        else:
            (status, kind, body), extra = answer(environ), []
        data = body.encode()
        headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(data))), *_HEADERS, *extra]
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [data]

    def _answer_health(self, environ: Environ) -> tuple[str, str, str]:
        if parse_qs(environ.get("QUERY_STRING", "")).get("stores") != ["1"]:
            return "200 OK", "text/plain", "ok\n"
        if not self._is_trusted(environ):
            return "403 Forbidden", "text/plain", "forbidden\n"
        circuits = breaker.states()
        responding = all(circuit.state == "closed" for circuit in circuits)
        report = {"ok": responding, "stores": [circuit._asdict() for circuit in circuits]}
        status = "200 OK" if responding else "503 Service Unavailable"
        return status, "application/json", json.dumps(report) + "\n"

    def _answer_warmup(self, environ: Environ) -> tuple[str, str, str]:
        # The address is public, so the work is done once a process and never by two at a time.
        notice_patch()
        warming, me = self._warming, object()
        try:
            if not self._is_warm and warming.take(me):
                self._is_warm = self._warm_up()
        finally:
            warming.free(me)
        return "200 OK", "text/plain", "ok\n"

    def _warm_up(self) -> bool:
        started = time.monotonic()
        good = True
        try:
            steps: list[Callable[[], object]] = [_reading(store) for store in self._warm()]
        except BeakerException as error:
            log.warning("warmup: %s: %s", type(error).__name__, error)
            steps, good = [], False
        for step in (*steps, *self._prefetch):
            try:
                step()
            except Exception as error:
                # A cold instance still serves; what failed here fails again, visibly, in the request that needs it.
                log.warning("warmup: %s in %s", type(error).__name__, getattr(step, "__qualname__", "prefetch"))
                good = False
        log.info("warmup: %s after %.3f s", "done" if good else "incomplete", time.monotonic() - started)
        return good

    def _answer_purge(self, environ: Environ) -> tuple[str, str, str]:
        if not self._is_trusted(environ):
            return "403 Forbidden", "text/plain", "forbidden\n"
        parameters = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        asked = parameters.pop("cursor", None)
        if parameters:
            return "400 Bad Request", "text/plain", "the only parameter is cursor\n"
        started = time.monotonic()
        try:
            stores = purgeable(self._stores())
            if not asked:
                outcome = purge_on(stores, limit=self._limit, deadline=self._deadline)
            else:
                try:
                    outcome = purge(stores, limit=self._limit, deadline=self._deadline, cursor=asked[0])
                except ValueError:
                    return "400 Bad Request", "text/plain", "cursor is not one that a purge returned\n"
        except (StoreError, ConfigError) as error:
            log.error("purge: %s", error)
            # Only a store may recover by the next attempt.
            status = "503 Service Unavailable" if isinstance(error, StoreError) else "500 Internal Server Error"
            return status, "application/json", json.dumps({"error": type(error).__name__}) + "\n"
        report: dict[str, Any] = {
            "removed": outcome.removed,
            "total": outcome.total,
            "done": outcome.cursor is None,
            "cursor": outcome.cursor,
            "seconds": round(time.monotonic() - started, 3),
        }
        log.info("purge: %d removed, %s", outcome.total, "done" if outcome.cursor is None else "to be continued")
        status = "200 OK"
        if outcome.error is not None:
            log.error("purge: %s", outcome.error)
            status, report["error"] = "503 Service Unavailable", type(outcome.error).__name__
        return status, "application/json", json.dumps(report) + "\n"

    def _is_trusted(self, environ: Environ) -> bool:
        if self._runtime.platform is Platform.APPENGINE and environ.get("HTTP_X_APPENGINE_CRON") == "true":
            return True
        secret, sent = self._tasks.secret, environ.get("HTTP_X_BEAKER_TASKS_SECRET", "")
        if secret and hmac.compare_digest(secret.encode(), sent.encode("latin-1", "replace")):
            return True
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        return scheme.lower() == "bearer" and self._is_ours(token.strip())

    def _is_ours(self, token: str) -> bool:
        # Checking a signature fetches Google's certificates: only for a token that claims what it should.
        if not self._tasks.audience or not self._names_us(unverified(token)):
            return False
        try:
            claims = self._verify(token, self._tasks.audience)
        except InvalidCacheBackendError as error:
            log.error("purge: %s", error)
            return False
        except Exception as error:
            log.warning("purge: a token was refused (%s)", type(error).__name__)
            return False
        return self._names_us(claims) and claims.get("email_verified") is True

    def _names_us(self, claims: Mapping[str, Any]) -> bool:
        return claims.get("aud") == self._tasks.audience and claims.get("email") in self._tasks.service_accounts


def verify_google_token(token: str, audience: str) -> Mapping[str, Any]:
    """The claims of an OIDC token that Google signed for ``audience``. Raises what google-auth raises.

    InvalidCacheBackendError when google-auth (extra ``google``) is not installed.
    """
    try:
        id_token: Any = import_module("google.oauth2.id_token")
        requests: Any = import_module("google.auth.transport.requests")
    except ImportError as error:
        raise InvalidCacheBackendError(
            "OIDC tokens are checked by google-auth",
            option="BEAKER_TASKS_AUDIENCE",
            hint="pip install 'beaker-gae[google]'",
            code="config.missing-package",
        ) from error
    claims: Mapping[str, Any] = id_token.verify_oauth2_token(token, bounded(requests.Request()), audience)
    return claims


def bounded(send: Callable[..., Any]) -> Callable[..., Any]:
    """google-auth's ``send``, with 5 seconds for each request: its own limit is two minutes."""
    return lambda *args, **kwargs: send(*args, **{**kwargs, "timeout": 5})


def unverified(token: str) -> Mapping[str, Any]:
    """What a signed token claims, before its signature is checked; ``{}`` for what is no token."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > LONGEST_TOKEN:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _reading(store: Any) -> Callable[[], object]:
    def read() -> object:
        return store.get("beaker.warmup", "nothing")

    read.__qualname__ = f"the {store.backend} store"
    return read
