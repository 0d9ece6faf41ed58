"""The session contract through the ASGI middleware: on every place and server, and in each way of calling it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import Handler, Tab
from tests.asgi.tabs import AsgiTab, ThreadedTab
from tests.session import test_places, test_servers


class Asgi:
    """Beside a suite of WSGI sessions: its tabs are on the ASGI middleware."""

    tab_class: ClassVar[type[AsgiTab]] = AsgiTab
    more: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def make(self, options: dict[str, Any], clock: FakeClock) -> Callable[..., Tab]:
        def make(**more: Any) -> Tab:
            handlers: list[Handler] = []
            built = self.tab_class.build(handlers, clock=clock, **{**options, **self.more, **more})
            return self.tab_class(built, handlers)

        return make


class Lazy(Asgi):
    """Loaded when the application awaits it."""

    more: ClassVar[dict[str, Any]] = {"load": "lazy"}


class Threaded(Asgi):
    """Plain functions in threads."""

    tab_class = ThreadedTab


# How a session is loaded and where the handler runs do not depend on the server behind a store: one place of each
# kind (in the process, a file, a cookie, and both sides of a hybrid) shows it.
REPRESENTATIVES = frozenset(
    {"TestMemory", "TestDbm", "TestEncryptedCookie", "TestRevocableCookie", "TestHybridInCookie", "TestHybridInStore"}
)


def _suites() -> dict[str, type]:
    found: dict[str, type] = {}
    for module in (test_places, test_servers):
        for name, suite in vars(module).items():
            if name.startswith("Test") and isinstance(suite, type):
                for way in (Asgi, Lazy, Threaded) if name in REPRESENTATIVES else (Asgi,):
                    found[f"{name}{way.__name__}"] = type(
                        f"{name}{way.__name__}", (way, suite), {"__module__": __name__}
                    )
    missing = REPRESENTATIVES - vars(test_places).keys()
    assert not missing, f"no such suites: {missing}"
    return found


globals().update(_suites())
