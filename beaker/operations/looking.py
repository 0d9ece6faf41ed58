"""The commands that look: ``ls`` and ``get`` into stores, ``stats`` into saved statistics. They change nothing."""

from __future__ import annotations

import argparse
import json
import pprint
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from beaker.caching.cache import Cache
from beaker.clock import now as default_clock
from beaker.exceptions import ConfigError
from beaker.operations import inventory, statistics
from beaker.operations.selection import configured, configured_stores, named_options, named_stores
from beaker.operations.terminal import Painter, table, width
from beaker.session.records import NAMESPACE as SESSIONS
from beaker.telemetry.prices import cost_a_day, price_table

__all__ = ["add_commands", "add_store"]

Environ = Mapping[str, str]

_LS = """\
Lists what stores hold: each namespace with its records, those that have expired and are not removed yet, their size and
age; never a key or a value. The stores are those that BEAKER_SESSION_... and BEAKER_CACHE_... variables configure, or
one named by --type and --option. Only file and ext:database know their namespaces; name one for the others.
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
    listing = commands.add_parser("ls", allow_abbrev=False, help="what stores hold, by namespace", description=_LS)
    add_store(listing)
    listing.add_argument("namespace", nargs="?", metavar="NAMESPACE", help="this one only, such as beaker.session")
    listing.add_argument("--json", action="store_true", help="print a JSON object")
    listing.set_defaults(run=lambda asked, out: _ls(asked, out, environ()))

    getting = commands.add_parser("get", allow_abbrev=False, help="the stamps of one record", description=_GET)
    add_store(getting)
    getting.add_argument("namespace", metavar="NAMESPACE", help="that of a cache or a decorated function")
    getting.add_argument("key", metavar="KEY", help="the key as the store has it")
    getting.add_argument("--value", action="store_true", help="show the value, too: on a terminal only")
    getting.add_argument("--json", action="store_true", help="print a JSON object")
    getting.set_defaults(run=lambda asked, out: _get(asked, out, environ()))

    counting = commands.add_parser("stats", allow_abbrev=False, help="statistics that were saved", description=_STATS)
    counting.add_argument("files", nargs="+", metavar="FILE", help="JSON of a snapshot each; - for standard input")
    counting.add_argument("--prices", metavar="FILE", help="JSON: by backend reads, writes, deletes, storage, per")
    counting.add_argument("--json", action="store_true", help="print a JSON object")
    counting.set_defaults(run=lambda asked, out: _stats(asked, out, environ()))


def add_store(parser: argparse.ArgumentParser) -> None:
    """The options by which a command names one store."""
    parser.add_argument("--type", help="backend: file, dbm, ext:database, ext:google, ...")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="option of that backend")


def _stores(asked: argparse.Namespace, environ: Environ) -> list[Any]:
    if asked.option and not asked.type:
        raise ConfigError("--option belongs to a store", option="--option", hint="name it: --type")
    if asked.type:
        return inventory.listable(named_stores(asked.type, asked.option, purpose="look at"))
    return configured_stores(environ, inventory.listable, purpose="look at")


def _ls(asked: argparse.Namespace, out: TextIO, environ: Environ) -> int:
    stores = _stores(asked, environ)
    if not stores:
        raise ConfigError("no store here can say what it holds", option="--type", code="config.no-listing")
    now = default_clock()
    found = [(store, list(inventory.contents(store, now, asked.namespace))) for store in stores]
    if asked.json:
        rows = [{"store": store.backend, **item._asdict()} for store, items in found for item in items]
        print(json.dumps({"namespaces": rows}, indent=2), file=out)
        return 0
    heads = ("store", "records", "expired", "size", "oldest", "newest", "namespace")
    lines = [row for store, items in found for row in inventory.rows_of(store, items, now)]
    head, *rest = table([heads, *lines], width(), right=frozenset({1, 2, 3}))
    print("\n".join([Painter.of(out, environ)("title", head), *rest]), file=out)
    return 0


def _get(asked: argparse.Namespace, out: TextIO, environ: Environ) -> int:
    if asked.value and not out.isatty():
        raise ConfigError("--value shows data of visitors, to a person on a terminal only", option="--value")
    if asked.value and asked.namespace == SESSIONS:
        raise ConfigError("the values of sessions are not shown", option="--value")
    records = [inventory.record(store, asked.namespace, asked.key) for store in _stores(asked, environ)]
    found = [told for told in records if told is not None]
    if asked.json:
        print(json.dumps({"records": found}, indent=2), file=out)
    else:
        for told in found:
            print("\n".join(table(inventory.lines_of(told, default_clock()), width())), file=out)
    if not found:
        print("there is no such record", file=sys.stderr)
        return 1
    if asked.value:
        pprint.pprint(_value(asked, environ), stream=out, width=width())
    return 0


def _value(asked: argparse.Namespace, environ: Environ) -> Any:
    options: dict[str, Any]
    if asked.type:
        options = {**named_options(asked.type, asked.option), "type": asked.type}
    else:
        options = dict(configured(environ).cache_options())
        options.pop("cache_regions", None)
    entry = Cache(asked.namespace, **options).namespace.read(asked.key)
    if entry is None:
        raise ConfigError("the record is not one that the configured key opens", option="BEAKER_CACHE_SECRET")
    return entry.value


def _stats(asked: argparse.Namespace, out: TextIO, environ: Environ) -> int:
    taken = statistics.added([statistics.parse(_content(name), name) for name in asked.files])
    costs = cost_a_day(taken, {} if asked.prices is None else price_table(_json(asked.prices)))
    if asked.json:
        told = {**taken.as_dict(), "costs": {name: cost._asdict() for name, cost in costs.items()}}
        print(json.dumps(told, indent=2), file=out)
    else:
        print(statistics.text(taken, costs, width(), Painter.of(out, environ)), file=out)
    return 0


def _content(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError(
            "the file cannot be read", option=name, got=type(error).__name__, code="config.unreadable-file"
        ) from error


def _json(name: str) -> dict[str, Any]:
    try:
        found = json.loads(_content(name))
    except ValueError as error:
        raise ConfigError(f"{name} is no JSON", option="--prices") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{name} holds no prices", option="--prices", expected="an object")
    return found
