"""The commands that look: ``ls`` and ``get`` into stores, ``stats`` into saved statistics. They change nothing."""

from __future__ import annotations

import argparse
import json
import pprint
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from beaker.caching.cache import Cache
from beaker.caching.entry import FailedEntry
from beaker.clock import now as default_clock
from beaker.exceptions import ConfigError
from beaker.operations import inventory, statistics
from beaker.operations.choice import terminal_of
from beaker.operations.selection import configured, configured_keys, configured_stores, named_options, named_stores
from beaker.operations.terminal import Progress, Terminal
from beaker.session.records import NAMESPACE as SESSIONS
from beaker.storage.api import Contents
from beaker.telemetry.prices import cost_a_day, price_table

__all__ = ["add_commands", "add_store"]

Environ = Mapping[str, str]

_LS = """\
Lists what stores hold: each namespace with its records, those that have expired and are not removed yet, their size and
age; never a key or a value. The stores are those that BEAKER_SESSION_... and BEAKER_CACHE_... variables configure, or
one named by --type and --option. ext:redis and ext:google count without reading: name a namespace to see its size and
age. ext:redis and dbm keep digests of names, shown as #...; ext:google bills one read for each 500 records and one for
each namespace, and stops at 100,000 records ("at least"). ext:memcached lists nothing.
"""
_GET = """\
Shows the stamps of one record: its size, kind, when it was stored, when it expires, how it is sealed. With --value, and
on a terminal only, the value of a cache's record too. Exit status 1 when there is no such record.
"""
_STATS = """\
Shows statistics that an application saved: json.dump(beaker.counters.snapshot().as_dict(), file). Those of several
processes are added up; prices turn operations into money a day.
"""


def add_commands(commands: Any, environ: Callable[[], Environ]) -> None:
    """Add ``ls``, ``get`` and ``stats``; ``environ()`` is asked when one runs."""
    listing = commands.add_parser("ls", help="what stores hold, by namespace", description=_LS)
    add_store(listing)
    listing.add_argument("namespace", nargs="?", metavar="NAMESPACE", help="this one only, such as beaker.session")
    listing.add_argument("--json", action="store_true", help="print a JSON object")
    listing.set_defaults(run=lambda asked, out: _ls(asked, out, environ()))

    getting = commands.add_parser("get", help="the stamps of one record", description=_GET)
    add_store(getting)
    getting.add_argument("namespace", metavar="NAMESPACE", help="that of a cache or a decorated function")
    getting.add_argument("key", metavar="KEY", help="the key as the store has it")
    getting.add_argument("--value", action="store_true", help="show the value, too: on a terminal only")
    getting.add_argument("--json", action="store_true", help="print a JSON object")
    getting.set_defaults(run=lambda asked, out: _get(asked, out, environ()))

    counting = commands.add_parser("stats", help="statistics that were saved", description=_STATS)
    counting.add_argument("files", nargs="+", metavar="FILE", help="JSON of a snapshot each; - for standard input")
    counting.add_argument("--prices", metavar="FILE", help="JSON: by backend reads, writes, deletes, storage, per")
    counting.add_argument("--json", action="store_true", help="print a JSON object")
    counting.set_defaults(run=lambda asked, out: _stats(asked, out, environ()))


def add_store(parser: argparse.ArgumentParser) -> None:
    """The options by which a command names one store."""
    parser.add_argument("--type", help="backend: file, dbm, ext:database, ext:google, ...")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="option of that backend")


def _stores(
    asked: argparse.Namespace, environ: Environ, wanted: Callable[[Iterable[Any]], list[Any]] = list
) -> list[Any]:
    if asked.option and not asked.type:
        raise ConfigError("--option belongs to a store", option="--option", hint="name it: --type")
    if asked.type:
        return wanted(named_stores(asked.type, asked.option, purpose="look at"))
    return configured_stores(environ, wanted, purpose="look at")


def _ls(asked: argparse.Namespace, out: Terminal, environ: Environ) -> int:
    stores = _stores(asked, environ, inventory.listable)
    if not stores:
        raise ConfigError("no store here can say what it holds", option="--type", code="config.no-listing")
    now = default_clock()
    with terminal_of(sys.stderr, environ).progress(wanted=not asked.json) as progress:
        found = [(store, _contents(store, now, asked.namespace, progress)) for store in stores]
    if asked.json:
        rows = [{"store": store.backend, **item._asdict()} for store, items in found for item in items]
        out.line(json.dumps({"namespaces": rows}, indent=2))
        return 0
    heads = ("store", "records", "expired", "size", "oldest", "newest", "namespace")
    lines = [row for store, items in found for row in inventory.rows_of(store, items, now)]
    out.table(lines, heads=heads, right=frozenset({1, 2, 3}))
    return 0


def _contents(store: Any, now: float, namespace: str | None, progress: Progress) -> list[Contents]:
    def seen(number: int, what: str = "records") -> None:
        progress(f"{store.backend}: {number:,} {what}")

    found: list[Contents] = []
    seen(0)
    for item in inventory.contents(store, now, namespace, seen=seen):
        found.append(item)
        seen(len(found), "namespaces")
    return found


def _get(asked: argparse.Namespace, out: Terminal, environ: Environ) -> int:
    if asked.value and not out.is_seen:
        raise ConfigError("--value shows data of visitors, to a person on a terminal only", option="--value")
    if asked.value and asked.namespace == SESSIONS:
        raise ConfigError("the values of sessions are not shown", option="--value")
    records = [inventory.record(store, asked.namespace, asked.key) for store in _stores(asked, environ)]
    found = [told for told in records if told is not None]
    if asked.json:
        out.line(json.dumps({"records": found}, indent=2))
    else:
        for told in found:
            out.table(inventory.lines_of(told, default_clock()))
    if not found:
        terminal_of(sys.stderr, environ).say("there is no such record")
        return 1
    if asked.value:
        out.line(pprint.pformat(_value(asked, environ), width=out.columns))
    return 0


def _value(asked: argparse.Namespace, environ: Environ) -> Any:
    options: dict[str, Any]
    if asked.type:
        options = {**named_options(asked.type, asked.option), "type": asked.type, **configured_keys(environ)}
    else:
        options = dict(configured(environ).cache_options())
        options.pop("cache_regions", None)
    entry = Cache(asked.namespace, **options).namespace.read(asked.key)
    if entry is None:
        raise ConfigError(
            "the record is not one that the configured key opens",
            option="BEAKER_CACHE_SECRET",
            hint="set BEAKER_CACHE_SECRET_FILE, or _SECRET, to the cache's key; gae.app.compose's is that of sessions",
        )
    # Of an exception that is kept, its class and arguments.
    return (entry.value.name, entry.value.args) if isinstance(entry, FailedEntry) else entry.value


def _stats(asked: argparse.Namespace, out: Terminal, environ: Environ) -> int:
    taken = statistics.added([statistics.parse(_content(name), name) for name in asked.files])
    costs = cost_a_day(taken, {} if asked.prices is None else price_table(_json(asked.prices)))
    if asked.json:
        told = {**taken.as_dict(), "costs": {name: cost._asdict() for name, cost in costs.items()}}
        out.line(json.dumps(told, indent=2))
    else:
        statistics.show(taken, costs, out)
    return 0


def _content(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{name} cannot be read ({type(error).__name__})", option="FILE", code="config.unreadable-file"
        ) from error


def _json(name: str) -> dict[str, Any]:
    content = _content(name)
    try:
        found = json.loads(content)
    except ValueError as error:
        raise ConfigError(f"{name} is no JSON", option="--prices") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{name} holds no prices", option="--prices", expected="an object")
    return found
