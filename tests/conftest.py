"""What every test gets: a clean environment, the servers of servers.py, a clock it can set."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests import leaks, servers
from tests.servers import datastore_emulator, firestore_emulator, memcached_server, postgres_server, redis_server

if TYPE_CHECKING:
    from beaker.testing import FakeClock

__all__ = ["datastore_emulator", "firestore_emulator", "memcached_server", "postgres_server", "redis_server"]

# Every variable that says where Beaker, or Google's clients, run. The two jars say what this machine has.
PLATFORM_PREFIXES = ("BEAKER_", "CLOUD_RUN_", "DATASTORE_", "FIRESTORE_", "FUNCTION_", "GAE_", "K_")
PLATFORM_NAMES = frozenset(
    {"CLOUDSDK_CORE_PROJECT", "GCLOUD_PROJECT", "GCP_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"}
)
KEPT_NAMES = frozenset({"DATASTORE_EMULATOR_JAR", "FIRESTORE_EMULATOR_JAR"})

# The contract suites are tests that live in the package: their assert should explain itself as ours do.
pytest.register_assert_rewrite("beaker.testing")

# No deadline: a machine that is busy is not a defect. CI draws the same examples on every run.
hypothesis.settings.register_profile("beaker", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("beaker")


def pytest_configure(config: pytest.Config) -> None:
    """Nothing the library says may hold a secret: tests/leaks.py listens from here on."""
    config.pluginmanager.register(leaks.Plugin(), "beaker-leaks")


def _restore(environ: dict[str, str]) -> None:
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    os.environ.update(environ)


@pytest.fixture(scope="session", autouse=True)
def _plain_environment() -> Iterator[None]:
    """Every fixture and test starts as on a laptop, whatever shell or host started the run."""
    before = dict(os.environ)
    for name in before:
        if (name.startswith(PLATFORM_PREFIXES) or name in PLATFORM_NAMES) and name not in KEPT_NAMES:
            del os.environ[name]
    yield
    _restore(before)


@pytest.fixture(autouse=True)
def _isolated(_plain_environment: None) -> Iterator[None]:
    """What a test, or a framework it calls, writes into os.environ ends with it; a server it stopped is started."""
    before = dict(os.environ)
    yield
    # pytest itself keeps the running test's name here and removes it later.
    _restore(before | {name: os.environ[name] for name in ("PYTEST_CURRENT_TEST",) if name in os.environ})
    servers.start_stopped_servers()


@pytest.fixture(autouse=True)
def _own_stores(_plain_environment: None) -> Iterator[None]:
    """The stores a process shares live as long as it does; those a test configured are closed and end with it.

    A run of ten thousand tests would else hold a connection, or some files, for each of them.
    """
    from beaker.storage import api

    before = set(api._stores.dict)
    yield
    for identity in api._stores.dict.keys() - before:
        store = api._stores[identity]
        del api._stores[identity]
        close = getattr(store, "close", None)
        if close is not None:
            close()


@pytest.fixture(autouse=True)
def _own_counts(_plain_environment: None) -> Iterator[None]:
    """The namespaces a test counted under end with it: a process counts the first 1,000 by name and no more."""
    from beaker.counters import registry

    before = set(registry._caches)
    yield
    for name in registry._caches.keys() - before:
        del registry._caches[name]


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that stands still at 1,700,000,000 seconds until ``advance(seconds)`` or ``set(t)``."""
    from beaker.testing import FakeClock

    return FakeClock()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, so that ``-m "not server and not emulator"`` runs the rest."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & servers.EMULATOR_FIXTURES:
            item.add_marker("emulator")
        if fixtures & servers.SERVER_FIXTURES:
            item.add_marker("server")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """End the run by saying which servers were missing and how many tests that skipped."""
    yield
    skipped: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _, found, server = reason.partition(servers.MISSING)
        if found:
            skipped[server] += 1
    for server, count in sorted(skipped.items()):
        terminalreporter.write_line(f"missing server: {server}: {count} test{'s' * (count != 1)} skipped", yellow=True)
