"""Logs as Google's platforms read them: one JSON object a line, tied to the request's trace.

Fields: https://cloud.google.com/logging/docs/structured-logging. Elsewhere plain lines for people.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from beaker._typing import Environ, StartResponse, WSGIApp
from beaker.counters.spent import begin, end
from beaker.runtime import Runtime
from beaker.runtime import current as current_runtime
from beaker.telemetry.server_timing import header

__all__ = ["CloudFormatter", "RequestTrace", "Trace", "configure", "configure_unless_configured", "trace_of"]

PLAIN = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;o=([0-9]))?\Z")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?\Z")
_SEVERITIES = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"), (10, "DEBUG"))

_DEEPEST = 8

requests = logging.getLogger("gae.logs.requests")

_request: ContextVar[Trace | None] = ContextVar("gae_request_trace", default=None)


class Trace:
    """The trace of one request: ``id`` 32 hex digits, ``span`` 16 or empty, ``sampled``."""

    __slots__ = ("id", "sampled", "span")

    def __init__(self, id: str, span: str = "", sampled: bool = False) -> None:
        self.id, self.span, self.sampled = id, span, sampled


def trace_of(environ: Mapping[str, Any]) -> Trace | None:
    """The trace in a WSGI ``environ``: ``traceparent`` (W3C), else ``X-Cloud-Trace-Context``; ``None`` without.

    A malformed header counts as none: what goes into a log line is hex digits and nothing else.
    """
    found = _TRACEPARENT.match(environ.get("HTTP_TRACEPARENT", ""))
    if found:
        return Trace(found[1], found[2], bool(int(found[3], 16) & 1))
    found = _CLOUD_TRACE.match(environ.get("HTTP_X_CLOUD_TRACE_CONTEXT", ""))
    if found:
        return Trace(found[1].lower(), f"{int(found[2]):016x}"[-16:] if found[2] else "", found[3] == "1")
    return None


class RequestTrace:
    """WSGI middleware: what ``app`` logs carries the trace of its request.

    While the logger ``gae.logs.requests`` is at DEBUG, each request that used a store or created a value ends with one
    line that says what it cost, as fields under ``beaker`` (:meth:`beaker.counters.Spent.as_dict`).
    """

    def __init__(self, app: WSGIApp) -> None:
        self._app = app

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        end = self.begin(environ)
        if end is None:
            return self._app(environ, start_response)
        try:
            body = self._app(environ, start_response)
        except BaseException:
            end()
            raise
        if isinstance(body, (list, tuple)):
            end()
            return body
        return _Ending(body, end)

    @staticmethod
    def begin(environ: MutableMapping[str, Any]) -> Callable[[], None] | None:
        """Logs of this thread belong to the request ``environ`` from now on; needs no end.

        Returns what logs the cost of the request when it is called at its end, ``None`` where that is not logged.
        """
        _request.set(trace_of(environ))
        if not requests.isEnabledFor(logging.DEBUG):
            return None
        spent = begin(environ)

        def finish() -> None:
            end(spent)
            cost = spent.as_dict()
            if cost:
                requests.debug("what this request cost: %s", header(spent), extra={"json_fields": {"beaker": cost}})

        return finish


class _Ending:
    """A body that calls ``end`` when the server closes it."""

    def __init__(self, body: Iterable[bytes], end: Callable[[], None]) -> None:
        self._body = body
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._end()


class CloudFormatter(logging.Formatter):
    """One JSON object a record. ``project`` completes the trace's name.

    ``extra={"json_fields": {...}}`` adds fields, ``extra={"http_request": {...}}`` becomes ``httpRequest``.
    A traceback is part of ``message``, where Error Reporting finds it. A field that JSON has no form for is
    written as text: a line is never lost for what was added to it.
    """

    def __init__(self, project: str | None = None) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a line break in it."""
        message = record.getMessage()
        # A record that came through a queue or a socket has its traceback as text only.
        traceback = self.formatException(record.exc_info) if record.exc_info else record.exc_text
        if traceback:
            message = f"{message}\n{traceback}"
        if record.stack_info:
            message = f"{message}\n{self.formatStack(record.stack_info)}"
        fields = getattr(record, "json_fields", None) or {}
        entry: dict[str, Any] = {
            **(fields if isinstance(fields, Mapping) else {"json_fields": fields}),
            "severity": _severity(record.levelno),
            "message": message,
            "time": dt.datetime.fromtimestamp(record.created, dt.timezone.utc).isoformat(),
            "logger": record.name,
            "logging.googleapis.com/sourceLocation": {
                "file": record.pathname,
                "line": str(record.lineno),
                "function": record.funcName,
            },
        }
        request = getattr(record, "http_request", None)
        if request:
            entry["httpRequest"] = request
        trace = _request.get()
        if trace is not None:
            prefix = f"projects/{self._project}/traces/" if self._project else ""
            entry["logging.googleapis.com/trace"] = prefix + trace.id
            entry["logging.googleapis.com/trace_sampled"] = trace.sampled
            if trace.span:
                entry["logging.googleapis.com/spanId"] = trace.span
        try:
            return json.dumps(entry, default=_text, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            return json.dumps(_plain(entry), default=_text)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _plain(value: Any, depth: int = 0) -> Any:
    """``value`` with what JSON refuses made text: keys, infinities, and what lies deeper than a reader looks."""
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return {_text(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    return _text(value) if isinstance(value, float) and not math.isfinite(value) else value


def configure_unless_configured(runtime: Runtime) -> None:
    """:func:`configure` on Google's platforms where logging is not set up: the start's lines would be lost.

    It is not where functions-framework did it by itself (``LOG_EXECUTION_ID``, which a deployed function has):
    that shows warnings only, and disables each logger created before. Its execution ids stay in the lines.
    """
    if not runtime.serverless:
        return
    root = logging.getLogger()
    theirs = getattr(sys.modules.get("functions_framework.execution_id"), "logging_stream", None)
    replaced = [handler for handler in root.handlers if theirs and getattr(handler, "stream", None) is theirs]
    if replaced:
        for name in list(root.manager.loggerDict):
            if name.partition(".")[0] in ("beaker", "gae"):
                logging.getLogger(name).disabled = False
    if root.handlers == replaced:
        for handler in replaced:
            root.removeHandler(handler)
        configure(runtime, stream=theirs if replaced else None)


def _severity(level: int) -> str:
    return next((name for least, name in _SEVERITIES if level >= least), "DEFAULT")


if TYPE_CHECKING:
    _Stream = logging.StreamHandler[TextIO]
else:
    # Not subscriptable on Python 3.10.
    _Stream = logging.StreamHandler


class _Handler(_Stream):
    """Ours, so that configuring again replaces it."""


def configure(
    runtime: Runtime | None = None, *, level: int | str = logging.INFO, stream: TextIO | None = None
) -> logging.Handler:
    """Send the root logger's records to ``stream``: JSON on Google's platforms, plain lines elsewhere.

    Call it instead of ``logging.basicConfig``; again to change it. ``stream`` defaults to stdout on the
    platforms (both streams are read there) and to stderr elsewhere. Other handlers are left alone.
    """
    runtime = runtime or current_runtime()
    handler = _Handler(stream or (sys.stdout if runtime.serverless else sys.stderr))
    handler.setFormatter(CloudFormatter(runtime.project) if runtime.serverless else logging.Formatter(PLAIN))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    return handler
