"""One context for equal options, for frameworks that open a session with keyword arguments in every request."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from beaker.config.parse import parse_session
from beaker.runtime import current
from beaker.session.context import SessionContext

__all__ = ["context_of"]

_LIMIT = 64
# With their parameters, so that what is told apart by its identity stays that object.
_contexts: dict[Hashable, tuple[SessionContext, Mapping[str, Any]]] = {}


def context_of(params: Mapping[str, Any], *, weak: Mapping[str, Any]) -> SessionContext:
    """The context of these session options, given as keywords; ``clock`` and ``runtime`` may be among them.

    Keys are derived, and revocation points remembered, once for all requests that pass equal options. Raises
    ConfigError as the parser and the context do, and warns at the first time only. ``weak`` as for the parser.
    """
    from beaker.caching.factory import freeze

    # The types too: True and 1 are equal, and one of them may be an error.
    told = frozenset((name, type(value), freeze(value)) for name, value in params.items())
    identity = (current(), told)
    found = _contexts.get(identity)
    if found is None:
        options = {name: value for name, value in params.items() if name not in ("clock", "runtime")}
        context = SessionContext(
            parse_session(kwargs=options, weak=weak), clock=params.get("clock"), runtime=params.get("runtime")
        )
        if len(_contexts) >= _LIMIT:
            _contexts.clear()
        found = _contexts[identity] = (context, dict(params))
    return found[0]
