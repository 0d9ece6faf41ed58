"""Which module stands on which floor: the one table behind test_architecture.py."""

from __future__ import annotations

# Lowest floor first. A module may import every module of the floors below it and those before it on its own floor,
# so the order within a floor matters. A new module goes in here, as low as its imports allow.
FLOORS: dict[str, tuple[str, ...]] = {
    "0 words": (
        "beaker",
        "beaker._typing",
        "beaker.exceptions",
        "beaker.clock",
    ),
    "1 mechanisms": (
        "beaker.registries",
        "beaker.counters",
        "beaker.runtime",
        "beaker.paths",
        "beaker.synchronization",
        "beaker.locks",
        "beaker.keys",
        "beaker.serializers",
        "beaker.config",
        "beaker.config.coerce",
        "beaker.config.options",
        "beaker.config.parse",
        "beaker.crypto",
        "beaker.crypto.pbkdf2",
        "beaker.crypto.keyring",
        "beaker.crypto.tokens",
        "beaker.envelope",
    ),
    "2 storage": (
        "beaker.storage",
        "beaker.storage.api",
        "beaker.storage.memory",
        "beaker.storage.files",
        "beaker.storage.dbmfile",
        "beaker.storage.memcached",
        "beaker.storage.redis",
        "beaker.storage.sql",
        "beaker.storage._ndb",
        "beaker.storage.datastore",
        "beaker.storage.lease",
    ),
    "3 engine": (
        "beaker.entry",
        "beaker.dogpile",
        "beaker.namespace",
    ),
    "4 faces of the engine": (
        "beaker.container",
        "beaker.ext",
        "beaker.ext.memcached",
        "beaker.ext.redis",
        "beaker.ext.database",
        "beaker.ext.sqla",
        "beaker.ext.google",
        "beaker.backends",
    ),
    "5 what applications hold": (
        "beaker.cache",
        "beaker.session.state",
        "beaker.session.transport",
        "beaker.session.server",
        "beaker.session.client",
        "beaker.session.proxy",
        "beaker.session",
    ),
    "6 edges": (
        "beaker.middleware",
        "beaker.util",
        "beaker.testing.clock",
        "beaker.testing.store",
        "beaker.testing.processes",
        "beaker.testing",
        "beaker.__main__",
    ),
    "7 deployment kit": (
        "gae",
        "gae.emulator",
        "gae.settings",
        "gae.context",
        "gae.handlers",
        "gae.functions",
        "gae.app",
        "gae.models",
        "gae.doctor",
    ),
}
ORDER = {name: (floor, place) for floor, names in enumerate(FLOORS.values()) for place, name in enumerate(names)}
FLOOR_NAMES = list(FLOORS)

# Faces for users: nothing inside may lean on them, or they close a circle.
FACES = ("beaker.util", "beaker.testing")
# Modules whose purpose is a third-party package, and which nothing imports before it is asked for.
THIRD_PARTY_AT_IMPORT = ("beaker.testing", "beaker.storage._ndb", "gae.models")
# Only these ask the environment; everything else is told.
ENVIRONMENT_READERS = ("beaker.runtime", "beaker.__main__", "gae.emulator", "gae.settings", "gae.doctor")
# Type aliases only; there is nothing in it that could change under a user.
OPEN_TO_THE_KIT = ("beaker._typing",)
