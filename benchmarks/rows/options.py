"""The options of each backend, for ours and for Beaker 1.14.1."""

from __future__ import annotations

from typing import Any

from benchmarks.row import Place, folder


def options(kind: str, place: Place) -> dict[str, Any]:
    """``type`` and what that type needs. Each place has its own directory, table, prefix and project."""
    given: dict[str, Any] = {"type": kind}
    if kind in ("file", "dbm"):
        return {**given, "data_dir": place.directory}
    if kind == "ext:google":
        return {**given, "project": place.unique}
    if kind == "ext:memcached":
        given["url"] = place.services["memcached"]
    elif kind == "ext:redis":
        given["url"] = place.services["redis"]
    elif kind == "ext:database":
        given |= {"url": f"sqlite:///{place.directory}/beaker.db", "table_name": place.unique}
    if kind.startswith("ext:"):
        if place.implementation == "beaker":
            return {**given, "data_dir": place.directory, "lock_dir": str(folder(place, "locks"))}
        if kind != "ext:database":
            given["prefix"] = place.unique
    return given
