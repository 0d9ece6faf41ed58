"""Which folder stands on which floor: the one table behind test_architecture.py."""

from __future__ import annotations

# Lowest floor first. A folder, or a module of the root, may import every folder of the floors below it and those
# before it on its own floor, so the order within a floor matters. A new one goes in here, as low as its imports allow.
FLOORS: dict[str, tuple[str, ...]] = {
    "0 ground": (
        "beaker",
        "beaker._typing",
        "beaker.exceptions",
        "beaker.clock",
        "beaker.forks",
        "beaker.counters",
        "beaker.runtime",
        "beaker.paths",
        "beaker.keys",
        "beaker.serving",
    ),
    "1 mechanisms": (
        "beaker.serialization",
        "beaker.locking",
        "beaker.loops",
        "beaker.synchronization",
        "beaker.config",
        "beaker.crypto",
    ),
    "2 storage": ("beaker.storage",),
    "3 caching": (
        "beaker.caching",
        "beaker.container",
        "beaker.ext",
        "beaker.backends",
        "beaker.cache",
    ),
    "4 sessions": ("beaker.session",),
    "5 edges": (
        "beaker.telemetry",
        "beaker.middleware",
        "beaker.compat",
        "beaker.asgi",
        "beaker.util",
        "beaker.operations",
        "beaker.__main__",
        "beaker.testing",
    ),
    "6 deployment kit": ("gae",),
}
ORDER = {name: (floor, place) for floor, names in enumerate(FLOORS.values()) for place, name in enumerate(names)}
FLOOR_NAMES = list(FLOORS)

# The same inside two large folders: a file, or a folder in it, may import those before it.
INSIDE: dict[str, tuple[str, ...]] = {
    "beaker.storage": (
        "api",
        "names",
        "records",
        "deadline",
        "breaker",
        "generations",
        "sqlite",
        "memory",
        "files",
        "dbm",
        "sql",
        "memcached",
        "redis",
        "datastore",
        "lease",
    ),
    "beaker.session": (
        "typed",
        "standing",
        "unpacked",
        "values",
        "merge",
        "snapshot",
        "defaults",
        "cookies",
        "signed_cookie",
        "exchange",
        "records",
        "points",
        "revocation",
        "manager_store",
        "contention",
        "context",
        "shared",
        "state",
        "session_namespace",
        "own_cookie",
        "older_names",
        "backends",
        "outage",
        "legacy",
        "base",
        "opening",
        "proxy",
        "headers",
        "response",
        "hops",
        "async_proxy",
    ),
}

# The files that lie flat in beaker/: the names of the manual, and the ground everything stands on. Anything else
# belongs into a folder.
ROOT_FILES = (
    "__init__",
    "__main__",
    "_typing",
    "asgi",
    "backends",
    "cache",
    "clock",
    "container",
    "exceptions",
    "forks",
    "keys",
    "middleware",
    "paths",
    "runtime",
    "serving",
    "synchronization",
    "util",
)
# One line each: where Beaker up to 1.14, 2.0 betas and the documentation had these names.
FORMER_PATHS = ("_compat", "bridge", "converters", "namespace", "purging")

# Interfaces for users: nothing inside may import them, or they close a circle.
FACES = ("beaker.util", "beaker.testing", *(f"beaker.{name}" for name in FORMER_PATHS))
# Modules whose purpose is a third-party package, and which nothing imports before it is asked for.
THIRD_PARTY_AT_IMPORT = ("beaker.testing", "beaker.operations.rich_terminal", "beaker.storage.datastore.ndb_model")
# Only these read the environment; everything else gets the values from them.
ENVIRONMENT_READERS = ("beaker.runtime", "beaker.__main__", "gae.emulator", "gae.settings")
# Type aliases only; there is nothing in it that could change under a user.
OPEN_TO_THE_KIT = ("beaker._typing",)
