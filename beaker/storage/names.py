"""Names of records and namespaces in stores that name them by digests, remembered while they are in use.

Hashing anew would be a tenth of a hit, and a request that reads a record mostly writes it, too.
"""

from __future__ import annotations

import functools

from beaker.keys import digest, namespace_digest

__all__ = ["namespace_name", "record_name"]

namespace_name = functools.lru_cache(maxsize=256)(namespace_digest)
"""As :func:`~beaker.keys.namespace_digest`."""
record_name = functools.lru_cache(maxsize=1024)(digest)
"""As :func:`~beaker.keys.digest`."""
