"""Paste's factories of the session middleware, for ``egg:beaker-gae#beaker_session`` in an INI file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from beaker._typing import WSGIApp
from beaker.middleware import SessionMiddleware

__all__ = ["session_filter_app_factory", "session_filter_factory"]


def session_filter_factory(global_conf: Mapping[str, Any], **kwargs: Any) -> Callable[[WSGIApp], SessionMiddleware]:
    """A function that wraps an application; ``kwargs`` are the filter section's options, which win over the global."""

    def filter(app: WSGIApp) -> SessionMiddleware:
        return session_filter_app_factory(app, global_conf, **kwargs)

    return filter


def session_filter_app_factory(app: WSGIApp, global_conf: Mapping[str, Any], **kwargs: Any) -> SessionMiddleware:
    """``app`` in a SessionMiddleware with the section's options."""
    return SessionMiddleware(app, {**(global_conf or {}), **kwargs})
