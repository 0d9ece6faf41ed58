"""``beaker ls``, ``get`` and ``stats``: what they show, and that they show no key and no value."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.__main__ import main
from beaker.cache import Cache, CacheManager
from beaker.crypto.envelope import Envelope
from beaker.crypto.keyring import new_key
from beaker.keys import namespace_digest
from beaker.storage.api import Contents
from beaker.storage.datastore import scan
from beaker.storage.dbm import DbmStore
from beaker.storage.files import FileStore
from beaker.storage.redis import contents
from beaker.testing import FakeClock
from tests.servers import free_port
from tests.storage.shared import session_options
from tests.test_command_line import in_a_terminal
from tests.test_exit_statuses import Terminal

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


@pytest.mark.parametrize("name", ["redis", "dbm", "datastore"])
def test_ls_counts_what_a_store_does_not_know_the_names_of(
    name: str, filled: Callable[[str], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every namespace with its records, by name or by the digest that the store keeps; sizes of one that is named."""
    store = filled(name)
    status, told = run("ls", *store, "--json")
    rows = {row["namespace"]: row for row in json.loads(told)["namespaces"]}
    shown = {"redis": 40, "dbm": 64, "datastore": 0}[name]
    names = [f"#{namespace_digest(each)[:shown]}" if shown else each for each in ("pages", "parts")]
    assert (status, sorted(rows)) == (0, sorted(names))
    # Redis has no expired record here, and of Datastore it is not known which have expired.
    pages, parts = rows[names[0]], rows[names[1]]
    assert (pages["records"], parts["records"]) == ((1, 1) if name == "redis" else (2, 1))
    assert pages["expired"] == {"redis": 0, "dbm": 1, "datastore": None}[name]
    assert not pages["at_least"]
    assert (pages["size"] is None) == (name != "dbm")
    status, table = run("ls", *store)
    assert status == 0
    status, told = run("ls", *store, "parts", "--json")
    (parts,) = json.loads(told)["namespaces"]
    assert (status, parts["records"], parts["namespace"]) == (0, 1, "parts")
    assert parts["size"] > len(VALUE)
    assert parts["oldest"] == parts["newest"] > LONG_AGO
    assert KEY not in told + table
    assert VALUE not in told + table


def test_ls_says_at_least_where_it_stops(
    filled: Callable[[str], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk that is too long ends early, and the numbers say so."""
    store = filled("datastore")
    monkeypatch.setattr(scan, "_MOST_KEYS", 1)
    assert "at least 2" in run("ls", *store)[1]
    store = filled("redis")
    monkeypatch.setattr(contents, "_LOOKED_AT", 1_000_000)
    monkeypatch.setattr(contents, "_SCANS", 1)
    assert "at least" not in run("ls", *store)[1]

    class Endless:
        def scan(self, **asked: Any) -> Any:
            return 7, [b"b:{" + b"0" * 40 + b"}:i", b"b:{stranger}:i"]

        def zcard(self, key: bytes) -> int:
            return 3

        def zcount(self, *asked: Any) -> int:
            return 1

    found = contents.contents(lambda operation, work: work(Endless()), "b", 0.0, clustered=False)
    assert list(found) == [Contents("#" + "0" * 40, 3, None, expired=1, at_least=True)]


def test_ls_recognizes_what_is_our_own(tmp_path: Path) -> None:
    """Sessions are named where a store keeps the digest of their namespace; readable file names are read."""
    store = ("--type", "dbm", "--option", f"data_dir={tmp_path}")
    DbmStore(tmp_path / "container_dbm").set("beaker.session", "id-of-visitor", b"x", ttl=None)
    DbmStore(tmp_path / "container_dbm", digest_filenames=False).set("Ärger.x", "k", b"x", ttl=None)
    DbmStore(tmp_path / "container_dbm", dbmmodule="dbm.dumb").set("beaker.purge", "k", b"x", ttl=None)
    told = json.loads(run("ls", *store, "--json")[1])["namespaces"]
    assert {row["namespace"] for row in told} == {"beaker.session", "Ärger.x"}
    told = json.loads(run("ls", *store, "--option", "dbmmodule=dbm.dumb", "--json")[1])["namespaces"]
    assert [(row["namespace"], row["records"], row["size"] > 0) for row in told] == [("beaker.purge", 1, True)]


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


@pytest.mark.parametrize("variable", ["BEAKER_CACHE_SECRET", "BEAKER_SESSION_SECRET", "BEAKER_CACHE_ENCRYPT_KEY", ""])
def test_get_opens_a_value_by_the_key_of_the_variables(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that is named, too, has its key from the variables; without it the error says where it is looked for."""
    monkeypatch.chdir(tmp_path)
    key = new_key()
    option = "encrypt_key" if variable.endswith("ENCRYPT_KEY") else "secret"
    Cache("pages", type="file", data_dir="data", **{option: key}).put("k", VALUE)
    monkeypatch.setenv(variable or "BEAKER_CACHE_SECRET", key if variable else new_key())
    words = ("get", "--type", "file", "--option", "data_dir=data", "pages", "k", "--value")
    out = Terminal()
    assert main(words, out=out) == (0 if variable else 2)
    assert (VALUE in out.getvalue()) == bool(variable)
    assert ("set BEAKER_CACHE_SECRET_FILE" in " ".join(capsys.readouterr().err.split())) == (not variable)


@pytest.mark.parametrize("command", [("ls", "pages"), ("get", "pages", "k")])
def test_a_store_that_cannot_be_asked_is_status_2(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreachable server and a directory that is not there: the store's error, and nothing is created."""
    url = f"url=redis://localhost:{free_port()}"
    assert run(*command, "--type", "ext:redis", "--option", url) == (2, "")
    assert "[store." in capsys.readouterr().err
    if command[0] == "get":
        # It lists nothing, and still has records.
        assert run(*command, "--type", "ext:memcached", "--option", f"url=localhost:{free_port()}") == (2, "")
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


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": 10**400},
        {"stores": [{"backend": "redis", "reads": "5"}]},
        {"stores": [{"backend": 5}]},
        {"sessions": [{"type": "memory", "loaded": None}]},
        {"caches": [{"region": "", "namespace": "n", "hits": [], "seconds": {"counts": [0] * 16, "sum": 0}}]},
        {"caches": [{"region": "", "namespace": "n", "seconds": {"counts": [1], "sum": 0, "bounds": []}}]},
        {"events": {"x": "y"}},
    ],
)
def test_what_is_no_statistics_is_refused(
    change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON of the right shape with the wrong things in it is named as a file without statistics."""
    counters.reset()
    (tmp_path / "a.json").write_text(json.dumps({**counters.snapshot().as_dict(), **change}))
    assert run("stats", str(tmp_path / "a.json")) == (2, "")
    assert "[config.no-statistics]" in capsys.readouterr().err


def test_names_do_not_steer_the_terminal(tmp_path: Path) -> None:
    """A namespace that no output can encode, or that has control characters, is shown escaped."""
    store = FileStore(tmp_path)
    for namespace in ("a\ud800", "b\x1b[31m\n", "c\u202e"):
        store.set(namespace, "k", b"1", ttl=None)
    status, told = run("ls", "--type", "file", "--option", f"file_dir={tmp_path}")
    assert status == 0
    assert told.replace("\n", "").isprintable()
    assert sorted(line.split()[-1] for line in told.splitlines()[1:]) == ["a\\ud800", "b\\x1b[31m\\n", "c\\u202e"]


def test_stamps_may_be_any_number(tmp_path: Path) -> None:
    """The times of a damaged record are shown, although no calendar has them."""
    store = FileStore(tmp_path)
    record = Envelope(backend="file").seal("n", "k", b"1", stored=-1e300, expires=1e300)
    store.set("n", "k", record, ttl=None)
    status, told = run("get", "--type", "file", "--option", f"file_dir={tmp_path}", "n", "k")
    assert status == 0
    assert "1e+300 s" in told


def test_looking_is_no_change(tmp_path: Path) -> None:
    """The time of a dbm file's last write is the writer's, however often it is read, here and by another process."""
    directory = tmp_path / "container_dbm"
    for name in ("one", "two"):
        DbmStore(directory).set(name, "k", b"1", ttl=None)
    for path in directory.iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))
    reading = DbmStore(directory)
    reading.get("one", "k")
    for _ in range(2):
        told = json.loads(run("ls", "--type", "dbm", "--option", f"data_dir={tmp_path}", "--json")[1])["namespaces"]
        assert [row["newest"] for row in told] == [LONG_AGO, LONG_AGO]
    reading.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stats", "absent.json"), "absent.json cannot be read (FileNotFoundError)"),
        (("stats", ".", "absent.json"), ". cannot be read (IsADirectoryError)"),
        (("stats", "good.json", "--prices", "absent.json"), "absent.json cannot be read (FileNotFoundError)"),
        (("stats", "good.json", "--prices", "bad.json"), "bad.json is no JSON"),
        (("keys", "check", "bkr1_typed"), "the file cannot be read (FileNotFoundError); expected the path of a file"),
        (("ls", "--type", "cookie"), "'cookie' is a type of sessions"),
        (("purge", "--type", "ext:sqla"), "cannot be named on a command line; call beaker.purging.purge()"),
    ],
)
def test_what_cannot_be_read_is_named(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The error says which file, of several, and why; what may be a key is not repeated."""
    monkeypatch.chdir(tmp_path)
    Path("good.json").write_text(json.dumps(counters.snapshot().as_dict()))
    Path("bad.json").write_text("{")
    assert run(*arguments) == (2, "")
    told = capsys.readouterr().err
    assert said in told
    assert "bkr1_typed" not in told
