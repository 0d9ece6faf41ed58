"""Which sessions leave the event loop."""

from __future__ import annotations

from beaker.session import defaults
from beaker.session.context import SessionContext

__all__ = ["may_block"]


def may_block(context: SessionContext) -> bool:
    """Whether sessions of this configuration may wait for anything outside of the process's memory."""
    options = context.options
    # Of an application's own class nothing is known.
    if options.legacy is not None or options.namespace_class is not None:
        return True
    stores = defaults.session_store(options, context.runtime, context.type), defaults.revocation(options, context.type)
    return any(isinstance(store, str) and store != "memory" for store in stores)
