"""Contract suites and doubles for authors of backends. Public; third parties may use it.

Each suite is a base class for pytest: subclass it, override its fixture, and every promise of the
contract is checked. The submodules import pytest; this package itself imports nothing, so
``from beaker.testing import StoreContract`` pays only for what it names.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beaker.testing.browser import Browser
    from beaker.testing.capabilities import BulkContract, ListingContract, PurgingContract, VersionedContract
    from beaker.testing.clock import FakeClock
    from beaker.testing.lock import LeaseContract, LockContract
    from beaker.testing.manager import ManagerContract
    from beaker.testing.session import SessionContract
    from beaker.testing.sharing import ProcessContract, SharedContract
    from beaker.testing.store import StoreContract

_HOMES = {
    "FakeClock": "clock",
    "ManagerContract": "manager",
    "StoreContract": "store",
    "SessionContract": "session",
    "LockContract": "lock",
    "LeaseContract": "lock",
    "Browser": "browser",
    "VersionedContract": "capabilities",
    "ListingContract": "capabilities",
    "PurgingContract": "capabilities",
    "BulkContract": "capabilities",
    "SharedContract": "sharing",
    "ProcessContract": "sharing",
}

__all__ = [
    "Browser",
    "BulkContract",
    "FakeClock",
    "LeaseContract",
    "ListingContract",
    "LockContract",
    "ManagerContract",
    "ProcessContract",
    "PurgingContract",
    "SessionContract",
    "SharedContract",
    "StoreContract",
    "VersionedContract",
]

if "pytest" in sys.modules:
    # So that a failing assert in a suite shows its operands, as one in a test file does.
    sys.modules["pytest"].register_assert_rewrite(
        *(
            f"{__name__}.{home}"
            for home in sorted({"hooks", "session_course", "session_harness", *_HOMES.values()} - {"clock"})
        )
    )


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    # help(), completion and documentation find names that are loaded when used.
    return sorted({*globals(), *__all__})
