"""``beaker ls``, ``get`` and ``stats``: what they show, and that they show no key and no value."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.__main__ import main
from beaker.cache import Cache, CacheManager
from beaker.testing import FakeClock
from tests.servers import free_port
from tests.storage.shared import session_options
from tests.test_command_line import in_a_terminal

KEY, VALUE = "key-of-visitor-77", "value-of-visitor-77"
LONG_AGO = 1_000_000_000.0


def run(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    return main(arguments, out=out), out.getvalue()


@pytest.fixture
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], tuple[str, ...]]]:
    """Puts an expired, and two live records into a store; returns the arguments that name the store."""
    caches: list[Cache] = []

    def fill(name: str) -> tuple[str, ...]:
        options = session_options(name, request, tmp_path)
        old = Cache("pages", **options, expire=60, clock=FakeClock(LONG_AGO))
        new = Cache("pages", **options)
        caches.extend((old, new))
        if name != "redis":
            old.put("old", VALUE)
        new.put(KEY, VALUE)
        Cache("parts", **options).put(KEY, VALUE)
        kind = options.pop("type")
        return ("--type", kind, *(part for pair in options.items() for part in ("--option", "=".join(map(str, pair)))))

    yield fill
    for cache in caches:
        getattr(cache.namespace.store, "close", lambda: None)()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["file", "sqlite", "postgres"])
def test_ls_lists_namespaces_with_counts_sizes_and_ages(name: str, filled: Callable[[str], tuple[str, ...]]) -> None:
    """Records, those expired among them, bytes and times, of every namespace or of one; no key, no value."""
    store = filled(name)
    status, told = run("ls", *store, "--json")
    pages, parts = json.loads(told)["namespaces"]
    assert status == 0
    assert (pages["namespace"], pages["records"], pages["expired"]) == ("pages", 2, 1)
    assert (parts["namespace"], parts["records"], parts["expired"]) == ("parts", 1, 0)
    assert pages["size"] > parts["size"] > len(VALUE)
    status, table = run("ls", *store, "parts")
    assert "parts" in table
    assert "pages" not in table
    assert KEY not in told + table
    assert VALUE not in told + table


@pytest.mark.parametrize("name", ["redis", "dbm"])
def test_ls_counts_a_namespace_that_is_named(
    name: str, filled: Callable[[str], tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that does not know its namespaces says so, with status 2, until one is named."""
    store = filled(name)
    assert run("ls", *store) == (2, "")
    assert "[config.no-listing]" in capsys.readouterr().err
    status, told = run("ls", *store, "parts", "--json")
    (parts,) = json.loads(told)["namespaces"]
    assert (status, parts["records"]) == (0, 1)
    assert parts["oldest"] == parts["newest"] > LONG_AGO


def test_get_shows_stamps_and_the_value_to_a_person_only(
    filled: Callable[[str], tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Size, kind, times and seal; the value on a terminal when it is asked for, never in a pipe or of a session."""
    store = filled("file")
    status, told = run("get", *store, "pages", KEY)
    assert status == 0
    assert "cached value" in told
    assert "s ago" in told
    _, record = run("get", *store, "pages", KEY, "--json")
    assert json.loads(record)["records"][0]["expires"] is None
    assert VALUE not in told + record
    assert KEY not in told + record
    assert run("get", *store, "pages", "another") == (1, "")
    assert run("get", *store, "pages", KEY, "--value") == (2, "")
    script = str(Path(sys.executable).with_name("beaker"))
    assert VALUE in in_a_terminal(script, "get", *store, "pages", KEY, "--value")
    assert VALUE not in in_a_terminal(script, "get", *store, "pages", KEY)
    assert VALUE not in capsys.readouterr().err


@pytest.mark.parametrize("command", [("ls", "pages"), ("get", "pages", "k")])
def test_a_store_that_cannot_be_asked_is_status_2(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreachable server and a directory that is not there: the store's error, and nothing is created."""
    url = f"url=redis://localhost:{free_port()}"
    assert run(*command, "--type", "ext:redis", "--option", url) == (2, "")
    assert "[store." in capsys.readouterr().err
    gone = tmp_path / "gone"
    assert run(*command, "--type", "file", "--option", f"data_dir={gone}") == (2, "")
    assert "[purge.no-store]" in capsys.readouterr().err
    assert not gone.exists()


def test_stats_adds_up_processes_and_their_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two snapshots together, as a table and as JSON, with money a day where there are prices."""
    counters.reset()
    cache = CacheManager(cache_regions={"short": {"type": "memory"}}).get_cache_region("shown", "short")
    cache.get(KEY, createfunc=lambda: VALUE)
    cache.get(KEY)
    counters.store_tally("ext:google").read_many(1_000, 0)
    taken = counters.snapshot()._replace(seconds=8_640.0)
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(taken.as_dict()))
    (tmp_path / "prices.json").write_text('{"ext:google": {"reads": 1}}')
    files = (str(tmp_path / "a.json"), str(tmp_path / "b.json"))
    status, told = run("stats", *files, "--prices", str(tmp_path / "prices.json"), "--json")
    found: dict[str, Any] = json.loads(told)
    assert status == 0
    assert [(row["hits"], row["misses"], row["creations"]) for row in found["caches"]] == [(2, 2, 2)]
    assert found["seconds"] == 8_640.0
    assert found["costs"]["ext:google"]["reads"] == pytest.approx(0.2)
    status, table = run("stats", files[0])
    assert status == 0
    assert "50.0%" in table
    assert KEY not in told + table
    (tmp_path / "b.json").write_text("{}")
    assert run("stats", *files) == (2, "")
    assert run("stats", str(tmp_path / "none.json")) == (2, "")
    assert "[config.no-statistics]" in capsys.readouterr().err
